//! How people name accounts and keys: `upstream/name` or a bare name; a key by its id, its name, or the last four of its id.

use std::sync::Arc;

use crate::admin::error::AdminError;
use crate::keys::record::KeyRecord;
use crate::store::records::AccountRecord;
use crate::upstream::AccountId;

/// The accounts that a text can mean: one by its number, by `upstream/name`, or by its name alone.
pub(crate) fn matching_accounts<'a>(accounts: &'a [Arc<AccountRecord>], text: &str) -> Vec<&'a Arc<AccountRecord>> {
    let number = text.parse().ok().map(AccountId);
    let pair = text.split_once('/');
    accounts
        .iter()
        .filter(|account| {
            Some(account.id) == number || account.name == text || pair == Some((account.upstream.as_str(), account.name.as_str()))
        })
        .collect()
}

/// The one account that a text means.
///
/// # Errors
/// [`AdminError::Invalid`] that lists what it could mean, or what there is.
pub(crate) fn one_account(accounts: &[Arc<AccountRecord>], text: &str) -> Result<Arc<AccountRecord>, AdminError> {
    match matching_accounts(accounts, text).as_slice() {
        [account] => Ok(Arc::clone(account)),
        [] => Err(AdminError::Invalid(no_account(text, accounts))),
        several => Err(AdminError::Invalid(format!("\"{text}\" can mean several accounts: {}; say which", listed(several)))),
    }
}

fn no_account(text: &str, accounts: &[Arc<AccountRecord>]) -> String {
    if accounts.is_empty() {
        return format!("there is no account \"{text}\", nor any other yet; add one with: keygate accounts add NAME");
    }
    format!("there is no account \"{text}\"; there are {}", listed(&accounts.iter().collect::<Vec<_>>()))
}

/// At most twenty names: a message is not a list.
fn listed(accounts: &[&Arc<AccountRecord>]) -> String {
    const MOST: usize = 20;
    let mut names = accounts.iter().take(MOST).map(|account| account.full_name()).collect::<Vec<_>>().join(", ");
    if accounts.len() > MOST {
        names.push_str(", …");
    }
    names
}

/// Whether a text can mean a key: by its name, or by the last four of its id. Whole ids are looked up before this is asked.
pub(crate) fn may_mean(text: &str, key: &KeyRecord) -> bool {
    key.name == text || (text.len() == 4 && key.id.to_string().ends_with(text))
}

/// Of the keys that a text can mean, those of that name, else all.
pub(crate) fn matching_keys(keys: Vec<KeyRecord>, text: &str) -> Vec<KeyRecord> {
    let (named, others): (Vec<_>, Vec<_>) = keys.into_iter().filter(|key| may_mean(text, key)).partition(|key| key.name == text);
    if named.is_empty() { others } else { named }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::keys::{KeyDigest, KeyId, Scopes};
    use crate::upstream::{Credential, UpstreamName};

    fn account(id: u32, upstream: &str, name: &str) -> Arc<AccountRecord> {
        Arc::new(AccountRecord {
            id: AccountId(id),
            upstream: UpstreamName::new(upstream),
            name: name.to_owned(),
            credential: Credential::Password("p".into()),
            device_id: String::new(),
            user_id: None,
            created_at: Timestamp::from_millis(0),
            broken: None,
            is_administrator: false,
        })
    }

    fn key(number: u64, name: &str) -> KeyRecord {
        KeyRecord {
            id: KeyId::from_u64(number),
            name: name.to_owned(),
            account: AccountId(1),
            digest: KeyDigest::from_bytes([0; 32]),
            previous: None,
            expires_at: None,
            is_active: true,
            scopes: Scopes::FULL,
            libraries: None,
            limits: crate::limits::Limits::default(),
            created_at: Timestamp::from_millis(0),
            created_by: String::new(),
            updated_at: Timestamp::from_millis(0),
            revoked_at: None,
            reborn_at: None,
        }
    }

    #[test]
    fn a_bare_name_is_enough_while_it_is_unambiguous() {
        let accounts = [account(1, "abs", "alice"), account(2, "abs", "bob"), account(3, "jf", "alice")];
        assert_eq!(one_account(&accounts, "bob").expect("one").id, AccountId(2));
        assert_eq!(one_account(&accounts, "jf/alice").expect("one").id, AccountId(3));
        assert_eq!(one_account(&accounts, "3").expect("one").id, AccountId(3));
        let several = one_account(&accounts, "alice").expect_err("two").to_string();
        assert!(several.contains("abs/alice, jf/alice"), "{several}");
    }

    #[test]
    fn an_unknown_account_is_answered_with_those_that_exist() {
        let accounts = [account(1, "abs", "alice")];
        assert!(one_account(&accounts, "carol").expect_err("none").to_string().contains("there are abs/alice"));
        assert!(one_account(&[], "carol").expect_err("none").to_string().contains("keygate accounts add"));
    }

    #[test]
    fn a_number_that_is_also_a_name_is_not_guessed_at() {
        let accounts = [account(1, "abs", "2"), account(2, "abs", "bob")];
        assert!(one_account(&accounts, "2").is_err());
        assert_eq!(one_account(&accounts, "abs/2").expect("one").id, AccountId(1));
    }

    #[test]
    fn a_name_goes_before_the_last_four_of_an_id() {
        let ending = KeyId::from_u64(5).to_string().split_off(6);
        let found = matching_keys(vec![key(5, "backup"), key(6, &ending)], &ending);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].id, KeyId::from_u64(6));
        assert_eq!(matching_keys(vec![key(5, "backup"), key(6, "other")], &ending)[0].id, KeyId::from_u64(5));
    }
}
