//! The limits of keys as the admin interface reads and shows them.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::admin::error::AdminError;
use crate::clock::Clock;
use crate::limits::bandwidth::Bandwidth;
use crate::limits::daily::{DailyBytes, until_tomorrow};
use crate::limits::live::Live;
use crate::limits::rate::{Left, Rate};
use crate::limits::{BadLimit, Limits, LimitsPatch, LimitsText, networks, some_streams};

/// How much of a key's limits is used now. What is not limited is null.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitsUsed {
    /// Requests.
    pub rate: Option<RateUsed>,
    /// Streams.
    pub streams: Option<StreamsUsed>,
    /// The speed of bodies.
    pub bandwidth: Option<BandwidthUsed>,
    /// Bytes of bodies today.
    pub daily: Option<DailyUsed>,
}

/// What is left of a rate.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateUsed {
    /// Requests that may come at once now.
    pub remaining: u32,
    /// Requests that may come at once when none came for a while.
    pub most: u32,
    /// Seconds until so many may again.
    pub reset_seconds: u64,
}

/// How many streams run.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct StreamsUsed {
    /// Now.
    pub running: u32,
    /// At most.
    pub most: u32,
}

/// How fast bodies move.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BandwidthUsed {
    /// As of the last five seconds that are over.
    pub bytes_per_second: u64,
    /// At most.
    pub most_bytes_per_second: u64,
}

/// How many bytes have moved today.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DailyUsed {
    /// Today, a day of UTC.
    pub bytes: u64,
    /// At most; what runs when this is reached goes a little beyond it.
    pub most_bytes: u64,
    /// Seconds until the next day.
    pub reset_seconds: u64,
}

/// Changes to limits; what is absent stays, and null lifts a limit.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchLimits {
    /// Where its requests may come from, in place of where they might before; null: from anywhere.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub networks: Option<Option<Vec<String>>>,
    /// Requests per time; null: as often as they like.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub rate: Option<Option<String>>,
    /// Streams at once; null: any number.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub streams: Option<Option<u32>>,
    /// Speed of bodies; null: any.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Option<String>>,
    /// Bytes of bodies a day; null: any number.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub daily: Option<Option<String>>,
}

/// A field that is there, null or not: told from one that is absent.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// The limits of a key to be made.
pub(super) fn of_new(text: Option<LimitsText>) -> Result<Limits, AdminError> {
    let text = text.unwrap_or_default();
    some_network(text.networks.as_deref())?;
    Limits::try_from(text).map_err(invalid)
}

/// Changes to a key's limits.
pub(super) fn of_patch(patch: PatchLimits) -> Result<LimitsPatch, AdminError> {
    some_network(patch.networks.as_ref().and_then(Option::as_deref))?;
    let read = |texts: Vec<String>| texts.iter().map(|text| networks::parse(text)).collect::<Result<Vec<_>, BadLimit>>();
    Ok(LimitsPatch {
        networks: patch.networks.map(|networks| networks.map(read).transpose()).transpose().map_err(invalid)?,
        rate: parsed(patch.rate)?,
        bandwidth: parsed(patch.bandwidth)?,
        daily: parsed(patch.daily)?,
        streams: patch.streams.map(|most| most.map(some_streams).transpose()).transpose().map_err(invalid)?,
    })
}

/// A limit that is changed, lifted, or left as it is.
fn parsed<T: FromStr<Err = BadLimit>>(text: Option<Option<String>>) -> Result<Option<Option<T>>, AdminError> {
    text.map(|text| text.as_deref().map(str::parse).transpose()).transpose().map_err(invalid)
}

fn invalid(error: BadLimit) -> AdminError {
    AdminError::Invalid(error.to_string())
}

fn some_network(networks: Option<&[String]>) -> Result<(), AdminError> {
    let nowhere =
        "a key without a network can be used from nowhere: name some, or leave networks out for everywhere; isActive switches a key off";
    if networks.is_some_and(<[String]>::is_empty) { Err(AdminError::Invalid(nowhere.into())) } else { Ok(()) }
}

/// How much of them is used.
pub(super) fn used(live: &Live, clock: &dyn Clock) -> LimitsUsed {
    let (now, today, limits) = (clock.monotonic(), clock.now(), live.limits());
    let used = live.used(now, today);
    let rate = |(left, rate): (Left, Rate)| RateUsed { remaining: left.remaining, most: rate.burst(), reset_seconds: left.reset_secs };
    let bandwidth =
        |(bytes_per_second, most): (u64, Bandwidth)| BandwidthUsed { bytes_per_second, most_bytes_per_second: most.bytes_per_second() };
    let daily = |(bytes, most): (u64, DailyBytes)| DailyUsed { bytes, most_bytes: most.bytes(), reset_seconds: until_tomorrow(today) };
    LimitsUsed {
        rate: used.rate.zip(limits.rate).map(rate),
        streams: used.streams.zip(limits.streams).map(|(running, most)| StreamsUsed { running, most }),
        bandwidth: used.bandwidth.zip(limits.bandwidth).map(bandwidth),
        daily: used.daily.zip(limits.daily).map(daily),
    }
}

/// As answers show them; `None`: the key has none.
pub(super) fn view(limits: &Limits) -> Option<LimitsText> {
    (!limits.is_none()).then(|| limits.clone().into())
}
