//! The limits of a key in a form. One more limit is one more line of [`INPUTS`], and one in each of the two that hand them on.

use maud::{Markup, html};

use crate::admin::api::KeyView;
use crate::admin::limits::PatchLimits;
use crate::limits::bandwidth::Bandwidth;
use crate::limits::daily::DailyBytes;
use crate::limits::rate::Rate;
use crate::limits::{BadLimit, LimitsText, networks, streams};
use crate::page::field::{Input, Wrong};
use crate::page::form::Fields;

type Check = fn(&str) -> Result<(), BadLimit>;

const NETWORKS: usize = 0;
const RATE: usize = 1;
const STREAMS: usize = 2;
const BANDWIDTH: usize = 3;
const DAILY: usize = 4;

/// The fields, each with what judges it: the parser of the command line.
const INPUTS: [(Input, Check); 5] = [
    (
        Input {
            name: "networks",
            label: "Only from these networks",
            hint: "Networks or addresses, apart by commas. Empty: from anywhere.",
            example: "192.168.1.0/24, 2001:db8::/64",
            keys: "text",
        },
        |text| list(text).try_for_each(|one| networks::parse(one).map(drop)),
    ),
    (
        Input {
            name: "rate",
            label: "Requests",
            hint: "Per s, min, h or d; “burst” is how many may come at once. Empty: any number.",
            example: "10/s burst 40",
            keys: "text",
        },
        |text| text.parse::<Rate>().map(drop),
    ),
    (
        Input {
            name: "streams",
            label: "Streams at once",
            hint: "Give one more than people watch: players open the next before they end the last. Empty: any number.",
            example: "3",
            keys: "numeric",
        },
        |text| streams::parse(text).map(drop),
    ),
    (
        Input {
            name: "bandwidth",
            label: "Bandwidth",
            hint: "Of all that the key moves, together: kbit, Mbit, Gbit, or KiB/s, MiB/s. Empty: as fast as it goes.",
            example: "20Mbit",
            keys: "text",
        },
        |text| text.parse::<Bandwidth>().map(drop),
    ),
    (
        Input {
            name: "daily",
            label: "Bytes a day",
            hint: "Of all that the key moves, both ways: KiB, MiB, GiB or TiB. Empty: any number.",
            example: "50GiB",
            keys: "text",
        },
        |text| text.parse::<DailyBytes>().map(drop),
    ),
];

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ']).filter(|one| !one.is_empty())
}

/// What stands in the fields, in the order of [`INPUTS`]; empty: not limited.
#[derive(Default)]
pub(super) struct LimitFields([String; INPUTS.len()]);

impl LimitFields {
    pub(super) fn of(fields: &Fields) -> Self {
        Self(INPUTS.map(|(input, _)| fields.text(input.name).to_owned()))
    }

    /// What a key has.
    pub(super) fn from_key(key: &KeyView) -> Self {
        let limits = key.limits.clone().unwrap_or_default();
        let mut all = Self::default();
        // A key that can be used from nowhere is none from anywhere: that word is refused until somebody says what is meant.
        all.0[NETWORKS] =
            limits.networks.map_or_else(String::new, |all| if all.is_empty() { "nowhere".to_owned() } else { all.join(", ") });
        all.0[RATE] = limits.rate.unwrap_or_default();
        all.0[STREAMS] = limits.streams.map(|most| most.to_string()).unwrap_or_default();
        all.0[BANDWIDTH] = limits.bandwidth.unwrap_or_default();
        all.0[DAILY] = limits.daily.unwrap_or_default();
        all
    }

    /// Says what is none of a limit, at its field.
    pub(super) fn check(&self, wrong: &mut Wrong) {
        for ((input, check), text) in INPUTS.iter().zip(&self.0) {
            if let Some(error) = check(text).err().filter(|_| !text.is_empty()) {
                wrong.note(input.name, error.to_string());
            }
        }
    }

    fn text(&self, place: usize) -> Option<String> {
        Some(self.0[place].clone()).filter(|text| !text.is_empty())
    }

    /// For a new key.
    pub(super) fn written(&self) -> LimitsText {
        LimitsText {
            networks: self.text(NETWORKS).map(|text| list(&text).map(str::to_owned).collect()),
            rate: self.text(RATE),
            streams: self.text(STREAMS).and_then(|text| streams::parse(&text).ok()),
            bandwidth: self.text(BANDWIDTH),
            daily: self.text(DAILY),
        }
    }

    /// For a key that is there: what is empty is lifted.
    pub(super) fn patch(&self) -> PatchLimits {
        let LimitsText { networks, rate, streams, bandwidth, daily } = self.written();
        PatchLimits { networks: Some(networks), rate: Some(rate), streams: Some(streams), bandwidth: Some(bandwidth), daily: Some(daily) }
    }

    /// The fields, folded as long as there is nothing in them.
    pub(super) fn show(&self, wrong: &Wrong) -> Markup {
        let is_open = self.0.iter().any(|text| !text.is_empty()) || INPUTS.iter().any(|(input, _)| wrong.of(input.name).is_some());
        html! {
            details.fold open[is_open] {
                summary { "Limits and networks" }
                @for ((input, _), text) in INPUTS.iter().zip(&self.0) { (input.show(text, wrong)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(texts: [&str; INPUTS.len()]) -> LimitFields {
        LimitFields(texts.map(str::to_owned))
    }

    #[test]
    fn what_is_filled_in_is_limited_and_what_is_empty_is_lifted() {
        let limits = filled(["192.168.1.0/24, ::1", "60/min", "", "20Mbit", "50GiB"]);
        let mut wrong = Wrong::default();
        limits.check(&mut wrong);
        assert!(wrong.is_nothing());
        let written = limits.written();
        assert_eq!(written.networks.as_deref(), Some(&["192.168.1.0/24".to_owned(), "::1".to_owned()][..]));
        assert_eq!((written.rate.as_deref(), written.streams, written.bandwidth.as_deref()), (Some("60/min"), None, Some("20Mbit")));
        assert_eq!(written.daily.as_deref(), Some("50GiB"));
        let patch = limits.patch();
        assert_eq!((patch.streams, patch.rate), (Some(None), Some(Some("60/min".to_owned()))));
        assert_eq!(LimitFields::default().written(), LimitsText::default());
    }

    #[test]
    fn each_wrong_one_is_told_at_its_field_and_the_fields_are_open() {
        let limits = filled(["192.168.1.7/24", "often", "0", "fast", "much"]);
        let mut wrong = Wrong::default();
        limits.check(&mut wrong);
        for (input, _) in &INPUTS {
            assert!(wrong.of(input.name).is_some(), "{}", input.name);
        }
        assert!(wrong.of("networks").is_some_and(|said| said.contains("192.168.1.0/24")));
        assert!(limits.show(&wrong).into_string().contains("<details class=\"fold\" open>"));
        assert!(LimitFields::default().show(&Wrong::default()).into_string().contains("<details class=\"fold\">"));
    }
}
