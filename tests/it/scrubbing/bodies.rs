//! Bodies: what is taken out, what is put in, and what is not touched.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn playback_info_and_playlists_hold_a_ticket_in_place_of_the_token_and_it_opens_what_they_name() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let (rig, token) = warm(Setup::new(kind)).await;
        let item = if kind == Kind::Emby {
            "1001".to_owned()
        } else {
            rig.get("/Items").await.json()["Items"][0]["Id"].as_str().expect("an id").to_owned()
        };
        let info = ask(&rig, Method::POST, &format!("/Items/{item}/PlaybackInfo"), &[]).await;
        assert_clean(&rig, &info, "PlaybackInfo");
        assert_eq!(info.header("etag"), None, "each client's own");
        let url = info.json()["MediaSources"][0]["TranscodingUrl"].as_str().expect("a URL").to_owned();
        assert!(url.contains("=kgt_") && !url.contains(rig.secret()) && !url.contains(&token), "{url}");
        let path = url.find("/videos/").map(|at| url[at..].to_owned()).expect("a path");
        // What has only the URL.
        let master = http::get(rig.address, &path, &[]).await;
        assert_clean(&rig, &master, "master");
        if master.status == 200 {
            let ticket = url.split(['=', '&']).find(|part| part.starts_with("kgt_")).expect("a ticket");
            for line in master.text().lines().filter(|line| line.contains("m3u8")) {
                assert!(line.contains(ticket), "{line}: the same ticket");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn playlists_are_written_for_what_the_client_came_with() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let (rig, token) = warm(Setup::new(kind)).await;
        let text = format!("#EXTM3U\n#EXTINF:6,\nhls1/main/0.ts?a=1&api_key={token}\n#EXTINF:6,\nhls1/main/1.ts?a=1\n#EXT-X-ENDLIST\n");
        say(&rig, Canned::of("application/x-mpegURL", text).with("etag", "\"a\"").with("last-modified", "Sat, 22 Nov 2025 00:00:00 GMT"));
        let by_header = ask(&rig, Method::GET, "/Videos/1/main.m3u8", &[]).await;
        assert_eq!(by_header.status, 200, "{}", by_header.text());
        assert_eq!(by_header.text().matches("=kgt_").count(), 2, "{}", by_header.text());
        assert!(!by_header.text().contains(rig.secret()) && !by_header.text().contains(&token));
        assert_eq!((by_header.header("etag"), by_header.header("last-modified")), (None, None));
        let by_url = http::get(rig.address, &format!("/Videos/1/main.m3u8?a=1&api_key={}", rig.secret()), &[]).await;
        assert_eq!(by_url.text().matches(rig.secret()).count(), 2, "{}", by_url.text());
        assert!(!by_url.text().contains(&token) && !by_url.text().contains("kgt_"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_audiobookshelf_comes_with_neither_its_token_nor_the_clients_key() {
    let (rig, _) = warm(Setup::new(Kind::Audiobookshelf)).await;
    for (method, path) in [(Method::GET, "/api/me"), (Method::POST, "/api/authorize")] {
        let answer = ask(&rig, method, path, &[]).await;
        assert_clean(&rig, &answer, path);
        let json = answer.json();
        let user = if path == "/api/me" { &json } else { &json["user"] };
        assert_eq!(user["token"], "", "{path}: an app that finds its own there logs out");
        assert_eq!((user["username"].as_str(), answer.header("etag")), (Some("alice"), None), "{path}");
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_other_peoples_credentials_come_without_them() {
    let (rig, _) = warm(Setup::new(Kind::Audiobookshelf)).await;
    let key = admin_key(&rig);
    let users = http::get(rig.address, "/api/users", &[("x-emby-token", &key)]).await;
    assert_eq!((users.status.as_u16(), users.json()["users"][0]["token"].as_str()), (200, Some("")));
    assert_clean(&rig, &users, "/api/users");
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let (rig, _) = warm(Setup::new(kind)).await;
        let key = admin_key(&rig);
        rig.standin.control().create_api_key("root").expect("a key of the server's own");
        for path in ["/Auth/Keys", "/Devices"] {
            let answer = http::get(rig.address, path, &[("x-emby-token", &key)]).await;
            assert_eq!(answer.status, 200, "{kind} {path}");
            assert_clean(&rig, &answer, path);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_text_is_scrubbed_on_every_route_in_whatever_pieces_it_comes() {
    for kind in Kind::ALL {
        let (rig, token) = warm(Setup::new(kind)).await;
        for content_type in [
            "application/json",
            "application/json; profile=\"CamelCase\"",
            "application/xml",
            "text/xml",
            "text/html",
            "text/plain",
            "text/vtt",
            "application/javascript",
            "application/x-subrip",
            "application/vnd.apple.mpegurl",
            "application/unheard-of",
        ] {
            for pieces in [0, 1, 7, 64] {
                let text = format!("{{\"accessToken\":\"{token}\",\"url\":\"/x?api_key={token}\"}}\n{}<T>{token}</T>\n", "x".repeat(300));
                say(&rig, Canned::of(content_type, text).in_pieces(pieces));
                for path in ["/anything", "/web/index.html", "/Items"] {
                    let answer = rig.get(path).await;
                    assert_eq!(answer.status, 200, "{kind} {content_type} {pieces} {path}");
                    assert_clean(&rig, &answer, &format!("{kind} {content_type} {pieces} {path}"));
                }
            }
        }
        let mut untyped = Canned::of("", format!("no type {token}"));
        untyped.headers.clear();
        say(&rig, untyped);
        assert_clean(&rig, &rig.get("/anything").await, "no type");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_of_any_account_is_known_also_a_new_one_and_one_that_was_replaced() {
    let options = Options { users: vec![User::admin("root", "root-password"), User::new("alice", "alice-password")], ..Options::default() };
    let (rig, first) = warm(Setup::new(Kind::Emby).standin(options)).await;
    let key = admin_key(&rig);
    http::get(rig.address, "/System/Info", &[("x-emby-token", &key)]).await;
    let other = session_token(&rig);
    assert_ne!(first, other);
    rig.standin.control().kill_all_tokens();
    assert_eq!(rig.get("/Users").await.status, 200);
    let renewed = session_token(&rig);
    assert_ne!(first, renewed);
    say(&rig, Canned::of("text/html", format!("{first} {other} {renewed} root-password alice-password")));
    let answer = rig.get("/anything").await;
    assert_eq!(answer.status, 200);
    assert_clean(&rig, &answer, "all of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_without_a_key_is_scrubbed_too() {
    let (rig, token) = warm(Setup::new(Kind::Jellyfin)).await;
    say(&rig, Canned::of("application/json", format!("{{\"a\":\"{token}\"}}")));
    let answer = http::get(rig.address, "/System/Info/Public", &[]).await;
    assert_eq!(answer.status, 200);
    assert_clean(&rig, &answer, "open");
}

#[tokio::test(flavor = "multi_thread")]
async fn media_are_not_touched_whatever_stands_in_them() {
    let (rig, token) = warm(Setup::new(Kind::Jellyfin)).await;
    rig.sweep.allow(&token, "bytes of media are not looked at");
    for content_type in ["video/mp4", "audio/mpeg", "image/png", "application/octet-stream", "application/zip", "font/woff2"] {
        say(&rig, Canned::of(content_type, format!("bytes {token} bytes")).with("etag", "\"a\"").with("accept-ranges", "bytes"));
        for path in ["/Videos/1/stream", "/anything"] {
            let answer = rig.get(path).await;
            assert_eq!(answer.text(), format!("bytes {token} bytes"), "{content_type} {path}");
            assert_eq!((answer.header("etag"), answer.header("accept-ranges")), (Some("\"a\""), Some("bytes")));
        }
    }
    say(&rig, Canned::of("application/json", format!("{{\"error\":\"{token}\"}}")).status(404));
    assert_clean(&rig, &rig.get("/Videos/1/stream").await, "but their errors are");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playlist_and_a_negotiation_that_say_nothing_of_their_type_are_scrubbed_all_the_same() {
    let (rig, token) = warm(Setup::new(Kind::Jellyfin)).await;
    say(&rig, Canned::of("application/octet-stream", format!("#EXTM3U\n#EXTINF:6,\n0.ts?api_key={token}\n1.ts\n")));
    let playlist = ask(&rig, Method::GET, "/Videos/1/main.m3u8", &[]).await;
    assert_eq!(playlist.text().matches("=kgt_").count(), 2, "{}", playlist.text());
    assert_clean(&rig, &playlist, "a playlist");
    say(&rig, Canned::of("Application/Octet-Stream; x=y", format!("{{\"TranscodingUrl\":\"/videos/1/master.m3u8?api_key={token}\"}}")));
    let info = ask(&rig, Method::POST, "/Items/1/PlaybackInfo", &[]).await;
    assert!(info.text().contains("=kgt_"), "{}", info.text());
    assert_clean(&rig, &info, "PlaybackInfo");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_two_types_is_502_since_nobody_knows_which_one_a_client_takes() {
    let (rig, token) = warm(Setup::new(Kind::Jellyfin)).await;
    let mut two = Canned::of("image/png", format!("{{\"AccessToken\":\"{token}\"}}"));
    two.headers.extend(Canned::of("application/json", "").headers);
    say(&rig, two);
    let answer = rig.get("/anything").await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_clean(&rig, &answer, "two types");
    rig.sweep.allow(&token, "bytes of media are not looked at");
    assert_eq!(rig.get("/Videos/1/stream").await.status, 200, "media are not looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_stays_where_nothing_changes_it_and_is_told_where_something_does() {
    let (rig, token) = warm(Setup::new(Kind::Jellyfin)).await;
    let text = format!("{{\"AccessToken\":\"{token}\",\"filler\":\"{}\"}}", "x".repeat(300_000));
    say(&rig, Canned::of("application/json", text.clone()).with("etag", "\"a\""));
    let answer = rig.get("/anything").await;
    assert_eq!(answer.header("content-length"), Some(text.len().to_string().as_str()));
    assert_eq!((answer.body.len(), answer.header("etag")), (text.len(), Some("\"a\"")), "the same for everybody");
    assert_clean(&rig, &answer, "long");
    let playlist = format!("#EXTM3U\n{}", format!("s.ts?api_key={token}\n").repeat(10_000));
    say(&rig, Canned::of("application/x-mpegURL", playlist));
    let answer = http::get(rig.address, &format!("/Videos/1/main.m3u8?api_key={}", rig.secret()), &[]).await;
    assert_eq!((answer.header("content-length"), answer.text().matches(rig.secret()).count()), (None, 10_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_in_an_unusual_spelling_is_502_while_nothing_went_out_and_cut_afterwards() {
    let (rig, token) = warm(Setup::new(Kind::Jellyfin)).await;
    let odd: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
    say(&rig, Canned::of("application/json", format!("{{\"url\":\"/x?k={odd}\"}}")));
    let answer = rig.get("/anything").await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (502, Some("upstream_credential")));
    assert!(!answer.text().contains(&token));
    let filler = "x".repeat(2 << 20);
    say(&rig, Canned::of("application/json", format!("{{\"filler\":\"{filler}\",\"url\":\"/x?k={odd}\"}}")));
    let head = http::head("GET", "/anything", &[("Host", b"a"), ("X-Emby-Token", rig.secret().as_bytes())]);
    let text = http::raw(rig.address, &head).await;
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("filler"), "{}", &text[..200]);
    assert!(!text.contains(&odd[..30]) && text.len() < filler.len() + 400, "cut before it");
    say(&rig, Canned::of("application/json", "{}"));
    assert_eq!(rig.get("/anything").await.status, 200, "and the next one is fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_again_after_a_scrubbed_answer() {
    let (rig, token) = warm(Setup::new(Kind::Audiobookshelf).with(|config: &mut Config| config.server.threads = 1)).await;
    say(&rig, Canned::of("application/json", format!("{{\"token\":\"{token}\",\"x\":\"{}\"}}", "y".repeat(100_000))).in_pieces(999));
    let before = rig.standin.control().counters().connections;
    for _ in 0..5 {
        assert_eq!(rig.get("/anything").await.status, 200);
    }
    assert!(rig.standin.control().counters().connections <= before + 1);
}
