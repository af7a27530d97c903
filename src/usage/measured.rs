//! What was counted since the program started, for metrics. Sums that a store keeps go back by what was not written when the program
//! dies, and Prometheus would take that for a counter that began anew and add all of it once more; these begin at 0, as it expects.

use std::collections::BTreeMap;

use crate::keys::KeyId;
use crate::usage::count::Counts;
use crate::usage::latency::{Latency, Recent};
use crate::usage::record::UpstreamUsage;
use crate::usage::tally::News;

/// Keys with figures of their own; those that are used first when so many are there share one.
const MOST_KEYS: usize = 1000;

/// Of one upstream.
#[derive(Clone, Debug, Default)]
pub struct MeasuredUpstream {
    /// Requests, bytes, carriers, refusals.
    pub usage: UpstreamUsage,
    /// Until the head of its answers.
    pub latency: Latency,
    /// The same of the last hour.
    pub recent: Recent,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// By upstream; requests that came to none are below [`super::NO_UPSTREAM`].
    pub upstreams: BTreeMap<String, MeasuredUpstream>,
    /// By key.
    pub keys: BTreeMap<KeyId, Counts>,
    /// Of keys beyond those that are told apart.
    pub other_keys: Counts,
    /// Of requests without a key that is known.
    pub no_key: Counts,
}

impl Measured {
    pub(super) fn add(&mut self, news: &News) {
        let mut rest = Counts::default();
        for of_upstream in &news.upstreams {
            let name = of_upstream.upstream.as_ref().map_or(super::NO_UPSTREAM, |name| name.as_str());
            let measured = self.upstreams.entry(name.to_owned()).or_default();
            measured.usage.add(of_upstream, news.at);
            measured.latency.add(&of_upstream.latency);
            measured.recent.add(news.at, &of_upstream.latency);
            rest.add(&of_upstream.counts);
        }
        for of_key in &news.keys {
            let is_told_apart = self.keys.contains_key(&of_key.key) || self.keys.len() < MOST_KEYS;
            let counts = if is_told_apart { self.keys.entry(of_key.key).or_default() } else { &mut self.other_keys };
            counts.add(&of_key.counts);
            // Whatever is counted for a key is counted for an upstream at the same time.
            rest.take_away(&of_key.counts);
        }
        self.no_key.add(&rest);
    }
}
