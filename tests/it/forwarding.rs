//! What arrives at the upstream: the judged path, the rest of the query, and the headers that are not keygate's business untouched.

mod answers;

use ::http::Method;
use keygate::demo::{Options, Seen};
use keygate::upstream::Kind;

use crate::support::tls::{self, Trust};
use crate::support::{Rig, Setup, http};

const PATH: &str = "/keygate-test/echo";

/// A rig whose session exists, and whose journal is empty.
async fn warm(setup: Setup) -> Rig {
    let rig = setup.start().await;
    assert_eq!(rig.get(PATH).await.status, 200, "{}", rig.standin.kind);
    rig.standin.control().clear_journal();
    rig
}

/// Sends a request with these lines and the key, and takes what arrived for it.
async fn arrived(rig: &Rig, target: &str, lines: &[(&str, &str)]) -> (u16, Option<Seen>) {
    rig.standin.control().clear_journal();
    let mut all: Vec<(&str, &[u8])> = vec![("Connection", b"close"), ("X-Emby-Token", rig.secret().as_bytes())];
    let host = rig.address.to_string();
    if !lines.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        all.push(("Host", host.as_bytes()));
    }
    all.extend(lines.iter().map(|(name, value)| (*name, value.as_bytes())));
    let answer = http::raw(rig.address, &http::head("GET", target, &all)).await;
    (http::status_of(&answer), rig.standin.control().journal().pop())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_that_is_judged_is_the_path_that_arrives() {
    // The table of paths that Audiobookshelf takes, leaves, or takes for something else; the last column is what it must be sent.
    let rig = warm(Setup::new(Kind::Audiobookshelf)).await;
    for (sent, status, wanted) in [
        ("/api/me", 200, Some("/api/me")),
        ("/api/me/", 200, Some("/api/me/")),
        ("/API/ME", 200, Some("/API/ME")),
        ("//api/me", 200, Some("/api/me")),
        ("/api//me", 200, Some("/api/me")),
        ("//api//me", 200, Some("/api/me")),
        ("/api///me//", 200, Some("/api/me/")),
        ("///api/me", 200, Some("/api/me")),
        ("/%61pi/me", 200, Some("/api/me")),
        ("/api/%6De?a=%61", 200, Some("/api/me?a=%61")),
        ("/api/libraries/a%20b%C3%A9", 404, Some("/api/libraries/a%20b%C3%A9")),
        ("/api/libraries/%2561", 404, Some("/api/libraries/%2561")),
        ("/api/./me", 400, None),
        ("/api/x/../me", 400, None),
        ("/api/%2e%2E/me", 400, None),
        ("/api/me%2f", 400, None),
        ("/api%5cme", 400, None),
        ("/api/me;x=1", 400, None),
        ("/api/me%3bx", 400, None),
        ("/api/me%00", 400, None),
        ("/api/me%", 400, None),
    ] {
        let (got, seen) = arrived(&rig, sent, &[]).await;
        let target = seen.map(|seen| seen.target);
        assert_eq!((got, target.as_deref()), (status, wanted), "{sent}");
    }
    let (status, seen) = arrived(&rig, &format!("http://{}/api/me?x", rig.address), &[]).await;
    assert_eq!((status, seen.map(|seen| seen.target)), (200, Some("/api/me?x".to_owned())), "absolute-form becomes origin-form");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_path_is_put_before_the_judged_path_once() {
    for kind in Kind::ALL {
        let options = Options { base_path: "/media".to_owned(), ..Options::default() };
        let setup = Setup::new(kind).standin(options).with(|config| config.upstreams[0].base_path = "/media".to_owned());
        let rig = warm(setup).await;
        for (sent, wanted) in [
            (PATH, "/media/keygate-test/echo"),
            ("//keygate-test//echo?a=//b&c=%2F", "/media/keygate-test/echo?a=//b&c=%2F"),
            ("/keygate-test/%65cho", "/media/keygate-test/echo"),
            ("/media/keygate-test/echo?a", "/media/keygate-test/echo?a"),
            ("/%6Dedia//keygate-test/echo", "/media/keygate-test/echo"),
        ] {
            let (status, seen) = arrived(&rig, sent, &[]).await;
            assert_eq!((status, seen.map(|seen| seen.target).as_deref()), (200, Some(wanted)), "{kind} {sent}");
        }
        assert_eq!(arrived(&rig, "/../keygate-test/echo", &[]).await.0, 400, "no way out of it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_the_query_arrives_byte_for_byte() {
    let rig = warm(Setup::new(Kind::Jellyfin)).await;
    for query in ["a=1&b=%2c&c", "", "&&a&&", "=", "a=b=c", "a=+%20+", "x=%zz%", "ids=1,2;3", "a[]=1&a[0]=2", "q='`{}|^"] {
        let (status, seen) = arrived(&rig, &format!("{PATH}?{query}"), &[]).await;
        assert_eq!((status, seen.map(|seen| seen.target)), (200, Some(format!("{PATH}?{query}"))), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_client_says_about_where_it_comes_from_arrives() {
    let lies = [
        "Forwarded",
        "Forwarded-For",
        "X-Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Uri",
        "X-Forwarded-Method",
        "X-Forwarded-User",
        "X-Forwarded-Ssl",
        "X-Real-IP",
        "X-Client-IP",
        "X-Cluster-Client-IP",
        "CF-Connecting-IP",
        "True-Client-IP",
        "Fastly-Client-IP",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
    ];
    for kind in Kind::ALL {
        let rig = warm(Setup::new(kind)).await;
        let lines: Vec<_> = lies.iter().flat_map(|name| [(*name, "6.6.6.6"), (*name, "7.7.7.7")]).collect();
        let (status, seen) = arrived(&rig, PATH, &[lines.as_slice(), &[("Host", "media.example.org:8443")]].concat()).await;
        let seen = seen.unwrap();
        assert_eq!((status, seen.method.clone()), (200, Method::GET));
        assert!(!format!("{:?}", seen.headers).contains("6.6.6.6") && !format!("{:?}", seen.headers).contains("7.7.7.7"), "{seen:?}");
        for (name, wanted) in [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "media.example.org:8443"),
            ("host", "media.example.org:8443"),
        ] {
            let values: Vec<_> = seen.headers.get_all(name).iter().collect();
            assert_eq!(values, [wanted], "{kind} {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_is_believed_and_the_host_can_be_the_upstreams_own() {
    let setup = Setup::new(Kind::Audiobookshelf).with(|config| {
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.upstreams[0].forward_host = false;
    });
    let rig = warm(setup).await;
    let said =
        [("X-Forwarded-For", "6.6.6.6, 203.0.113.7, 127.0.0.9"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "media.example.org")];
    let (status, seen) = arrived(&rig, PATH, &[&said[..], &[("X-Real-IP", "6.6.6.6"), ("Forwarded", "for=6.6.6.6")]].concat()).await;
    let seen = seen.unwrap();
    assert_eq!(status, 200);
    assert_eq!((seen.header("x-forwarded-for"), seen.header("x-real-ip")), (Some("203.0.113.7"), None));
    assert_eq!((seen.header("x-forwarded-proto"), seen.header("x-forwarded-host")), (Some("https"), Some("media.example.org")));
    assert_eq!(seen.header("host"), rig.standin.url.strip_prefix("http://"));
    assert!(!seen.headers.contains_key("forwarded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_upstream_hears_https_and_the_authority() {
    let trust = Trust::new();
    let rig = warm_tls(&trust).await;
    let mut sender = trust.http2(rig.address).await;
    let request = ::http::Request::builder().uri(format!("https://{}:8443{PATH}", tls::NAME)).header("x-emby-token", rig.secret());
    let answer = tls::exchange(&mut sender, request.body(http_body_util::Full::default()).unwrap()).await;
    assert_eq!(answer.status, 200);
    let seen = rig.standin.control().journal().pop().unwrap();
    assert_eq!((seen.header("x-forwarded-proto"), seen.header("host")), (Some("https"), Some("localhost:8443")));
    assert_eq!(seen.target, PATH);
    // A Host that differs from the authority is two hosts.
    let request =
        ::http::Request::builder().uri(format!("https://{}{PATH}", tls::NAME)).header("host", "evil").header("x-emby-token", rig.secret());
    assert_eq!(tls::exchange(&mut sender, request.body(http_body_util::Full::default()).unwrap()).await.status, 400);
}

async fn warm_tls(trust: &Trust) -> Rig {
    Setup::new(Kind::Jellyfin).tls(trust.certificate()).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn hop_by_hop_headers_end_here_and_the_rest_arrives_untouched() {
    let rig = warm(Setup::new(Kind::Emby)).await;
    let untouched = [
        ("Accept-Encoding", "br;q=1.0, gzip;q=0.8, *;q=0.1"),
        ("Accept", "*/*"),
        ("User-Agent", "Test/1 (x; y)"),
        ("Range", "bytes=0-,5-9"),
        ("If-Range", "W/\"x\""),
        ("If-Modified-Since", "Sat, 22 Nov 2025 00:00:00 GMT"),
        ("Origin", "https://a.example"),
        ("X-Unknown", "  spaces inside  are kept"),
        ("X-Empty", ""),
        ("X-Twice", "1"),
        ("X-Twice", "2"),
        ("Accept-Language", "de,en;q=0.5"),
    ];
    let dropped = [
        ("Connection", "X-Nominated, keep-alive"),
        ("X-Nominated", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Anything", "1"),
        ("TE", "trailers"),
        ("Trailer", "X-A"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ("Cookie", "connect.sid=1"),
        ("X_Odd", "1"),
        ("X.Odd", "1"),
        ("Expect", "100-continue"),
    ];
    // Media are asked for as the client asks; what may hold a credential is not (`scrubbing`).
    let (_, seen) = arrived(&rig, "/Audio/1002/stream", &[untouched.as_slice(), &dropped[..]].concat()).await;
    let seen = seen.unwrap();
    for (name, value) in untouched {
        assert!(seen.headers.get_all(name.to_ascii_lowercase()).iter().any(|got| got == value.trim()), "{name}: {seen:?}");
    }
    assert_eq!(seen.headers.get_all("x-twice").iter().collect::<Vec<_>>(), ["1", "2"]);
    for (name, _) in dropped {
        assert!(!seen.headers.contains_key(name.to_ascii_lowercase()), "{name}: {seen:?}");
    }
}
