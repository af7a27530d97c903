//! What needs no key, for each kind: a short list, forwarded without any credential or answered here. And which upstream it goes to.

use ::http::Method;
use keygate::config::Access;
use keygate::demo::{Options, StandIn};
use keygate::registry::KeyPatch;
use keygate::upstream::Kind;

use crate::support::{Rig, Setup, http, upstream};

fn identity_routes(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Audiobookshelf => &["/status", "/ping", "/healthcheck", "/audiobookshelf/ping", "/PING/"],
        Kind::Emby => &["/System/Info/Public", "/emby/System/Ping", "/Branding/Configuration", "//emby//system/info/public"],
        Kind::Jellyfin => &["/System/Info/Public", "/System/Ping", "/health", "/Branding/Configuration"],
    }
}

/// Routes that servers give to everybody, or nearly, and keygate to nobody without a key.
fn closed_routes(kind: Kind) -> &'static [(&'static str, &'static str)] {
    match kind {
        Kind::Audiobookshelf => &[
            ("GET", "/api/me"),
            ("GET", "/api/libraries"),
            ("POST", "/login"),
            ("POST", "/auth/refresh"),
            ("POST", "/init"),
            ("GET", "/hls/x/output.m3u8"),
            ("GET", "/public/session/x/track/1"),
            ("GET", "/feed/x"),
            ("GET", "/"),
            ("POST", "/status"),
            ("GET", "/statusx"),
            ("GET", "/status/x"),
            ("GET", "/api/me?r=/status"),
            ("GET", "/auth/openid"),
        ],
        Kind::Emby | Kind::Jellyfin => &[
            ("GET", "/Users"),
            ("GET", "/Videos/x/stream.mp4"),
            ("GET", "/Audio/x/stream"),
            ("POST", "/Users/AuthenticateByName"),
            ("POST", "/Users/ForgotPassword"),
            ("POST", "/System/Restart"),
            ("POST", "/System/Shutdown"),
            ("POST", "/Users/Public"),
            ("GET", "/QuickConnect/Initiate"),
            ("POST", "/QuickConnect/Enabled"),
            ("GET", "/web/index.html"),
            ("GET", "/web/ConfigurationPages"),
            ("GET", "/"),
            ("GET", "/embywebsocket"),
            ("GET", "/System/Info?x=/System/Info/Public"),
            ("GET", "/System/Info/Publicx"),
        ],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_routes_are_forwarded_without_any_credential_whatever_the_client_sent() {
    for kind in Kind::ALL {
        // Audiobookshelf has all of its routes below its base path as well.
        let base_path = if kind == Kind::Audiobookshelf { "/audiobookshelf".to_owned() } else { String::new() };
        let rig = Setup::new(kind).standin(Options { base_path, ..Options::default() }).start().await;
        for path in identity_routes(kind) {
            for lines in [&[][..], &[("authorization", "Basic YTpi"), ("cookie", "a=b")], &[("x-emby-token", "0123456789abcdef")]] {
                rig.standin.control().clear_journal();
                let answer = http::get(rig.address, path, lines).await;
                assert_eq!(answer.status, 200, "{kind} {path}: {}", answer.text());
                let seen = rig.standin.control().journal();
                assert_eq!(seen.len(), 1, "{kind} {path}");
                for name in ["authorization", "x-emby-token", "cookie"] {
                    assert!(!seen[0].headers.contains_key(name), "{kind} {path} {name}");
                }
            }
            // A bad key is a bad key here too.
            assert_eq!(http::get(rig.address, path, &[("x-emby-token", "kg_nonsense")]).await.status, 401, "{kind} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_else_needs_a_key_and_the_upstreams_own_credentials_open_nothing() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        assert_eq!(rig.get("/keygate-test/echo").await.status, 200);
        let token = rig.standin.control().live_tokens().pop().unwrap();
        let bearer = format!("Bearer {token}");
        let structured = format!("MediaBrowser Token=\"{token}\"");
        rig.standin.control().clear_journal();
        for (method, path) in closed_routes(kind) {
            let method: Method = method.parse().unwrap();
            for lines in [
                &[][..],
                &[("authorization", bearer.as_str())],
                &[("authorization", structured.as_str())],
                &[("x-emby-token", token.as_str())],
            ] {
                let answer = http::send(rig.address, method.clone(), path, lines, "").await;
                assert_eq!(answer.status, 401, "{kind} {method} {path} {lines:?}: {}", answer.text());
            }
            let separator = if path.contains('?') { '&' } else { '?' };
            for name in ["api_key", "token"] {
                let path = format!("{path}{separator}{name}={token}");
                assert_eq!(http::send(rig.address, method.clone(), &path, &[], "").await.status, 401, "{kind} {method} {path}");
            }
        }
        assert_eq!(rig.standin.control().journal().len(), 0, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_users_and_quick_connect_are_answered_here() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let rig = Rig::new(kind).await;
        for (path, body) in
            [("/Users/Public", "[]"), ("/users/public/", "[]"), ("/emby/Users/Public", "[]"), ("/QuickConnect/Enabled", "false")]
        {
            let answer = http::get(rig.address, path, &[]).await;
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, body), "{kind} {path}");
            assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
        }
        assert_eq!(rig.standin.control().journal().len(), 0, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_is_answered_here_and_the_session_lives_on() {
    for (kind, paths, status) in [
        (Kind::Audiobookshelf, ["/logout", "/audiobookshelf/LOGOUT/", "//logout"], 200),
        (Kind::Emby, ["/Sessions/Logout", "/emby/sessions/logout", "//Sessions//Logout"], 204),
        (Kind::Jellyfin, ["/Sessions/Logout", "/mediabrowser/Sessions/Logout", "/%53essions/Logout"], 204),
    ] {
        let rig = Rig::new(kind).await;
        assert_eq!(rig.get("/keygate-test/echo").await.status, 200, "{kind}");
        let before = rig.standin.control().counters();
        for path in paths {
            let answer = http::send(rig.address, Method::POST, path, &[("x-emby-token", rig.secret())], "").await;
            assert_eq!(answer.status, status, "{kind} {path}");
        }
        assert_eq!(rig.get("/keygate-test/echo").await.status, 200, "{kind}");
        let after = rig.standin.control().counters();
        assert_eq!((after.logouts, after.logins), (before.logouts, before.logins), "{kind}");
        rig.keep().registry.edit_key(rig.key.id(), KeyPatch { is_active: Some(false), ..KeyPatch::default() }).unwrap();
        assert_eq!(http::send(rig.address, Method::POST, paths[0], &[("x-emby-token", rig.secret())], "").await.status, 401, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_are_the_same_with_the_configured_base_path_in_front_and_without() {
    for kind in Kind::ALL {
        let rig = Setup::new(kind)
            .standin(Options { base_path: "/my/media".to_owned(), ..Options::default() })
            .with(|config| config.upstreams[0].base_path = "/my/media".to_owned())
            .start()
            .await;
        let (logout, status) = if kind == Kind::Audiobookshelf { ("/logout", 200) } else { ("/Sessions/Logout", 204) };
        for base_path in ["", "/my/media", "/MY//media"] {
            let open = format!("{base_path}{}", identity_routes(kind)[0]);
            assert_eq!(http::get(rig.address, &open, &[]).await.status, 200, "{kind} {open}");
            let path = format!("{base_path}/keygate-test/echo");
            assert_eq!(rig.get(&path).await.status, 200, "{kind} {path}");
            assert_eq!(http::get(rig.address, &path, &[]).await.status, 401, "{kind} {path}");
            let path = format!("{base_path}{logout}");
            assert_eq!(http::send(rig.address, Method::POST, &path, &[("x-emby-token", rig.secret())], "").await.status, status, "{kind}");
        }
        let twice = format!("/my/media/my/media{}", identity_routes(kind)[0]);
        assert_eq!(http::get(rig.address, &twice, &[]).await.status, 401, "{kind}: it is taken off once");
        assert_eq!(rig.standin.control().counters().logouts, 0, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_and_web_pages_are_open_by_their_switches_alone() {
    for kind in Kind::ALL {
        let (image, page) = match kind {
            Kind::Audiobookshelf => ("/api/items/x/cover", "/login"),
            Kind::Emby | Kind::Jellyfin => ("/Items/x/Images/Primary", "/web/index.html"),
        };
        for (images, web_ui) in [(Access::Refuse, Access::Pass), (Access::Pass, Access::Refuse)] {
            let rig = Setup::new(kind)
                .with(move |config| {
                    config.upstreams[0].images = images;
                    config.upstreams[0].web_ui = web_ui;
                })
                .start()
                .await;
            for (path, access) in [(image, images), (page, web_ui)] {
                let status = http::get(rig.address, path, &[]).await.status;
                // What the stand-in has no page for is 404 or 401 of its own; its journal tells.
                let arrived = rig.standin.control().journal().iter().any(|seen| seen.path() == path);
                assert_eq!(arrived, access == Access::Pass, "{kind} {path} {access:?}: {status}");
                assert!(arrived || status == 401, "{kind} {path} {access:?}: {status}");
            }
            assert!(rig.standin.control().journal().iter().all(|seen| !seen.headers.contains_key("authorization")));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_never_open_without_a_key() {
    let upgrade = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for kind in Kind::ALL {
        let rig = Setup::new(kind).with(|config| config.upstreams[0].web_ui = Access::Pass).start().await;
        for path in ["/", "/status", "/System/Info/Public", "/socket", "/embywebsocket", "/socket.io/?EIO=4&transport=websocket"] {
            // Audiobookshelf's own opens without one, and asks for it then.
            if kind != Kind::Audiobookshelf || !path.contains("socket.io") {
                assert_eq!(http::get(rig.address, path, &upgrade).await.status, 401, "{kind} {path}");
            }
        }
        assert_eq!(rig.standin.control().journal().len(), 0, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_is_answered_here_and_says_nothing_about_keys() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        let ask = [
            ("origin", "https://app.example"),
            ("access-control-request-method", "GET"),
            ("access-control-request-headers", "x-emby-token"),
        ];
        let mut seen = Vec::new();
        for path in ["/api/me", "/Users/Public", "/nowhere", "/api/me?api_key=kg_bad"] {
            let answer = http::send(rig.address, Method::OPTIONS, path, &ask, "").await;
            assert_eq!(answer.status, 204, "{kind} {path}");
            assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
            assert_eq!(answer.header("access-control-allow-headers"), Some("x-emby-token"));
            assert!(answer.header("access-control-allow-credentials").is_none());
            seen.push(answer.headers.keys().cloned().collect::<Vec<_>>());
        }
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
        // Without an origin it is an ordinary request.
        assert_eq!(http::send(rig.address, Method::OPTIONS, "/api/me", &ask[1..], "").await.status, 401, "{kind}");
        assert_eq!(http::send(rig.address, Method::OPTIONS, "/a/../b", &ask, "").await.status, 400, "{kind}");
        assert_eq!(rig.standin.control().journal().len(), 0, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_found_by_its_own_listener_whatever_the_host_says() {
    let second = StandIn::start(Kind::Jellyfin, Options::default()).await.unwrap();
    let port = second.url.rsplit(':').next().unwrap().parse().unwrap();
    let setup = Setup::new(Kind::Audiobookshelf).with(move |config| {
        let mut other = upstream("other", Kind::Jellyfin, port);
        other.listen = vec!["127.0.0.1:0".parse().unwrap()];
        config.upstreams.push(other);
    });
    let rig = setup.start().await;
    rig.sweep.watch(&second);
    let own = rig.app().addresses()[1];
    for host in ["anything", "127.0.0.1", "[::1]:80"] {
        let lines: [(&str, &[u8]); 2] = [("Host", host.as_bytes()), ("Connection", b"close")];
        let answer = http::raw(own, &http::head("GET", "/System/Info/Public", &lines)).await;
        assert_eq!(http::status_of(&answer), 200, "{host}: {answer}");
        let answer = http::raw(rig.address, &http::head("GET", "/ping", &lines)).await;
        assert_eq!(http::status_of(&answer), 200, "{host}: {answer}");
    }
    assert!(second.control().journal().iter().all(|seen| seen.path() == "/System/Info/Public"));
    assert_eq!(http::get(own, "/keygate-test/echo", &[("x-emby-token", rig.secret())]).await.status, 401, "a key of the other upstream");
}
