//! What can be wrong with a configuration: all of it at once, each with file, line, caret and what to write instead.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::config::redact::redacted;

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Bytes of the file.
    Span(Range<usize>),
    /// An environment variable.
    Variable(String),
    /// An option of the command line.
    Argument(&'static str),
    /// In no particular place: something is missing, or it is a default.
    Nowhere,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    title: String,
    label: String,
    help: Option<String>,
    place: Place,
}

impl Problem {
    /// A problem at a place.
    pub(crate) fn new(place: &Place, title: impl Into<String>) -> Self {
        Self { title: title.into(), label: String::new(), help: None, place: place.clone() }
    }

    /// With words beside the caret.
    pub(crate) fn label(self, label: impl Into<String>) -> Self {
        Self { label: label.into(), ..self }
    }

    /// With what to do.
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    fn title(&self) -> String {
        match &self.place {
            Place::Variable(name) => format!("{} (environment variable {name})", self.title),
            Place::Argument(name) => format!("{} ({name})", self.title),
            Place::Span(_) | Place::Nowhere => self.title.clone(),
        }
    }

    fn render(&self, level: Level<'static>, path: &str, source: &str) -> String {
        let mut group = Group::with_title(level.primary_title(self.title()));
        if let Place::Span(span) = &self.place {
            let mut caret = AnnotationKind::Primary.span(first_line(span, source));
            if !self.label.is_empty() {
                caret = caret.label(self.label.as_str());
            }
            group = group.element(Snippet::source(source).path(path).annotation(caret));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        Renderer::plain().render(&[group])
    }

    /// One line for a log.
    fn line(&self, path: Option<&str>, source: &str) -> String {
        let place = match (&self.place, path) {
            (Place::Span(span), Some(path)) => {
                let line = source.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1;
                format!("{path}:{line}: ")
            }
            _ => String::new(),
        };
        let help = self.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        format!("{place}{}{help}", self.title())
    }
}

/// The part of `span` on its first line, on character boundaries within `source`.
fn first_line(span: &Range<usize>, source: &str) -> Range<usize> {
    let boundary = |at: usize| (0..=at.min(source.len())).rev().find(|at| source.is_char_boundary(*at)).unwrap_or(0);
    let start = boundary(span.start);
    let end = boundary(span.end.max(start));
    let end = source[start..end].find('\n').map_or(end, |newline| start + newline);
    start..end.max(start)
}

/// Something that works but should be looked at. `Display` is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(String);

impl Warning {
    /// A line.
    pub(crate) const fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All that is wrong with a configuration, at least one thing. `Display` shows each with its line and ends with a count.
#[derive(Clone, Debug)]
pub struct Problems {
    file: Option<String>,
    source: String,
    problems: Vec<Problem>,
}

impl Problems {
    /// How many there are.
    pub const fn count(&self) -> usize {
        self.problems.len()
    }

    /// Each in one line, with its place and what to do.
    pub fn lines(&self) -> Vec<String> {
        self.problems.iter().map(|problem| problem.line(self.file.as_deref(), &self.source)).collect()
    }

    /// One problem that concerns the file as a whole.
    pub(crate) fn one(file: Option<&Path>, problem: Problem) -> Self {
        Report { file: file.map(|path| path.display().to_string()), problems: vec![problem], ..Report::default() }.into_problems()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.file.as_deref().unwrap_or("command line");
        for problem in &self.problems {
            writeln!(f, "{}\n", problem.render(Level::ERROR, path, &self.source))?;
        }
        let count = self.problems.len();
        let s = if count == 1 { "" } else { "s" };
        match &self.file {
            Some(file) => write!(f, "{count} problem{s} in {file}"),
            None => write!(f, "{count} problem{s}"),
        }
    }
}

impl std::error::Error for Problems {}

/// What has been found so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    file: Option<String>,
    source: String,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    unreadable: bool,
}

impl Report {
    /// A report on a file. Of `source` only a redacted copy is kept.
    pub(crate) fn new(file: Option<&Path>, source: &str) -> Self {
        Self { file: file.map(|path| path.display().to_string()), source: redacted(source), ..Self::default() }
    }

    /// Something is wrong.
    pub(crate) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Something should be looked at.
    pub(crate) fn warning(&mut self, warning: Problem) {
        self.warnings.push(warning);
    }

    /// Whether the file did not even parse: whatever else is missing then would be reported without reason.
    pub(crate) const fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    /// The file does not parse.
    pub(crate) fn unreadable(&mut self, problem: Problem) {
        self.unreadable = true;
        self.problem(problem);
    }

    /// The warnings, or all problems in the order of the file.
    pub(crate) fn finish(self) -> Result<Vec<Warning>, Problems> {
        if !self.problems.is_empty() {
            return Err(self.into_problems());
        }
        Ok(self.warnings.iter().map(|warning| Warning(warning.line(self.file.as_deref(), &self.source))).collect())
    }

    /// All problems in the order of the file.
    pub(crate) fn into_problems(mut self) -> Problems {
        self.problems.sort_by_key(|problem| match &problem.place {
            Place::Span(span) => span.start,
            _ => usize::MAX,
        });
        Problems { file: self.file, source: self.source, problems: self.problems }
    }
}
