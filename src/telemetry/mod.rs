//! Logging: one subscriber for the program, one line per request. Traces, for those who want them.

pub mod access;
mod line;
mod lines;
mod plain;
pub mod traces;

use std::env;
use std::io::{self, IsTerminal};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

use crate::config::{Log, LogFormat};

use self::plain::{Plain, UtcTime};

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text for people.
    Text,
    /// Text for people at a terminal.
    Coloured,
    /// One object each, for machines.
    Json,
}

impl Form {
    /// On standard error. Colours as the library has them: `NO_COLOR` takes them away (<https://no-color.org>).
    fn of(format: LogFormat) -> Self {
        let takes_colours = || io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        match format {
            LogFormat::Json => Self::Json,
            LogFormat::Text if takes_colours() => Self::Coloured,
            LogFormat::Text => Self::Text,
        }
    }
}

/// Keeps the writer alive; lines still queued are written when it is dropped.
#[derive(Debug)]
pub struct Guard(#[expect(dead_code, reason = "held for its drop")] lines::Closing);

/// What is wrong with the logging settings.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.level`.
    #[error("log.level \"{level}\" is not a level or filter: {source}")]
    Level {
        /// As configured.
        level: String,
        /// Cause.
        source: tracing_subscriber::filter::ParseError,
    },
    /// No thread for writing lines.
    #[error("the system gives no thread for the log: {source}")]
    Thread {
        /// Cause.
        source: io::Error,
    },
    /// There is a subscriber already.
    #[error("logging is set up already")]
    Twice,
}

/// Sets logging up. Lines go to standard error through a thread of their own, so that a slow journal does not hold requests up.
///
/// # Errors
/// [`TelemetryError`].
pub fn start(log: &Log) -> Result<Guard, TelemetryError> {
    let filter = EnvFilter::try_new(&log.level).map_err(|source| TelemetryError::Level { level: log.level.clone(), source })?;
    let (writer, closing) = lines::start(io::stderr()).map_err(|source| TelemetryError::Thread { source })?;
    let form = Form::of(log.format);
    let lines = fmt::layer().with_writer(writer.clone()).with_target(false).with_timer(UtcTime);
    let lines = match form {
        Form::Json => lines.json().flatten_event(true).with_ansi(false).boxed(),
        Form::Coloured => lines.with_ansi(true).boxed(),
        Form::Text => lines.with_ansi(false).fmt_fields(Plain).boxed(),
    };
    let result = registry().with(filter).with(filter_fn(may_be_written)).with(lines).try_init();
    result.map_err(|_| TelemetryError::Twice)?;
    access::send_to(form, move |line| writer.take(line.as_bytes()));
    Ok(Guard(closing))
}

/// Libraries below keygate may print what they carry when they are asked for every detail: requests, headers, decoded frames. So only
/// keygate's own lines go below `info`, whatever the filter says.
fn may_be_written(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    *metadata.level() <= Level::INFO || target == "keygate" || target.starts_with("keygate::")
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Where a test's lines go.
    #[derive(Clone, Default)]
    pub(super) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        pub(super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text")
        }
    }

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_keygates_own_lines_go_below_info() {
        let written = Written::default();
        let writer = written.clone();
        let lines = fmt::layer().with_writer(move || writer.clone()).with_ansi(false);
        let subscriber = registry().with(EnvFilter::new("trace")).with(filter_fn(may_be_written)).with(lines);
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(target: "h2::codec", "Headers of somebody");
            tracing::debug!(target: "keygatelike", "a stranger");
            tracing::info!(target: "rustls", "something worth knowing");
            tracing::trace!(target: "keygate::upstream", "a detail of ours");
        });
        let text = written.text();
        assert!(text.contains("something worth knowing") && text.contains("a detail of ours"), "{text}");
        assert!(!text.contains("somebody") && !text.contains("a stranger"), "{text}");
    }
}
