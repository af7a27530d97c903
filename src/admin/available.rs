//! The users of media servers, as their administrators see them, and which of them an account is minted for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::admin::error::AdminError;
use crate::store::records::AccountRecord;
use crate::upstream::dialect::minting::{Minting, UpstreamUser};
use crate::upstream::session::AdministratorError;
use crate::upstream::{Credential, Kind, UpstreamName, dialect};

/// Most names in a message: a message is not a list.
const MOST_NAMES: usize = 20;

/// The users of the upstreams, as their administrators see them.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct AvailableUsers {
    /// By upstream and name.
    pub users: Vec<AvailableUser>,
}

/// A user of an upstream.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AvailableUser {
    /// The upstream.
    pub upstream: String,
    /// Its name there.
    pub name: String,
    /// Its id there.
    pub id: String,
    /// Whether it administers the media server.
    pub administrator: bool,
    /// Whether it cannot be used for now.
    pub disabled: bool,
    /// keygate's account for it, `upstream/name`; null: none.
    pub account: Option<String>,
}

impl Admin {
    /// The users of one upstream, or of all that have an administrator.
    pub(super) async fn available(&self, upstream: Option<&str>) -> Result<AvailableUsers, AdminError> {
        let mut users = Vec::new();
        for upstream in self.upstreams_to_ask(upstream)? {
            let found = self.sessions.available(&upstream).await.map_err(refused)?;
            let accounts = self.sessions.accounts();
            let here: Vec<_> = accounts.iter().filter(|account| account.upstream == upstream).collect();
            let mut found: Vec<_> = found.into_iter().map(|user| view(&upstream, user, &here)).collect();
            found.sort_by_cached_key(|user| user.name.to_lowercase());
            users.append(&mut found);
        }
        Ok(AvailableUsers { users })
    }

    fn upstreams_to_ask(&self, wanted: Option<&str>) -> Result<Vec<UpstreamName>, AdminError> {
        let upstreams = self.upstreams.load();
        let names: Vec<&str> = upstreams.iter().map(|one| one.name.as_str()).collect();
        if let Some(wanted) = wanted {
            return if names.contains(&wanted) {
                Ok(vec![UpstreamName::new(wanted)])
            } else {
                Err(AdminError::Invalid(format!("there is no upstream {wanted:?}; the configuration has {}", names.join(", "))))
            };
        }
        if let [only] = names.as_slice() {
            return Ok(vec![UpstreamName::new(only)]);
        }
        let accounts = self.sessions.accounts();
        let has_one = |name: &&str| accounts.iter().any(|account| account.is_administrator && account.upstream.as_str() == *name);
        let found: Vec<_> = names.iter().copied().filter(has_one).map(UpstreamName::new).collect();
        if found.is_empty() {
            let text = format!(
                "no upstream has an administrator's account; add one with: keygate accounts add UPSTREAM/NAME --administrator (UPSTREAM is \
                 one of {})",
                names.join(", ")
            );
            return Err(AdminError::Invalid(text));
        }
        Ok(found)
    }

    /// The one user of an upstream that a name means, ignoring letter case as the servers do: its name as the server has it, and how to
    /// get sessions for it.
    pub(super) async fn user_to_mint_for(&self, upstream: &UpstreamName, name: &str) -> Result<(String, Credential), AdminError> {
        self.check_can_mint(upstream)?;
        let mut users = self.sessions.available(upstream).await.map_err(refused)?;
        let user = match matching(&users, name).as_slice() {
            [one] => users.swap_remove(*one),
            [] => return Err(AdminError::Invalid(format!("{upstream} has no user {name:?}; {}", listed(&users)))),
            _ => {
                return Err(AdminError::Invalid(format!(
                    "{name:?} can mean several users of {upstream}: write it exactly; {}",
                    listed(&users)
                )));
            }
        };
        if user.is_disabled {
            return Err(AdminError::Invalid(format!("the user {:?} is disabled at {upstream}: enable it there first", user.name)));
        }
        Ok((user.name, Credential::Minted { user_id: user.id }))
    }

    fn check_can_mint(&self, upstream: &UpstreamName) -> Result<(), AdminError> {
        let upstreams = self.upstreams.load();
        let kind = upstreams.iter().find(|one| one.name == upstream.as_str()).map(|one| one.kind.as_str());
        let Some(kind) = Kind::ALL.into_iter().find(|one| Some(one.as_str()) == kind) else { return Ok(()) };
        match dialect::of(kind).minting() {
            Minting::Never(why) => Err(AdminError::Invalid(format!("an account of {upstream} cannot be minted. {why}"))),
            Minting::ApiKey | Minting::QuickConnect => Ok(()),
        }
    }
}

/// Where the users are that a name means: one that is spelt exactly so goes before others.
fn matching(users: &[UpstreamUser], name: &str) -> Vec<usize> {
    if let Some(exact) = users.iter().position(|user| user.name == name) {
        return vec![exact];
    }
    let wanted = name.to_lowercase();
    (0..users.len()).filter(|at| users[*at].name.to_lowercase() == wanted).collect()
}

fn listed(users: &[UpstreamUser]) -> String {
    let mut names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
    names.sort_unstable();
    let more = if names.len() > MOST_NAMES { ", …" } else { "" };
    names.truncate(MOST_NAMES);
    format!("it has {}{more}", names.join(", "))
}

fn view(upstream: &UpstreamName, user: UpstreamUser, accounts: &[&std::sync::Arc<AccountRecord>]) -> AvailableUser {
    let same_name = |account: &AccountRecord| account.user_id.is_none() && account.name.to_lowercase() == user.name.to_lowercase();
    let is_of =
        |account: &AccountRecord| account.user_id.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(&user.id)) || same_name(account);
    AvailableUser {
        upstream: upstream.to_string(),
        account: accounts.iter().find(|account| is_of(account)).map(|account| account.full_name()),
        name: user.name,
        id: user.id,
        administrator: user.is_administrator,
        disabled: user.is_disabled,
    }
}

/// What stands in the way between keygate and the list of users.
fn refused(error: AdministratorError) -> AdminError {
    match error {
        AdministratorError::None(_) => AdminError::Invalid(error.to_string()),
        _ => AdminError::Upstream { text: error.to_string(), source: error.cause() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UpstreamUser {
        UpstreamUser { id: format!("id of {name}"), name: name.to_owned(), is_administrator: false, is_disabled: false }
    }

    #[test]
    fn names_are_compared_without_letter_case_and_an_exact_one_goes_first() {
        let users = [user("Alice"), user("alice"), user("BOB"), user("Käthe")];
        assert_eq!(matching(&users, "alice"), [1]);
        assert_eq!(matching(&users, "ALICE"), [0, 1]);
        assert_eq!(matching(&users, "bob"), [2]);
        assert_eq!(matching(&users, "KÄTHE"), [3]);
        assert!(matching(&users, "bo").is_empty());
    }

    #[test]
    fn a_message_lists_twenty_names_at_most() {
        let users: Vec<_> = (10..40).map(|number| user(&format!("u{number}"))).collect();
        let text = listed(&users);
        assert!(text.contains("u10, u11") && text.contains("u29, …") && !text.contains("u30"), "{text}");
    }
}
