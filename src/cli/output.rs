//! The only place that writes to standard output and standard error.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::cli::failure::Failure;

/// Form of what a command prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns with a header.
    #[default]
    Table,
    /// One JSON document on one line.
    Json,
    /// Columns separated by tabs, without a header.
    Plain,
}

/// Where a command writes to. A reader that went away (`| head`) is no error: the rest is dropped.
pub struct Output {
    format: Format,
    quiet: bool,
    broken: bool,
}

impl Output {
    /// In this form; `quiet` leaves notes out.
    pub const fn new(format: Format, quiet: bool) -> Self {
        Self { format, quiet, broken: false }
    }

    /// The form.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Whether only the essential is wanted.
    pub const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// One line to standard output.
    ///
    /// # Errors
    /// When it cannot be written, unless nobody reads any more.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        if self.broken {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.broken = true;
                Ok(())
            }
            Err(error) => Err(Failure::failed(format!("cannot write to standard output: {error}"))),
        }
    }

    /// Bytes to standard output as they are.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::failed(format!("cannot write to standard output: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// A JSON document on one line.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?;
        self.line(&text)
    }

    /// A result of one sentence: not with `-q`, and not where JSON is wanted (a command prints that itself).
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn sentence(&mut self, text: &str) -> Result<(), Failure> {
        if self.quiet { Ok(()) } else { self.line(&printable(text)) }
    }

    /// One of several sentences that together are the result: in JSON an object of its own on each line.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn message(&mut self, text: &str) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(&serde_json::json!({ "message": text })),
            Format::Table | Format::Plain => self.sentence(text),
        }
    }

    /// Rows under a header, or separated by tabs.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn rows(&mut self, header: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        let text = match self.format {
            Format::Plain => rows.iter().map(|row| printable_row(row).join("\t")).collect::<Vec<_>>().join("\n"),
            _ => table(header, rows),
        };
        if text.is_empty() { Ok(()) } else { self.line(&text) }
    }

    /// A remark to standard error; not with `-q`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            to_stderr(text);
        }
    }
}

/// The reason for a failure, to standard error.
pub(crate) fn complain(failure: &Failure) {
    let text = &failure.message;
    // Problems of a configuration come as a finished picture, which opens with that word itself.
    if text.starts_with("error") {
        to_stderr(text);
    } else {
        to_stderr(&format!("error: {text}"));
    }
}

/// A question to standard error, without a line break.
pub(crate) fn ask(question: &str) {
    let mut err = io::stderr().lock();
    // Nobody could be told that standard error is gone.
    let _ = write!(err, "{}", printable(question)).and_then(|()| err.flush());
}

fn to_stderr(text: &str) {
    let mut err = io::stderr().lock();
    let _ = text.lines().try_for_each(|line| writeln!(err, "{}", printable(line)));
}

/// Names and upstream messages must not steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn printable_row(row: &[String]) -> Vec<String> {
    row.iter().map(|cell| printable(cell)).collect()
}

/// Columns two spaces apart, without spaces at the ends of lines.
fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let head = header.iter().map(|&cell| cell.to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(rows.iter().map(|row| printable_row(row))).collect();
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let text = lines.iter().map(|line| {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    });
    text.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters_and_lines_have_no_tail() {
        let rows =
            vec![vec!["1".to_owned(), "Küche".to_owned(), "active".to_owned()], vec!["22".to_owned(), "a".to_owned(), String::new()]];
        assert_eq!(table(&["ID", "NAME", "STATUS"], &rows), "ID  NAME   STATUS\n1   Küche  active\n22  a");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let rows = vec![vec!["a\u{1b}[2Jb\n".to_owned()]];
        assert!(!table(&["NAME"], &rows).contains('\u{1b}'));
    }
}
