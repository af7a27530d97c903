//! The first and the daily commands of an operator with the real program: a configuration for a server that was asked what it is, and
//! whether the gateway is healthy.

use std::fs;
use std::os::unix::fs::MetadataExt;

use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;
use serde_json::Value;

use crate::support::daemon::Home;

async fn standin(kind: Kind) -> StandIn {
    StandIn::start(kind, Options::default()).await.expect("a stand-in")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_configuration_is_written_for_each_kind_of_server_and_works() {
    for kind in Kind::ALL {
        let standin = standin(kind).await;
        let mut home = Home::empty();
        let said = home.run(&format!("init --upstream {} --listen {}", standin.url, home.address)).await.ok();
        assert!(said.contains(&format!("found {} ", kind.product())) && said.contains("wrote "), "{said}");
        for next in ["  keygate serve --config ", "  keygate accounts add NAME --config "] {
            assert!(said.contains(next), "no {next:?} in {said}");
        }
        assert_eq!(said.contains("Known proxies"), kind == Kind::Jellyfin, "{said}");
        assert_eq!(said.contains("Handled by reverse proxy"), kind == Kind::Emby, "{said}");
        assert_eq!(fs::metadata(home.config()).expect("there").mode() & 0o777, 0o600);
        let text = fs::read_to_string(home.config()).expect("there");
        let more =
            "\n[store]\npath = \"store/keygate.redb\"\nmaster_key = { file = \"master.key\" }\n[admin]\nsocket = \"run/admin.sock\"\n";
        home.write(&format!("{text}{more}"));
        home.run("check-config").await.ok();
        home.start().await;
        home.add_alice("alice").await;
        let key = home.key("tv", "alice").await;
        let path = if kind == Kind::Audiobookshelf { "/api/me" } else { "/System/Info" };
        assert_eq!(home.status(path, &key).await, 200, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_there_is_never_overwritten() {
    let standin = standin(Kind::Emby).await;
    let home = Home::of(&[&standin], "");
    let before = fs::read_to_string(home.config()).expect("there");
    let said = home.run(&format!("init --upstream {}", standin.url)).await.refused(1);
    assert!(said.contains("exists already, and is never overwritten"), "{said}");
    assert_eq!(fs::read_to_string(home.config()).expect("there"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_media_server_gets_no_configuration() {
    let standin = standin(Kind::Emby).await;
    let home = Home::empty();
    let said = home.run(&format!("init --upstream {} --kind jellyfin", standin.url)).await.refused(2);
    assert!(said.contains("answers as Emby, and not as Jellyfin"), "{said}");
    let url = standin.url.clone();
    standin.stop().await;
    let said = home.run(&format!("init --upstream {url}")).await.refused(5);
    assert!(said.contains("cannot find out what") && said.contains("--kind"), "{said}");
    assert_eq!(home.run("init --upstream 127.0.0.1:13378").await.code, 2);
    assert!(!home.config().exists());
    let said: Value = serde_json::from_str(&home.run(&format!("-o json init --upstream {url} --kind emby")).await.ok()).expect("JSON");
    assert_eq!((&said["kind"], &said["version"], &said["url"]), (&"emby".into(), &Value::Null, &url.as_str().into()));
    assert!(home.config().exists(), "whoever says what it is need not have it running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_gateway_says_so_and_a_missing_or_silent_one_is_a_failure() {
    let standin = standin(Kind::Jellyfin).await;
    let mut home = Home::of(&[&standin], "");
    assert!(home.run("healthcheck").await.refused(1).contains("not healthy: no running keygate answers"));
    home.start().await;
    assert!(home.run("healthcheck").await.ok().contains("its listener accepts connections"));
    assert_eq!(home.run("healthcheck -q").await.ok(), "");
    let status: Value = serde_json::from_str(&home.run("status -o json").await.ok()).expect("JSON");
    assert_eq!(status["listeners"][0]["url"], format!("http://{}", home.address));
    assert!(status["store"]["bytes"].as_u64() > Some(0), "{status}");
    let said = home.run("status").await.ok();
    assert!(said.contains("by host name") && said.contains("keygate.redb"), "{said}");
    // The media server's state is not the gateway's.
    standin.stop().await;
    home.run("healthcheck").await.ok();
    home.kill();
    home.run("healthcheck").await.refused(1);
    fs::remove_file(home.socket()).expect("removed");
    let silent = std::os::unix::net::UnixListener::bind(home.socket()).expect("bound");
    let said = home.run("healthcheck").await.refused(1);
    assert!(said.contains("does not answer in time"), "{said}");
    drop(silent);
}
