//! Reading single values of the file or of an environment variable, with a sentence for each that does not fit.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::config::problem::Place;
use crate::config::source::SecretSource;
use crate::config::{Access, LogFormat};
use crate::upstream::Kind;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Placed<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it stands.
    pub(crate) place: Place,
}

/// A field that may be absent.
pub(crate) type Field<T> = Option<Placed<T>>;

/// What a field was given.
pub(crate) enum Given<'a> {
    /// By the file.
    Toml(&'a DeValue<'a>),
    /// By an environment variable or the command line.
    Text(&'a str),
}

impl<'a> Given<'a> {
    fn text(&self) -> Option<&'a str> {
        match self {
            Self::Toml(value) => value.as_str(),
            Self::Text(text) => Some(text),
        }
    }
}

/// Why a value does not fit its field.
#[derive(Debug)]
pub(crate) struct Mismatch {
    /// Follows the name of the field: "must be …".
    pub(crate) must: String,
    /// What to write instead.
    pub(crate) help: Option<String>,
    /// The part of the value that is wrong, when it is not the whole.
    pub(crate) span: Option<Range<usize>>,
}

impl Mismatch {
    pub(crate) fn new(must: impl Into<String>, help: impl Into<String>) -> Self {
        Self { must: must.into(), help: Some(help.into()), span: None }
    }
}

/// A type that a field can have.
pub(crate) trait Read: Sized {
    /// The value, or why not. `place` is where `given` stands.
    fn read(given: &Given<'_>, place: &Place) -> Result<Self, Mismatch>;
}

impl Read for String {
    fn read(given: &Given<'_>, _: &Place) -> Result<Self, Mismatch> {
        given.text().map(str::to_owned).ok_or_else(|| Mismatch::new("must be a string", "put it in quotes"))
    }
}

impl Read for bool {
    fn read(given: &Given<'_>, _: &Place) -> Result<Self, Mismatch> {
        match given {
            Given::Toml(DeValue::Boolean(value)) => Ok(*value),
            Given::Text("true") => Ok(true),
            Given::Text("false") => Ok(false),
            _ => Err(Mismatch::new("must be true or false", "write true or false, without quotes")),
        }
    }
}

impl Read for u64 {
    fn read(given: &Given<'_>, _: &Place) -> Result<Self, Mismatch> {
        match given {
            Given::Toml(DeValue::Integer(number)) => Self::from_str_radix(number.as_str(), number.radix()).ok(),
            Given::Text(text) => text.parse().ok(),
            Given::Toml(_) => None,
        }
        .ok_or_else(|| Mismatch::new("must be a whole number, 0 or more", "write the digits alone, without quotes"))
    }
}

/// A number of bytes: an integer, or a string like `"32KiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl Read for Size {
    fn read(given: &Given<'_>, place: &Place) -> Result<Self, Mismatch> {
        let size = match given.text() {
            Some(text) => parse_size(text),
            None => u64::read(given, place).ok(),
        };
        size.map(Self).ok_or_else(|| Mismatch::new("must be a size", "write bytes as a number, or a string like \"32KiB\" or \"1MiB\""))
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

impl Read for Duration {
    fn read(given: &Given<'_>, _: &Place) -> Result<Self, Mismatch> {
        if let Given::Toml(DeValue::Integer(number)) = given {
            return Err(Mismatch::new("must have a unit", format!("write \"{number}s\" for seconds")));
        }
        given
            .text()
            .and_then(parse_duration)
            .ok_or_else(|| Mismatch::new("must be a duration", "write a string like \"500ms\", \"5s\", \"10m\", \"1h30m\" or \"2d\""))
    }
}

/// `"1h30m"`: whole numbers with the units ms, s, m, h, d, largest first or in any order.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at_checked(letters)?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let part = Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?);
        total = total.checked_add(part)?;
        rest = after.trim_start();
    }
    Some(total)
}

/// A list of strings, or one string alone; commas separate in an environment variable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strings(pub(crate) Vec<Placed<String>>);

impl Read for Strings {
    fn read(given: &Given<'_>, place: &Place) -> Result<Self, Mismatch> {
        let placed = |text: &str, place: Place| Placed { value: text.to_owned(), place };
        match given {
            Given::Toml(DeValue::String(text)) => Ok(Self(vec![placed(text, place.clone())])),
            Given::Toml(DeValue::Array(items)) => items
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::String(text) => Ok(placed(text, Place::Span(item.span()))),
                    _ => Err(Mismatch { span: Some(item.span()), ..Mismatch::new("must hold strings only", "put each item in quotes") }),
                })
                .collect::<Result<_, _>>()
                .map(Self),
            Given::Toml(_) => Err(Mismatch::new("must be a list of strings", "write [\"…\", \"…\"], or one string alone")),
            Given::Text(text) => {
                Ok(Self(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(|item| placed(item, place.clone())).collect()))
            }
        }
    }
}

/// A type that is one of a few words.
pub(crate) trait Word: Copy + 'static {
    /// All words.
    const WORDS: &'static [(&'static str, Self)];
}

/// One of the words of `T`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OneOf<T>(pub(crate) T);

impl<T: Word> Read for OneOf<T> {
    fn read(given: &Given<'_>, _: &Place) -> Result<Self, Mismatch> {
        let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
        let text = given.text();
        if let Some((_, value)) = T::WORDS.iter().find(|(word, _)| text == Some(*word)) {
            return Ok(Self(*value));
        }
        let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        let help = match text.and_then(|text| super::similar::closest(&text.to_ascii_lowercase(), &words)) {
            Some(word) => format!("did you mean \"{word}\"?"),
            None => "write one of these words".to_owned(),
        };
        Err(Mismatch::new(format!("must be one of {}", quoted.join(", ")), help))
    }
}

impl Word for Kind {
    const WORDS: &'static [(&'static str, Self)] =
        &[("audiobookshelf", Self::Audiobookshelf), ("emby", Self::Emby), ("jellyfin", Self::Jellyfin)];
}

impl Word for Access {
    const WORDS: &'static [(&'static str, Self)] = &[("refuse", Self::Refuse), ("pass", Self::Pass)];
}

impl Word for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

/// `sessions`: who has a session of its own at the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sessions {
    /// Each key.
    Key,
    /// Each account.
    Account,
}

impl Word for Sessions {
    const WORDS: &'static [(&'static str, Self)] = &[("key", Self::Key), ("account", Self::Account)];
}

/// `server.tls.mode`: the way to a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsMode {
    /// None: plain HTTP.
    Off,
    /// Files.
    Files,
    /// keygate's own authority.
    SelfSigned,
    /// An ACME server.
    Acme,
}

impl Word for TlsMode {
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("files", Self::Files), ("self-signed", Self::SelfSigned), ("acme", Self::Acme)];
}

const REFERENCE: &str = "write { file = \"/path\" }, { env = \"NAME\" } or { credential = \"name\" }";

impl Read for SecretSource {
    fn read(given: &Given<'_>, _: &Place) -> Result<Self, Mismatch> {
        let Given::Toml(DeValue::Table(table)) = given else {
            // The text may be the secret itself: it is never repeated.
            return Err(Mismatch::new("must say where the secret is, it never holds the secret itself", REFERENCE));
        };
        let mut entries = table.iter();
        let (Some((key, value)), None) = (entries.next(), entries.next()) else {
            return Err(Mismatch::new("must have exactly one of file, env and credential", REFERENCE));
        };
        let Some(text) = value.get_ref().as_str() else {
            return Err(Mismatch { span: Some(value.span()), ..Mismatch::new("must hold a string", REFERENCE) });
        };
        // Shown at the field and not at the part: on a line of its own that would be a secret that nothing marks as one.
        Self::of(key.get_ref(), text)
    }
}

impl SecretSource {
    /// The source of the form `form`.
    pub(crate) fn of(form: &str, text: &str) -> Result<Self, Mismatch> {
        match form {
            "file" if text.is_empty() => Err(Mismatch::new("must name a file", REFERENCE)),
            "file" => Ok(Self::File(PathBuf::from(text))),
            "env" if is_name(text, b"_") => Ok(Self::Env(text.to_owned())),
            "env" => Err(Mismatch::new("must name an environment variable", "letters, digits and _ only; it is a name, not the secret")),
            "credential" if is_name(text, b"_-.") && !text.starts_with('.') => Ok(Self::Credential(text.to_owned())),
            "credential" => Err(Mismatch::new("must name a systemd credential", "the name that LoadCredential= gives it, without a path")),
            _ => Err(Mismatch::new("must have exactly one of file, env and credential", REFERENCE)),
        }
    }
}

fn is_name(text: &str, also: &[u8]) -> bool {
    !text.is_empty() && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_alphanumeric() || also.contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_duration("2d"), Some(Duration::from_secs(172_800)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        for wrong in ["", "5", "s", "5 parsecs", "-5s", "1.5s", "99999999999999999999d"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        assert_eq!(parse_size("32KiB"), Some(32768));
        assert_eq!(parse_size("1 MB"), Some(1_000_000));
        assert_eq!(parse_size("7"), Some(7));
        for wrong in ["", "KiB", "1.5KiB", "32k", "99999999999GiB"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_readers_panic(text in "\\PC*") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
