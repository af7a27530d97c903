//! Figures as text, in the two forms that Prometheus reads: its own (exposition formats, "Text-based format", version 0.0.4) and
//! OpenMetrics 1.0.0. Everything is gathered when it is asked for, so there is nothing to register.

use std::fmt::{Display, Write};

use crate::usage::latency::Latency;

/// Labels of one figure: names, and values as they are.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Prometheus,
    OpenMetrics,
}

impl Form {
    /// The one that a client takes; Prometheus' own for whoever says nothing.
    pub(super) fn wanted(accept: Option<&str>) -> Self {
        let named = accept.unwrap_or_default().split(',').map(|one| one.split(';').next().unwrap_or_default().trim());
        let knows = named.into_iter().any(|one| one.eq_ignore_ascii_case("application/openmetrics-text"));
        if knows { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A text that is being written.
pub(super) struct Exposition {
    form: Form,
    text: String,
}

impl Exposition {
    pub(super) fn new(form: Form) -> Self {
        Self { form, text: String::with_capacity(16 << 10) }
    }

    /// What only grows. `name` ends in `_total`, which OpenMetrics wants for each figure and does not want for all of them.
    pub(super) fn counter<'a>(&'a mut self, name: &'a str, help: &str) -> Figures<'a> {
        let family = match self.form {
            Form::Prometheus => name,
            Form::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
        };
        self.head(family, "counter", help);
        Figures { text: &mut self.text, name }
    }

    /// What goes up and down.
    pub(super) fn gauge<'a>(&'a mut self, name: &'a str, help: &str) -> Figures<'a> {
        self.head(name, "gauge", help);
        Figures { text: &mut self.text, name }
    }

    /// Times by range, for each of `all`: under which value of `label`, and the times.
    pub(super) fn histogram<'a>(&mut self, name: &str, help: &str, label: &str, all: impl Iterator<Item = (&'a str, Latency)>) {
        self.head(name, "histogram", help);
        let of = |what| format!("{name}_{what}");
        let (ranges, count, sum) = (of("bucket"), of("count"), of("sum"));
        for (value, latency) in all {
            for (bound, times) in latency.up_to() {
                // With a point in any case: OpenMetrics wants one form of each number.
                line(&mut self.text, &ranges, &[(label, value), ("le", &format!("{bound:?}"))], &times);
            }
            line(&mut self.text, &ranges, &[(label, value), ("le", "+Inf")], &latency.count());
            line(&mut self.text, &count, &[(label, value)], &latency.count());
            line(&mut self.text, &sum, &[(label, value)], &latency.sum_seconds());
        }
    }

    pub(super) fn finish(mut self) -> String {
        if self.form == Form::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn head(&mut self, family: &str, kind: &str, help: &str) {
        // Writing to a text cannot fail.
        let _ = write!(self.text, "# HELP {family} {help}\n# TYPE {family} {kind}\n");
    }
}

/// Where figures of one name go, all of them one after the other.
pub(super) struct Figures<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl Figures<'_> {
    pub(super) fn of(&mut self, labels: Labels<'_>, value: impl Display) {
        line(self.text, self.name, labels, &value);
    }

    /// The only one.
    pub(super) fn is(&mut self, value: impl Display) {
        line(self.text, self.name, &[], &value);
    }
}

fn line(text: &mut String, name: &str, labels: Labels<'_>, value: &dyn Display) {
    text.push_str(name);
    for (number, (label, value)) in labels.iter().enumerate() {
        text.push(if number == 0 { '{' } else { ',' });
        text.push_str(label);
        text.push_str("=\"");
        for letter in value.chars() {
            match letter {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                letter => text.push(letter),
            }
        }
        text.push('"');
    }
    if !labels.is_empty() {
        text.push('}');
    }
    // Writing to a text cannot fail.
    let _ = writeln!(text, " {value}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn written(form: Form) -> String {
        let mut exposition = Exposition::new(form);
        exposition.counter("a_total", "How many.").of(&[("name", "a\\b\"c\nd"), ("kind", "é")], 3_u64);
        exposition.gauge("b", "How much.").is(0.5);
        let mut latency = Latency::default();
        latency.note(Duration::from_millis(2));
        exposition.histogram("c_seconds", "How long.", "of", [("x", latency)].into_iter());
        exposition.finish()
    }

    #[test]
    fn both_forms_are_as_their_descriptions_say() {
        let prometheus = written(Form::Prometheus);
        let begin =
            "# HELP a_total How many.\n# TYPE a_total counter\na_total{name=\"a\\\\b\\\"c\\nd\",kind=\"é\"} 3\n# HELP b How much.\n";
        assert!(prometheus.starts_with(begin), "{prometheus}");
        assert!(prometheus.contains("\nb 0.5\n# HELP c_seconds How long.\n# TYPE c_seconds histogram\n"), "{prometheus}");
        assert!(
            prometheus.contains("c_seconds_bucket{of=\"x\",le=\"0.001\"} 0\nc_seconds_bucket{of=\"x\",le=\"0.0025\"} 1\n"),
            "{prometheus}"
        );
        assert!(prometheus.contains("le=\"1.0\"} 1\n") && prometheus.contains("le=\"+Inf\"} 1\n"), "{prometheus}");
        assert!(prometheus.ends_with("c_seconds_count{of=\"x\"} 1\nc_seconds_sum{of=\"x\"} 0.002\n"), "{prometheus}");
        let open = written(Form::OpenMetrics);
        assert!(open.starts_with("# HELP a How many.\n# TYPE a counter\na_total{"), "{open}");
        assert!(open.ends_with("\n# EOF\n"), "{open}");
    }

    #[test]
    fn who_knows_openmetrics_gets_it() {
        let of_prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(Form::wanted(Some(of_prometheus)), Form::OpenMetrics);
        for other in [None, Some("*/*"), Some("text/plain"), Some("text/html,application/xml")] {
            assert_eq!(Form::wanted(other), Form::Prometheus, "{other:?}");
        }
    }
}
