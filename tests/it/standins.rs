//! The stand-ins themselves: what tests rely on when they speak to a stand-in in place of a real server.

use std::sync::Arc;
use std::time::Duration;

use keygate::clock::{ManualClock, Timestamp};
use keygate::demo::{Options, StandIn, User};
use keygate::upstream::Kind;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer, read to its end.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
    }
}

/// Sends one request over a connection of its own, byte for byte as given, and reads until the server closes.
async fn ask(server: &StandIn, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n{lines}\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body: bytes[end + 4..].to_vec() }
}

async fn get(server: &StandIn, target: &str, headers: &[(&str, &str)]) -> Answer {
    ask(server, "GET", target, headers, "").await
}

const JSON: (&str, &str) = ("Content-Type", "application/json");
const DEVICE: &str = r#"MediaBrowser Client="test", Device="test", DeviceId="d1", Version="1""#;

async fn book_login(server: &StandIn, user: &str) -> Value {
    let body = json!({"username": user, "password": format!("{user}-password")}).to_string();
    ask(server, "POST", "/login", &[JSON, ("x-return-tokens", "true")], &body).await.json()
}

async fn film_login(server: &StandIn, user: &str, device: &str) -> Answer {
    let body = json!({"Username": user, "Pw": format!("{user}-password")}).to_string();
    ask(server, "POST", "/Users/AuthenticateByName", &[JSON, ("Authorization", device)], &body).await
}

async fn film_token(server: &StandIn, user: &str, device: &str) -> String {
    film_login(server, user, device).await.json()["AccessToken"].as_str().unwrap().to_owned()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn audiobookshelf_takes_two_carriers_and_no_third() {
    let server = StandIn::start(Kind::Audiobookshelf, Options::default()).await.unwrap();
    let access = book_login(&server, "alice").await["user"]["accessToken"].as_str().unwrap().to_owned();
    let header = bearer(&access);
    let query = format!("/api/me?token={access}");
    assert_eq!(get(&server, "/api/me", &[("Authorization", &header)]).await.status, 200);
    assert_eq!(get(&server, &query, &[]).await.status, 200);
    assert_eq!(get(&server, &query, &[("Authorization", "Basic eDp5")]).await.status, 200);
    assert_eq!(get(&server, &query, &[("Authorization", "Bearer bad")]).await.status, 401);
    assert_eq!(get(&server, &format!("{query}&token={access}"), &[]).await.status, 401);
    assert_eq!(get(&server, "/api/me", &[("X-Emby-Token", &access)]).await.status, 401);
    assert_eq!(get(&server, &format!("/api/me?api_key={access}"), &[]).await.status, 401);
    let refused = get(&server, "/api/me", &[]).await;
    assert_eq!((refused.text().as_str(), refused.header("content-type"), refused.header("www-authenticate")), ("Unauthorized", None, None));
    assert_eq!(get(&server, "/api/users", &[("Authorization", &header)]).await.status, 403);
    assert_eq!(get(&server, "//API//Me/", &[("Authorization", &header)]).await.status, 200);
    assert_eq!(get(&server, "/api/nope", &[("Authorization", &header)]).await.status, 404);
}

#[tokio::test]
async fn audiobookshelf_rotates_refresh_tokens_and_honours_the_grace() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_795_303_100)));
    let options = Options { clock: clock.clone(), ..Options::default() };
    let server = StandIn::start(Kind::Audiobookshelf, options).await.unwrap();
    let login = book_login(&server, "alice").await;
    let access = bearer(login["user"]["accessToken"].as_str().unwrap());
    let first = login["user"]["refreshToken"].as_str().unwrap();
    let refresh = async |token: &str| ask(&server, "POST", "/auth/refresh", &[("x-refresh-token", token)], "").await;
    let second = refresh(first).await.json()["user"]["refreshToken"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(refresh(first).await.json()["user"]["refreshToken"], second.as_str(), "within the grace the current one comes again");
    assert_eq!(get(&server, "/api/me", &[("Authorization", &bearer(&second))]).await.status, 401, "a refresh token is no bearer");
    clock.advance(Duration::from_secs(601));
    assert_eq!(refresh(first).await.status, 401);
    clock.advance(Duration::from_secs(3000));
    assert_eq!(get(&server, "/api/me", &[("Authorization", &access)]).await.status, 401, "expired");
    assert_eq!(refresh("junk").await.json()["error"], "Invalid refresh token");
    assert_eq!(refresh("").await.status, 401);
    clock.advance(Duration::from_secs(40 * 86_400));
    assert_eq!(refresh(&second).await.json()["error"], "Refresh token expired");
    let counters = server.control().counters();
    assert_eq!((counters.logins, counters.refreshes), (1, 2));
}

#[tokio::test]
async fn audiobookshelf_limits_logins_by_the_address_that_it_believes() {
    let options = Options { login_limit: Some((2, Duration::from_secs(600))), ..Options::default() };
    let server = StandIn::start(Kind::Audiobookshelf, options).await.unwrap();
    let attempt =
        async |from: &str| ask(&server, "POST", "/login", &[JSON, ("X-Forwarded-For", from)], r#"{"username":"x","password":"y"}"#).await;
    assert_eq!(attempt("192.0.2.1").await.header("ratelimit-remaining"), Some("1"));
    assert_eq!(attempt("192.0.2.1").await.status, 401);
    let over = attempt("192.0.2.1").await;
    assert_eq!(over.status, 429);
    assert!(over.header("retry-after").is_some());
    assert_eq!(attempt("192.0.2.2").await.status, 401);
}

#[tokio::test]
async fn files_come_whole_in_ranges_or_not_at_all() {
    let server = StandIn::start(Kind::Audiobookshelf, Options::default()).await.unwrap();
    let header = bearer(book_login(&server, "alice").await["user"]["accessToken"].as_str().unwrap());
    let auth = ("Authorization", header.as_str());
    let file = "/api/items/cdc24c99-721f-4d05-9e52-a4cbec99cd76/file/10127535";
    let whole = get(&server, file, &[auth]).await;
    assert_eq!((whole.status, &whole.body[..4], &whole.body[8..12]), (200, &b"RIFF"[..], &b"WAVE"[..]));
    let size = whole.body.len();
    assert_eq!(whole.header("content-length").unwrap().parse::<usize>().unwrap(), size);
    let part = get(&server, file, &[auth, ("Range", "bytes=100000-200000")]).await;
    assert_eq!((part.status, part.header("content-range").unwrap()), (206, format!("bytes 100000-200000/{size}").as_str()));
    assert_eq!(part.body, whole.body[100_000..=200_000]);
    let end = get(&server, file, &[auth, ("Range", "bytes=-10")]).await;
    assert_eq!(end.body, whole.body[size - 10..]);
    let beyond = get(&server, file, &[auth, ("Range", "bytes=99999999999-")]).await;
    assert_eq!((beyond.status, beyond.header("content-range").unwrap()), (416, format!("bytes */{size}").as_str()));
    let tag = whole.header("etag").unwrap();
    assert_eq!(get(&server, file, &[auth, ("If-None-Match", tag)]).await.status, 304);
    assert_eq!(get(&server, file, &[auth, ("If-Range", tag), ("Range", "bytes=0-9")]).await.status, 206);
    assert_eq!(get(&server, file, &[auth, ("If-Range", "W/\"old\""), ("Range", "bytes=0-9")]).await.status, 200);
    let head = ask(&server, "HEAD", file, &[auth], "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length").unwrap().parse::<usize>().unwrap(), size);
    assert_eq!(server.control().counters().aborted_answers, 0);
}

#[tokio::test]
async fn a_multipart_body_is_spooled_before_the_401() {
    let server = StandIn::start(Kind::Audiobookshelf, Options::default()).await.unwrap();
    let form = ("Content-Type", "multipart/form-data; boundary=x");
    assert_eq!(ask(&server, "POST", "/api/upload", &[form], "--x--").await.status, 401);
    assert_eq!(server.control().counters().spooled_bytes, 5);
    assert!(server.control().uploads().is_empty());
}

#[tokio::test]
async fn each_family_refuses_in_its_own_words() {
    let jellyfin = StandIn::start(Kind::Jellyfin, Options::default()).await.unwrap();
    for headers in [&[][..], &[("Authorization", r#"MediaBrowser Token="bad""#)]] {
        let refused = get(&jellyfin, "/Users/Me", headers).await;
        assert_eq!((refused.status, refused.body.len(), refused.header("www-authenticate")), (401, 0, None));
    }
    let token = film_token(&jellyfin, "alice", DEVICE).await;
    let header = format!(r#"MediaBrowser Token="{token}""#);
    assert_eq!(get(&jellyfin, "/Devices", &[("Authorization", &header)]).await.status, 403);
    assert_eq!(get(&jellyfin, "/System/Info/Public", &[("Authorization", r#"MediaBrowser Token="bad""#)]).await.status, 200);
    let emby = StandIn::start(Kind::Emby, Options::default()).await.unwrap();
    assert_eq!(get(&emby, "/Sessions", &[]).await.text(), "Access token is required.");
    assert_eq!(get(&emby, "/Sessions?api_key=bad", &[]).await.text(), "Access token is invalid or expired.");
    let token = film_token(&emby, "alice", DEVICE).await;
    let refused = get(&emby, "/emby/Devices", &[("X-Emby-Token", &token)]).await;
    assert_eq!((refused.status, refused.text().as_str()), (401, "User does not have admin access."));
}

/// Every way to send a token, and which server takes it: Emby, Jellyfin 10, Jellyfin 12.
#[tokio::test]
async fn the_table_of_carriers_holds() {
    let emby = StandIn::start(Kind::Emby, Options::default()).await.unwrap();
    let old = StandIn::start(Kind::Jellyfin, Options { legacy_authorization: true, ..Options::default() }).await.unwrap();
    let new = StandIn::start(Kind::Jellyfin, Options::default()).await.unwrap();
    let table: [(&str, &str, [bool; 3]); 12] = [
        ("Authorization", r#"MediaBrowser Token="T""#, [true, true, true]),
        ("authorization", r#"mediabrowser Token="T""#, [true, true, true]),
        ("Authorization", r#"Emby Token="T""#, [true, true, false]),
        ("X-Emby-Authorization", r#"MediaBrowser Token="T""#, [true, true, false]),
        ("X-Emby-Token", "T", [true, true, false]),
        ("X-MediaBrowser-Token", "T", [true, true, false]),
        ("Authorization", "Bearer T", [false, false, false]),
        ("", "api_key=T", [true, true, false]),
        ("", "API_KEY=T", [true, true, false]),
        ("", "ApiKey=T", [false, true, true]),
        ("", "X-Emby-Token=T", [true, false, false]),
        ("", "api_key=T&api_key=T", [false, false, false]),
    ];
    for (at, server) in [&emby, &old, &new].into_iter().enumerate() {
        let token = film_token(server, "alice", DEVICE).await;
        for (name, value, expected) in table {
            let value = value.replace("=T", &format!("={token}")).replace("\"T\"", &format!("\"{token}\""));
            let value = if value == "T" || value == "Bearer T" { value.replace('T', &token) } else { value };
            let answer = match name {
                "" => get(server, &format!("/Sessions?{value}"), &[]).await,
                name => get(server, "/Sessions", &[(name, &value)]).await,
            };
            assert_eq!(answer.status == 200, expected[at], "{name} {value} at server {at}");
        }
        let hidden = get(
            server,
            "/Sessions",
            &[("X-Emby-Authorization", "MediaBrowser Client=\"x\""), ("Authorization", &format!(r#"MediaBrowser Token="{token}""#))],
        )
        .await;
        assert_eq!(hidden.status == 200, at == 2, "the older servers look at one structured header alone");
    }
    assert_eq!(get(&new, "/emby/System/Info/Public", &[]).await.status, 404);
    assert_eq!(get(&old, "/emby/system/info/public", &[]).await.status, 200);
}

#[tokio::test]
async fn a_login_from_a_known_device_ends_what_each_server_ends() {
    let jellyfin = StandIn::start(Kind::Jellyfin, Options::default()).await.unwrap();
    let (first, second) = (film_token(&jellyfin, "alice", DEVICE).await, film_token(&jellyfin, "alice", DEVICE).await);
    assert_ne!(first, second);
    assert_eq!(get(&jellyfin, &format!("/Users/Me?ApiKey={first}"), &[]).await.status, 401);
    film_token(&jellyfin, "root", DEVICE).await;
    assert_eq!(get(&jellyfin, &format!("/Users/Me?ApiKey={second}"), &[]).await.status, 200, "another user's token stays");
    let emby = StandIn::start(Kind::Emby, Options::default()).await.unwrap();
    let first = film_token(&emby, "alice", DEVICE).await;
    assert_eq!(first, film_token(&emby, "alice", DEVICE).await);
    film_token(&emby, "root", DEVICE).await;
    assert_eq!(get(&emby, &format!("/Sessions?api_key={first}"), &[]).await.status, 401, "another user's token goes");
}

#[tokio::test]
async fn jellyfin_wants_all_four_fields_and_locks_out_for_good() {
    let options = Options { lockout: Some(2), users: vec![User::new("bob", "right")], ..Options::default() };
    let server = StandIn::start(Kind::Jellyfin, options).await.unwrap();
    assert_eq!(film_login(&server, "bob", r#"MediaBrowser Client="x""#).await.status, 400);
    assert_eq!(film_login(&server, "bob", DEVICE).await.status, 401);
    assert_eq!(film_login(&server, "bob", DEVICE).await.status, 401);
    assert_eq!(film_login(&server, "bob", DEVICE).await.status, 403);
    server.control().set_active("bob", true);
    server.control().set_password("bob", "bob-password");
    assert_eq!(film_login(&server, "bob", DEVICE).await.status, 200);
}

#[tokio::test]
async fn playback_info_and_playlists_show_the_token_as_the_real_servers_do() {
    for (kind, legacy, name) in [(Kind::Jellyfin, false, "ApiKey"), (Kind::Jellyfin, true, "api_key"), (Kind::Emby, false, "api_key")] {
        let server = StandIn::start(kind, Options { legacy_authorization: legacy, ..Options::default() }).await.unwrap();
        let token = film_token(&server, "alice", DEVICE).await;
        let header = format!(r#"MediaBrowser Token="{token}""#);
        let auth = [("Authorization", header.as_str())];
        let items = get(&server, "/Items", &auth).await.json();
        let id = items["Items"][0]["Id"].as_str().unwrap();
        let info = ask(&server, "POST", &format!("/Items/{id}/PlaybackInfo"), &auth, "{}").await.json();
        let url = info["MediaSources"][0]["TranscodingUrl"].as_str().unwrap();
        assert!(url.contains(&format!("{name}={token}")), "{url}");
        let master = get(&server, url, &[]).await.text();
        let main = master.lines().find(|line| line.starts_with("main.m3u8?")).unwrap();
        let playlist = get(&server, &format!("/videos/{id}/{main}"), &[]).await.text();
        let segment = playlist.lines().find(|line| line.starts_with("hls1/")).unwrap();
        assert_eq!(get(&server, &format!("/videos/{id}/{segment}"), &[]).await.status, 200);
        assert_eq!(get(&server, &format!("/videos/{id}/hls1/main/0.ts"), &[]).await.status, 401);
        assert_eq!(get(&server, &format!("/Audio/{id}/stream.wav"), &[]).await.status, 200, "media are open");
    }
}

#[tokio::test]
async fn faults_come_as_ordered() {
    let server = StandIn::start(Kind::Jellyfin, Options::default()).await.unwrap();
    server.control().faults(|faults| faults.status = Some((503, Some(7))));
    let answer = get(&server, "/System/Info/Public", &[]).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("7")));
    server.control().faults(|faults| *faults = keygate::demo::Faults { cut_bodies_after: Some(100_000), ..Default::default() });
    let token = film_token(&server, "alice", DEVICE).await;
    let cut = get(&server, &format!("/keygate-test/bytes/10000000?ApiKey={token}"), &[]).await;
    assert!(cut.body.len() >= 100_000 && cut.body.len() < 10_000_000);
    assert!(server.control().live_tokens().contains(&token));
    server.control().kill_all_tokens();
    assert_eq!(get(&server, &format!("/Users/Me?ApiKey={token}"), &[]).await.status, 401);
    assert!(server.control().secrets().contains(&token));
    assert!(server.control().journal().iter().any(|seen| seen.path() == "/Users/Me"));
}

#[tokio::test]
async fn the_port_is_free_again_after_a_stop() {
    let server = StandIn::start(Kind::Emby, Options::default()).await.unwrap();
    let listen = server.url.strip_prefix("http://").unwrap().parse().unwrap();
    server.stop().await;
    StandIn::start(Kind::Emby, Options { listen, ..Options::default() }).await.unwrap();
}

#[tokio::test]
async fn tokens_survive_a_restart_and_connections_do_not() {
    let server = StandIn::start(Kind::Jellyfin, Options::default()).await.unwrap();
    let url = server.url.clone();
    let token = film_token(&server, "alice", DEVICE).await;
    let mut socket = upgrade(&server, &format!("/socket?ApiKey={token}")).await.unwrap();
    let server = server.restart().await.unwrap();
    assert_eq!(server.url, url);
    let mut rest = Vec::new();
    // Closed or reset, but at its end.
    let _ = socket.read_to_end(&mut rest).await;
    assert_eq!(get(&server, &format!("/Users/Me?ApiKey={token}"), &[]).await.status, 200);
    assert_eq!(server.control().counters().open_sockets, 0);
}

/// Opens a WebSocket with the key of RFC 6455's example; the status when there is no 101.
async fn upgrade(server: &StandIn, target: &str) -> Result<TcpStream, String> {
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n{head}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    if answer.starts_with("HTTP/1.1 101 ") {
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        return Ok(stream);
    }
    Err(answer.split(' ').nth(1).unwrap().to_owned())
}

/// Reads one frame of a server: opcode and payload.
async fn read_frame(stream: &mut TcpStream) -> (u8, String) {
    let first = stream.read_u8().await.unwrap();
    let length = match stream.read_u8().await.unwrap() {
        126 => usize::from(stream.read_u16().await.unwrap()),
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.unwrap();
    (first & 15, String::from_utf8(payload).unwrap())
}

/// Sends a short masked frame.
async fn write_frame(stream: &mut TcpStream, opcode: u8, payload: &str) {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![0x80 | opcode, 0x80 | u8::try_from(payload.len()).unwrap()];
    frame.extend(mask);
    frame.extend(payload.bytes().zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
    stream.write_all(&frame).await.unwrap();
}

#[tokio::test]
async fn the_socket_of_jellyfin_wants_a_token_and_that_of_emby_lets_strangers_in() {
    let server = StandIn::start(Kind::Jellyfin, Options::default()).await.unwrap();
    assert_eq!(upgrade(&server, "/socket").await.unwrap_err(), "403");
    let token = film_token(&server, "alice", DEVICE).await;
    let mut socket = upgrade(&server, &format!("/socket?ApiKey={token}")).await.unwrap();
    assert!(read_frame(&mut socket).await.1.contains(r#""ForceKeepAlive""#));
    write_frame(&mut socket, 1, r#"{"MessageType":"KeepAlive"}"#).await;
    assert!(read_frame(&mut socket).await.1.contains(r#""KeepAlive""#));
    write_frame(&mut socket, 9, "ping").await;
    assert_eq!(read_frame(&mut socket).await, (10, "ping".to_owned()));
    server.control().push("news");
    assert_eq!(read_frame(&mut socket).await, (1, "news".to_owned()));
    write_frame(&mut socket, 8, "").await;
    assert_eq!(read_frame(&mut socket).await.0, 8);
    let emby = StandIn::start(Kind::Emby, Options::default()).await.unwrap();
    let mut stranger = upgrade(&emby, "/embywebsocket?api_key=bad").await.unwrap();
    write_frame(&mut stranger, 9, "").await;
    assert_eq!(read_frame(&mut stranger).await.0, 10, "nothing comes before the answer to the ping");
}

#[tokio::test]
async fn the_socket_of_audiobookshelf_learns_who_is_there_from_an_event() {
    let server = StandIn::start(Kind::Audiobookshelf, Options::default()).await.unwrap();
    let login = book_login(&server, "alice").await;
    let access = login["user"]["accessToken"].as_str().unwrap();
    let opened = get(&server, "/socket.io/?EIO=4&transport=polling", &[]).await.text();
    let sid = serde_json::from_str::<Value>(&opened[1..]).unwrap()["sid"].as_str().unwrap().to_owned();
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    let say = async |packets: &str| ask(&server, "POST", &target, &[("Content-Type", "text/plain")], packets).await.text();
    assert_eq!(say("40").await, "ok");
    assert!(get(&server, &target, &[]).await.text().starts_with(r#"40{"sid""#));
    say("42[\"auth\",\"junk\"]\u{1e}42[\"auth\",null]").await;
    assert_eq!(get(&server, &target, &[]).await.text().matches("auth_failed").count(), 2);
    say(&format!("42[\"auth\",\"{access}\"]")).await;
    assert!(get(&server, &target, &[]).await.text().contains(r#"["init""#));
    let key = server.control().create_api_key("alice").unwrap();
    assert_eq!(get(&server, "/api/me", &[("Authorization", &bearer(&key))]).await.status, 200);
    say(&format!("42[\"auth\",\"{key}\"]")).await;
    assert!(get(&server, &target, &[]).await.text().contains("auth_failed"), "API keys do not open the socket");
    assert_eq!(get(&server, "/socket.io/?EIO=4&transport=polling&sid=unknown", &[]).await.status, 400);
}

#[tokio::test]
async fn the_id_of_a_playback_session_is_all_that_its_files_need() {
    let server = StandIn::start(Kind::Audiobookshelf, Options::default()).await.unwrap();
    let header = bearer(book_login(&server, "alice").await["user"]["accessToken"].as_str().unwrap());
    let play = async |wishes: &str| {
        let target = "/api/items/cdc24c99-721f-4d05-9e52-a4cbec99cd76/play";
        ask(&server, "POST", target, &[JSON, ("Authorization", &header)], wishes).await.json()
    };
    let transcode = play(r#"{"forceTranscode":true}"#).await;
    let playlist = transcode["audioTracks"][0]["contentUrl"].as_str().unwrap();
    assert!(get(&server, playlist, &[]).await.text().contains("output-0.ts"));
    assert_eq!(get(&server, "/hls/00000000-0000-4000-a000-000000000000/output.m3u8", &[]).await.status, 404);
    let direct = format!("/public/session/{}/track/1", play("{}").await["id"].as_str().unwrap());
    assert_eq!(get(&server, &direct, &[("Range", "bytes=0-3")]).await.text(), "RIFF");
    let id = transcode["id"].as_str().unwrap();
    assert_eq!(get(&server, &format!("/public/session/{id}/track/1"), &[]).await.header("location"), Some(playlist));
    ask(&server, "POST", &format!("/api/session/{id}/close"), &[JSON, ("Authorization", &header)], "{}").await;
    assert_eq!(get(&server, playlist, &[]).await.status, 404);
}

#[tokio::test]
async fn test_routes_need_a_token_and_echo_the_head() {
    let server = StandIn::start(Kind::Audiobookshelf, Options::default()).await.unwrap();
    assert_eq!(get(&server, "/keygate-test/echo", &[]).await.status, 401);
    let header = bearer(book_login(&server, "alice").await["user"]["accessToken"].as_str().unwrap());
    let echo = ask(&server, "POST", "/keygate-test/echo?a=1", &[("Authorization", &header), ("X-One", "two")], "body").await.json();
    assert_eq!((echo["target"].as_str(), echo["body_bytes"].as_u64()), (Some("/keygate-test/echo?a=1"), Some(4)));
    assert!(echo["headers"].as_array().unwrap().contains(&json!(["x-one", "two"])));
    let pieces = get(&server, "/keygate-test/chunked", &[("Authorization", &header)]).await;
    assert_eq!(pieces.header("transfer-encoding"), Some("chunked"));
}

/// Serves all three for trying clients by hand: `cargo test --test it standins::serve_by_hand -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "serves until it is interrupted"]
async fn serve_by_hand() {
    let (description, _servers) = crate::support::demo().await;
    println!("{description}");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_client_that_goes_away_is_counted() {
    let server = StandIn::start(Kind::Jellyfin, Options::default()).await.unwrap();
    let token = film_token(&server, "alice", DEVICE).await;
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let target = format!("/keygate-test/bytes/10000000000?ApiKey={token}");
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    stream.read_u8().await.unwrap();
    drop(stream);
    while server.control().counters().aborted_answers == 0 {
        tokio::task::yield_now().await;
    }
}
