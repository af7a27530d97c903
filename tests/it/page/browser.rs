//! The page in Debian's chromium, driven by playwright-core (`tests/browser`): what people do there, with JavaScript and without; and how
//! every page looks, large and small, light and dark, to people and to screen readers.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;
use serde_json::{Value, json};

use super::Page;
use crate::admin_listener::PASSWORD;
use crate::clients::{is_ci, run_within, succeed};
use crate::support::daemon::Home;

/// Longest run of one script; they take some ten seconds on a machine that does nothing else.
const LIMIT: Duration = Duration::from_secs(300);
const FILES: [&str; 5] = ["package.json", "package-lock.json", "common.mjs", "flows.mjs", "looks.mjs"];

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser")
}

/// The browser, and a folder with the scripts and what they need.
fn prepare() -> Result<(String, PathBuf), String> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let chromium = succeed(Command::new("sh").args(["-c", "command -v chromium"]))?;
    let chromium = String::from_utf8_lossy(&chromium).trim().to_owned();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("browser");
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let lock = fs::read(scripts().join("package-lock.json")).map_err(|error| error.to_string())?;
    let is_installed = fs::read(folder.join("installed.json")).is_ok_and(|found| found == lock);
    for file in FILES {
        fs::copy(scripts().join(file), folder.join(file)).map_err(|error| format!("{file}: {error}"))?;
    }
    if !is_installed {
        succeed(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&folder))?;
        fs::write(folder.join("installed.json"), lock).map_err(|error| error.to_string())?;
    }
    Ok((chromium, folder))
}

/// Runs a script with what it is told; `false`: it cannot be run here.
async fn run(script: &'static str, mut told: Value) -> bool {
    let ran = tokio::task::spawn_blocking(move || {
        let (chromium, folder) = match prepare() {
            Ok(prepared) => prepared,
            Err(why) => {
                let _ = writeln!(io::stderr(), "NOT RUN: {script}: {why}");
                assert!(!is_ci(), "with CI=true the browser must run: {why}");
                return false;
            }
        };
        told["chromium"] = chromium.into();
        told["pictures"] = pictures().into();
        let description = folder.join(format!("{script}.json"));
        fs::write(&description, told.to_string()).unwrap();
        let mut command = Command::new("node");
        command.arg(folder.join(script)).arg(description).env("NO_PROXY", "*").env("no_proxy", "*");
        if let Err(why) = run_within(&mut command, LIMIT) {
            panic!("{script}:\n{why}");
        }
        true
    });
    ran.await.unwrap()
}

/// Where pictures go: nowhere, unless somebody wants them.
#[expect(clippy::disallowed_methods, reason = "the wish of whoever runs the tests, not configuration of the program")]
fn pictures() -> Option<String> {
    std::env::var("KEYGATE_PICTURES").ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_copied_used_rotated_and_revoked_in_a_browser_with_and_without_javascript() {
    let standin = StandIn::start(Kind::Audiobookshelf, Options::default()).await.unwrap();
    let mut home = Home::of(&[&standin], "");
    let free = std::net::TcpListener::bind((home.address.ip(), 0)).and_then(|listener| listener.local_addr()).expect("a free port");
    let config = fs::read_to_string(home.config()).unwrap().replace("[admin]\n", &format!("[admin]\nlisten = \"{free}\"\n"));
    home.write(&config);
    home.run_with("admin set-password --password-stdin", &format!("{PASSWORD}\n")).await.ok();
    home.start().await;
    home.add_alice("alice").await;
    run("flows.mjs", json!({ "page": format!("http://{free}"), "gateway": format!("http://{}", home.address), "password": PASSWORD }))
        .await;
    home.signal("TERM");
    assert_eq!(home.ended().await, 0);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_accessible_quiet_and_whole_at_every_size_in_light_and_dark() {
    let page = Page::open().await;
    assert_eq!(page.status(page.site.rig.secret()).await, 200, "the account is logged in");
    page.site.clock.advance(Duration::from_secs(900));
    let key = page.with_past();
    let gone = page.site.rig.another_key("old tablet");
    page.site.rig.keep().registry.revoke_key(gone.id()).expect("revoked");
    for _ in 0..3 {
        assert_eq!(page.status(gone.expose()).await, 401);
    }
    let usage = &page.site.rig.keep().usage;
    let refusals = || usage.totals().expect("read").values().flat_map(|of| of.refusals.values()).sum::<u64>();
    crate::support::until("they are counted", || refusals() == 3).await;
    usage.finish().expect("written");
    let told = json!({ "page": page.origin, "password": PASSWORD, "key": key });
    run("looks.mjs", told).await;
}
