//! What operators get wrong, and what they read then: the ten mistakes of the project's list in its order, then the smaller ones, then the
//! quirks of the three media servers behind a proxy.

use keygate::demo::{Options, StandIn};
use keygate::server::listener::BindError;
use keygate::upstream::Kind;
use serde_json::json;

use crate::support::daemon::Home;
use crate::support::until;

async fn standin(kind: Kind) -> StandIn {
    StandIn::start(kind, Options::default()).await.expect("a stand-in")
}

/// Mistakes that are shown beside what they belong to: the file, and its test.
const ELSEWHERE: &[(&str, &str)] = &[
    // 1, 2 and 3, at length.
    ("src/config/tests.rs", "fn all_problems_are_shown_at_once_in_order_with_line_caret_and_help"),
    ("src/config/tests.rs", "fn mistakes_in_a_url_are_told_apart"),
    // 9. A pair that does not belong together, a certificate that has expired, one of an upstream that nobody trusts.
    ("tests/it/config.rs", "fn a_key_of_another_certificate_is_refused_with_the_certificates_name"),
    ("tests/it/config.rs", "fn an_expired_certificate_and_an_open_key_file_are_warnings"),
    ("tests/it/upstream_tls/messages.rs", "fn a_self_signed_certificate_is_called_so_and_its_pin_is_ready_to_paste"),
    ("tests/it/upstream_tls/messages.rs", "fn http_where_tls_is_spoken_is_said_with_the_url_to_write"),
    // The configuration holds no secret; the file of one that others may read is refused.
    ("src/config/tests.rs", "fn a_secret_in_the_file_is_refused_and_not_repeated"),
    ("tests/it/config.rs", "fn a_master_key_that_others_may_read_is_refused_and_a_missing_one_needs_a_missing_store"),
    // No configuration at all.
    ("src/cli/open.rs", "fn without_a_configuration_the_message_says_what_to_do"),
    // A key that comes to a clear listener is burnt.
    ("tests/it/redirect.rs", "fn the_log_names_the_key_that_is_burnt"),
    // Prefixes that clients put in front or leave away, questions of browsers (CORS) and health checks by OPTIONS.
    ("tests/it/routing.rs", "fn routes_are_the_same_with_the_configured_base_path_in_front_and_without"),
    ("tests/it/routing.rs", "fn a_preflight_is_answered_here_and_says_nothing_about_keys"),
    ("tests/it/refusals/wire.rs", "fn the_server_as_a_whole_answers_options_itself"),
    // What must be set at Jellyfin and Emby, ports that are open to others, a proxy in front.
    ("tests/it/doctor.rs", "fn what_must_be_set_at_jellyfin_is_said_with_the_place_where"),
    ("tests/it/doctor.rs", "fn what_must_be_set_at_emby_is_said_in_embys_words"),
    ("tests/it/doctor/outside.rs", "fn a_media_server_whose_port_is_open_to_others_is_told_with_the_address"),
    ("tests/it/doctor.rs", "fn a_proxy_in_front_that_nobody_told_of_is_noticed"),
];

#[test]
fn the_mistakes_that_are_shown_elsewhere_are_shown_there() {
    for (file, test) in ELSEWHERE {
        let text = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a file");
        assert!(text.contains(&format!("{test}()")), "no {test:?} in {file}");
    }
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
    for part in ["upstream.url is not a URL", "config.toml:3", "expected http://host:port", "this is usually http://127.0.0.1:13378"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named() {
    let standin = standin(Kind::Emby).await;
    let home = Home::of(&[&standin], "");
    let _holder = std::net::TcpListener::bind(home.address).expect("free");
    let said = home.run("serve").await.refused(1);
    assert!(said.contains(&format!("cannot listen on {}: the address is in use by ", home.address)), "{said}");
    assert!(said.contains(&format!(" (pid {}); stop it, or choose another port", std::process::id())), "{said}");
}

#[test]
fn a_port_that_only_root_may_open_is_told_with_the_ways_out() {
    let said = BindError::Permission { address: "[::]:443".parse().expect("an address") }.to_string();
    for part in ["cannot listen on [::]:443: permission denied", "CAP_NET_BIND_SERVICE", "server.listen = \"[::]:8443\"", "keygate.socket"]
    {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_store_without_a_socket_says_what_to_do() {
    let standin = standin(Kind::Emby).await;
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    std::fs::remove_file(home.socket()).expect("removed");
    let said = home.run("keys list").await.refused(4);
    assert!(said.contains(&format!("keygate.redb is in use by another keygate (pid {}), but its admin socket", home.pid())), "{said}");
    assert!(said.contains("does not answer. Stop it, or set admin.socket to the same path in both."), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_at_the_start_is_a_warning_and_not_the_end() {
    let standin = standin(Kind::Emby).await;
    let mut home = Home::of(&[&standin], "");
    let address = standin.url.trim_start_matches("http://").parse().expect("an address");
    standin.stop().await;
    home.start().await;
    let line = home.logged("cannot be reached").await;
    assert!(line.contains("WARN") && line.contains(&format!("upstream http://{address} cannot be reached; clients get 502")), "{line}");
    let said = home.run("status").await.ok();
    assert!(said.contains(": down since 20") && said.contains("cannot connect to"), "{said}");
    let _back = StandIn::start(Kind::Emby, Options { listen: address, ..Options::default() }).await.expect("the same port");
    // It is tried by itself: nobody has to ask for it.
    let line = home.logged("is back after").await;
    assert!(line.contains("INFO") && line.contains(&format!("upstream http://{address} is back after")), "{line}");
    until("the status says so", || home.log().contains("is back")).await;
    let said = home.run("status").await.ok();
    assert!(said.contains(": reachable") && said.contains("emby 4.8.11.0"), "{said}");
    assert_eq!(home.log().matches("cannot be reached").count(), 1, "one line for each change");
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
async fn a_password_that_is_refused_later_is_told_once_with_what_brings_its_keys_back() {
    let standin = standin(Kind::Audiobookshelf).await;
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    home.add_alice("alice").await;
    let key = home.key("ha", "alice").await;
    standin.control().set_password("alice", "another");
    standin.control().kill_all_tokens();
    assert_eq!((home.status("/api/me", &key).await, home.status("/api/me", &key).await), (503, 503));
    let line = home.logged("refused the password (401)").await;
    assert!(
        line.contains("audiobookshelf/alice") && line.contains("answer 503 until \"keygate accounts login audiobookshelf/alice\""),
        "{line}"
    );
    assert_eq!(standin.control().counters().refused_logins, 1, "the account is not locked by trying again");
    let said = home.run("status").await.ok();
    assert!(said.contains("audiobookshelf/alice: broken: "), "{said}");
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
async fn a_plain_listener_for_everybody_needs_to_be_asked_for() {
    let home = Home::empty();
    home.write("[[upstream]]\nkind = \"emby\"\nurl = \"http://127.0.0.1:1\"\n[server]\nlisten = \"0.0.0.0:8080\"\n");
    let said = home.run("check-config").await.refused(2);
    assert!(said.contains("allow_plaintext"), "{said}");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_media_server_below_a_base_path_is_told_to_need_one() {
    let options = Options { base_path: "/jellyfin".to_owned(), ..Options::default() };
    let standin = StandIn::start(Kind::Jellyfin, options).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    let line = home.logged("does not answer as Jellyfin").await;
    assert!(line.contains("is upstream.url right, and does it need a base_path?"), "{line}");
    assert!(home.run("doctor").await.out.contains("does it need a base_path?"));
    let text = std::fs::read_to_string(home.config()).expect("there");
    home.write(&format!("{text}base_path = \"/jellyfin\"\n"));
    home.run("reload").await.ok();
    home.add_alice("alice").await;
    let key = home.key("tv", "alice").await;
    // Clients of both habits.
    for path in ["/System/Info", "/jellyfin/System/Info"] {
        assert_eq!(home.status(path, &key).await, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_serves_certificates_of_an_own_authority_reads_which_devices_refuse_them() {
    let standin = standin(Kind::Jellyfin).await;
    let mut home = Home::of(&[&standin], "[server.tls]\nmode = \"self-signed\"\nfolder = \"tls\"\n");
    home.start().await;
    let said = home.run("doctor").await.ok();
    for part in ["keygate tls ca", "Chromecast and most televisions take none but those of public authorities"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_the_last_reload_went_is_in_the_status() {
    let standin = standin(Kind::Emby).await;
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    // The commands find the socket by the configuration, which will be broken.
    let at = format!("--socket {}", home.socket().display());
    assert!(!home.run("status").await.ok().contains("last reload"));
    let text = std::fs::read_to_string(home.config()).expect("there");
    home.write(&text.replace("kind = \"emby\"", "kind = \"plex\""));
    home.run(&format!("reload {at}")).await.refused(2);
    let said = home.run(&format!("status {at}")).await.ok();
    assert!(said.contains("last reload") && said.contains("refused, the old configuration stays: 1 problem in "), "{said}");
    home.write(&text);
    home.run("reload").await.ok();
    let said: serde_json::Value = serde_json::from_str(&home.run("status -o json").await.ok()).expect("JSON");
    assert_eq!((&said["lastReload"]["problems"], &said["lastReload"]["changes"]), (&json!(null), &json!([])), "{said}");
}
