//! The fields of a key in a form: for a new one, and to change one.

use maud::{Markup, html};

use crate::admin::LibraryIds;
use crate::admin::api::{AccountView, KeyView};
use crate::clock::Timestamp;
use crate::keys::{Preset, Scope};
use crate::page::field::{Back, Input, Wrong};
use crate::page::form::Fields;
use crate::page::keys::limits::LimitFields;
use crate::page::visitor::Visitor;

const LIBRARIES: Input = Input {
    name: "libraries",
    label: "Only these libraries",
    hint: "Names or ids, apart by commas. Empty: all that the account sees.",
    example: "",
    keys: "text",
};

/// Expiries to choose from: value, name, seconds.
const SPANS: [(&str, &str, u64); 4] = [
    ("30d", "in 30 days", 30 * 86_400),
    ("90d", "in 90 days", 90 * 86_400),
    ("1y", "in a year", 365 * 86_400),
    ("10y", "in ten years", 3650 * 86_400),
];

/// What stands in the form.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) account: String,
    /// One of [`SPANS`], `never`, `date`, or `keep`.
    expires: String,
    date: String,
    /// A preset's name, or `custom`.
    preset: String,
    scopes: Vec<String>,
    libraries: String,
    pub(super) limits: LimitFields,
}

/// When a key shall expire.
pub(super) enum Expiry {
    Keep,
    Never,
    In(u64),
    At(String),
}

impl Draft {
    pub(super) fn of(fields: &Fields) -> Self {
        let text = |name| fields.text(name).to_owned();
        Self {
            name: text("name"),
            account: text("account"),
            expires: text("expires"),
            date: text("date"),
            preset: text("preset"),
            scopes: fields.all("scopes"),
            libraries: text(LIBRARIES.name),
            limits: LimitFields::of(fields),
        }
    }

    /// What a new key begins with.
    pub(super) fn fresh() -> Self {
        Self { expires: "1y".to_owned(), preset: Preset::Full.name().to_owned(), ..Self::default() }
    }

    /// What a key has.
    pub(super) fn from_key(key: &KeyView) -> Self {
        Self {
            name: key.name.clone(),
            account: key.user_id.clone(),
            expires: "keep".to_owned(),
            date: key.expires_at.as_deref().and_then(|at| at.get(..10)).unwrap_or_default().to_owned(),
            preset: key.preset.clone().unwrap_or_else(|| "custom".to_owned()),
            scopes: key.scopes.clone(),
            libraries: key.libraries.as_deref().unwrap_or_default().join(", "),
            limits: LimitFields::from_key(key),
        }
    }

    /// Whether it can be asked for at all, as far as that is seen here: all that is wrong, at its fields.
    pub(super) fn check(&self, now: Timestamp) -> Result<(), Wrong> {
        let mut wrong = Wrong::default();
        if self.name.is_empty() {
            wrong.note("name", "give the key a name");
        }
        if self.account.is_empty() {
            wrong.note("account", "choose the account that the key acts for");
        }
        if let Some(sentence) = self.wrong_day(now) {
            wrong.note("date", sentence);
        }
        if self.preset == "custom" && self.scopes.is_empty() {
            wrong.note("preset", "tick at least one of what the key may do");
        }
        self.limits.check(&mut wrong);
        if wrong.is_nothing() { Ok(()) } else { Err(wrong) }
    }

    fn wrong_day(&self, now: Timestamp) -> Option<&'static str> {
        let Expiry::At(end) = self.expiry() else { return None };
        match end.parse::<jiff::Timestamp>() {
            Ok(end) if end.as_millisecond() > now.as_millis() => None,
            Ok(_) => Some("this day has passed"),
            Err(_) => Some("choose the day, or write it like 2027-01-31"),
        }
    }

    /// The libraries that are meant, as the media server knows them.
    pub(super) async fn libraries_of(&self, visitor: &Visitor) -> Result<LibraryIds, Back> {
        let found = visitor.desk.libraries(&self.account, self.libraries()).await;
        found.map_err(|error| Back::at(LIBRARIES.name, &error))
    }

    pub(super) fn expiry(&self) -> Expiry {
        if let Some((_, _, seconds)) = SPANS.iter().find(|(value, _, _)| *value == self.expires) {
            return Expiry::In(*seconds);
        }
        match self.expires.as_str() {
            "date" => Expiry::At(format!("{}T23:59:59Z", self.date)),
            "never" => Expiry::Never,
            _ => Expiry::Keep,
        }
    }

    /// The preset, or the scopes one by one.
    pub(super) fn rights(&self) -> (Option<String>, Option<Vec<String>>) {
        if self.preset == "custom" { (None, Some(self.scopes.clone())) } else { (Some(self.preset.clone()), None) }
    }

    pub(super) fn libraries(&self) -> Option<Vec<String>> {
        let all: Vec<String> = self.libraries.split([',', '\n']).map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect();
        Some(all).filter(|all| !all.is_empty())
    }

    /// The fields. `is_new`: there is no expiry to keep.
    pub(super) fn show(&self, accounts: &[AccountView], is_new: bool, wrong: &Wrong) -> Markup {
        html! {
            div.field {
                label for="name" { "Name" }
                input #name name="name" value=(self.name) required maxlength="100" autocomplete="off" placeholder="living room Kodi"
                    autofocus[(is_new && wrong.is_nothing()) || wrong.is_first("name")] aria-describedby=[wrong.described("name", false)];
                (wrong.line("name"))
            }
            (self.account_field(accounts, is_new, wrong))
            (self.expiry_fields(is_new, wrong))
            (self.rights_fields(wrong))
            (LIBRARIES.show(&self.libraries, wrong))
            (self.limits.show(wrong))
        }
    }

    fn account_field(&self, accounts: &[AccountView], is_new: bool, wrong: &Wrong) -> Markup {
        html! {
            div.field {
                label for="account" { "Account that it acts for" }
                select #account name="account" required aria-describedby=[wrong.described("account", false)] {
                    @if is_new && accounts.len() != 1 { option value="" { "Choose…" } }
                    @for account in accounts {
                        option value=(account.id) selected[account.id == self.account] { (account.upstream) "/" (account.name) }
                    }
                }
                (wrong.line("account"))
            }
        }
    }

    fn expiry_fields(&self, is_new: bool, wrong: &Wrong) -> Markup {
        let option = |value: &str, text: &str| html! { option value=(value) selected[value == self.expires] { (text) } };
        html! {
            div.pair {
                div.field {
                    label for="expires" { "Expires" }
                    select #expires name="expires" aria-describedby=[wrong.described("expires", false)] {
                        @if !is_new { (option("keep", "as it is")) }
                        @for (value, text, _) in SPANS { (option(value, text)) }
                        (option("never", "never"))
                        (option("date", "at the end of this day"))
                    }
                    (wrong.line("expires"))
                }
                div.field {
                    label for="date" { "Day (UTC)" }
                    input #date type="date" name="date" value=(self.date) autofocus[wrong.is_first("date")]
                        aria-invalid=[wrong.of("date").map(|_| "true")] aria-describedby=[wrong.described("date", false)];
                    (wrong.line("date"))
                }
            }
        }
    }

    fn rights_fields(&self, wrong: &Wrong) -> Markup {
        html! {
            fieldset #preset aria-describedby=[wrong.described("preset", false)] {
                legend { "What it may do" }
                (wrong.line("preset"))
                @for preset in Preset::ALL { (self.preset_field(preset.name(), words(preset))) }
                (self.preset_field("custom", "Just what is ticked below."))
                details open[self.preset == "custom"] {
                    summary { "Custom" }
                    div.ticks {
                        @for scope in Scope::ALL {
                            label.tick {
                                input type="checkbox" name="scopes" value=(scope.name()) checked[self.scopes.iter().any(|one| one == scope.name())];
                                span { b { (scope.name()) } " " (scope_words(scope)) }
                            }
                        }
                    }
                }
                p.faint { "This only ever narrows what the account may do at the media server." }
            }
        }
    }

    fn preset_field(&self, name: &str, words: &str) -> Markup {
        html! {
            label.tick {
                input type="radio" name="preset" value=(name) checked[name == self.preset] required;
                span { b { (name) } " " (words) }
            }
        }
    }
}

/// What a preset is for.
pub(super) const fn words(preset: Preset) -> &'static str {
    match preset {
        Preset::Full => "Everything that the account may do, but for routes that rule the server or hand out credentials.",
        Preset::ReadOnly => "Looking, playing and downloading; nothing is written.",
        Preset::StreamOnly => "Media alone, for players that are given a link.",
        Preset::ProgressSync => "Positions and marks, and what must be read to set them.",
        Preset::Dashboard => "What there is and what is going on; no playing.",
        Preset::Upload => "Bringing files, and having the server look for them.",
        Preset::Admin => "Everything, also what rules the server. Only for tools that manage users.",
    }
}

const fn scope_words(scope: Scope) -> &'static str {
    match scope {
        Scope::Browse => "libraries, items, searches",
        Scope::Status => "who plays what, counts, tasks",
        Scope::Stream => "playing and reading",
        Scope::Download => "whole files",
        Scope::Progress => "positions, marks, ratings",
        Scope::Personal => "own playlists and settings",
        Scope::Control => "other players",
        Scope::Events => "sockets that tell all as it happens",
        Scope::Upload => "bringing files",
        Scope::Scan => "looking for new files",
        Scope::Metadata => "changing what is known of items",
        Scope::Delete => "removing items and files",
        Scope::Manage => "everything else",
        Scope::Admin => "credentials, users, the server itself",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(expires: &str, preset: &str) -> Draft {
        let (expires, preset) = (expires.to_owned(), preset.to_owned());
        Draft { expires, preset, date: "2027-01-31".to_owned(), scopes: vec!["browse".to_owned()], ..Draft::default() }
    }

    #[test]
    fn ticked_scopes_count_for_custom_alone() {
        assert_eq!(draft("", "custom").rights(), (None, Some(vec!["browse".to_owned()])));
        assert_eq!(draft("", "dashboard").rights(), (Some("dashboard".to_owned()), None));
        assert_eq!(draft("", "").rights(), (Some(String::new()), None), "nothing chosen is refused, and not taken for everything");
    }

    #[test]
    fn an_expiry_is_a_span_a_day_or_never() {
        assert!(matches!(draft("30d", "").expiry(), Expiry::In(2_592_000)));
        assert!(matches!(draft("date", "").expiry(), Expiry::At(at) if at == "2027-01-31T23:59:59Z"));
        assert!(matches!(draft("never", "").expiry(), Expiry::Never));
        assert!(matches!(draft("", "").expiry(), Expiry::Keep));
    }

    #[test]
    fn libraries_are_apart_by_commas() {
        let of = |text: &str| Draft { libraries: text.to_owned(), ..Draft::default() }.libraries();
        assert_eq!(of(" Books, lib_1 ,"), Some(vec!["Books".to_owned(), "lib_1".to_owned()]));
        assert_eq!(of(" , "), None);
    }
}
