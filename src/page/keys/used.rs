//! The limits of a key as they are shown: what each is, and how much of it is used now.

use maud::{Markup, html};

use crate::admin::limits::LimitsUsed;
use crate::limits::LimitsText;
use crate::page::keys::detail::fact;
use crate::page::show;

/// How much is used, as a bar and in words. The bar is for who sees it: the words say the same.
fn used(now: u64, most: u64, words: &str) -> Markup {
    html! {
        progress max=(most.max(1)) value=(now.min(most)) aria-hidden="true" {}
        small { (words) }
    }
}

/// All of them. Without `now` nobody knows what is used.
pub(super) fn shown(limits: &LimitsText, now: Option<&LimitsUsed>) -> Markup {
    html! {
        dl.facts.limits {
            @if let Some(networks) = &limits.networks {
                (fact("Only from", &html! { @if networks.is_empty() { "nowhere" } @else { (networks.join(", ")) } }))
            }
            @if let Some(rate) = &limits.rate { (fact("Requests", &html! { (rate) (requests(now)) })) }
            @if let Some(streams) = limits.streams { (fact("Streams at once", &html! { (streams) (running(now)) })) }
            @if let Some(bandwidth) = &limits.bandwidth { (fact("Bandwidth", &html! { (bandwidth) (speed(now)) })) }
            @if let Some(daily) = &limits.daily { (fact("Bytes a day", &html! { (daily) (today(now)) })) }
        }
    }
}

fn requests(now: Option<&LimitsUsed>) -> Markup {
    let Some(rate) = now.and_then(|now| now.rate.as_ref()) else { return html! {} };
    let words = format!("{} of {} may come at once now", show::number(rate.remaining.into()), show::number(rate.most.into()));
    used(rate.most.saturating_sub(rate.remaining).into(), rate.most.into(), &words)
}

fn running(now: Option<&LimitsUsed>) -> Markup {
    let Some(streams) = now.and_then(|now| now.streams.as_ref()) else { return html! {} };
    let words = if streams.running == 1 { "1 runs".to_owned() } else { format!("{} run", show::number(streams.running.into())) };
    used(streams.running.into(), streams.most.into(), &words)
}

fn speed(now: Option<&LimitsUsed>) -> Markup {
    let Some(bandwidth) = now.and_then(|now| now.bandwidth.as_ref()) else { return html! {} };
    let words = format!("{}/s over the last 5 s", show::bytes(bandwidth.bytes_per_second));
    used(bandwidth.bytes_per_second, bandwidth.most_bytes_per_second, &words)
}

fn today(now: Option<&LimitsUsed>) -> Markup {
    let Some(daily) = now.and_then(|now| now.daily.as_ref()) else { return html! {} };
    let words = format!("{} today; anew in {}", show::bytes(daily.bytes), show::length(daily.reset_seconds));
    used(daily.bytes, daily.most_bytes, &words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::limits::{BandwidthUsed, DailyUsed, RateUsed, StreamsUsed};

    #[test]
    fn each_limit_says_how_much_of_it_is_used_if_that_is_known() {
        let text = |text: &str| Some(text.to_owned());
        let limits = LimitsText {
            networks: Some(vec!["10.0.0.0/8".to_owned(), "::1".to_owned()]),
            rate: text("10/s burst 40"),
            streams: Some(3),
            bandwidth: text("8Mbit"),
            daily: text("50GiB"),
        };
        let now = LimitsUsed {
            rate: Some(RateUsed { remaining: 38, most: 40, reset_seconds: 1 }),
            streams: Some(StreamsUsed { running: 1, most: 3 }),
            bandwidth: Some(BandwidthUsed { bytes_per_second: 2_000_000, most_bytes_per_second: 1_000_000 }),
            daily: Some(DailyUsed { bytes: 5 << 30, most_bytes: 50 << 30, reset_seconds: 7200 }),
        };
        let known = shown(&limits, Some(&now)).into_string();
        for words in
            ["10.0.0.0/8, ::1", "38 of 40 may come at once now", ">1 runs<", "1.9 MiB/s over the last 5 s", "5.0 GiB today; anew in 2 h"]
        {
            assert!(known.contains(words), "{words}: {known}");
        }
        assert!(
            known.contains("<progress max=\"40\" value=\"2\"") && known.contains("<progress max=\"1000000\" value=\"1000000\""),
            "{known}"
        );
        let unknown = shown(&limits, None).into_string();
        assert!(unknown.contains("50GiB") && !unknown.contains("<progress"), "{unknown}");
    }
}
