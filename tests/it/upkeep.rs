//! Looking after the store with the real program: checks, backups, restoring them, compaction, a new master key.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use keygate::audit::Actor;
use keygate::clock::Timestamp;
use keygate::demo::{Options, StandIn};
use keygate::store::moving::{self, By, NewKey};
use keygate::store::seal::MasterKey;
use keygate::upstream::Kind;
use serde_json::Value;

use crate::support::daemon::Home;

/// A stand-in, and a gateway before it that has run: an account with a session, and a key.
async fn used(kind: Kind) -> (StandIn, Home, String) {
    let standin = StandIn::start(kind, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    home.add_alice("alice").await;
    let key = home.key("tv", "alice").await;
    assert_eq!(home.status("/System/Info", &key).await, 200);
    (standin, home, key)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn master(file: &Path) -> MasterKey {
    MasterKey::parse(&fs::read_to_string(file).expect("there").into()).expect("a master key")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_found_whole_while_the_gateway_runs_and_while_it_does_not() {
    let (_standin, mut home, _) = used(Kind::Jellyfin).await;
    home.key("old", "alice").await;
    home.run("keys revoke old --yes").await.ok();
    let running = json(&home.run("store check -o json").await.ok());
    home.signal("TERM");
    home.ended().await;
    let before = fs::read(home.store()).expect("there");
    let stopped = json(&home.run("store check -o json").await.ok());
    assert!(fs::read(home.store()).expect("there") == before, "a look changes nothing");
    for found in [&running, &stopped] {
        let counts = ["keys", "revokedKeys", "indexEntries", "accounts", "sessions"].map(|name| found[name].as_u64());
        assert_eq!(counts, [2, 1, 1, 1, 2].map(Some), "{found}");
        assert_eq!(found["problems"], json("[]"));
    }
    let said = home.run("store check").await.ok();
    assert!(said.contains("2 (1 revoked)") && said.contains("whole"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_names_what_is_wrong_and_ends_with_an_error() {
    let (_standin, mut home, _) = used(Kind::Jellyfin).await;
    home.signal("TERM");
    home.ended().await;
    let raw = redb::Database::open(home.store()).expect("raw");
    let transaction = raw.begin_write().expect("transaction");
    let index = redb::TableDefinition::<&[u8; 32], &[u8]>::new("key_index");
    let sessions = redb::TableDefinition::<&[u8; 13], &[u8]>::new("sessions");
    transaction.open_table(index).expect("table").retain(|_, _| false).expect("emptied");
    transaction.open_table(index).expect("table").insert(&[7; 32], [0; 23].as_slice()).map(drop).expect("written");
    transaction.open_table(index).expect("table").insert(&[8; 32], [0; 23].as_slice()).map(drop).expect("written");
    transaction.open_table(sessions).expect("table").insert(&[9; 13], b"\x01{}".as_slice()).map(drop).expect("written");
    transaction.commit().expect("committed");
    drop(raw);
    let said = home.run("store check").await.refused(1);
    for part in ["(tv): the index of keys says something else", "1 more than there are", "a record is damaged", "which does not exist"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    let backup = home.folder.path().join("damaged.redb");
    fs::copy(home.store(), &backup).expect("copied");
    let said = home.run("store restore damaged.redb --force").await.refused(1);
    assert!(said.contains("this backup is damaged") && said.contains("left as it is"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_there_is_not_made_by_looking_after_it() {
    let home = Home::of(&[], "");
    home.write(&format!(
        "{}\n[[upstream]]\nkind = \"emby\"\nurl = \"http://127.0.0.1:1\"\n",
        fs::read_to_string(home.config()).expect("there")
    ));
    for command in ["store check", "store backup copy.redb", "store compact", "store rekey"] {
        let code = home.run(command).await.code;
        assert!(code == 3 || code == 1, "{command}: {code}");
        assert!(!home.store().exists() && !home.folder.path().join("copy.redb").exists(), "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_gateway_is_whole_private_and_replaces_nothing() {
    let (_standin, mut home, _) = used(Kind::Jellyfin).await;
    let said = home.run("store backup copy.redb").await.ok();
    assert!(said.contains("The master key is not in it"), "{said}");
    let copy = home.folder.path().join("copy.redb");
    assert_eq!(fs::metadata(&copy).expect("there").mode() & 0o777, 0o600);
    let bytes = fs::read(&copy).expect("there");
    let said = home.run("store backup copy.redb").await.refused(1);
    assert!(said.contains("never replaces a file") && fs::read(&copy).expect("there") == bytes, "{said}");
    let found = json(&home.run("store check copy.redb -o json").await.ok());
    assert_eq!((&found["keys"], &found["accounts"], &found["sessions"]), (&1.into(), &1.into(), &2.into()));
    let text = fs::read_to_string(home.folder.path().join("master.key")).expect("there");
    assert!(!bytes.windows(text.trim().len()).any(|window| window == text.trim().as_bytes()));
    home.signal("TERM");
    home.ended().await;
    let said = json(&home.run("-o json store backup offline.redb").await.ok());
    assert_eq!(said["hasMasterKey"], false);
    assert_eq!(json(&home.run("store check offline.redb -o json").await.ok())["keys"], 1);
    let left: Vec<_> = fs::read_dir(home.store().parent().expect("a folder")).expect("a folder").collect();
    assert_eq!(left.len(), 1, "no copy is left beside the store: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_works_and_keeps_revoked_keys_revoked() {
    let (standin, mut home, key) = used(Kind::Jellyfin).await;
    let logins = standin.control().counters().logins;
    let leaked = home.key("leaked", "alice").await;
    home.run("store backup copy.redb").await.ok();
    home.run("keys revoke leaked --yes").await.ok();
    home.key("later", "alice").await;
    let said = home.run("store restore copy.redb --force").await.refused(1);
    assert!(said.contains("keygate runs") && said.contains("stop it first"), "{said}");
    home.signal("TERM");
    home.ended().await;
    let before = fs::read(home.store()).expect("there");
    let said = home.run("store restore copy.redb").await.refused(1);
    assert!(said.contains("there is a store already") && said.contains("--force"), "{said}");
    assert!(fs::read(home.store()).expect("there") == before);
    let said = home.run("store restore copy.redb --force").await.ok();
    assert!(said.contains("revoked since the backup, and still so: leaked"), "{said}");
    let aside = said.lines().find_map(|line| line.strip_prefix("the store of before is kept as ")).expect("a name");
    let aside = aside.split(';').next().expect("a name");
    assert!(json(&home.run(&format!("store check {aside} -o json")).await.ok())["keys"] == 3, "{aside}");
    home.start().await;
    assert_eq!(home.status("/System/Info", &key).await, 200);
    assert_eq!(home.status("/System/Info", &leaked).await, 401);
    assert!(!home.run("keys list").await.ok().contains("later"));
    assert_eq!(standin.control().counters().logins, logins, "the session came back with the backup");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_root_restores_and_seals_anew_belongs_to_the_user_of_the_service() {
    const SERVICE: (u32, u32) = (4321, 1234);
    let (_standin, mut home, _) = used(Kind::Jellyfin).await;
    if fs::metadata(home.store()).expect("there").uid() != 0 {
        // Nobody but root can give files away; who may is decided in `store::owner`, which has tests of its own.
        return;
    }
    home.run("store backup copy.redb").await.ok();
    home.signal("TERM");
    home.ended().await;
    let within = |folder: &Path| fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>();
    let files = || [within(home.folder.path()), within(&home.folder.path().join("store"))].concat();
    for path in files().into_iter().chain([home.folder.path().to_owned()]) {
        chown(path, Some(SERVICE.0), Some(SERVICE.1)).expect("given");
    }
    home.run("store restore copy.redb --force").await.ok();
    home.run("store rekey").await.ok();
    fs::remove_file(home.store()).expect("removed");
    fs::remove_file(home.folder.path().join("master.key")).expect("removed");
    home.run("keys list").await.ok();
    for path in files() {
        let found = fs::metadata(&path).expect("there");
        assert_eq!((found.uid(), found.gid()), SERVICE, "{}", path.display());
    }
    assert!(files().contains(&home.store()) && files().contains(&home.folder.path().join("master.key")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_another_master_key_is_refused_and_changes_nothing() {
    let (_standin, mut home, _) = used(Kind::Jellyfin).await;
    let (_other_standin, other, _) = used(Kind::Jellyfin).await;
    let copy = home.folder.path().join("copy.redb");
    other.run(&format!("store backup {}", copy.display())).await.ok();
    home.signal("TERM");
    home.ended().await;
    let before = fs::read(home.store()).expect("there");
    let said = home.run("store restore copy.redb --force").await.refused(1);
    assert!(said.contains("the master key is not the one of") && said.contains("copy.redb"), "{said}");
    assert!(fs::read(home.store()).expect("there") == before);
    assert_eq!(home.run("store restore nothing.redb").await.code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_store_comes_back_from_a_backup_and_the_master_key() {
    let (_standin, mut home, key) = used(Kind::Jellyfin).await;
    home.run("store backup copy.redb").await.ok();
    home.kill();
    fs::remove_file(home.store()).expect("removed");
    let said = home.run("store restore copy.redb").await;
    assert!(said.err.contains("revoked after this backup was made are good again"), "{}", said.err);
    said.ok();
    home.start().await;
    assert_eq!(home.status("/System/Info", &key).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_leaves_everything_as_it_was_while_requests_go_on() {
    let (_standin, mut home, key) = used(Kind::Jellyfin).await;
    home.run("keys create many --account alice --count 2000 --out keys.txt").await.ok();
    let compacted = json(&home.run("store compact -o json").await.ok());
    assert!(compacted["bytesAfter"].as_u64() <= compacted["bytesBefore"].as_u64(), "{compacted}");
    assert_eq!(home.status("/System/Info", &key).await, 200);
    home.key("after", "alice").await;
    home.signal("TERM");
    home.ended().await;
    assert!(home.run("store compact").await.ok().contains("bytes now"));
    assert_eq!(json(&home.run("store check -o json").await.ok())["keys"], 2002);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_master_key_leaves_keys_and_sessions_good_and_the_old_one_useless() {
    let (standin, mut home, key) = used(Kind::Jellyfin).await;
    let logins = standin.control().counters().logins;
    home.run("store backup before.redb").await.ok();
    assert!(home.run("store rekey").await.refused(1).contains("stop it first"));
    home.signal("TERM");
    home.ended().await;
    let file = home.folder.path().join("master.key");
    let old = fs::read_to_string(&file).expect("there");
    let said = home.run("store rekey").await.ok();
    let kept = said.split("kept as ").nth(1).and_then(|rest| rest.split(':').next()).expect("a name").to_owned();
    assert_ne!(fs::read_to_string(&file).expect("there"), old);
    assert_eq!(fs::read_to_string(home.folder.path().join(&kept)).expect("there"), old);
    assert_eq!(fs::metadata(&file).expect("there").mode() & 0o777, 0o600);
    assert!(home.run("store check before.redb").await.refused(1).contains("the master key is not the one of"));
    home.start().await;
    assert_eq!(home.status("/System/Info", &key).await, 200);
    assert_eq!(standin.control().counters().logins, logins);
    home.signal("TERM");
    home.ended().await;
    fs::write(&file, &old).expect("written");
    assert!(home.run("serve").await.refused(1).contains("the master key is not the one of"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_master_key_that_was_killed_is_completed_at_the_next_start() {
    let (_standin, mut home, key) = used(Kind::Jellyfin).await;
    home.signal("TERM");
    home.ended().await;
    let (file, waiting) = (home.folder.path().join("master.key"), home.folder.path().join("master.key.new"));
    // Killed before the store was replaced: a key that opens nothing lies there.
    MasterKey::create_file(&waiting).expect("made");
    home.start().await;
    assert_eq!(home.status("/System/Info", &key).await, 200);
    home.signal("TERM");
    home.ended().await;
    fs::remove_file(&waiting).expect("left alone");
    // Killed after: the store is under the new key, which has not got its name yet.
    moving::rekey(&home.store(), &master(&file), NewKey::Apart(&waiting), &By { actor: &Actor::Gateway, now: Timestamp::from_millis(0) })
        .expect("rekeyed");
    home.start().await;
    assert_eq!(home.status("/System/Info", &key).await, 200);
    assert!(home.log().contains("the change of the master key, which was interrupted, is complete now"), "{}", home.log());
    assert!(!waiting.exists());
    home.kill();
    // And a stale one is in nobody's way.
    MasterKey::create_file(&waiting).expect("made");
    home.run("store rekey").await.ok();
    assert!(!waiting.exists());
    home.start().await;
    assert_eq!(home.status("/System/Info", &key).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_key_of_the_environment_is_written_where_the_operator_wants_it() {
    let (_standin, mut home, key) = used(Kind::Jellyfin).await;
    home.signal("TERM");
    home.ended().await;
    let config = fs::read_to_string(home.config()).expect("there").replace("{ file = \"master.key\" }", "{ env = \"MASTER\" }");
    home.write(&config);
    let run = |words: &str, master: &str| {
        let mut command = home.program();
        command.args(words.split(' ')).env("MASTER", master).output().expect("its end")
    };
    let old = fs::read_to_string(home.folder.path().join("master.key")).expect("there");
    let refused = run("store rekey", &old);
    assert!(refused.status.code() == Some(2) && String::from_utf8_lossy(&refused.stderr).contains("--key-file"));
    let done = run("store rekey --key-file new.key", &old);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let new = fs::read_to_string(home.folder.path().join("new.key")).expect("there");
    assert_eq!(run("store check", &old).status.code(), Some(1));
    assert_eq!(run("store check", &new).status.code(), Some(0));
    home.write(&config.replace("{ env = \"MASTER\" }", "{ file = \"new.key\" }"));
    home.start().await;
    assert_eq!(home.status("/System/Info", &key).await, 200);
}
