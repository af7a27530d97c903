//! The libraries that a key is confined to, as operators name them.

use std::sync::Arc;

use crate::admin::api::PatchKeyRequest;
use crate::admin::error::AdminError;
use crate::admin::keys::key_id;
use crate::admin::{Admin, names};
use crate::upstream::AccountId;
use crate::upstream::dialect::libraries::{Library, is_same};

/// Most names in a message: a message is not a list.
const MOST_NAMES: usize = 20;

impl Admin {
    /// The ids of the libraries that are meant, among those that the account sees. Nothing is asked where none are meant.
    pub(super) async fn libraries_of(&self, account: &str, meant: Option<Vec<String>>) -> Result<Option<Vec<String>>, AdminError> {
        let Some(meant) = meant else { return Ok(None) };
        let account = names::one_account(&self.sessions.accounts(), account)?;
        self.ids(account.id, &meant).await.map(Some)
    }

    /// The same for a key that is there, or for the account that it gets.
    pub(super) async fn libraries_for(
        self: &Arc<Self>,
        key: &str,
        request: &PatchKeyRequest,
    ) -> Result<Option<Option<Vec<String>>>, AdminError> {
        let Some(Some(meant)) = &request.libraries else { return Ok(request.libraries.clone()) };
        let account = match &request.user_id {
            Some(text) => names::one_account(&self.sessions.accounts(), text)?.id,
            None => {
                let id = key_id(key)?;
                self.blocking(move |admin| Ok(admin.registry.key(id)?.account)).await?
            }
        };
        self.ids(account, meant).await.map(|ids| Some(Some(ids)))
    }

    async fn ids(&self, account: AccountId, meant: &[String]) -> Result<Vec<String>, AdminError> {
        let refused = |source| AdminError::Upstream {
            text: format!("the media server was asked for the libraries of the account: {source}"),
            source,
        };
        let there = self.sessions.libraries(account).await.map_err(refused)?;
        meant.iter().map(|text| one(&there, text)).collect()
    }
}

/// The one library that a text means: by its id, else by its name, in any letter case.
fn one(there: &[Library], text: &str) -> Result<String, AdminError> {
    if let Some(library) = there.iter().find(|library| is_same(&library.id, text)) {
        return Ok(library.id.clone());
    }
    let wanted = text.to_lowercase();
    let named: Vec<_> = there.iter().filter(|library| library.name.to_lowercase() == wanted).collect();
    match named.as_slice() {
        [library] => Ok(library.id.clone()),
        [] => Err(AdminError::Invalid(format!("the account sees no library {text:?}; it sees {}", listed(there)))),
        several => {
            let ids: Vec<_> = several.iter().map(|library| library.id.as_str()).collect();
            Err(AdminError::Invalid(format!("{text:?} can mean several libraries: say which by its id: {}", ids.join(", "))))
        }
    }
}

fn listed(there: &[Library]) -> String {
    let names: Vec<_> = there.iter().take(MOST_NAMES).map(|library| format!("{:?} ({})", library.name, library.id)).collect();
    match names.as_slice() {
        [] => "none".to_owned(),
        names => names.join(", ") + if there.len() > MOST_NAMES { ", …" } else { "" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_meant_by_its_id_or_by_its_name_and_what_there_is_is_said() {
        let library = |id: &str, name: &str| Library { id: id.to_owned(), name: name.to_owned() };
        let there = [library("a-1", "Books"), library("b", "Films"), library("c", "films"), library("d", "A-1")];
        assert_eq!(one(&there, "books").expect("one"), "a-1");
        assert_eq!(one(&there, "A1").expect("an id goes first"), "a-1");
        assert_eq!(one(&there, "b").expect("one"), "b");
        assert!(one(&there, "Films").unwrap_err().to_string().ends_with("say which by its id: b, c"));
        let why = one(&there[..1], "Music").unwrap_err().to_string();
        assert_eq!(why, "the account sees no library \"Music\"; it sees \"Books\" (a-1)");
    }
}
