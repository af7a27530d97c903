//! Commands against a daemon and a media server that answers: accounts with credentials that are tried, keys in bulk, exit codes.

use keygate::upstream::Kind;
use serde_json::Value;

use super::standin;
use crate::support::daemon::Home;

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_password_stores_nothing_and_is_tried_once() {
    for kind in Kind::ALL {
        let standin = standin(kind).await;
        let mut home = Home::of(&[&standin], "");
        home.start().await;
        let said = home.run_with("accounts add alice --secret-stdin", "wrong-password").await.refused(5);
        assert!(said.contains("refused the password (401)") && said.contains("Nothing was stored"), "{kind}: {said}");
        assert!(!said.contains("wrong-password"), "{kind}: {said}");
        assert!(!said.contains("503"), "{kind}: no key can have this account: {said}");
        let line = home.logged("refused the password").await;
        assert!(line.contains("WARN") && !line.contains("503"), "{kind}: nothing is broken: {line}");
        let list: Value = serde_json::from_str(&home.run("accounts list -o json").await.ok()).expect("JSON");
        assert_eq!(list["accounts"], Value::Array(Vec::new()), "{kind}");
        let counters = standin.control().counters();
        assert_eq!((counters.logins, counters.refused_logins), (0, 1), "{kind}");
        let file = home.folder.path().join("password");
        std::fs::write(&file, "alice-password\n").expect("written");
        let said = home.run(&format!("accounts add alice --secret-file {}", file.display())).await.ok();
        assert!(said.contains("the media server accepts it as alice"), "{kind}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_account_is_repaired_by_a_login_or_another_credential() {
    for kind in Kind::ALL {
        let standin = standin(kind).await;
        let mut home = Home::of(&[&standin], "");
        home.start().await;
        home.add_alice("alice").await;
        let key = home.key("ha", "alice").await;
        let path = if kind == Kind::Audiobookshelf { "/api/me" } else { "/System/Info" };
        assert_eq!(home.status(path, &key).await, 200, "{kind}");
        standin.control().set_password("alice", "second-password");
        standin.control().kill_all_tokens();
        assert_eq!(home.status(path, &key).await, 503, "{kind}");
        let list = home.run("accounts list").await.ok();
        assert!(list.contains("broken: ") && list.contains("keygate accounts login"), "{kind}: {list}");
        let said = home.run("accounts login alice").await.refused(5);
        assert!(said.contains("answer 503 until"), "{kind}: {said}");
        assert!(home.run("status").await.ok().contains("1 broken"), "{kind}");
        let line = home.logged("refused the password").await;
        assert!(line.contains("keygate accounts login"), "{kind}: {line}");
        assert_eq!(home.run_with("accounts set-credential alice --secret-stdin", "third-password").await.code, 5, "{kind}");
        assert_eq!(home.status(path, &key).await, 503, "{kind}");
        home.run_with("accounts login alice --password-stdin", "second-password").await.ok();
        assert_eq!(home.status(path, &key).await, 200, "{kind}");

        standin.control().set_password("alice", "alice-password");
        standin.control().kill_all_tokens();
        assert_eq!(home.status(path, &key).await, 503, "{kind}");
        standin.control().set_password("alice", "second-password");
        home.run("accounts login alice").await.ok();
        assert_eq!(home.status(path, &key).await, 200, "{kind}");
        // A refused change of a working credential leaves the working one.
        let said = home.run_with("accounts set-credential alice --secret-stdin", "third-password").await.refused(5);
        assert!(said.contains("The old credential stays"), "{kind}: {said}");
        assert_eq!(home.status(path, &key).await, 200, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_at_once_all_work_and_listings_never_show_one() {
    let standin = standin(Kind::Audiobookshelf).await;
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    home.add_alice("alice").await;
    let file = home.folder.path().join("keys.txt");
    home.run(&format!("keys create family -a alice --count 200 --out {}", file.display())).await.ok();
    let keys = std::fs::read_to_string(&file).expect("written");
    for key in keys.lines().step_by(40) {
        assert_eq!(home.status("/api/me", key).await, 200);
    }
    assert_eq!(standin.control().counters().logins, 1);
    let shown = home.run("keys list -o json").await.ok() + &home.run("keys show family-7 -o json").await.ok();
    assert!(keys.lines().count() == 200 && keys.lines().all(|key| !shown.contains(key)));
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_say_what_kind_of_failure_it_was() {
    let standin = standin(Kind::Audiobookshelf).await;
    let mut home = Home::of(&[&standin], "");
    home.run("status").await.refused(4);
    home.run("reload").await.refused(4);
    home.start().await;
    home.run("keys list").await.ok();
    home.run("keys show nothing").await.refused(3);
    home.run("keys create ha -a nobody").await.refused(2);
    home.run("keys nonsense").await.refused(2);
    home.run_with("accounts add alice --secret-stdin", "wrong").await.refused(5);
    home.add_alice("alice").await;
    home.run_with("accounts add alice --secret-stdin", "alice-password").await.refused(1);
}
