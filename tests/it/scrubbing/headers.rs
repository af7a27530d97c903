//! Headers of answers.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_the_upstream_itself_leads_to_keygate_without_its_token() {
    for kind in Kind::ALL {
        let (rig, token) = warm(Setup::new(kind)).await;
        let url = rig.standin.url.clone();
        for (name, value, wanted) in [
            ("location", format!("{url}/web/x?a=1"), "/web/x?a=1"),
            ("content-location", format!("{url}/x"), "/x"),
            ("link", format!("<{url}/x>; rel=\"next\""), "</x>; rel=\"next\""),
            ("refresh", format!("0; url={url}/x"), "0; url=/x"),
        ] {
            say(&rig, Canned::of("text/html", "").status(302).with(name, &value));
            let answer = rig.get("/anything").await;
            assert_eq!((answer.status.as_u16(), answer.header(name)), (302, Some(wanted)), "{kind} {name}");
        }
        say(&rig, Canned::of("text/html", "").status(302).with("location", "https://elsewhere.example/x"));
        assert_eq!(rig.get("/anything").await.header("location"), Some("https://elsewhere.example/x"));
        say(&rig, Canned::of("text/html", "").status(302).with("location", &format!("/cb?setToken={token}&a=1")));
        let answer = rig.get("/anything").await;
        assert_eq!(answer.status, 302);
        assert_clean(&rig, &answer, "a token in a redirect");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_of_a_medium_gets_the_clients_own_credential() {
    let (rig, token) = warm(Setup::new(Kind::Jellyfin)).await;
    say(&rig, Canned::of("text/html", "").status(302).with("location", &format!("/Audio/1/stream.mp3?ApiKey={token}")));
    let answer = rig.get("/Audio/1/universal").await;
    let location = answer.header("location").expect("a location");
    assert!(location.starts_with("/Audio/1/stream.mp3?ApiKey=kgt_"), "{location}");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_carry_credentials_by_their_nature_are_dropped_and_others_are_searched() {
    let (rig, token) = warm(Setup::new(Kind::Emby)).await;
    let canned = |content_type| {
        Canned::of(content_type, "x")
            .with("set-cookie", "connect.sid=1")
            .with("www-authenticate", "MediaBrowser")
            .with("authentication-info", "x")
            .with("server-timing", "db;dur=1")
            .with("x-access-token", "unknown-to-everybody")
            .with("x-debug", &format!("token {token}!"))
            .with("x-other", "kept")
    };
    for (content_type, path) in [("application/json", "/anything"), ("video/mp4", "/Videos/1/stream")] {
        say(&rig, canned(content_type));
        let answer = rig.get(path).await;
        for name in ["set-cookie", "www-authenticate", "authentication-info", "server-timing", "x-access-token"] {
            assert_eq!(answer.header(name), None, "{name}");
        }
        assert_eq!(answer.header("x-other"), Some("kept"));
        assert_clean(&rig, &answer, path);
    }
    let odd: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
    say(&rig, Canned::of("video/mp4", "x").with("x-debug", &odd));
    let answer = rig.get("/Videos/1/stream").await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (502, Some("upstream_credential")));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_shared_cache_keeps_an_answer_to_a_key() {
    let (rig, _) = warm(Setup::new(Kind::Jellyfin)).await;
    for (said, wanted) in [(None, "private"), (Some("public, max-age=9"), "private, max-age=9"), (Some("no-store"), "no-store")] {
        let canned = Canned::of("image/png", "x");
        say(&rig, said.map_or_else(|| canned.clone(), |said| canned.clone().with("cache-control", said)));
        assert_eq!(rig.get("/Items/1/Images/Primary").await.header("cache-control"), Some(wanted));
    }
    say(&rig, Canned::of("image/png", "x").with("cache-control", "public"));
    let open = http::get(rig.address, "/Items/1/Images/Primary", &[]).await;
    assert_eq!(open.header("cache-control"), Some("public"), "what everybody may see");
}
