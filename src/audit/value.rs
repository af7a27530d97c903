//! What stood in a field, in a form that no secret can take.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::keys::Scopes;
use crate::redact::Redacted;

/// Longest text that is kept, in characters.
const LONGEST: usize = 300;

/// What a field held, as people read it.
///
/// It is made from numbers, times, fixed words and names; a text goes through the redactor. A secret has no way in:
///
/// ```compile_fail
/// use keygate::{audit::Value, secret::Secret};
/// let _ = Value::from(Secret::<String>::from("hunter2"));
/// ```
/// ```compile_fail
/// # fn never(key: &keygate::keys::ApiKey) {
/// let _ = keygate::audit::Value::from(key);
/// # }
/// ```
/// ```compile_fail
/// # fn never(digest: keygate::keys::KeyDigest) {
/// let _ = keygate::audit::Value::from(digest);
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Value(String);

impl Value {
    /// A name that an operator gave, or a sentence. What looks like a credential in it is taken out.
    pub fn text(text: &str) -> Self {
        let text: String = Redacted(text).to_string().chars().filter(|letter| !letter.is_control()).take(LONGEST).collect();
        Self(text)
    }

    /// As people read it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&'static str> for Value {
    fn from(word: &'static str) -> Self {
        Self(word.to_owned())
    }
}

/// Fixed words, with a space between them.
impl From<&[&'static str]> for Value {
    fn from(words: &[&'static str]) -> Self {
        Self(words.join(" "))
    }
}

impl From<bool> for Value {
    fn from(is_so: bool) -> Self {
        Self(is_so.to_string())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self(number.to_string())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self(number.to_string())
    }
}

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Self(time.to_string())
    }
}

impl From<Option<Timestamp>> for Value {
    fn from(time: Option<Timestamp>) -> Self {
        time.map_or_else(|| Self("never".to_owned()), Self::from)
    }
}

impl From<Scopes> for Value {
    fn from(scopes: Scopes) -> Self {
        Self(if scopes.is_empty() { "none".to_owned() } else { scopes.names().join(" ") })
    }
}

impl From<std::net::IpAddr> for Value {
    fn from(address: std::net::IpAddr) -> Self {
        Self(address.to_string())
    }
}

/// A field, before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What it held; absent: there was nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

impl Field {
    /// One that is only now.
    pub fn new(name: &'static str, after: impl Into<Value>) -> Self {
        Self { name: name.to_owned(), before: None, after: Some(after.into()) }
    }

    /// One that may have changed.
    pub fn changed(name: &'static str, before: impl Into<Value>, after: impl Into<Value>) -> Option<Self> {
        let (before, after) = (before.into(), after.into());
        (before != after).then(|| Self { name: name.to_owned(), before: Some(before), after: Some(after) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_somebody_took_for_a_name_does_not_come_into_the_log() {
        let id = crate::keys::KeyId::from_u64(7);
        let key = crate::keys::ApiKey::generate(id).expect("a key");
        let shown = Value::text(&format!("my {} key\u{7}", key.expose()));
        assert!(!shown.as_str().contains(&key.expose()[14..40]), "{shown}");
        assert!(!shown.as_str().contains('\u{7}'));
        assert_eq!(Value::text("Küche").as_str(), "Küche");
    }

    #[test]
    fn only_what_differs_is_a_change() {
        assert_eq!(Field::changed("active", true, true), None);
        let field = Field::changed("expires", None::<Timestamp>, Some(Timestamp::from_secs(0))).expect("changed");
        assert_eq!(field.before.expect("before").as_str(), "never");
        assert_eq!(field.after.expect("after").as_str(), "1970-01-01T00:00:00Z");
    }
}
