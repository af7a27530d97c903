//! The commands of an operator who gives keygate one credential and picks users from a list.

use keygate::demo::{Options, StandIn, User};
use serde_json::Value;

use super::*;
use crate::support::daemon::Home;

async fn standin(kind: Kind) -> StandIn {
    let users = [User::admin("root", "root-password"), User::new("alice", "alice-password"), User::new("Bob", "bob-password")];
    let standin = StandIn::start(kind, Options { users: users.into(), ..Options::default() }).await.expect("a stand-in");
    standin.control().set_active("bob", false);
    standin
}

async fn with_root(standin: &StandIn) -> Home {
    let mut home = Home::of(&[standin], "");
    home.start().await;
    home.run_with("accounts add root --administrator --secret-stdin", "root-password\n").await.ok();
    home
}

/// That neither the log nor what was printed holds any secret of the stand-in.
fn assert_no_secret(home: &Home, standin: &StandIn, said: &str) {
    let log = home.log();
    for secret in standin.control().secrets() {
        assert!(!log.contains(&secret) && !said.contains(&secret), "{secret} in {said}\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_credential_and_a_list_to_pick_from() {
    for kind in KINDS {
        let standin = standin(kind).await;
        let mut home = with_root(&standin).await;
        let list = home.run("accounts list --available").await.ok();
        let json: Value =
            serde_json::from_str(&home.run(&format!("accounts list --available --upstream {kind} -o json")).await.ok()).expect("JSON");
        let names: Vec<_> = json["users"].as_array().expect("users").iter().map(|user| user["name"].as_str().expect("a name")).collect();
        assert_eq!(names, ["alice", "Bob", "root"], "{kind}");
        let root = format!("{kind}/root");
        assert_eq!(
            (&json["users"][2]["administrator"], &json["users"][2]["account"]),
            (&Value::Bool(true), &Value::String(root)),
            "{kind}"
        );
        assert_eq!((&json["users"][1]["disabled"], &json["users"][0]["account"]), (&Value::Bool(true), &Value::Null), "{kind}");
        assert!(names.iter().all(|name| list.contains(name)), "{list}");

        let added = home.run("accounts add ALICE --mint").await.ok();
        assert!(added.contains(&format!("added {kind}/alice: the media server accepts it as alice")), "{kind}: {added}");
        let key = home.key("ha", "alice").await;
        assert_eq!(home.status(me(kind), &key).await, 200, "{kind}");
        let accounts = home.run("accounts list").await.ok();
        assert!(accounts.contains("minted") && accounts.contains("password, administrator") && accounts.contains("live"), "{accounts}");
        let shown = home.run("accounts show alice").await.ok();
        assert!(shown.contains("minted"), "{shown}");
        let login = home.run("accounts login alice").await.ok();
        assert!(login.contains("as alice"), "{login}");
        assert_eq!(home.status(me(kind), &key).await, 200, "{kind}");

        let refused = home.run("accounts remove root -y").await.refused(1);
        assert!(refused.contains("the sessions of 1 other accounts are made") && refused.contains("--force"), "{refused}");
        home.run("accounts set-administrator root --off").await.refused(1);
        let removed = home.run("accounts remove alice --revoke-keys -y").await.ok();
        assert!(standin.control().made_api_keys().is_empty(), "{kind}: gone when the command ends");
        assert_eq!(home.status(me(kind), &key).await, 401, "{kind}");
        home.run("accounts remove root -y").await.ok();
        let said = [list, json.to_string(), added, accounts, shown, login, refused, removed].concat();
        assert_no_secret(&home, &standin, &said);
        home.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_says_what_to_do() {
    let standin = standin(Kind::Audiobookshelf).await;
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    for words in ["accounts list --available", "accounts add alice --mint"] {
        let refused = home.run(words).await.refused(2);
        assert!(refused.contains("keygate accounts add audiobookshelf/NAME --administrator"), "{refused}");
    }
    let refused = home.run_with("accounts add alice --administrator --secret-stdin", "alice-password").await.refused(5);
    assert!(refused.contains("alice is no administrator of Audiobookshelf") && refused.contains("Nothing was stored"), "{refused}");
    home.add_alice("alice").await;
    let refused = home.run("accounts set-administrator alice").await.refused(5);
    assert!(refused.contains("no administrator of Audiobookshelf"), "{refused}");
    home.run_with("accounts add root --administrator --secret-stdin", "root-password").await.ok();
    let refused = home.run("accounts add carol --mint").await.refused(2);
    assert!(refused.contains("no user \"carol\"; it has Bob, alice, root"), "{refused}");
    let refused = home.run("accounts add bob --mint").await.refused(2);
    assert!(refused.contains("disabled"), "{refused}");
    home.run("accounts add alice --mint").await.refused(1);
    home.run("accounts list --available --upstream nowhere").await.refused(2);
    home.run("accounts add dora --mint --no-verify").await.refused(2);
    standin.control().set_password("root", "third-password");
    standin.control().kill_all_tokens();
    let refused = home.run("accounts list --available").await.refused(5);
    assert!(refused.contains("audiobookshelf/root") && refused.contains("refused the password (401)"), "{refused}");
    assert_no_secret(&home, &standin, &refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn emby_shows_its_users_and_mints_nothing() {
    let standin = standin(Kind::Emby).await;
    let home = with_root(&standin).await;
    assert!(home.run("accounts list --available").await.ok().contains("alice"));
    let refused = home.run("accounts add alice --mint").await.refused(2);
    assert!(refused.contains("password, or a token"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_without_a_daemon_too() {
    for kind in KINDS {
        let standin = standin(kind).await;
        let mut home = Home::of(&[&standin], "");
        home.run_with("accounts add root --administrator --secret-stdin", "root-password\n").await.ok();
        assert!(home.run("accounts list --available").await.ok().contains("alice"), "{kind}");
        home.run("accounts add alice --mint").await.ok();
        let key = home.key("ha", "alice").await;
        home.start().await;
        assert_eq!(home.status(me(kind), &key).await, 200, "{kind}");
        home.kill();
        home.run("accounts remove alice --revoke-keys -y").await.ok();
        assert!(standin.control().made_api_keys().is_empty(), "{kind}");
        if kind == Kind::Jellyfin {
            assert!(standin.control().counters().logouts >= 1, "its sessions were logged out");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_when_the_account_goes_is_told_of_in_the_answer() {
    let standin = standin(Kind::Audiobookshelf).await;
    let mut home = with_root(&standin).await;
    home.run("accounts add alice --mint").await.ok();
    standin.control().faults(|faults| faults.status = Some((503, None)));
    let said = home.run("accounts remove alice -y").await;
    assert!(said.code == 0 && said.err.contains("still at the media server"), "{said:?}");
    let line = home.logged("could not be deleted at the upstream").await;
    assert!(line.contains("keygate alice "), "{line}");
    standin.control().faults(|faults| faults.status = None);
    home.logged("deleted the account's API key").await;
    assert!(standin.control().made_api_keys().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_removal_of_the_administrator_is_logged_when_something_stays_behind() {
    let standin = standin(Kind::Audiobookshelf).await;
    let mut home = with_root(&standin).await;
    home.run("accounts add alice --mint").await.ok();
    home.run("accounts remove root -y --force").await.ok();
    let removed = home.run("accounts remove alice -y").await;
    assert_eq!(removed.code, 0, "{removed:?}");
    let line = home.logged("stays behind at the upstream").await;
    assert!(line.contains("delete it there by hand") && line.contains("keygate alice "), "{line}");
}
