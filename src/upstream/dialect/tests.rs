//! What every dialect must do, over all kinds, and the tables of the three servers row by row.

use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use proptest::prelude::*;

use super::*;

const TOKEN: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

fn device() -> Device {
    Device { client: "Kitchen radio".to_owned(), id: "00112233445566778899aabbccddeeff".to_owned() }
}

fn answer(status: u16, headers: &[(HeaderName, &'static str)], body: &str) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

/// header.payload.signature with these claims.
fn jwt(claims: &serde_json::Value) -> String {
    use base64::Engine;
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(&claims.to_string()), part("no signature"))
}

fn good_login(kind: Kind) -> String {
    match kind {
        Kind::Audiobookshelf => serde_json::json!({
            "user": {
                "id": "7c0d1c54", "username": "alice", "type": "user", "token": "permanent", "mediaProgress": [],
                "accessToken": jwt(&serde_json::json!({ "type": "access", "iat": 1_000, "exp": 4_600 })),
                "refreshToken": "refresh-1"
            },
            "serverSettings": { "version": "2.36.0" }, "Source": "docker"
        }),
        Kind::Emby | Kind::Jellyfin => serde_json::json!({
            "User": { "Name": "alice", "ServerId": "5e", "Id": "7c0d1c54", "Policy": {} },
            "SessionInfo": { "Id": "aa", "UserName": "alice" }, "AccessToken": TOKEN, "ServerId": "5e"
        }),
    }
    .to_string()
}

fn verdict(kind: Kind, status: u16, path: &str, upgrade: bool) -> Verdict {
    of(kind).verdict(StatusCode::from_u16(status).unwrap(), &Path::parse(path).unwrap(), upgrade)
}

fn route(kind: Kind, method: &str, path: &str) -> RouteClass {
    of(kind).route(&Method::from_bytes(method.as_bytes()).unwrap(), &Path::parse(path).unwrap())
}

// ---- every kind ----

#[test]
fn a_dialect_is_of_the_kind_that_it_was_asked_for() {
    for kind in Kind::ALL {
        assert_eq!(of(kind).kind(), kind);
    }
}

#[test]
fn a_login_names_the_user_and_the_program_and_keeps_the_password_out_of_path_and_headers() {
    for kind in Kind::ALL {
        let call = of(kind).login("al\"ice", &Secret::from("pass\"word"), &device());
        assert_eq!(call.method, Method::POST);
        assert_eq!(call.headers[USER_AGENT], concat!("keygate/", env!("CARGO_PKG_VERSION")));
        assert_eq!(call.headers[CONTENT_TYPE], "application/json");
        let body: serde_json::Value = serde_json::from_slice(call.body.expose()).unwrap();
        let texts: Vec<_> = body.as_object().unwrap().values().map(|value| value.as_str().unwrap()).collect();
        assert!(texts.contains(&"al\"ice") && texts.contains(&"pass\"word"), "{kind}");
        assert!(!format!("{call:?}").contains("word"), "{kind}");
    }
}

#[test]
fn a_good_login_yields_the_token_and_the_user() {
    for kind in Kind::ALL {
        let grant = of(kind).read_login(&answer(200, &[], &good_login(kind))).unwrap();
        assert_eq!(grant.user_id.as_deref(), Some("7c0d1c54"), "{kind}");
        assert_eq!(grant.user_name.as_deref(), Some("alice"), "{kind}");
        assert!(!grant.token.expose().is_empty());
    }
}

#[test]
fn a_refused_password_is_final_and_names_the_product_and_the_status() {
    for kind in Kind::ALL {
        for status in [400, 401] {
            let Err(GrantError::Refused(why)) = of(kind).read_login(&answer(status, &[], "Unauthorized")) else {
                panic!("{kind} {status}")
            };
            assert!(why.contains(kind.product()) && why.contains(&status.to_string()), "{why}");
        }
    }
}

#[test]
fn a_limit_is_waited_for_as_long_as_it_says_and_no_longer_than_an_hour() {
    for kind in Kind::ALL {
        for (header, seconds) in [(Some("598"), 598), (Some("0"), 1), (Some("99999"), 3600), (Some("soon"), 60), (None, 60)] {
            let headers: Vec<_> = header.map(|value| (RETRY_AFTER, value)).into_iter().collect();
            let limited = answer(429, &headers, r#"{"error":"Too many authentication requests"}"#);
            let expected = GrantError::Limited { retry_after_secs: seconds };
            assert_eq!(of(kind).read_login(&limited).unwrap_err(), expected, "{kind}");
            assert_eq!(of(kind).read_probe(&limited).unwrap_err(), expected, "{kind}");
        }
    }
}

#[test]
fn whatever_a_strange_server_answers_to_a_login_is_no_refusal_of_the_password_and_is_not_repeated() {
    for kind in Kind::ALL {
        for status in [200, 204, 301, 404, 405, 418, 500, 502, 503, 504] {
            let Err(GrantError::Unavailable(why)) = of(kind).read_login(&answer(status, &[], "<html>canary</html>")) else {
                panic!("{kind} {status}")
            };
            assert!(why.contains(kind.product()) && !why.contains("canary"), "{why}");
        }
    }
}

#[test]
fn a_login_answer_of_another_kind_is_no_login() {
    for kind in [Kind::Audiobookshelf, Kind::Jellyfin] {
        let other = if kind == Kind::Audiobookshelf { Kind::Jellyfin } else { Kind::Audiobookshelf };
        let Err(GrantError::Unavailable(why)) = of(kind).read_login(&answer(200, &[], &good_login(other))) else { panic!("{kind}") };
        assert!(why.contains("\"kind\""), "{why}");
    }
}

#[test]
fn a_probe_tells_alive_from_dead_and_says_nothing_when_the_server_does_not() {
    for kind in Kind::ALL {
        let dialect = of(kind);
        assert_eq!(dialect.read_probe(&answer(401, &[], "")), Ok(TokenState::Dead), "{kind}");
        assert!(matches!(dialect.read_probe(&answer(403, &[], "")), Ok(TokenState::Alive { .. })), "{kind}");
        for status in [301, 404, 500, 502, 503] {
            assert!(matches!(dialect.read_probe(&answer(status, &[], "")), Err(GrantError::Unavailable(_))), "{kind} {status}");
        }
    }
}

#[test]
fn every_header_with_a_token_is_marked_sensitive_and_a_probe_carries_them() {
    for kind in Kind::ALL {
        let token = Secret::from(TOKEN);
        let headers = of(kind).credential_headers(&token, &device());
        assert!(headers.iter().any(|(_, value)| value.to_str().unwrap().contains(TOKEN)), "{kind}");
        assert!(!format!("{headers:?}").contains(TOKEN), "{kind}");
        let probe = of(kind).probe(&token, Some("7c0d1c54"), &device());
        assert!(headers.iter().all(|(name, value)| probe.headers.get(name) == Some(value)), "{kind}");
        assert!(!probe.path.contains(TOKEN));
    }
}

#[test]
fn a_token_that_no_header_can_carry_does_not_break_out_of_it() {
    for kind in Kind::ALL {
        let headers = of(kind).credential_headers(&Secret::from("a\r\nX-Evil: 1"), &device());
        assert!(headers.iter().all(|(_, value)| !value.as_bytes().contains(&b'\n')), "{kind}");
    }
}

#[test]
fn what_is_no_401_says_nothing_of_the_token() {
    for kind in Kind::ALL {
        for status in [200, 206, 304, 400, 403, 404, 429, 500, 503] {
            assert_eq!(verdict(kind, status, "/api/items", false), Verdict::Accepted, "{kind} {status}");
        }
    }
}

#[test]
fn identity_routes_are_found_in_any_letter_case_and_below_the_base_path_and_only_there() {
    for kind in Kind::ALL {
        let open = if kind == Kind::Audiobookshelf { "/status" } else { "/System/Info/Public" };
        for base in of(kind).base_paths() {
            assert_eq!(route(kind, "GET", &format!("/{base}{open}")), RouteClass::Identity);
        }
        assert_eq!(route(kind, "GET", &open.to_ascii_uppercase()), RouteClass::Identity);
        assert_eq!(route(kind, "GET", &format!("/elsewhere{open}")), RouteClass::Keyed);
        assert_eq!(route(kind, "GET", &format!("{open}/more")), RouteClass::Keyed);
        assert_eq!(route(kind, "DELETE", open), RouteClass::Keyed);
    }
}

proptest! {
    #[test]
    fn no_answer_makes_a_dialect_panic_or_grant_something_without_a_token(status in 100_u16..600, body in ".*") {
        for kind in Kind::ALL {
            let answer = answer(status, &[], &body);
            prop_assert!(of(kind).read_login(&answer).is_err());
            prop_assert!(of(kind).read_refresh(&answer).is_err());
            let _ = of(kind).read_probe(&answer);
        }
    }
}

// ---- Audiobookshelf ----

#[test]
fn audiobookshelf_grants_hold_the_refresh_token_the_permanent_one_and_the_length_of_life() {
    let abs = of(Kind::Audiobookshelf);
    let body = answer(200, &[], &good_login(Kind::Audiobookshelf));
    for grant in [abs.read_login(&body).unwrap(), abs.read_refresh(&body).unwrap()] {
        assert_eq!(grant.refresh_token.unwrap().expose(), "refresh-1");
        assert_eq!(grant.other_secrets[0].expose(), "permanent");
        let lifetime = grant.lifetime.unwrap();
        assert_eq!(lifetime.expires_at.since(lifetime.issued_at).as_secs(), 3600);
    }
}

#[test]
fn audiobookshelf_tokens_without_a_sensible_life_have_none() {
    let claims =
        [serde_json::json!({ "iat": 1_000 }), serde_json::json!({ "exp": 1_000 }), serde_json::json!({ "iat": 2_000, "exp": 1_000 })];
    for token in claims.iter().map(jwt).chain(["opaque".to_owned()]) {
        let body = serde_json::json!({ "user": { "id": "1", "username": "a", "token": null, "accessToken": token, "refreshToken": null } });
        let grant = of(Kind::Audiobookshelf).read_login(&answer(200, &[], &body.to_string())).unwrap();
        assert_eq!(grant.lifetime, None);
        assert!(grant.refresh_token.is_none() && grant.other_secrets.is_empty());
    }
}

#[test]
fn audiobookshelf_is_asked_for_tokens_in_the_body_and_renewed_by_header() {
    let abs = of(Kind::Audiobookshelf);
    let login = abs.login("alice", &Secret::from("p"), &device());
    assert_eq!((login.path.as_str(), &login.headers["x-return-tokens"]), ("/login", &HeaderValue::from_static("true")));
    let refresh = abs.refresh(&Secret::from("refresh-1")).unwrap();
    assert_eq!((refresh.path.as_str(), &refresh.headers["x-refresh-token"]), ("/auth/refresh", &HeaderValue::from_static("refresh-1")));
    assert!(refresh.headers["x-refresh-token"].is_sensitive() && !refresh.headers.contains_key(AUTHORIZATION));
    let logout = abs.logout(&Secret::from("t"), Some(&Secret::from("refresh-1")), &device()).unwrap();
    assert_eq!((logout.path.as_str(), &logout.headers["x-refresh-token"]), ("/logout", &HeaderValue::from_static("refresh-1")));
    assert!(abs.logout(&Secret::from("t"), None, &device()).is_none());
}

#[test]
fn audiobookshelf_refresh_answers_mean_what_its_table_says() {
    let abs = of(Kind::Audiobookshelf);
    for error in
        ["No refresh token provided", "Invalid token type", "Invalid refresh token", "Refresh token expired", "User not found or inactive"]
    {
        let body = serde_json::json!({ "error": error }).to_string();
        assert!(matches!(abs.read_refresh(&answer(401, &[], &body)), Err(GrantError::Refused(_))), "{error}");
    }
    assert!(matches!(abs.read_refresh(&answer(429, &[(RETRY_AFTER, "7")], "{}")), Err(GrantError::Limited { retry_after_secs: 7 })));
    for status in [404, 500, 502, 503] {
        assert!(matches!(abs.read_refresh(&answer(status, &[], "")), Err(GrantError::Unavailable(_))), "{status}");
    }
}

#[test]
fn audiobookshelf_with_openid_only_and_audiobookshelf_too_old_get_sentences_of_their_own() {
    let abs = of(Kind::Audiobookshelf);
    let html = answer(500, &[(CONTENT_TYPE, "text/html; charset=utf-8")], "<pre>Internal Server Error</pre>");
    assert!(abs.read_login(&html).unwrap_err().to_string().contains("OpenID"));
    let old = r#"{"user":{"id":"1","username":"a","token":"permanent"}}"#;
    assert!(abs.read_login(&answer(200, &[], old)).unwrap_err().to_string().contains("2.26"));
}

#[test]
fn audiobookshelf_table_of_401s() {
    let kind = Kind::Audiobookshelf;
    for path in ["/api/me", "/audiobookshelf/api/me", "/API/items/1/cover", "/api"] {
        assert_eq!(verdict(kind, 401, path, false), Verdict::Dead, "{path}");
    }
    for path in ["/auth/refresh", "/login", "/hls/1/out.m3u8", "/apiary"] {
        assert_eq!(verdict(kind, 401, path, false), Verdict::Accepted, "{path}");
    }
    assert_eq!(verdict(kind, 403, "/api/users", false), Verdict::Accepted, "wrong role");
    assert_eq!(verdict(kind, 404, "/api/nothing", false), Verdict::Accepted);
}

/// `client/static` of 2.36.0, and what `nuxt generate` adds to it.
#[test]
fn every_static_file_of_audiobookshelfs_web_page_is_part_of_the_web_page() {
    for path in [
        "/_nuxt/abc123.js",
        "/200.html",
        "/index.html",
        "/book_placeholder.jpg",
        "/favicon.ico",
        "/fonts/absicons/absicons.woff",
        "/icon.svg",
        "/icon48.png",
        "/icon64.png",
        "/icon192.png",
        "/ios_icon.png",
        "/libarchive/worker-bundle.js",
        "/libs/marked/index.js",
        "/Logo.png",
        "/robots.txt",
        "/textures/wood_default.jpg",
    ] {
        assert_eq!(route(Kind::Audiobookshelf, "GET", path), RouteClass::WebUi, "{path}");
    }
}

#[test]
fn audiobookshelf_table_of_routes() {
    let kind = Kind::Audiobookshelf;
    for path in ["/status", "/ping", "/healthcheck", "/healthcheck/"] {
        assert_eq!(route(kind, "GET", path), RouteClass::Identity, "{path}");
    }
    assert_eq!(route(kind, "POST", "/logout"), RouteClass::Logout);
    assert_eq!(route(kind, "POST", "/audiobookshelf/LOGOUT"), RouteClass::Logout);
    for (method, path, class) in [
        ("POST", "/login", RouteClass::Login),
        ("POST", "/auth/refresh", RouteClass::Refresh),
        ("GET", "/socket.io/", RouteClass::Socket),
        ("POST", "/audiobookshelf/socket.io", RouteClass::Socket),
        ("GET", "/hls/1/a.ts", RouteClass::Capability),
        ("GET", "/public/session/1/track/1", RouteClass::Capability),
        ("GET", "/feed/x", RouteClass::Share),
        ("GET", "/api/items/1/file/2", RouteClass::Media(Media::Bytes)),
    ] {
        assert_eq!(route(kind, method, path), class, "{method} {path}");
    }
    for path in ["/api/items/1/cover", "/api/authors/1/image"] {
        assert_eq!(route(kind, "GET", path), RouteClass::Image, "{path}");
    }
    for path in ["/", "/audiobookshelf", "/login", "/item/1", "/library/1/bookshelf", "/_nuxt/a.js", "/config/users", "/share/a"] {
        assert_eq!(route(kind, "GET", path), RouteClass::WebUi, "{path}");
    }
    for (method, path) in [
        ("POST", "/init"),
        ("GET", "/auth/refresh"),
        ("GET", "/auth/openid/callback"),
        ("HEAD", "/api/users"),
        ("DELETE", "/audiobookshelf/API/libraries/1/"),
    ] {
        assert_eq!(route(kind, method, path), RouteClass::Restricted, "{method} {path}");
    }
    for (method, path) in
        [("GET", "/api/me"), ("POST", "/hls/1/a.ts"), ("POST", "/ping"), ("POST", "/api/items/1/cover"), ("GET", "/logout")]
    {
        assert_eq!(route(kind, method, path), RouteClass::Keyed, "{method} {path}");
    }
}

// ---- Emby and Jellyfin ----

#[test]
fn both_logins_carry_all_four_identity_fields_and_no_token() {
    for (kind, scheme) in [(Kind::Emby, "Emby"), (Kind::Jellyfin, "MediaBrowser")] {
        let call = of(kind).login("alice", &Secret::from("p"), &device());
        assert_eq!(call.path, "/Users/AuthenticateByName");
        let expected = format!(
            "{scheme} Client=\"Kitchen radio\", Device=\"keygate\", DeviceId=\"{}\", Version=\"{}\"",
            device().id,
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(call.headers[AUTHORIZATION], expected);
    }
}

#[test]
fn jellyfin_and_emby_tables_of_logins() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let dialect = of(kind);
        let Err(GrantError::Refused(why)) = dialect.read_login(&answer(403, &[], "Error processing request.")) else { panic!("{kind}") };
        assert!(why.contains("403") && why.contains("disabled"), "{why}");
        let starting = answer(503, &[(CONTENT_TYPE, "text/html")], "<p>starting</p>");
        assert!(dialect.read_login(&starting).unwrap_err().to_string().contains("starting"));
        let without = r#"{"User":{"Name":"a","Id":"1"},"AccessToken":""}"#;
        assert!(matches!(dialect.read_login(&answer(200, &[], without)), Err(GrantError::Unavailable(_))));
    }
}

#[test]
fn jellyfin_gets_the_one_header_that_every_version_takes() {
    let headers = of(Kind::Jellyfin).credential_headers(&Secret::from(TOKEN), &device());
    assert_eq!(headers, [(AUTHORIZATION, HeaderValue::try_from(format!("MediaBrowser Token=\"{TOKEN}\"")).unwrap())]);
    assert!(of(Kind::Jellyfin).socket_query(&Secret::from(TOKEN), &device()).is_none());
}

#[test]
fn emby_gets_its_own_header_the_identity_beside_it_and_the_query_for_sockets() {
    let headers = of(Kind::Emby).credential_headers(&Secret::from(TOKEN), &device());
    assert_eq!(headers[0].0, "x-emby-token");
    assert_eq!(headers[0].1, TOKEN);
    let identity = headers[1].1.to_str().unwrap();
    assert!(identity.starts_with("Emby Client=") && !identity.contains("Token="), "{identity}");
    let query = of(Kind::Emby).socket_query(&Secret::from("a&b=c d"), &device()).unwrap();
    assert_eq!(query.expose(), &format!("api_key=a%26b%3Dc%20d&deviceId={}", device().id));
}

#[test]
fn jellyfin_table_of_401s() {
    let kind = Kind::Jellyfin;
    assert_eq!(verdict(kind, 401, "/Users/Me", false), Verdict::Doubtful, "no or unknown token");
    assert_eq!(verdict(kind, 403, "/System/Logs", false), Verdict::Accepted, "not an admin, parental schedule, another user's id");
    assert_eq!(verdict(kind, 200, "/System/Info/Public", false), Verdict::Accepted, "unknown token on an open endpoint");
    assert_eq!(verdict(kind, 403, "/socket", true), Verdict::Doubtful, "socket with an unknown token");
    assert_eq!(verdict(kind, 401, "/socket", true), Verdict::Doubtful);
    assert_eq!(verdict(kind, 101, "/socket", true), Verdict::Accepted);
}

#[test]
fn emby_table_of_401s() {
    let kind = Kind::Emby;
    assert_eq!(verdict(kind, 401, "/Users", false), Verdict::Doubtful, "unknown token, not an admin, or outside viewing hours");
    assert_eq!(verdict(kind, 403, "/embywebsocket", true), Verdict::Accepted, "its sockets open without a token");
    assert_eq!(verdict(kind, 101, "/embywebsocket", true), Verdict::Accepted);
    let hours = HeaderMap::from_iter([(HeaderName::from_static("x-application-error-code"), HeaderValue::from_static("ParentalControl"))]);
    let probe = Answer { status: StatusCode::UNAUTHORIZED, headers: hours, body: Bytes::new() };
    assert!(matches!(of(kind).read_probe(&probe), Ok(TokenState::Alive { .. })));
}

#[test]
fn probes_ask_what_each_server_has() {
    let token = Secret::from(TOKEN);
    let path = |kind: Kind, user: Option<&str>| of(kind).probe(&token, user, &device()).path;
    assert_eq!(path(Kind::Jellyfin, Some("7c")), "/Users/Me");
    assert_eq!(path(Kind::Emby, Some("7c")), "/Users/7c");
    assert_eq!(path(Kind::Emby, None), "/System/Info");
    assert_eq!(path(Kind::Emby, Some("../Auth/Keys")), "/System/Info");
    let alive = TokenState::Alive { user_id: Some("7c".to_owned()), user_name: Some("alice".to_owned()) };
    assert_eq!(of(Kind::Jellyfin).read_probe(&answer(200, &[], r#"{"Name":"alice","Id":"7c","Policy":{}}"#)), Ok(alive.clone()));
    assert_eq!(of(Kind::Audiobookshelf).read_probe(&answer(200, &[], r#"{"id":"7c","username":"alice","token":"x"}"#)), Ok(alive));
    let nobody = TokenState::Alive { user_id: None, user_name: None };
    assert_eq!(of(Kind::Jellyfin).read_probe(&answer(400, &[], "Error processing request.")), Ok(nobody.clone()), "an API key");
    assert_eq!(of(Kind::Emby).read_probe(&answer(200, &[], r#"{"ServerName":"den","Id":"5e","Version":"4.8"}"#)), Ok(nobody));
}

#[test]
fn jellyfin_and_emby_table_of_routes() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        for path in ["/System/Info/Public", "/System/Ping", "/health", "/GetUtcTime", "/Branding/Css.css", "/emby/Branding/Configuration"] {
            assert_eq!(route(kind, "GET", path), RouteClass::Identity, "{path}");
        }
        assert_eq!(route(kind, "POST", "/System/Ping"), RouteClass::Identity);
        assert_eq!(route(kind, "GET", "/emby/users/public"), RouteClass::Answered(OwnAnswer::EmptyList));
        assert_eq!(route(kind, "GET", "/QuickConnect/Enabled"), RouteClass::Answered(OwnAnswer::False));
        assert_eq!(route(kind, "POST", "/mediabrowser/Sessions/Logout"), RouteClass::Logout);
        for path in
            ["/Items/1/Images/Primary", "/Items/1/Images/Backdrop/0", "/Users/1/Images/Primary", "/UserImage", "/Persons/A/Images/Primary"]
        {
            assert_eq!(route(kind, "GET", path), RouteClass::Image, "{path}");
        }
        for (method, path, class) in [
            ("POST", "/Users/AuthenticateByName", RouteClass::Login),
            ("GET", "/Videos/1/stream.mkv", RouteClass::Media(Media::Bytes)),
            ("GET", "/Videos/1/master.m3u8", RouteClass::Media(Media::Text)),
            ("GET", "/Videos/1/1/Subtitles/1/Stream.vtt", RouteClass::Media(Media::Text)),
            ("GET", "/Audio/1/universal", RouteClass::Media(Media::Either)),
        ] {
            assert_eq!(route(kind, method, path), class, "{method} {path}");
        }
        for path in ["/web", "/web/index.html", "/emby/web/", "/favicon.ico", "/"] {
            assert_eq!(route(kind, "GET", path), RouteClass::WebUi, "{path}");
        }
        for (method, path) in [
            ("GET", "/web/ConfigurationPage"),
            ("GET", "/UI/View"),
            ("POST", "/emby/ui/command"),
            ("POST", "/QuickConnect/Initiate"),
            ("GET", "/QuickConnect/Connect"),
            ("POST", "/mediabrowser/system/RESTART/"),
        ] {
            assert_eq!(route(kind, method, path), RouteClass::Restricted, "{method} {path}");
        }
        for (method, path) in [
            ("GET", "/System/Info"),
            ("GET", "/Items/1/Images"),
            ("POST", "/Items/1/Images/Primary"),
            ("POST", "/Videos/1/stream.mkv"),
            ("GET", "/Users/AuthenticateByName"),
            ("GET", "/socket"),
            ("GET", "/Sessions/Logout"),
        ] {
            assert_eq!(route(kind, method, path), RouteClass::Keyed, "{method} {path}");
        }
    }
}

#[test]
fn an_answer_shows_nothing_of_its_body_or_its_cookies() {
    let headers = HeaderMap::from_iter([(http::header::SET_COOKIE, HeaderValue::from_static("refresh_token=SECRET"))]);
    let answer = Answer { status: StatusCode::OK, headers, body: "{\"accessToken\":\"SECRET\"}".into() };
    assert!(!format!("{answer:?}").contains("SECRET"));
}
