//! `keygate store`: what concerns the store as a whole.

use clap::Subcommand;
use http::Method;

use crate::admin::api::TimeForgotten;
use crate::cli::Global;
use crate::cli::client::Backend;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, Output};

/// `keygate store …`.
#[derive(Subcommand, Debug)]
pub enum StoreCommand {
    /// Judge keys by the machine's clock again, after it had run ahead
    ///
    /// keygate writes down how late it is, so that a clock that is set back brings no expired key to life. When the clock was wrong and
    /// ahead, that time is wrong too; this lets it go. Set the clock right first: keys whose expiry lies after the machine's time are good
    /// again.
    ForgetTime,
}

pub(crate) async fn run(command: &StoreCommand, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let StoreCommand::ForgetTime = command;
    let backend = Backend::open(global, output).await?;
    let forgotten: TimeForgotten = backend.call(Method::POST, "/api/time/forget", &()).await?;
    if output.format() == Format::Json {
        return output.json(&forgotten);
    }
    output.sentence(&format!("keys are judged by the machine's clock again: {} (before: {})", forgotten.now, forgotten.before))
}
