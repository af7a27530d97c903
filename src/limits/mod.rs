//! Limits: what a key may do no more than, beside its scopes. All of them are optional, and a key has none unless somebody sets one.
//!
//! [`Limits`] is what operators set; it has one written form for the store, the admin interface and the command line
//! ([`LimitsText`]). [`live::Live`] is what requests meet: the limits as they are now and what of them is used, shared by all cores
//! and found without a lock, through the key's entry in the index. A key without limits has no such thing. What is used is in memory;
//! the bytes of the day alone outlive a restart, with the usage of their key.

pub mod bandwidth;
pub mod daily;
pub mod live;
pub mod networks;
pub mod rate;
pub mod streams;
mod window;

use std::fmt;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::bandwidth::Bandwidth;
use self::daily::DailyBytes;
use self::rate::Rate;

/// What a key may do no more than; `None` anywhere: not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "LimitsText", into = "LimitsText")]
pub struct Limits {
    /// Where its requests may come from; an empty list: from nowhere.
    pub networks: Option<Vec<IpNet>>,
    /// How often it may be used.
    pub rate: Option<Rate>,
    /// How many streams may run at once, at least 1: answers of routes that need the scope `stream` or `download`.
    pub streams: Option<u32>,
    /// How fast the bodies of its requests and answers may move, all together.
    pub bandwidth: Option<Bandwidth>,
    /// How many bytes the bodies of its requests and answers may have in a day (of UTC), all together.
    pub daily: Option<DailyBytes>,
}

/// Limits as they are written: in the store, in the admin interface, in the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct LimitsText {
    /// Where its requests may come from: networks like `192.168.1.0/24` or single addresses; absent or null: from anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// Requests per time, and how many at once: `60/min`, `10/s burst 40`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// How many streams may run at once: answers of routes that need the scope `stream` or `download`, until their last byte. At least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<u32>,
    /// How fast the bodies of its requests and answers may move, all together: `20Mbit`, `2MiB/s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<String>,
    /// How many bytes the bodies of its requests and answers may have in a day (of UTC), all together: `50GiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily: Option<String>,
}

/// A limit that cannot be understood or is out of range: a sentence that says what would be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadLimit(pub(crate) String);

/// Changes to limits; `None` leaves one as it is, `Some(None)` lifts it.
#[derive(Clone, Debug, Default)]
pub struct LimitsPatch {
    /// Where its requests may come from.
    pub networks: Option<Option<Vec<IpNet>>>,
    /// How often it may be used.
    pub rate: Option<Option<Rate>>,
    /// How many streams may run at once.
    pub streams: Option<Option<u32>>,
    /// How fast bodies may move.
    pub bandwidth: Option<Option<Bandwidth>>,
    /// How many bytes bodies may have in a day.
    pub daily: Option<Option<DailyBytes>>,
}

/// Why a good key may not pass for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// It was used too often.
    #[error("the key's rate of requests is used up")]
    Rate {
        /// When one more request may come, in seconds.
        retry_after_secs: u64,
    },
    /// As many of its streams run as may.
    #[error("as many streams of the key run as may")]
    Streams,
    /// Its bodies had as many bytes today as they may.
    #[error("the key's bytes of the day are used up")]
    Daily {
        /// When the next day begins, in seconds.
        retry_after_secs: u64,
    },
}

impl Exceeded {
    /// A short label for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rate { .. } => "key-rate",
            Self::Streams => "key-streams",
            Self::Daily { .. } => "key-daily",
        }
    }

    /// Seconds for `Retry-After`.
    pub const fn retry_after_secs(self) -> u64 {
        match self {
            Self::Rate { retry_after_secs } | Self::Daily { retry_after_secs } => retry_after_secs,
            // Nobody knows when one ends: soon enough for a player that was closed, and not so often that it is a burden.
            Self::Streams => 10,
        }
    }
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// With some changes.
    #[must_use]
    pub fn patched(&self, patch: LimitsPatch) -> Self {
        Self {
            networks: patch.networks.unwrap_or_else(|| self.networks.clone()),
            rate: patch.rate.unwrap_or(self.rate),
            streams: patch.streams.unwrap_or(self.streams),
            bandwidth: patch.bandwidth.unwrap_or(self.bandwidth),
            daily: patch.daily.unwrap_or(self.daily),
        }
    }

    /// What both allow.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let networks = networks::in_both(self.networks.as_deref(), other.networks.as_deref());
        Self {
            networks,
            rate: both(self.rate, other.rate, Rate::and),
            streams: both(self.streams, other.streams, u32::min),
            bandwidth: both(self.bandwidth, other.bandwidth, Bandwidth::min),
            daily: both(self.daily, other.daily, DailyBytes::min),
        }
    }
}

/// What both allow, where `None` allows all.
fn both<T>(one: Option<T>, other: Option<T>, and: impl FnOnce(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(and(one, other)),
        (one, other) => one.or(other),
    }
}

/// In one line, for the audit log: `only from 10.0.0.0/8`, or `none`.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = LimitsText::from(self.clone());
        let networks = text.networks.map(|networks| networks.join(" "));
        let streams = text.streams.map(|most| most.to_string());
        let limits =
            [("only from", networks), ("rate", text.rate), ("streams", streams), ("bandwidth", text.bandwidth), ("daily", text.daily)];
        let said: Vec<String> = limits.into_iter().filter_map(|(what, value)| Some(format!("{what} {}", value?))).collect();
        f.write_str(if said.is_empty() { "none" } else { "" })?;
        f.write_str(&said.join(", "))
    }
}

/// A number of streams that may run at once.
///
/// # Errors
/// [`BadLimit`] for none.
pub fn some_streams(most: u32) -> Result<u32, BadLimit> {
    if most > 0 {
        Ok(most)
    } else {
        Err(BadLimit("a key without a single stream is one without the scopes stream and download: give it others".to_owned()))
    }
}

impl TryFrom<LimitsText> for Limits {
    type Error = BadLimit;

    fn try_from(text: LimitsText) -> Result<Self, BadLimit> {
        let networks = text.networks.map(|networks| networks.iter().map(|text| networks::parse(text)).collect()).transpose()?;
        let streams = text.streams.map(some_streams).transpose()?;
        Ok(Self {
            networks,
            rate: text.rate.as_deref().map(str::parse).transpose()?,
            streams,
            bandwidth: text.bandwidth.as_deref().map(str::parse).transpose()?,
            daily: text.daily.as_deref().map(str::parse).transpose()?,
        })
    }
}

impl From<Limits> for LimitsText {
    fn from(limits: Limits) -> Self {
        Self {
            networks: limits.networks.map(|networks| networks.iter().map(ToString::to_string).collect()),
            rate: limits.rate.map(|rate| rate.to_string()),
            streams: limits.streams,
            bandwidth: limits.bandwidth.map(|bandwidth| bandwidth.to_string()),
            daily: limits.daily.map(|daily| daily.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_they_were_written() {
        let networks = Some(vec!["192.168.1.0/24".to_owned(), "2001:db8::/64".to_owned()]);
        for text in [
            LimitsText::default(),
            LimitsText {
                networks,
                rate: Some("60/min burst 5".to_owned()),
                streams: Some(3),
                bandwidth: Some("20Mbit".to_owned()),
                daily: Some("50GiB".to_owned()),
            },
            LimitsText { networks: Some(Vec::new()), ..LimitsText::default() },
        ] {
            let limits = Limits::try_from(text.clone()).expect("good");
            assert_eq!(LimitsText::from(limits.clone()), text);
            let json = serde_json::to_string(&limits).expect("JSON");
            assert_eq!(serde_json::from_str::<Limits>(&json).expect("the same"), limits);
        }
        assert_eq!(Limits::default().to_string(), "none");
        let nothing = LimitsText { streams: Some(0), ..LimitsText::default() };
        assert!(Limits::try_from(nothing).expect_err("none").to_string().contains("scopes"));
        assert!(Limits::default().is_none());
        assert!(serde_json::from_str::<Limits>(r#"{"network":["::1"]}"#).is_err(), "an unknown limit is never left out");
    }

    #[test]
    fn what_is_written_down_in_one_line_names_every_limit() {
        let text = LimitsText {
            networks: Some(vec!["10.0.0.0/8".to_owned()]),
            rate: Some("60/min".to_owned()),
            streams: Some(3),
            bandwidth: Some("20Mbit".to_owned()),
            daily: Some("50GiB".to_owned()),
        };
        let limits = Limits::try_from(text).expect("good");
        assert_eq!(limits.to_string(), "only from 10.0.0.0/8, rate 60/min, streams 3, bandwidth 20Mbit, daily 50GiB");
    }

    #[test]
    fn a_patch_changes_what_it_names_and_lifts_what_it_says() {
        let networks = || Some(vec![networks::parse("10.0.0.0/8").expect("a network")]);
        let (rate, bandwidth) = (Some("60/min".parse().expect("a rate")), Some("20Mbit".parse().expect("a bandwidth")));
        let daily = Some("50GiB".parse().expect("bytes a day"));
        let limited = Limits { networks: networks(), rate, streams: Some(3), bandwidth, daily };
        assert_eq!(limited.patched(LimitsPatch::default()), limited);
        assert_eq!(
            limited.patched(LimitsPatch { networks: Some(None), ..LimitsPatch::default() }),
            Limits { networks: None, ..limited.clone() }
        );
        assert_eq!(limited.patched(LimitsPatch { daily: Some(None), ..LimitsPatch::default() }), Limits { daily: None, ..limited.clone() });
        let all_lifted =
            LimitsPatch { networks: Some(None), rate: Some(None), streams: Some(None), bandwidth: Some(None), daily: Some(None) };
        assert!(limited.patched(all_lifted).is_none());
        let all_set = LimitsPatch {
            networks: Some(networks()),
            rate: Some(rate),
            streams: Some(Some(3)),
            bandwidth: Some(bandwidth),
            daily: Some(daily),
        };
        assert_eq!(Limits::default().patched(all_set), limited);
    }

    #[test]
    fn under_two_sets_of_limits_the_smaller_number_of_bytes_holds() {
        let daily = |text: &str| Limits { daily: Some(text.parse().expect(text)), ..Limits::default() };
        assert_eq!(daily("2GiB").and(&daily("1GiB")), daily("1GiB"));
        assert_eq!(daily("2GiB").and(&Limits::default()), daily("2GiB"));
    }
}
