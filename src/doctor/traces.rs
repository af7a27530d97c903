//! The collector that spans go to.

use crate::doctor::{Finding, Installation};
use crate::telemetry::traces;

const CHECK: &str = "traces";

/// Whether it takes them: it is sent none, in the way in which they would be.
pub(super) async fn check(installation: &Installation) -> Finding {
    let Some(config) = &installation.config.traces else { return Finding::not_applicable(CHECK, "no collector is named") };
    let finding = match traces::try_out(config).await {
        Ok(()) => Finding::ok(CHECK, "the collector takes spans"),
        Err(why) => Finding::warning(CHECK, format!("the collector takes no spans: {why}"))
            .cure("Start it, or look at endpoint and headers in [traces]; requests do not wait for it"),
    };
    finding.about(&config.endpoint)
}
