//! Libraries by their names, and what commands say of rights, with the gateway and without it.

use keygate::demo::{Options, StandIn};
use serde_json::Value;

use super::*;
use crate::support::ALICE_PASSWORD;
use crate::support::daemon::Home;

#[tokio::test(flavor = "multi_thread")]
async fn libraries_are_named_by_operators_and_kept_by_their_ids() {
    for kind in Kind::ALL {
        let standin = StandIn::start(kind, Options::default()).await.expect("a stand-in");
        let mut home = Home::of(&[&standin], "");
        home.start().await;
        home.run_with("accounts add alice --secret-stdin", &format!("{ALICE_PASSWORD}\n")).await.ok();
        let (name, path) = match kind {
            Kind::Audiobookshelf => ("books", "/api/libraries/{id}/items"),
            Kind::Emby | Kind::Jellyfin => ("MUSIC", "/Items?ParentId={id}"),
        };
        let made = home.run(&format!("keys create tv -a alice --preset read-only --library {name} -o json")).await.ok();
        let made: Value = serde_json::from_str(&made).expect("JSON");
        let id = made["apiKey"]["libraries"][0].as_str().expect("an id").to_owned();
        let key = made["apiKey"]["apiKey"].as_str().expect("a key").to_owned();
        assert_eq!(home.status(&path.replace("{id}", &id), &key).await, 200, "{kind}");
        assert_eq!(home.status(&path.replace("{id}", "0a0a"), &key).await, 403, "{kind}");
        let why = home.run("keys create x -a alice --library Films").await.refused(2);
        assert!(why.contains("the account sees no library \"Films\"; it sees ") && why.contains(&id), "{kind}: {why}");
        home.run("keys edit tv --all-libraries").await.ok();
        assert_ne!(home.status(&path.replace("{id}", "0a0a"), &key).await, 403, "{kind}");
        home.run(&format!("keys edit tv --library {id}")).await.ok();
        let shown = home.run("keys show tv").await.ok();
        assert!(shown.lines().any(|line| line.starts_with("libraries ") && line.ends_with(&id)), "{kind}: {shown}");
        assert_eq!(home.status(&path.replace("{id}", "0a0a"), &key).await, 403, "{kind}");

        // The same over the store alone.
        home.signal("TERM");
        assert_eq!(home.ended().await, 0);
        let scopes = if kind == Kind::Audiobookshelf { "POST /api/items/7/play" } else { "POST /Items/7/PlaybackInfo" };
        let explained = home.run(&format!("explain {scopes} -o plain")).await.ok();
        assert!(explained.contains("takes\tstream\npresets\tfull, read-only, stream-only, admin\n"), "{kind}: {explained}");
        let file = home.folder.path().join("key");
        std::fs::write(&file, &key).expect("written");
        let tested = home.run(&format!("keys test {scopes} --key-file {} -o plain", file.display())).await.ok();
        assert!(tested.contains("preset\tread-only\n") && tested.ends_with("let through\tyes\n"), "{kind}: {tested}");
        let target = path.replace("{id}", "0a0a");
        let why = home.run(&format!("keys test GET {target} --key-file {}", file.display())).await.refused(1);
        assert!(why.contains("the key is confined to other libraries"), "{kind}: {why}");
    }
}
