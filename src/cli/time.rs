//! Moments and spans as people write them on the command line.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::clock::{Clock, SystemClock};

/// What `--expires` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// `never`.
    Never,
    /// At this moment.
    At(Timestamp),
}

impl Expiry {
    /// As the admin socket takes it.
    pub(crate) fn to_wire(self) -> Option<String> {
        match self {
            Self::Never => None,
            Self::At(time) => Some(time.to_string()),
        }
    }
}

/// `never`; a span from `now` (`90d`, `2w`, `1y`, `12h`); a date, which means its start in UTC, so that the key's last day is
/// the one before; or an RFC 3339 time.
pub(crate) fn parse_expiry(text: &str, now: Timestamp) -> Result<Expiry, String> {
    if text.eq_ignore_ascii_case("never") {
        return Ok(Expiry::Never);
    }
    let at = if let Some(date) = date_alone(text) {
        date.to_zoned(TimeZone::UTC).map_err(|error| error.to_string())?.timestamp()
    } else if let Ok(time) = text.parse::<Timestamp>() {
        time
    } else {
        let span: Span = text.parse().map_err(|_| {
            format!("\"{text}\" is neither a span (90d, 2w, 1y), a date (2027-01-31), a time (2027-01-31T12:00:00Z) nor never")
        })?;
        now.to_zoned(TimeZone::UTC).checked_add(span).map_err(|_| format!("\"{text}\" is too far away"))?.timestamp()
    };
    if at <= now {
        return Err(format!("\"{text}\" has passed"));
    }
    Ok(Expiry::At(at))
}

/// jiff would also take the date out of a longer text.
fn date_alone(text: &str) -> Option<Date> {
    if text.len() == "2027-01-31".len() { text.parse().ok() } else { None }
}

/// A span of time: `24h`, `7d`, `90m`; `0s` for none. A day has 24 hours.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let unusable = |_| format!("\"{text}\" is no span of time like 24h or 7d");
    let span: Span = text.parse().map_err(unusable)?;
    let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(unusable)?;
    Duration::try_from(duration).map_err(|_| format!("\"{text}\" is negative"))
}

/// A day for a table: the date of an RFC 3339 text.
pub(crate) fn day(text: &str) -> &str {
    text.split_once('T').map_or(text, |(day, _)| day)
}

/// How long ago an RFC 3339 text was, as one word: `now`, `3min`, `2h`, `41d`, and `ago` after it.
pub(crate) fn ago(text: &str) -> String {
    let Ok(at) = text.parse::<Timestamp>() else { return text.to_owned() };
    let now = SystemClock::new().now().as_millis();
    match (now - at.as_millisecond()).max(0) / 1000 {
        ..10 => "now".to_owned(),
        seconds @ ..60 => format!("{seconds}s ago"),
        seconds @ ..3600 => format!("{}min ago", seconds / 60),
        seconds @ ..172_800 => format!("{}h ago", seconds / 3600),
        seconds => format!("{}d ago", seconds / 86_400),
    }
}

/// A life time in words: its largest unit.
pub(crate) fn rough(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().expect("a time")
    }

    fn expiry(text: &str) -> String {
        match parse_expiry(text, now()) {
            Ok(Expiry::Never) => "never".to_owned(),
            Ok(Expiry::At(time)) => time.to_string(),
            Err(error) => error,
        }
    }

    #[test]
    fn an_expiry_is_a_span_a_date_a_time_or_never() {
        assert_eq!(expiry("90d"), "2027-02-20T10:00:00Z");
        assert_eq!(expiry("2w"), "2026-12-06T10:00:00Z");
        assert_eq!(expiry("1y"), "2027-11-22T10:00:00Z");
        assert_eq!(expiry("12h"), "2026-11-22T22:00:00Z");
        assert_eq!(expiry("2027-01-31"), "2027-01-31T00:00:00Z");
        assert_eq!(expiry("2027-01-31T12:00:00+01:00"), "2027-01-31T11:00:00Z");
        assert_eq!(expiry("never"), "never");
    }

    #[test]
    fn an_expiry_that_has_passed_or_means_nothing_is_refused() {
        for text in ["2020-01-01", "-3d", "0s", "2026-11-22", "2026-11-22T10:00:00Z"] {
            assert!(expiry(text).contains("has passed"), "{text}: {}", expiry(text));
        }
        for text in ["soon", "", "90", "2027-13-01", "2027-01-31T12:00:00", "99999999y"] {
            assert!(parse_expiry(text, now()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_span_is_hours_or_days_and_never_negative() {
        assert_eq!(parse_span("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse_span("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse_span("0s"), Ok(Duration::ZERO));
        assert!(parse_span("-1h").is_err());
        assert!(parse_span("1 month").is_err());
        assert!(parse_span("long").is_err());
    }

    #[test]
    fn a_table_shows_the_day_alone() {
        assert_eq!(day("2027-11-21T23:19:34.931Z"), "2027-11-21");
    }
}
