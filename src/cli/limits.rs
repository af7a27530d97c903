//! The switches of `keygate keys create` and `edit` that limit a key. Each value is looked at here, so that a mistake is told by the name
//! of its switch.

use clap::Args;

use crate::admin::api::{KeyView, NewKeyRequest, PatchKeyRequest};
use crate::admin::limits::PatchLimits;
use crate::cli::failure::Failure;
use crate::limits::{BadLimit, LimitsText, networks};

/// What a key may do no more than.
#[derive(Args, Debug, Default)]
pub struct LimitArgs {
    /// Where it may be used from: a network like 192.168.1.0/24, or an address. Repeatable; "any": from anywhere
    #[arg(long = "network", value_name = "NETWORK", value_delimiter = ',')]
    pub networks: Vec<String>,
}

impl LimitArgs {
    /// What is said of each limit.
    fn read(&self) -> Result<PatchLimits, Failure> {
        Ok(PatchLimits { networks: self.networks()? })
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
        let limits = LimitsText { networks: patch.networks.flatten() };
        request.limits = (limits != LimitsText::default()).then_some(limits);
        Ok(())
    }

    /// Puts them into what changes a key. `none`: all limits are lifted.
    pub(super) fn change(&self, none: bool, request: &mut PatchKeyRequest) -> Result<(), Failure> {
        let patch = self.read()?;
        let is_said = patch.networks.is_some();
        request.limits = if none { Some(None) } else { is_said.then_some(Some(patch)) };
        Ok(())
    }
}

fn said(switch: &str, parsed: Result<(), BadLimit>) -> Result<(), Failure> {
    parsed.map_err(|error| Failure::usage(format!("{switch}: {error}")))
}

/// The lines of `keygate keys show` about limits.
pub(super) fn lines(key: &mut KeyView) -> [(&'static str, Option<String>); 1] {
    let limits = key.limits.take().unwrap_or_default();
    [("only from", limits.networks.map(|networks| networks.join(", ")))]
}
