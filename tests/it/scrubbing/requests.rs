//! What is asked of the upstream, so that its answer can be scrubbed; and what agrees with it in the answers.

use super::*;

const LINES: [(&str, &str); 6] = [
    ("range", "bytes=0-9"),
    ("if-range", "\"a\""),
    ("accept-encoding", "br"),
    ("if-none-match", "\"a\""),
    ("if-modified-since", "Sat, 22 Nov 2025 00:00:00 GMT"),
    ("accept-charset", "utf-16"),
];

/// Which of the lines arrived as they were.
async fn arrived(rig: &Rig, method: Method, path: &str) -> Vec<&'static str> {
    rig.standin.control().clear_journal();
    ask(rig, method, path, &LINES).await;
    // A refusal is followed by a question about the token.
    let seen = rig.standin.control().journal().into_iter().find(|seen| seen.target == path).expect("the request");
    let encoding = seen.headers.get("accept-encoding").map(|value| value.to_str().expect("text").to_owned());
    assert!(matches!(encoding.as_deref(), Some("br" | "identity")), "{path}: {encoding:?}");
    LINES.iter().filter(|(name, value)| seen.headers.get(*name).is_some_and(|got| got == value)).map(|(name, _)| *name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_reveal_is_asked_for_whole_plain_and_fresh_where_it_is_each_clients_own() {
    let all = ["range", "if-range", "accept-encoding", "if-none-match", "if-modified-since", "accept-charset"];
    let conditions = ["if-none-match", "if-modified-since"];
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let (rig, _) = warm(Setup::new(kind)).await;
        assert_eq!(arrived(&rig, Method::GET, "/Videos/1/stream").await, all, "{kind} media");
        assert_eq!(arrived(&rig, Method::GET, "/Items/1/Images/Primary").await, all, "{kind} pictures");
        assert_eq!(arrived(&rig, Method::GET, "/Items").await, conditions, "{kind} JSON");
        assert_eq!(arrived(&rig, Method::GET, "/Sessions").await, conditions, "{kind} a list");
        assert!(arrived(&rig, Method::POST, "/Items/1/PlaybackInfo").await.is_empty(), "{kind} playback");
        assert!(arrived(&rig, Method::GET, "/Videos/1/master.m3u8").await.is_empty(), "{kind} playlist");
        assert!(arrived(&rig, Method::GET, "/System/Info").await.is_empty(), "{kind} addresses");
        assert_eq!(
            arrived(&rig, Method::GET, "/Audio/1/universal").await,
            ["range", "if-range", "if-none-match", "if-modified-since"],
            "{kind} one or the other"
        );
    }
    let (rig, _) = warm(Setup::new(Kind::Audiobookshelf)).await;
    assert!(arrived(&rig, Method::GET, "/api/me").await.is_empty());
    assert_eq!(arrived(&rig, Method::GET, "/api/libraries").await, conditions);
    assert_eq!(arrived(&rig, Method::GET, "/api/items/1/file/2").await, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_text_is_502_and_a_part_of_a_medium_passes() {
    let (rig, _) = warm(Setup::new(Kind::Jellyfin)).await;
    let part = |content_type| Canned::of(content_type, "hello").status(206).with("content-range", "bytes 0-4/10");
    for (path, content_type, status) in [
        ("/Audio/1/universal", "audio/mpeg", 206),
        ("/Audio/1/universal", "application/x-mpegURL", 502),
        ("/Audio/1/universal", "multipart/byteranges; boundary=x", 502),
        ("/Items", "application/json", 502),
        ("/Items", "video/mp4", 206),
        ("/anything", "video/mp4", 206),
        ("/Videos/1/stream", "video/mp4", 206),
        ("/Videos/1/stream", "multipart/byteranges; boundary=x", 206),
    ] {
        say(&rig, part(content_type));
        assert_eq!(ask(&rig, Method::GET, path, &[("range", "bytes=0-4")]).await.status, status, "{path} {content_type}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_text_on_a_route_that_no_table_knows_is_asked_for_once_more_as_a_whole() {
    for kind in Kind::ALL {
        let (rig, token) = warm(Setup::new(kind)).await;
        rig.standin.control().clear_journal();
        let answer = ask(&rig, Method::GET, "/media/list", &[("range", "bytes=0-4"), ("if-range", "\"a\"")]).await;
        let asked = rig.standin.control().journal();
        let ranges: Vec<_> =
            asked.iter().filter(|seen| seen.target == "/media/list").map(|seen| seen.headers.contains_key("range")).collect();
        assert_eq!(ranges, [true], "{kind}: {} {token}", answer.status);
        let text = format!("{{\"about\":\"{token}\"}}");
        say(&rig, Canned::of("application/json", text.clone()).in_ranges());
        rig.standin.control().clear_journal();
        let answer = ask(&rig, Method::GET, "/media/list", &[("range", "bytes=0-4"), ("if-range", "\"a\"")]).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, text.len()), "{kind}");
        assert!(!answer.text().contains(&token), "{kind}");
        let asked = rig.standin.control().journal();
        let ranges: Vec<_> =
            asked.iter().filter(|seen| seen.target == "/media/list").map(|seen| seen.headers.contains_key("range")).collect();
        assert_eq!(ranges, [true, false], "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_ranges_of_what_may_be_a_text_are_not_asked_for() {
    let (rig, _) = warm(Setup::new(Kind::Jellyfin)).await;
    for (path, arrives) in [("/Audio/1/universal", false), ("/Videos/1/stream", true)] {
        ask(&rig, Method::GET, path, &[("range", "bytes=0-1,3-4")]).await;
        let seen = rig.standin.control().journal().pop().expect("a request");
        assert_eq!(seen.headers.contains_key("range"), arrives, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_and_not_modified_say_what_get_would() {
    let (rig, token) = warm(Setup::new(Kind::Jellyfin)).await;
    let text = format!("{{\"AccessToken\":\"{token}\"}}");
    say(&rig, Canned::of("application/json", text.clone()).with("etag", "\"a\""));
    let (get, head) = (rig.get("/anything").await, ask(&rig, Method::HEAD, "/anything", &[]).await);
    for name in ["content-length", "etag", "content-type", "cache-control"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    assert_eq!(head.body.len(), 0);
    let unchanged = ask(&rig, Method::GET, "/anything", &[("if-none-match", "\"a\"")]).await;
    assert_eq!(
        (unchanged.status.as_u16(), unchanged.header("etag"), unchanged.header("cache-control")),
        (304, Some("\"a\""), Some("private"))
    );
    say(&rig, Canned::of("application/x-mpegURL", "#EXTM3U\n").with("etag", "\"a\""));
    let head = ask(&rig, Method::HEAD, "/Videos/1/main.m3u8", &[]).await;
    assert_eq!((head.header("content-length"), head.header("etag")), (None, None), "a playlist is each client's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_addresses_become_keygates() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let rig = Rig::new(kind).await;
        let wanted = format!("http://{}", rig.address);
        for path in ["/System/Info/Public", "/System/Info"] {
            let answer = rig.get(path).await;
            assert_eq!(answer.json()["LocalAddress"], wanted, "{kind} {path}");
            assert!(!answer.text().contains(&rig.standin.url), "{kind} {path}: {}", answer.text());
        }
        let lan = r#"{"LocalAddress":"http://192.168.1.5:8096","WanAddress":"http://203.0.113.5:8096","Id":"a"}"#;
        say(&rig, Canned::of("application/json", lan).in_pieces(9));
        let answer = rig.get("/System/Info").await;
        assert_eq!((&answer.json()["LocalAddress"], &answer.json()["WanAddress"]), (&wanted.as_str().into(), &wanted.as_str().into()));
        rig.standin.control().faults(|faults| faults.canned = None);
        let open = http::get(rig.address, "/System/Info/Public", &[]).await;
        assert_eq!(open.json()["LocalAddress"], wanted, "{kind} without a key");
    }
}
