//! Times, sizes and states, as people read them.

use maud::{Markup, html};

use crate::admin::api::KeyView;
use crate::clock::Timestamp;

/// A time as the interface writes it (RFC 3339, UTC). The script writes it anew in the viewer's zone.
pub(super) fn time(iso: &str) -> Markup {
    let shown = iso.get(..10).zip(iso.get(11..16)).map_or_else(|| iso.to_owned(), |(day, clock)| format!("{day} {clock} UTC"));
    html! { time datetime=(iso) title=(iso) { (shown) } }
}

/// How long ago that was.
pub(super) fn ago(iso: &str, now: Timestamp) -> Markup {
    let text = iso.parse::<jiff::Timestamp>().map_or_else(|_| iso.to_owned(), |at| span(now.as_millis() - at.as_millisecond()));
    html! { time.ago datetime=(iso) title=(iso) { (text) } }
}

fn span(millis: i64) -> String {
    match millis / 1000 {
        ..60 => "just now".to_owned(),
        seconds @ 60..3_600 => format!("{} min ago", seconds / 60),
        seconds @ 3_600..172_800 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} d ago", seconds / 86_400),
    }
}

/// A length of time.
pub(super) fn length(seconds: u64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A short time.
pub(super) fn millis(millis: f64) -> String {
    match millis {
        ..10.0 => format!("{millis:.1} ms"),
        10.0..1000.0 => format!("{millis:.0} ms"),
        30_000.0.. => "more than 30 s".to_owned(),
        _ => format!("{:.1} s", millis / 1000.0),
    }
}

/// So many bytes.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut tenths = u128::from(count) * 10;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    if unit == 0 || tenths >= 1000 {
        return format!("{} {}", tenths / 10, UNITS[unit]);
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A number with its thousands apart.
pub(super) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A state in a word and a colour: `good`, `warn`, `bad` or `off`.
pub(super) fn pill(kind: &'static str, text: &str) -> Markup {
    html! { span class={ "pill " (kind) } { (text) } }
}

/// How a key stands.
pub(super) fn key_pill(key: &KeyView) -> Markup {
    let (kind, text) = match (key.status.as_str(), key.expires_in_days) {
        ("active", Some(0)) => ("warn", "expires today".to_owned()),
        ("active", Some(days)) => ("warn", format!("expires in {days} d")),
        ("active", None) if key.last_used_at.is_none() => ("good", "active, never used".to_owned()),
        ("active", None) => ("good", "active".to_owned()),
        ("expired", _) => ("bad", "expired".to_owned()),
        ("revoked", _) => ("bad", "revoked".to_owned()),
        (other, _) => ("off", other.to_owned()),
    };
    pill(kind, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_numbers_are_short() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (150 * 1024, "150 KiB"),
            (5_368_709_120, "5.0 GiB"),
            (u64::MAX, "16383 PiB"),
        ] {
            assert_eq!(bytes(count), text, "{count}");
        }
        for (count, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(count), text);
        }
    }

    #[test]
    fn short_times_have_as_many_digits_as_they_are_worth() {
        for (given, text) in [(0.4, "0.4 ms"), (12.3, "12 ms"), (999.0, "999 ms"), (1500.0, "1.5 s"), (30_000.0, "more than 30 s")] {
            assert_eq!(millis(given), text);
        }
    }

    #[test]
    fn times_are_in_utc_until_the_script_writes_them_anew() {
        let iso = "2026-11-21T23:19:34.931Z";
        assert_eq!(time(iso).into_string(), format!("<time datetime=\"{iso}\" title=\"{iso}\">2026-11-21 23:19 UTC</time>"));
        let at = Timestamp::from_millis(1_795_303_174_931);
        for (later, text) in [(0, "just now"), (59, "just now"), (60, "1 min ago"), (7_200, "2 h ago"), (200_000, "2 d ago")] {
            let now = at.plus(std::time::Duration::from_secs(later));
            assert!(ago(iso, now).into_string().contains(text), "{later}");
        }
        assert!(ago("<b>", at).into_string().contains("&lt;b&gt;"), "what is no time is shown as it is, escaped");
    }
}
