//! The switches of `keygate keys create` and `edit` that limit a key. Each value is looked at here, so that a mistake is told by the name
//! of its switch.

use std::str::FromStr;

use clap::Args;

use crate::admin::api::{KeyView, NewKeyRequest, PatchKeyRequest};
use crate::admin::limits::{BandwidthUsed, DailyUsed, PatchLimits, RateUsed, StreamsUsed};
use crate::cli::failure::Failure;
use crate::limits::bandwidth::Bandwidth;
use crate::limits::daily::DailyBytes;
use crate::limits::rate::Rate;
use crate::limits::{BadLimit, LimitsText, networks, streams};

/// What a key may do no more than.
#[derive(Args, Debug, Default)]
pub struct LimitArgs {
    /// Where it may be used from: a network like 192.168.1.0/24, or an address. Repeatable; "any": from anywhere
    #[arg(long = "network", value_name = "NETWORK", value_delimiter = ',')]
    pub networks: Vec<String>,
    /// How often it may be used: 60/min, or "10/s burst 40" (s, min, h, d); "none": as often as it likes
    #[arg(long, value_name = "RATE")]
    pub rate: Option<String>,
    /// How many streams and downloads may run at once: 3; "none": any number
    #[arg(long, value_name = "N")]
    pub streams: Option<String>,
    /// How fast its bodies may move, all together: 20Mbit, 2MiB/s; "none": as fast as they can
    #[arg(long, value_name = "SPEED")]
    pub bandwidth: Option<String>,
    /// How many bytes its bodies may have in a day of UTC, up and down together: 50GiB, 500MiB; "none": any number
    #[arg(long, value_name = "BYTES")]
    pub daily: Option<String>,
}

impl LimitArgs {
    /// What is said of each limit.
    fn read(&self) -> Result<PatchLimits, Failure> {
        let streams = value::<Streams>("--streams", self.streams.as_ref())?;
        let streams = streams.map(|most| most.and_then(|most| most.parse().ok()));
        let bandwidth = value::<Bandwidth>("--bandwidth", self.bandwidth.as_ref())?;
        let (rate, daily) = (value::<Rate>("--rate", self.rate.as_ref())?, value::<DailyBytes>("--daily", self.daily.as_ref())?);
        Ok(PatchLimits { networks: self.networks()?, rate, streams, bandwidth, daily })
    }

    fn networks(&self) -> Result<Option<Option<Vec<String>>>, Failure> {
        match self.networks.as_slice() {
            [] => Ok(None),
            [any] if any == "any" => Ok(Some(None)),
            texts => {
                texts.iter().try_for_each(|text| said("--network", networks::parse(text).map(drop)))?;
                Ok(Some(Some(texts.to_vec())))
            }
        }
    }

    /// Puts them into what asks for a key.
    pub(super) fn limit(&self, request: &mut NewKeyRequest) -> Result<(), Failure> {
        let patch = self.read()?;
        let limits = LimitsText {
            networks: patch.networks.flatten(),
            rate: patch.rate.flatten(),
            streams: patch.streams.flatten(),
            bandwidth: patch.bandwidth.flatten(),
            daily: patch.daily.flatten(),
        };
        request.limits = (limits != LimitsText::default()).then_some(limits);
        Ok(())
    }

    /// Puts them into what changes a key. `none`: all limits are lifted.
    pub(super) fn change(&self, none: bool, request: &mut PatchKeyRequest) -> Result<(), Failure> {
        let patch = self.read()?;
        let PatchLimits { networks, rate, streams, bandwidth, daily } = &patch;
        let is_said = networks.is_some() || rate.is_some() || streams.is_some() || bandwidth.is_some() || daily.is_some();
        request.limits = if none { Some(None) } else { is_said.then_some(Some(patch)) };
        Ok(())
    }
}

/// A number of streams.
struct Streams;

impl FromStr for Streams {
    type Err = BadLimit;

    fn from_str(text: &str) -> Result<Self, BadLimit> {
        streams::parse(text).map(|_| Self)
    }
}

/// A limit as it is written, once it is sure that it is one; `None`: nothing is said of it, `Some(None)`: it is lifted.
fn value<T: FromStr<Err = BadLimit>>(switch: &str, text: Option<&String>) -> Result<Option<Option<String>>, Failure> {
    match text {
        None => Ok(None),
        Some(text) if text == "none" => Ok(Some(None)),
        Some(text) => said(switch, text.parse::<T>().map(drop)).map(|()| Some(Some(text.clone()))),
    }
}

fn said(switch: &str, parsed: Result<(), BadLimit>) -> Result<(), Failure> {
    parsed.map_err(|error| Failure::usage(format!("{switch}: {error}")))
}

/// The lines of `keygate keys show` about limits, with how much of them is used.
pub(super) fn lines(key: &mut KeyView) -> [(&'static str, Option<String>); 6] {
    let limits = key.limits.take().unwrap_or_default();
    let are_counted = limits != LimitsText { networks: limits.networks.clone(), ..LimitsText::default() };
    let is_alive = key.revoked_at.is_none();
    let unknown = (are_counted && is_alive && key.limits_used.is_none()).then(|| "not known: no running keygate was asked".to_owned());
    let used = key.limits_used.take();
    let used = used.as_ref();
    [
        ("only from", limits.networks.map(|networks| networks.join(", "))),
        ("rate", with(limits.rate, used.and_then(|used| used.rate.as_ref()).map(rate))),
        ("streams", with(limits.streams.map(|most| most.to_string()), used.and_then(|used| used.streams.as_ref()).map(streams))),
        ("bandwidth", with(limits.bandwidth, used.and_then(|used| used.bandwidth.as_ref()).map(bandwidth))),
        ("daily", with(limits.daily, used.and_then(|used| used.daily.as_ref()).map(daily))),
        ("used of limits", unknown),
    ]
}

/// A limit, and how much of it is used if that is known.
fn with(limit: Option<String>, used: Option<String>) -> Option<String> {
    Some(limit? + &used.map(|used| format!(" ({used})")).unwrap_or_default())
}

fn rate(used: &RateUsed) -> String {
    format!("{} of {} at once left, all of them in {} s", used.remaining, used.most, used.reset_seconds)
}

fn streams(used: &StreamsUsed) -> String {
    format!("{} now", used.running)
}

fn bandwidth(used: &BandwidthUsed) -> String {
    format!("{} of {} bytes a second now", used.bytes_per_second, used.most_bytes_per_second)
}

fn daily(used: &DailyUsed) -> String {
    format!("{} of {} bytes today; the next day of UTC begins in {} s", used.bytes, used.most_bytes, used.reset_seconds)
}
