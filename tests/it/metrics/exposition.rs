//! Reads what `/metrics` serves, strictly, and finds what queries ask for.

use std::collections::{BTreeMap, BTreeSet};

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

impl Sample {
    /// What tells it from all others.
    pub(super) fn series(&self) -> (String, BTreeMap<String, String>) {
        (self.name.clone(), self.labels.clone())
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Exposition {
    pub(super) samples: Vec<Sample>,
}

impl Exposition {
    pub(super) fn read(text: &str) -> Self {
        Self::read_as(text, false)
    }

    pub(super) fn read_open(text: &str) -> Self {
        Self::read_as(text.strip_suffix("# EOF\n").expect("an end"), true)
    }

    /// Families come once, each with its help and type before its figures; no figure comes twice.
    fn read_as(text: &str, is_open: bool) -> Self {
        let (mut families, mut seen) = (BTreeSet::new(), Vec::new());
        let (mut help, mut family) = (String::new(), (String::new(), String::new()));
        let mut samples: Vec<Sample> = Vec::new();
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, what) = rest.split_once(' ').expect("a help");
                assert!(families.insert(name.to_owned()) && what.ends_with('.'), "{line}");
                help = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert_eq!(name, help, "{line}");
                assert!(kind != "counter" || name.ends_with("_total") != is_open, "{line}");
                family = (name.to_owned(), kind.to_owned());
            } else {
                let sample = sample(line);
                let rest = sample.name.strip_prefix(&family.0).unwrap_or_else(|| panic!("{line} in {family:?}"));
                let fits = match family.1.as_str() {
                    "histogram" => ["_bucket", "_sum", "_count"].contains(&rest),
                    "counter" if is_open => rest == "_total",
                    _ => rest.is_empty(),
                };
                assert!(fits, "{line} in {family:?}");
                assert!(!seen.contains(&sample.series()), "twice: {line}");
                seen.push(sample.series());
                samples.push(sample);
            }
        }
        Self { samples }
    }

    /// The sum of all figures of a name that have these labels.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|found| found == value));
        let found: Vec<_> = self.samples.iter().filter(|sample| sample.name == name).filter(has).collect();
        assert!(!found.is_empty(), "there is no {name} {labels:?}");
        found.iter().map(|sample| sample.value).sum()
    }
}

fn is_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let (name, labels) = match series.split_once('{') {
        None => (series, BTreeMap::new()),
        Some((name, rest)) => (name, labels(rest.strip_suffix('}').expect("a brace"))),
    };
    assert!(name.chars().all(is_name) && (name.starts_with("keygate_") || name == "process_start_time_seconds"), "{line}");
    Sample { name: name.to_owned(), labels, value: value.parse().unwrap_or_else(|_| panic!("{line}")) }
}

/// `a="b",c="d"`; no value here has a quote in it.
fn labels(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").expect("a label");
        let (value, after) = after.split_once('"').expect("its end");
        assert!(name.chars().all(is_name) && found.insert(name.to_owned(), value.to_owned()).is_none(), "{text}");
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    found
}

/// Labels that a query wants, each with its value where it must be exactly that one.
type Matchers = Vec<(String, Option<String>)>;

/// Names of keygate's figures in a query, and the labels that it wants of them.
pub(super) fn selectors(query: &str) -> Vec<(String, Matchers)> {
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(start) = rest.find(is_name) {
        let word = &rest[start..];
        let end = word.find(|letter| !is_name(letter)).unwrap_or(word.len());
        let (name, after) = word.split_at(end);
        rest = after;
        if name.starts_with("keygate_") || name == "process_start_time_seconds" {
            let inside = after.strip_prefix('{').and_then(|after| after.split_once('}')).map_or("", |(inside, _)| inside);
            found.push((name.to_owned(), matchers(inside)));
        } else if after.starts_with('{') {
            // Another program's.
            rest = after.split_once('}').map_or("", |(_, after)| after);
        }
    }
    found
}

fn matchers(text: &str) -> Matchers {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let end = pair.find(|letter| !is_name(letter)).expect("an operator");
            let (name, wanted) = pair.split_at(end);
            let exact = wanted.strip_prefix("=\"").and_then(|value| value.strip_suffix('"'));
            (name.to_owned(), exact.map(str::to_owned))
        })
        .collect()
}

/// Labels in `by (…)`; `le` is one of histograms.
pub(super) fn grouped_by(query: &str) -> Vec<String> {
    let lists = query.match_indices("by (").filter_map(|(at, word)| query[at + word.len()..].split_once(')'));
    lists.flat_map(|(list, _)| list.split(',')).map(|label| label.trim().to_owned()).collect()
}

#[test]
fn what_a_query_asks_for_is_found() {
    let query = "sum by (le, upstream) (rate(keygate_x_total{class=\"5xx\",upstream=~\"$u\"}[5m])) / keygate_y > up{job=\"keygate_z\"}";
    let wanted = vec![("class".to_owned(), Some("5xx".to_owned())), ("upstream".to_owned(), None)];
    assert_eq!(selectors(query), [("keygate_x_total".to_owned(), wanted), ("keygate_y".to_owned(), Vec::new())]);
    assert_eq!(grouped_by(query), ["le", "upstream"]);
}
