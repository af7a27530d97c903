//! Audiobookshelf's socket: a key opens it, in the handshake or in an `auth`, and nothing passes before.

mod gating;
mod polling;
mod refused;
mod tokens;

use crate::support::socket::Socket;
use crate::support::wire::eventually;
use crate::support::{ALICE_PASSWORD, Rig, Setup, make_key};
use keygate::demo::{Options, User};
use keygate::keys::Scopes;
use keygate::registry::KeyPatch;
use keygate::upstream::Kind;

pub(crate) const OPEN: &str = "/socket.io/?EIO=4&transport=websocket";

/// A socket after the opening and the `40` of socket.io.
pub(crate) async fn connected(rig: &Rig, target: &str) -> Socket {
    let mut socket = Socket::open(rig, target, "").await;
    assert!(socket.hear().await.starts_with("0{"));
    socket.say("40").await;
    assert!(socket.hear().await.starts_with("40{\"sid\":"));
    socket
}

pub(crate) fn auth(credential: &str) -> String {
    format!("42[\"auth\",\"{credential}\"]")
}

/// No key and no `auth` of a client ever reaches the upstream's journal of heads; the token that opened it is alice's.
async fn authenticated(rig: &Rig, target: &str) -> Socket {
    let mut socket = connected(rig, target).await;
    socket.say(&auth(rig.secret())).await;
    let init = socket.hear().await;
    assert!(init.starts_with("42[\"init\",") && init.contains("alice"), "{init}");
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_an_auth_opens_the_socket_with_and_without_a_base_path() {
    for base_path in ["", "/audiobookshelf"] {
        let options = Options { base_path: base_path.to_owned(), ..Options::default() };
        let setup = Setup::new(Kind::Audiobookshelf).standin(options);
        let rig = setup.with(move |config| config.upstreams[0].base_path = base_path.to_owned()).start().await;
        for target in [OPEN.to_owned(), format!("{base_path}{OPEN}"), format!("{OPEN}&t=x")] {
            let mut socket = authenticated(&rig, &target).await;
            // The same key again, as clients do after a reconnect.
            socket.say(&auth(rig.secret())).await;
            assert!(socket.hear().await.starts_with("42[\"init\","), "{target}");
            rig.standin.control().push(r#"42["item_updated",{"id":"x"}]"#);
            assert_eq!(socket.hear().await, r#"42["item_updated",{"id":"x"}]"#);
        }
        assert!(rig.standin.control().journal().iter().all(|seen| !seen.target.contains("kg_")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_a_carrier_opens_it_too_and_the_auth_follows() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let mut socket = connected(&rig, &format!("{OPEN}&token={}", rig.secret())).await;
    socket.say(&auth(rig.secret())).await;
    assert!(socket.hear().await.starts_with("42[\"init\","));
    let mut other = connected(&rig, &format!("{OPEN}&token={}", rig.secret())).await;
    other.say(&auth(rig.another_key("other").expose())).await;
    assert_eq!(other.closed().await.0, 1008);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auth_may_come_in_fragments_with_escapes_and_before_the_connect() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let mut socket = Socket::open(&rig, OPEN, "").await;
    assert!(socket.hear().await.starts_with("0{"));
    let packet = format!("42/,7[ \"\\u0061uth\" , \"\\u006b{}\"]", &rig.secret()[1..]);
    let pieces: Vec<&[u8]> = packet.as_bytes().chunks(9).collect();
    for (place, piece) in pieces.iter().enumerate() {
        let first = if place == 0 { 1 } else { 0 } | if place + 1 == pieces.len() { 0x80 } else { 0 };
        socket.wire.write(crate::support::socket::frame(first, piece, Some([1, 2, 3, 4]))).await;
        socket.wire.write(crate::support::socket::frame(0x89, b"between", Some([4, 3, 2, 1]))).await;
    }
    let mut pongs = 0;
    let init = loop {
        match socket.next().await.expect("a frame") {
            (10, payload) => {
                assert_eq!(payload, b"between");
                pongs += 1;
            }
            (_, payload) => break String::from_utf8(payload).expect("text"),
        }
    };
    assert!(init.starts_with("42[\"init\",") && pongs <= pieces.len(), "{init}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_identity_closes_the_socket_and_the_upstreams_side() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let other = rig.another_key("other");
    let cases = [other.expose(), "kg_not_a_key", "eyJhbGciOiJIUzI1NiJ9.e30.x"];
    for second in cases {
        let mut socket = authenticated(&rig, OPEN).await;
        socket.say(&auth(second)).await;
        assert_eq!(socket.closed().await, (1008, "already authenticated otherwise".to_owned()), "{second}");
        eventually("the upstream's side is closed", || rig.standin.control().counters().open_sockets == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_credentials_are_told_so_by_keygate_and_a_few_of_them_end_it() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let mut socket = connected(&rig, OPEN).await;
    for bad in ["kg_nothing", "eyJhbGciOiJIUzI1NiJ9.e30.x"] {
        socket.say(&auth(bad)).await;
        assert_eq!(socket.hear().await, r#"42["auth_failed",{"message":"Invalid token"}]"#, "{bad}");
    }
    socket.say("42[\"auth\"]").await;
    assert_eq!(socket.closed().await.0, 1008);
    assert_eq!(rig.standin.control().counters().logins, 0, "no session was needed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_keys_sockets_close_with_1008_and_others_of_the_account_do_not_notice() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        let doomed = rig.another_key("doomed");
        let (mut dying, mut living) = match kind {
            Kind::Audiobookshelf => {
                let living = authenticated(&rig, OPEN).await;
                let mut dying = connected(&rig, OPEN).await;
                dying.say(&auth(doomed.expose())).await;
                assert!(dying.hear().await.starts_with("42[\"init\","));
                (dying, living)
            }
            _ => {
                let mut living = Socket::with_key(&rig, kind).await;
                living.hear().await;
                let path = if kind == Kind::Emby { "/embywebsocket" } else { "/socket" };
                let mut dying = Socket::open(&rig, &format!("{path}?api_key={}", doomed.expose()), "").await;
                dying.hear().await;
                (dying, living)
            }
        };
        rig.keep().registry.revoke_key(doomed.id()).expect("revoked");
        assert_eq!(dying.closed().await, (1008, "key revoked".to_owned()), "{kind}");
        eventually("its upstream's side is closed", || rig.standin.control().counters().open_sockets == 1).await;
        rig.standin.control().push("42[\"still\"]");
        assert_eq!(living.hear().await, "42[\"still\"]", "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_and_pings_with_payloads_cross_in_both_directions() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let mut socket = authenticated(&rig, OPEN).await;
    let large = "m".repeat(900_000);
    socket.say(&format!("2{large}")).await;
    assert!(socket.hear().await.ends_with(&large));
    rig.standin.control().push(&format!("42[\"log\",\"{large}\"]"));
    assert!(socket.hear().await.ends_with("m\"]"));
    socket.wire.write(crate::support::socket::frame(0x89, b"payload", Some([9, 8, 7, 6]))).await;
    assert_eq!(socket.next().await, Some((10, b"payload".to_vec())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_frame_closes_the_socket_with_1002() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let mut socket = authenticated(&rig, OPEN).await;
    // Not masked.
    socket.wire.write([0x81, 1, b'2']).await;
    assert_eq!(socket.closed().await.0, 1002);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_died_is_renewed_before_an_auth_goes_on() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    drop(authenticated(&rig, OPEN).await);
    rig.standin.control().kill_access_tokens();
    // What is known of the token's life is good for some seconds.
    let other = make_key(rig.keep(), "other", &rig.account);
    let mut socket = connected(&rig, OPEN).await;
    rig.get("/api/me").await;
    socket.say(&auth(other.expose())).await;
    assert!(socket.hear().await.starts_with("42[\"init\","));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_with_logins_of_the_servers_own_pass_where_they_may() {
    let rig =
        Setup::new(Kind::Audiobookshelf).with(|config| config.upstreams[0].native_logins = keygate::config::Access::Pass).start().await;
    let native = rig.standin.control().live_tokens().into_iter().next().expect("a permanent token");
    rig.sweep.allow(&native, "a person's own");
    let mut socket = connected(&rig, OPEN).await;
    socket.say(&auth(&native)).await;
    assert!(socket.hear().await.starts_with("42[\"init\","));
    let message = format!("42[\"user_updated\",{{\"token\":\"{native}\"}}]");
    rig.standin.control().push(&message);
    assert_eq!(socket.hear().await, message, "the token is the person's own");
    socket.say(&auth(rig.secret())).await;
    assert_eq!(socket.closed().await.0, 1008);
    let mut keyed = authenticated(&rig, OPEN).await;
    keyed.say(&auth(&native)).await;
    assert_eq!(keyed.closed().await.0, 1008, "nor the other way round");
    for disguised in [format!(" {}", rig.secret()), format!("Bearer {}", rig.secret())] {
        let mut socket = connected(&rig, OPEN).await;
        socket.say(&auth(&disguised)).await;
        socket.hear().await;
        socket.say(&auth(rig.secret())).await;
        assert!(socket.hear().await.starts_with("42[\"init\","), "{disguised} was not taken for a person's and sent on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_administrators_may_send_needs_a_key_with_the_scope_admin() {
    let options = Options { users: vec![User::admin("alice", ALICE_PASSWORD)], ..Options::default() };
    let rig = Setup::new(Kind::Audiobookshelf).standin(options).start().await;
    let boss = rig.another_key("boss");
    let scopes = KeyPatch { scopes: Some(Scopes::ALL), ..KeyPatch::default() };
    rig.keep().registry.edit_key(boss.id(), scopes).expect("a scope");
    const LISTEN: &str = r#"42["set_log_listener",0]"#;
    for (key, heard) in [(rig.secret(), "3"), (boss.expose(), r#"42["log",{"message":"a line"}]"#)] {
        let mut socket = connected(&rig, OPEN).await;
        socket.say(&auth(key)).await;
        assert!(socket.hear().await.starts_with("42[\"init\","));
        socket.say(LISTEN).await;
        // Answered in the order in which it came.
        socket.say("2").await;
        assert_eq!(socket.hear().await, heard);
        assert!(polling::heard_after(&rig, key, &format!("{LISTEN}\u{1e}2")).await.starts_with(heard));
    }
}
