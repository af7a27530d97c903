//! The command line against a running gateway: what scripts rely on, which is standard output and exit codes.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::admin::AdminSide;

/// Runs the program with these words, separated by spaces, and nothing on standard input.
pub(crate) async fn keygate(socket: &Path, words: &str) -> Output {
    keygate_with(socket, words, "").await
}

async fn keygate_with(socket: &Path, words: &str, input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keygate"));
    command.args(words.split(' ')).env("KEYGATE_SOCKET", socket).env_remove("KEYGATE_CONFIG");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_owned();
    let ran = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().expect("the program");
        let mut stdin = child.stdin.take().expect("standard input");
        // A program that fails early reads nothing of it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("its end")
    });
    ran.await.expect("no panic")
}

pub(crate) fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

pub(crate) fn refused(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(output.stdout.is_empty(), "a refusal prints nothing to standard output");
    text
}

#[tokio::test]
async fn quiet_create_prints_the_key_alone_and_it_works_at_once() {
    let side = AdminSide::start();
    side.add_account("abs/alice").await;
    let key = out(&keygate(&side.socket, "keys create ha --account alice -q").await);
    assert!(side.knows(key.trim_end()));
    assert_eq!(key.lines().count(), 1);
    out(&keygate(&side.socket, "keys disable ha").await);
    assert!(!side.knows(key.trim_end()));
    out(&keygate(&side.socket, "keys enable ha").await);
    assert!(side.knows(key.trim_end()));
    let new = out(&keygate(&side.socket, "keys rotate ha --overlap 24h -q").await);
    assert!(side.knows(key.trim_end()) && side.knows(new.trim_end()));
    out(&keygate(&side.socket, "keys revoke ha --yes").await);
    assert!(!side.knows(key.trim_end()) && !side.knows(new.trim_end()));
}

#[tokio::test]
async fn a_list_has_a_header_and_json_has_the_shape_of_the_socket() {
    let side = AdminSide::start();
    side.add_account("abs/alice").await;
    out(&keygate(&side.socket, "keys create ha -a alice --expires 90d -q").await);
    let table = out(&keygate(&side.socket, "keys list").await);
    let head: Vec<&str> = table.lines().next().expect("a header").split_whitespace().collect();
    assert_eq!(head, ["ID", "NAME", "ACCOUNT", "EXPIRES", "STATUS", "USED", "RIGHTS"]);
    let json: Value = serde_json::from_str(&out(&keygate(&side.socket, "keys list -o json").await)).expect("JSON");
    assert_eq!(json, side.get("/api/api-keys").await.1);
    let id = json["apiKeys"][0]["id"].as_str().expect("an id");
    for name in [id, &id[6..], "ha"] {
        let shown: Value = serde_json::from_str(&out(&keygate(&side.socket, &format!("keys show {name} -o json")).await)).expect("JSON");
        assert_eq!(shown["apiKey"]["id"], id);
    }
    let plain = out(&keygate(&side.socket, "keys list -o plain").await);
    assert_eq!(plain.trim_end().split('\t').count(), 7);
}

#[tokio::test]
async fn rights_are_given_shown_and_replaced() {
    let side = AdminSide::start();
    side.add_account("abs/alice").await;
    out(&keygate(&side.socket, "keys create boss -a alice --scope admin --scope admin -q").await);
    out(&keygate(&side.socket, "keys create tv -a alice -q").await);
    let scopes = async |name: &str| {
        let shown: Value = serde_json::from_str(&out(&keygate(&side.socket, &format!("keys show {name} -o json")).await)).expect("JSON");
        shown["apiKey"]["scopes"].clone()
    };
    assert_eq!(scopes("boss").await, json!(["admin"]));
    assert!(!scopes("tv").await.as_array().expect("a list").contains(&json!("admin")));
    let last_cells = out(&keygate(&side.socket, "keys list -o plain").await);
    let mut last_cells: Vec<&str> = last_cells.lines().map(|line| line.rsplit('\t').next().expect("a cell")).collect();
    last_cells.sort_unstable();
    assert_eq!(last_cells, ["admin", "full"]);
    assert!(out(&keygate(&side.socket, "keys show boss").await).lines().any(|line| line == "scopes   admin"));
    out(&keygate(&side.socket, "keys edit tv --scope browse,progress").await);
    out(&keygate(&side.socket, "keys edit tv --name telly").await);
    assert_eq!(scopes("telly").await, json!(["browse", "progress"]), "another edit leaves them alone");
    let shown = out(&keygate(&side.socket, "keys show telly").await);
    assert!(shown.lines().any(|line| line == "preset   progress-sync"), "{shown}");
    out(&keygate(&side.socket, "keys edit telly --preset stream-only --scope status").await);
    assert_eq!(scopes("telly").await, json!(["status", "stream"]));
    let listed = out(&keygate(&side.socket, "keys list -o plain").await);
    assert!(listed.contains("\tstatus,stream\n"), "{listed}");
    let why = refused(&keygate(&side.socket, "keys create x -a alice --scope root").await, 2);
    assert!(why.contains("there is no scope \"root\"; there is: browse, "), "{why}");
    let why = refused(&keygate(&side.socket, "keys create x -a alice --preset root").await, 2);
    assert!(why.contains("there is no preset \"root\"; there is: full, read-only, "), "{why}");
}

#[tokio::test]
async fn many_keys_go_into_a_new_file_and_nowhere_else() {
    let side = AdminSide::start();
    side.add_account("abs/alice").await;
    let file = side.folder.path().join("keys.txt");
    let words = format!("keys create tv -a alice --count 50 --out {}", file.display());
    let said = out(&keygate(&side.socket, &words).await);
    let keys = std::fs::read_to_string(&file).expect("written");
    assert_eq!(keys.lines().count(), 50);
    assert!(keys.lines().all(|key| side.knows(key) && !said.contains(key)));
    refused(&keygate(&side.socket, &words).await, 2);
    assert_eq!(side.get("/api/api-keys").await.1["apiKeys"].as_array().expect("a list").len(), 50, "no keys without a file");
}

#[tokio::test]
async fn exit_codes_tell_scripts_what_happened() {
    let side = AdminSide::start();
    side.add_account("abs/alice").await;
    refused(&keygate(&side.socket, "keys show nothing").await, 3);
    refused(&keygate(&side.socket, "accounts show nobody").await, 3);
    refused(&keygate(&side.socket, "keys create ha -a nobody").await, 2);
    refused(&keygate(&side.socket, "keys create ha -a alice --expires soon").await, 2);
    refused(&keygate(&side.socket, "keys create ha").await, 2);
    refused(&keygate_with(&side.socket, "accounts add abs/bob --secret-stdin", "hunter2\n").await, 5);
    refused(&keygate(Path::new("/nowhere/admin.sock"), "status").await, 4);
    out(&keygate(&side.socket, "keys create ha -a alice").await);
    assert!(refused(&keygate(&side.socket, "keys revoke ha").await, 2).contains("--yes"));
}

#[tokio::test]
async fn two_keys_of_one_name_are_told_apart_by_id() {
    let side = AdminSide::start();
    side.add_account("abs/alice").await;
    out(&keygate(&side.socket, "keys create ha -a alice").await);
    out(&keygate(&side.socket, "keys create ha -a alice").await);
    let said = refused(&keygate(&side.socket, "keys revoke ha --yes").await, 2);
    let (_, list) = side.get("/api/api-keys").await;
    for key in list["apiKeys"].as_array().expect("a list") {
        assert!(said.contains(key["id"].as_str().expect("an id")), "{said}");
    }
}

#[tokio::test]
async fn a_secret_comes_from_standard_input_or_a_file_and_is_never_printed() {
    let side = AdminSide::start();
    let file = side.folder.path().join("token");
    std::fs::write(&file, "canary-token\n").expect("written");
    let by_file = format!("accounts add abs/alice --token --no-verify --secret-file {}", file.display());
    let said = keygate(&side.socket, &by_file).await;
    assert!(out(&said).contains("abs/alice"));
    let said = keygate_with(&side.socket, "accounts add jf/bob --no-verify --secret-stdin", "canary-password\n").await;
    assert!(out(&said).contains("jf/bob"));
    for words in ["accounts list -o json", "accounts show bob", "status -o json"] {
        let output = keygate(&side.socket, words).await;
        assert!(!out(&output).contains("canary"), "{words}");
    }
    out(&keygate(&side.socket, "accounts remove bob --yes").await);
    refused(&keygate(&side.socket, "accounts show bob").await, 3);
}

/// `keygate serve --upstream` in a home of its own; ended when dropped.
struct WithoutFile {
    home: tempfile::TempDir,
    gateway: std::process::Child,
}

impl WithoutFile {
    fn command(home: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keygate"));
        command.args(words).env_clear().current_dir(home).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("KEYGATE_STORE__PATH", home.join("store/keygate.redb"));
        command.env("KEYGATE_STORE__MASTER_KEY__FILE", home.join("master.key"));
        command.env("KEYGATE_ADMIN__SOCKET", home.join("admin.sock"));
        command
    }

    fn start() -> Self {
        let home = tempfile::tempdir().expect("a home");
        let words = ["serve", "--upstream", "http://127.0.0.1:9", "--kind", "emby", "--listen", "127.0.0.1:0"];
        let mut gateway = Self::command(home.path(), &words).spawn().expect("the program");
        let log = std::io::BufReader::new(gateway.stderr.take().expect("its log"));
        assert!(std::io::BufRead::lines(log).map_while(Result::ok).any(|line| line.contains(" ready ")), "it never became ready");
        Self { home, gateway }
    }
}

impl Drop for WithoutFile {
    fn drop(&mut self) {
        let _ = self.gateway.kill();
        let _ = self.gateway.wait();
    }
}

#[test]
fn a_gateway_that_was_started_without_a_file_is_found_without_one() {
    let running = WithoutFile::start();
    let home = running.home.path();
    let status = out(&WithoutFile::command(home, &["status"]).output().expect("its end"));
    assert!(status.contains(&running.gateway.id().to_string()), "{status}");
    out(&WithoutFile::command(home, &["keys", "list"]).output().expect("its end"));
}

#[test]
fn check_config_gives_each_warning_a_line_of_its_own() {
    let home = tempfile::tempdir().expect("a home");
    let file = home.path().join("config.toml");
    std::fs::write(&file, "[[upstream]]\nkind = \"emby\"\nurl = \"http://127.0.0.1:8096\"\n").expect("written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("mode");
    let said = out(&WithoutFile::command(home.path(), &["check-config", "--config", "config.toml"]).output().expect("its end"));
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("warning: ") && lines[1].starts_with("ok: "), "{said:?}");
}

#[tokio::test]
async fn a_key_is_tested_without_being_used_and_never_stands_in_the_arguments() {
    let side = AdminSide::start();
    side.add_account("abs/alice").await;
    let key = out(&keygate(&side.socket, "keys create board -a alice --preset dashboard -q").await);
    let shown = out(&keygate_with(&side.socket, "keys test -o plain", &key).await);
    assert!(shown.contains("preset\tdashboard\n") && shown.ends_with("let through\tyes\n"), "{shown}");
    assert!(!shown.contains(key.trim_end()));
    let shown = out(&keygate_with(&side.socket, "keys test GET /API//libraries/?x=1 -o json", &key).await);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!((&shown["may"], &shown["request"]["scopes"]), (&json!(true), &json!(["browse"])));
    let refusal = async |words: &str, input: &str| {
        let output = keygate_with(&side.socket, words, input).await;
        assert_eq!(output.status.code(), Some(1), "{words}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let why = refusal("keys test POST https://books.example.org/api/items/7/play", &key).await;
    assert!(why.contains("the gateway would refuse it: the key lacks the scope stream (preset dashboard)"), "{why}");
    out(&keygate(&side.socket, "keys disable board").await);
    assert!(refusal("keys test", &key).await.contains("the key is disabled"));
    out(&keygate(&side.socket, "keys revoke board --yes").await);
    assert!(refusal("keys test", &key).await.contains("no key that lives has this secret"));
    assert!(refusal("keys test", "hunter2").await.contains("this is no key: "));
    let file = side.folder.path().join("key");
    std::fs::write(&file, &key).expect("written");
    assert!(refusal(&format!("keys test --key-file {}", file.display()), "").await.contains("no key that lives"));
    refused(&keygate_with(&side.socket, "keys test GET", &key).await, 2);
}

#[tokio::test]
async fn explain_says_what_a_request_takes() {
    let side = AdminSide::start();
    for (request, takes, presets) in [
        ("GET /api/libraries/7/items", "browse", "full, read-only, progress-sync, dashboard, upload, admin"),
        ("get /api/libraries/7/matchall", "manage", "full, admin"),
        ("GET https://books.example.org/audiobookshelf/api/users?x", "admin", "admin"),
        ("POST /login", "none: every key may", "full, read-only, stream-only, progress-sync, dashboard, upload, admin"),
    ] {
        let shown = out(&keygate(&side.socket, &format!("explain {request} -o plain --upstream abs")).await);
        assert!(shown.contains(&format!("takes\t{takes}\npresets\t{presets}\n")), "{request}: {shown}");
    }
    let why = refused(&keygate(&side.socket, "explain GET /api/../x --upstream abs").await, 2);
    assert!(why.contains("the path has a dot segment: such a request is answered 400, whoever asks"), "{why}");
    let why = refused(&keygate(&side.socket, "explain GET /x --upstream nowhere").await, 2);
    assert!(why.contains("there is no upstream \"nowhere\"; the configuration has "), "{why}");
}
