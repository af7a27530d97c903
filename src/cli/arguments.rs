//! What must not stand among the arguments: everybody on the machine can read them in the list of processes, and the shell keeps them in
//! its history.

use std::ffi::OsString;

use crate::cli::failure::Failure;
use crate::keys::{ApiKey, KeyId};

const PREFIX: &str = "kg_";
/// What is shorter is an id, or somebody's name for something.
const SHORTEST_SECRET: usize = 20;

/// Refuses a command line with a key in it, wherever it stands there, without repeating it.
///
/// # Errors
/// [`Failure`] with the way to make the key worthless.
pub(super) fn check(arguments: impl IntoIterator<Item = OsString>) -> Result<(), Failure> {
    let Some(key) = arguments.into_iter().find_map(|argument| key_in(&argument.to_string_lossy()).map(ToOwned::to_owned)) else {
        return Ok(());
    };
    let id = id_of(&key).map_or_else(|| "ID (keygate keys list shows it)".to_owned(), |id| id.to_string());
    Err(Failure::usage(format!(
        "there is a key among the arguments: it stands in the shell's history now, and stood in the list of processes. A key is named by its \
         name or id. Give it a new secret: keygate keys rotate {id}"
    )))
}

/// Also a part of a key, or one with a typing error: it tells most of the secret.
fn key_in(argument: &str) -> Option<&str> {
    argument.match_indices(PREFIX).find_map(|(start, _)| {
        let text = &argument[start..];
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        (end >= SHORTEST_SECRET).then_some(&text[..end])
    })
}

fn id_of(key: &str) -> Option<KeyId> {
    ApiKey::parse(key).ok().map(|key| key.id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_wherever_it_stands_and_a_name_is_none() {
        let key = ApiKey::generate(KeyId::random().expect("an id")).expect("a key");
        let text = key.expose();
        for argument in [text.to_owned(), format!("http://media/?api_key={text}&x=1"), format!("--name={text}"), text[..25].to_owned()] {
            let said = check([OsString::from("keygate"), argument.clone().into()]).expect_err("a key").to_string();
            assert!(said.contains("history") && said.contains("keygate keys rotate") && !said.contains(&text[..20]), "{argument}: {said}");
        }
        let said = check([OsString::from(text)]).expect_err("a key").to_string();
        assert!(said.ends_with(&format!("keys rotate {}", key.id())), "{said}");
        for name in ["kg_living_room", "kg_", "home-assistant", &key.id().to_string(), "/var/lib/kg_store/keygate.redb"] {
            assert!(check([OsString::from(name)]).is_ok(), "{name}");
        }
    }
}
