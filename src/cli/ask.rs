//! Questions to the person at the terminal, and secrets from a terminal, standard input or a file. Never from the arguments:
//! those are in the process list and in the shell's history.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroize;

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::secret::Secret;

/// Longest secret.
const MAX_SECRET_BYTES: usize = 16 * 1024;

/// Where the secret of an account comes from; without any of these it is asked for.
#[derive(Args, Debug)]
pub struct SecretArgs {
    /// The secret is a token or API key of the media server, not the account's password
    #[arg(long)]
    pub token: bool,
    /// Read the secret from standard input
    #[arg(long, visible_alias = "password-stdin", conflicts_with = "secret_file")]
    pub secret_stdin: bool,
    /// Read the secret from a file
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
}

impl SecretArgs {
    /// The secret. `whose` goes into the question.
    pub(crate) fn read(&self, whose: &str) -> Result<Secret<String>, Failure> {
        if let Some(file) = &self.secret_file {
            return from_file(file);
        }
        if self.secret_stdin {
            return one_line(io::stdin().lock(), "standard input");
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::usage("there is no terminal to ask for the secret on: give --secret-stdin or --secret-file FILE"));
        }
        let what = if self.token { "Token" } else { "Password" };
        output::ask(&format!("{what} of {whose}: "));
        let text = rpassword::read_password().map_err(|error| Failure::failed(format!("cannot read from the terminal: {error}")))?;
        checked(text, "the terminal")
    }
}

/// A new password of a person: asked for twice at a terminal, else from standard input or a file.
pub(crate) fn new_password(from_stdin: bool, file: Option<&Path>) -> Result<Secret<String>, Failure> {
    if let Some(file) = file {
        return from_file(file);
    }
    if from_stdin {
        return one_line(io::stdin().lock(), "standard input");
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask for the password on: give --password-stdin or --password-file FILE"));
    }
    let read = |question: &str| {
        output::ask(question);
        let text = rpassword::read_password().map_err(|error| Failure::failed(format!("cannot read from the terminal: {error}")))?;
        checked(text, "the terminal")
    };
    let (first, second) = (read("New password: ")?, read("The same again: ")?);
    if first.expose() == second.expose() { Ok(first) } else { Err(Failure::usage("the two passwords differ; nothing was changed")) }
}

/// A key, from a file or from standard input; asked for at a terminal.
pub(crate) fn key(file: Option<&Path>) -> Result<Secret<String>, Failure> {
    match file {
        Some(file) => from_file(file),
        None if !io::stdin().is_terminal() => one_line(io::stdin().lock(), "standard input"),
        None => {
            output::ask("Key: ");
            let text = rpassword::read_password().map_err(|error| Failure::failed(format!("cannot read from the terminal: {error}")))?;
            checked(text, "the terminal")
        }
    }
}

fn from_file(file: &Path) -> Result<Secret<String>, Failure> {
    let opened = File::open(file).map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
    one_line(opened, &file.display().to_string())
}

/// The whole text without the line break at its end.
fn one_line(from: impl Read, place: &str) -> Result<Secret<String>, Failure> {
    let mut text = String::with_capacity(MAX_SECRET_BYTES + 2);
    let limit = u64::try_from(MAX_SECRET_BYTES + 2).unwrap_or(u64::MAX);
    from.take(limit).read_to_string(&mut text).map_err(|error| Failure::usage(format!("cannot read the secret from {place}: {error}")))?;
    let end = text.trim_end_matches('\n').trim_end_matches('\r').len();
    let line = text[..end].to_owned();
    text.zeroize();
    checked(line, place)
}

fn checked(text: String, place: &str) -> Result<Secret<String>, Failure> {
    let secret = Secret::new(text);
    let text = secret.expose();
    if text.is_empty() {
        return Err(Failure::usage(format!("the secret from {place} is empty")));
    }
    if text.len() > MAX_SECRET_BYTES || text.contains(['\n', '\r', '\0']) {
        return Err(Failure::usage(format!("the secret from {place} must be one line of at most {MAX_SECRET_BYTES} bytes")));
    }
    Ok(secret)
}

/// Goes on only after a yes: from `--yes`, or from the person at the terminal.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("this cannot be undone: say --yes when there is no terminal to ask on"));
    }
    output::ask(&format!("{question} [y/N] "));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| Failure::failed(format!("cannot read from the terminal: {error}")))?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::failed("nothing was changed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_break_at_the_end_is_no_part_of_a_secret() {
        for text in ["hunter2", "hunter2\n", "hunter2\r\n"] {
            assert_eq!(one_line(text.as_bytes(), "test").expect("a secret").expose(), "hunter2");
        }
        assert_eq!(one_line(" spaces stay \n".as_bytes(), "test").expect("a secret").expose(), " spaces stay ");
    }

    #[test]
    fn an_empty_or_longer_text_is_no_secret() {
        for text in ["", "\n", "two\nlines\n"] {
            assert!(one_line(text.as_bytes(), "test").is_err(), "{text:?}");
        }
        let long = "a".repeat(MAX_SECRET_BYTES + 1);
        assert!(one_line(long.as_bytes(), "test").is_err());
    }
}
