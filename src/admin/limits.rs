//! The limits of keys as the admin interface reads and shows them.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::admin::error::AdminError;
use crate::limits::{BadLimit, Limits, LimitsPatch, LimitsText, networks, some_streams};

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

/// As answers show them; `None`: the key has none.
pub(super) fn view(limits: &Limits) -> Option<LimitsText> {
    (!limits.is_none()).then(|| limits.clone().into())
}
