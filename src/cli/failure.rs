//! How a command ends when it did not work: an exit code for scripts, a sentence for people.

use std::process::ExitCode;

/// Exit codes of all commands; 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It failed.
    Failed = 1,
    /// The command line, a value or the configuration is wrong.
    Usage = 2,
    /// What was named is not there.
    NotFound = 3,
    /// The gateway cannot be reached, although it seems to run (or must, for this command).
    Unreachable = 4,
    /// The media server refused, or did not answer.
    Upstream = 5,
}

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// For scripts.
    pub exit: Exit,
    /// For people: what, where, and what to do.
    pub message: String,
}

impl Failure {
    /// With an exit code of its own.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// A failure without a better code.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The command line or a value is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The process's exit code.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}
