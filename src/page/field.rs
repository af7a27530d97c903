//! Fields of forms: each with its label, what helps to fill it in, and what is wrong with what was filled in.

use http::StatusCode;
use maud::{Markup, html};

use crate::admin::error::AdminError;

/// What is wrong with a form: with the whole of it, and with fields by their names.
#[derive(Default)]
pub(super) struct Wrong {
    whole: Option<String>,
    fields: Vec<(&'static str, String)>,
}

impl Wrong {
    /// One field is.
    pub(super) fn at(field: &'static str, sentence: impl Into<String>) -> Self {
        Self { whole: None, fields: vec![(field, sentence.into())] }
    }

    /// One more field is.
    pub(super) fn note(&mut self, field: &'static str, sentence: impl Into<String>) {
        self.fields.push((field, sentence.into()));
    }

    /// What is wrong with a field.
    pub(super) fn of(&self, field: &str) -> Option<&str> {
        self.fields.iter().find(|(name, _)| *name == field).map(|(_, sentence)| sentence.as_str())
    }

    /// Whether that is the first of them: the one to begin with.
    pub(super) fn is_first(&self, field: &str) -> bool {
        self.fields.first().is_some_and(|(name, _)| *name == field)
    }

    /// Whether nothing is.
    pub(super) fn is_nothing(&self) -> bool {
        self.whole.is_none() && self.fields.is_empty()
    }

    /// Above the form: all of it, with the way to each field.
    pub(super) fn show(&self) -> Markup {
        html! {
            @if !self.is_nothing() {
                div.note.bad role="alert" {
                    @if let Some(sentence) = &self.whole { p { (sentence) } } @else { p { "Nothing was saved yet:" } }
                    @for (field, sentence) in &self.fields { p { a href={ "#" (field) } { (sentence) } } }
                }
            }
        }
    }

    /// At a field, under the id that its `aria-describedby` names.
    pub(super) fn line(&self, field: &str) -> Markup {
        html! { @if let Some(sentence) = self.of(field) { small.wrong id={ (field) "-wrong" } { (sentence) } } }
    }

    /// What describes a field, for its `aria-describedby`.
    pub(super) fn described(&self, field: &str, has_hint: bool) -> Option<String> {
        let ids = [has_hint.then_some("hint"), self.of(field).map(|_| "wrong")];
        let ids: Vec<_> = ids.into_iter().flatten().map(|what| format!("{field}-{what}")).collect();
        Some(ids.join(" ")).filter(|ids| !ids.is_empty())
    }
}

/// A form that comes back.
pub(super) struct Back {
    pub(super) status: StatusCode,
    pub(super) wrong: Wrong,
}

impl Back {
    /// For what somebody else found wrong with a field.
    pub(super) fn at(field: &'static str, error: &AdminError) -> Self {
        Self { status: error.status(), wrong: Wrong::at(field, error.to_string()) }
    }
}

impl From<Wrong> for Back {
    fn from(wrong: Wrong) -> Self {
        Self { status: StatusCode::BAD_REQUEST, wrong }
    }
}

impl From<AdminError> for Back {
    fn from(error: AdminError) -> Self {
        Self { status: error.status(), wrong: Wrong { whole: Some(error.to_string()), fields: Vec::new() } }
    }
}

/// A field for a line of text. Its name is its id.
pub(super) struct Input {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    /// Below it; may be empty.
    pub(super) hint: &'static str,
    /// Within it, until something is written.
    pub(super) example: &'static str,
    /// What phones show to write with: `text` or `numeric`.
    pub(super) keys: &'static str,
}

impl Input {
    /// With what stands in it.
    pub(super) fn show(&self, value: &str, wrong: &Wrong) -> Markup {
        let name = self.name;
        html! {
            div.field {
                label for=(name) { (self.label) }
                input id=(name) name=(name) value=(value) placeholder=(self.example) inputmode=(self.keys) autocomplete="off" spellcheck="false"
                    autofocus[wrong.is_first(name)] aria-invalid=[wrong.of(name).map(|_| "true")]
                    aria-describedby=[wrong.described(name, !self.hint.is_empty())];
                @if !self.hint.is_empty() { small id={ (name) "-hint" } { (self.hint) } }
                (wrong.line(name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Input = Input { name: "rate", label: "Requests", hint: "Empty: any.", example: "60/min", keys: "text" };

    #[test]
    fn a_field_names_what_describes_it_and_the_first_wrong_one_has_the_focus() {
        let good = RATE.show("60/min", &Wrong::default()).into_string();
        assert!(good.contains("aria-describedby=\"rate-hint\"") && !good.contains("aria-invalid") && !good.contains("autofocus"), "{good}");
        let mut wrong = Wrong::at("name", "no name");
        wrong.note("rate", "no <rate>");
        let second = RATE.show("\"><b>", &wrong).into_string();
        assert!(second.contains("aria-describedby=\"rate-hint rate-wrong\"") && second.contains("aria-invalid=\"true\""), "{second}");
        assert!(!second.contains("autofocus") && !second.contains("<b>") && !second.contains("<rate>"), "{second}");
        assert!(RATE.show("", &Wrong::at("rate", "no")).into_string().contains(" autofocus"));
        let above = wrong.show().into_string();
        assert!(above.contains("<a href=\"#name\">no name</a>") && above.contains("<a href=\"#rate\">no &lt;rate&gt;</a>"), "{above}");
        assert!(Wrong::default().show().into_string().is_empty());
    }
}
