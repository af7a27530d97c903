//! What operators get wrong, and what they read then.

use std::time::Duration;

use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;

use crate::support::daemon::Home;

async fn standin(kind: Kind) -> StandIn {
    StandIn::start(kind, Options::default()).await.expect("a stand-in")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_field_is_shown_with_its_line_and_the_right_name() {
    let home = Home::empty();
    home.write("[[upstream]]\nkind = \"plex\"\nur1 = \"http://127.0.0.1:1\"\n");
    for command in ["check-config", "serve"] {
        let said = home.run(command).await.refused(2);
        for part in ["config.toml:3", "ur1", "^^^", "did you mean", "\"url\"", "plex", "audiobookshelf", "emby", "jellyfin"] {
            assert!(said.contains(part), "{command}: no {part:?} in {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_without_a_scheme_is_told_how_urls_look() {
    let home = Home::empty();
    home.write("[[upstream]]\nkind = \"audiobookshelf\"\nurl = \"127.0.0.1:13378\"\n");
    let said = home.run("check-config").await.refused(2);
    for part in ["config.toml:3", "http://"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named() {
    let standin = standin(Kind::Emby).await;
    let home = Home::of(&[&standin], "");
    let _holder = std::net::TcpListener::bind(home.address).expect("free");
    let said = home.run("serve").await.refused(1);
    assert!(said.contains(&format!("cannot listen on {}", home.address)) && said.contains("in use"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_at_the_start_is_a_warning_and_not_the_end() {
    let standin = standin(Kind::Emby).await;
    let mut home = Home::of(&[&standin], "");
    let url = standin.url.clone();
    standin.stop().await;
    home.start().await;
    let line = home.logged("cannot be reached").await;
    assert!(line.contains("WARN") && line.contains(&url) && line.contains("502"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_of_another_kind_is_named_with_what_to_write() {
    let standin = standin(Kind::Emby).await;
    let mut home = Home::empty();
    home.configure(&[&standin], "");
    let config = std::fs::read_to_string(home.config()).expect("there").replace("\"emby\"", "\"jellyfin\"");
    home.write(&config);
    home.start().await;
    let line = home.logged("answers as").await;
    assert!(line.contains("\"jellyfin\"") && line.contains("answers as Emby") && line.contains("Set kind = \"emby\""), "{line}");
    let said = home.run("check-config --online").await.refused(1);
    assert!(said.contains("answers as Emby") && said.contains("Set kind = \"emby\""), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn checking_online_asks_every_upstream_and_tells_which_one_is_down() {
    let (books, films) = (standin(Kind::Audiobookshelf).await, standin(Kind::Emby).await);
    let home = Home::of(&[&books, &films], "");
    let said = home.run("check-config --online").await.ok();
    assert!(said.contains("audiobookshelf: Audiobookshelf") && said.contains("emby: Emby"), "{said}");
    let url = films.url.clone();
    films.stop().await;
    let said = home.run("check-config --online").await.refused(1);
    assert!(said.contains(&url) && said.contains("cannot be reached"), "{said}");
    assert!(!home.store().exists(), "checking makes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jellyfin_that_does_not_know_the_gateway_as_a_proxy_is_found_out_by_checking_online() {
    let standin = standin(Kind::Jellyfin).await;
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    let before = home.run("check-config --online").await.ok();
    assert!(before.contains("no account"), "without an account it cannot ask: {before}");
    home.add_alice("alice").await;
    standin.control().faults(|faults| faults.ignore_forwarded_for = true);
    let said = home.run("check-config --online").await.ok();
    for part in ["warning: ", "Jellyfin", "Known proxies", "restart Jellyfin", "remote-access limits"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    standin.control().faults(|faults| faults.ignore_forwarded_for = false);
    let said = home.run("check-config --online").await.ok();
    assert!(!said.contains("Known proxies"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_media_server_with_another_time_of_day_is_mentioned_once_it_shows() {
    let clock = std::sync::Arc::new(keygate::clock::ManualClock::new(keygate::clock::Timestamp::from_secs(1_600_000_000)));
    let options = Options { clock, ..Options::default() };
    let standin = StandIn::start(Kind::Audiobookshelf, options).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    home.add_alice("alice").await;
    let line = home.logged("clock").await;
    assert!(line.contains("WARN") && line.contains("behind"), "{line}");
    let key = home.key("ha", "alice").await;
    // The stand-in's clock stands still, so its own token is good for ever; ours counts from the login.
    assert_eq!(home.status("/api/me", &key).await, 200);
    let _ = Duration::ZERO;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_on_the_command_line_is_refused_and_not_repeated() {
    let standin = standin(Kind::Audiobookshelf).await;
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    home.add_alice("alice").await;
    let key = home.key("ha", "alice").await;
    for words in [format!("keys show {key}"), format!("init --upstream http://127.0.0.1:1/?api_key={key}"), key.clone()] {
        let said = home.run(&words).await.refused(2);
        let id = &key[3..13];
        assert!(said.contains("there is a key among the arguments: it stands in the shell's history now"), "{said}");
        assert!(said.contains(&format!("keygate keys rotate {id}")) && !said.contains(&key), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_listener_for_everybody_needs_to_be_asked_for() {
    let home = Home::empty();
    home.write("[[upstream]]\nkind = \"emby\"\nurl = \"http://127.0.0.1:1\"\n[server]\nlisten = \"0.0.0.0:8080\"\n");
    let said = home.run("check-config").await.refused(2);
    assert!(said.contains("allow_plaintext"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_its_master_key_is_refused_and_left_alone() {
    let standin = standin(Kind::Emby).await;
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    home.add_alice("alice").await;
    home.kill();
    let before = std::fs::read(home.store()).expect("there");
    std::fs::remove_file(home.folder.path().join("master.key")).expect("removed");
    let said = home.run("serve").await.refused(2);
    assert!(said.contains("master key") && said.contains("master.key"), "{said}");
    assert!(!home.folder.path().join("master.key").exists(), "no new one is made");
    assert_eq!(std::fs::read(home.store()).expect("there"), before);
    std::fs::write(home.folder.path().join("master.key"), "0".repeat(64)).expect("written");
    assert_ne!(home.run("serve").await.code, 0);
    assert_eq!(std::fs::read(home.store()).expect("there"), before);
}
