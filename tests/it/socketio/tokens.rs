//! Tokens of the media server never come out of a socket, and accounts with static tokens get theirs.

use ::http::Method;
use keygate::secret::Secret;
use keygate::upstream::{Credential, Kind};

use super::{OPEN, auth, connected};
use crate::support::socket::Socket;
use crate::support::{Rig, http, make_key};

#[tokio::test(flavor = "multi_thread")]
async fn tokens_in_messages_are_blanked_and_everything_else_stays() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        rig.get(if kind == Kind::Audiobookshelf { "/api/me" } else { "/Users/Me" }).await;
        let mut socket = Socket::with_key(&rig, kind).await;
        socket.hear().await;
        if kind == Kind::Audiobookshelf {
            socket.say(&auth(rig.secret())).await;
            assert!(socket.hear().await.starts_with("42[\"init\","));
        }
        let field = if kind == Kind::Audiobookshelf { "token" } else { "AccessToken" };
        for token in rig.standin.control().live_tokens() {
            let message = format!("42[\"user_updated\",{{\"id\":\"x\",\"{field}\":\"{token}\",\"isActive\":true}}]");
            rig.standin.control().push(&message);
            let heard = socket.hear().await;
            assert!(!heard.contains(&token), "{kind}: {heard}");
            assert_eq!(heard.len(), message.len(), "{kind}");
            assert!(heard.starts_with("42[\"user_updated\",{\"id\":\"x\"") && heard.ends_with("\"isActive\":true}]"), "{kind}: {heard}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_an_api_key_of_the_server_opens_the_socket_with_the_users_own_token() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let control = rig.standin.control();
    let api_key = control.create_api_key("alice").expect("an API key");
    let credential = Credential::Token(Secret::from(api_key.as_str()));
    let account = rig.keep().registry.add_account(rig.account.upstream.clone(), "scripts".to_owned(), credential).expect("an account");
    let key = make_key(rig.keep(), "script", &account);
    let asked = || control.journal().iter().filter(|seen| seen.method == Method::GET && seen.path() == "/api/me").count();
    for _ in 0..3 {
        let mut socket = connected(&rig, OPEN).await;
        socket.say(&auth(key.expose())).await;
        let init = socket.hear().await;
        assert!(init.starts_with("42[\"init\","), "{init}");
        assert_eq!(asked(), 1, "it is asked for once");
    }
    // Requests go on with the account's own token, and the user's is scrubbed from them.
    let bearer = format!("Bearer {}", key.expose());
    assert_eq!(http::get(rig.address, "/api/libraries", &[("authorization", &bearer)]).await.status, 200);
    let journal = control.journal();
    let sent = journal.last().and_then(|seen| seen.headers.get("authorization")).and_then(|value| value.to_str().ok());
    assert_eq!(sent, Some(format!("Bearer {api_key}").as_str()));
}
