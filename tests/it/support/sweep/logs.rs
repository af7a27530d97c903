//! Every line that gateways in this process log, at the most talkative level, for the sweeps.

use std::fmt::{Debug, Write as _};
use std::sync::Once;

use keygate::telemetry::{Form, access};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, filter::filter_fn};

/// Makes the sweeps see what is logged; once for the process.
pub(crate) fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        // As in the program: what libraries say below `info` is never written.
        let ours = filter_fn(|metadata| *metadata.level() <= tracing::Level::INFO || metadata.target().starts_with("keygate"));
        tracing_subscriber::registry().with(Lines.with_filter(ours)).init();
        access::send_to(Form::Text, |line| Line(line.to_owned()).end());
    });
}

struct Lines;

/// A line as it grows.
struct Line(String);

impl Line {
    /// Lines of a process with several gateways belong to nobody: whose secret is in one will know it, and what nobody knows is everybody's.
    fn end(self) {
        let sweeps = super::all();
        let mut keys = super::keys_in(self.0.as_bytes());
        keys.retain(|key| !sweeps.iter().any(|sweep| sweep.knows(key)));
        for sweep in sweeps {
            sweep.logged(&self.0, keys.clone());
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, " {field}={value}");
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line(event.metadata().target().to_owned());
        event.record(&mut line);
        line.end();
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut line = Line(attributes.metadata().name().to_owned());
        attributes.record(&mut line);
        line.end();
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut line = Line(String::new());
        values.record(&mut line);
        line.end();
    }
}
