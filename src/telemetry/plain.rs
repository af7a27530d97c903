//! Lines of text without a terminal's colours: the same as the library's own, which asks for each part of each field whether it is to be
//! coloured and makes the time anew for each line.

use std::cell::RefCell;
use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::clock::SystemClock;

/// Writes fields: `name=value`, the message without its name.
pub(super) struct Plain;

impl<'writer> FormatFields<'writer> for Plain {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = Line { writer, has_begun: false, result: Ok(()) };
        fields.record(&mut line);
        line.result
    }
}

struct Line<'writer> {
    writer: Writer<'writer>,
    has_begun: bool,
    result: fmt::Result,
}

const MESSAGE: &str = "message";

impl Line<'_> {
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        // What comes from the `log` crate brings where it was written in fields of that name, which nobody asked for.
        if self.result.is_ok() && !field.name().starts_with("log.") {
            self.result = self.name(field.name()).and_then(|()| value(&mut self.writer));
        }
    }

    fn name(&mut self, name: &str) -> fmt::Result {
        if std::mem::replace(&mut self.has_begun, true) {
            self.writer.write_char(' ')?;
        }
        if name != MESSAGE {
            self.writer.write_str(name.strip_prefix("r#").unwrap_or(name))?;
            self.writer.write_char('=')?;
        }
        Ok(())
    }
}

impl Visit for Line<'_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, |writer| write!(writer, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, |writer| writer.write_str(if value { "true" } else { "false" }));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, |writer| {
            if field.name() == MESSAGE {
                Harmless(writer).write_str(value)
            } else if value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
                writer.write_char('"')?;
                writer.write_str(value)?;
                writer.write_char('"')
            } else {
                write!(writer, "{value:?}")
            }
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, |writer| write!(Harmless(writer), "{value:?}"));
    }
}

/// Escapes what a terminal would obey: control characters, but for the ends of lines and tabulators.
struct Harmless<'a, 'writer>(&'a mut Writer<'writer>);

impl fmt::Write for Harmless<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if is_plain {
            return self.0.write_str(text);
        }
        text.chars().try_for_each(|char| match char {
            '\n' | '\t' => self.0.write_char(char),
            char if char.is_control() => write!(self.0, "{}", char.escape_unicode()),
            char => self.0.write_char(char),
        })
    }
}

/// The time of a line, in UTC with milliseconds.
pub(super) struct UtcTime;

impl FormatTime for UtcTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        with_now(|now| writer.write_str(now))
    }
}

thread_local! {
    /// The time that was written last, in milliseconds and as text: under load many lines have the same.
    static LATEST: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

/// Hands out the time as text.
pub(super) fn with_now<T>(write: impl FnOnce(&str) -> T) -> T {
    let millis = SystemClock::wall_now().as_millis();
    LATEST.with_borrow_mut(|(latest, text)| {
        if *latest != millis {
            let time = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
            *latest = millis;
            *text = time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
        }
        write(text)
    })
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::fmt;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry;

    use super::*;
    use crate::telemetry::tests::Written;

    fn log() {
        let (some, none) = (Some("an \"account\""), None::<&str>);
        tracing::info!(path = %"/a b", status = 200_u16, bytes = 7_u64, some, none, complete = true, r#type = ?Some(1), less = -1, "request {}", 1);
        tracing::warn!(name = "Bücher", "told off");
        tracing::error!("a\ttext");
    }

    fn text(written: &Written) -> String {
        let text = written.text();
        // Without the times.
        text.lines().map(|line| format!("{}\n", &line["2026-01-01T00:00:00.000Z".len()..])).collect()
    }

    #[test]
    fn a_line_is_what_the_library_would_write() {
        let (ours, theirs) = (Written::default(), Written::default());
        let (one, other) = (ours.clone(), theirs.clone());
        let ours_layer = fmt::layer().with_ansi(false).with_timer(UtcTime).fmt_fields(Plain).with_writer(move || one.clone());
        tracing::subscriber::with_default(registry().with(ours_layer), log);
        let theirs_layer = fmt::layer().with_ansi(false).with_timer(UtcTime).with_writer(move || other.clone());
        tracing::subscriber::with_default(registry().with(theirs_layer), log);
        assert_eq!(text(&ours), text(&theirs));
        assert!(text(&ours).contains(r#"request 1 path=/a b status=200 bytes=7 some="an \"account\"" complete=true type=Some(1) less=-1"#));
    }

    #[test]
    fn nothing_in_a_line_commands_a_terminal() {
        let written = Written::default();
        let writer = written.clone();
        let layer = fmt::layer().with_ansi(false).with_timer(UtcTime).fmt_fields(Plain).with_writer(move || writer.clone());
        tracing::subscriber::with_default(registry().with(layer), || {
            tracing::info!(path = %"/\u{1b}[2J\u{9b}", name = "\u{7}", "mess\u{1b}age {}", "\u{8}");
        });
        let text = text(&written);
        assert!(text.trim_end().chars().all(|char| !char.is_control()), "{text:?}");
        assert!(text.contains("mess\\u{1b}age") && text.contains("\\u{9b}"), "{text}");
    }

    #[test]
    fn the_time_is_that_of_the_clock() {
        let mut text = String::new();
        UtcTime.format_time(&mut Writer::new(&mut text)).expect("written");
        let time: jiff::Timestamp = text.parse().expect("a time");
        let now = SystemClock::wall_now().as_millis();
        assert!((now - 60_000..=now).contains(&time.as_millisecond()) && text.len() == "2026-01-01T00:00:00.000Z".len(), "{text}");
    }
}
