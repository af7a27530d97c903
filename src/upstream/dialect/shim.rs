//! The login form answered in the upstream's place: which calls fetch what the answer is made of, and the answer itself, in which a
//! keygate key stands for every token. Pure.
//!
//! Sources: the bodies of `server/Auth.js` and `SessionController.js` of Audiobookshelf 2.36; `AuthenticationResult`, `UserDto` and
//! `SessionInfoDto` of Jellyfin 10.8 to 12; Emby SDK 4.8.

use http::{HeaderName, HeaderValue, Method};
use serde_json::{Map, Value, json};

use crate::secret::Secret;
use crate::upstream::Kind;
use crate::upstream::dialect::reading::{VERSION, plain};
use crate::upstream::dialect::{Call, Device};

/// Fields that hold a credential by their nature, in lower case.
const TOKEN_FIELDS: &[&str] = &["token", "accesstoken"];
/// Fields that no client needs and that open something, and the one that makes Audiobookshelf's web client ask for a new login.
const DROPPED_FIELDS: &[&str] = &["pash", "tokensecret", "isoldtoken"];
/// Deeper than any answer of these servers.
const DEEPEST: usize = 64;

/// The call that fetches the user of a session. `None`: the user must be named and is not known (Emby).
pub fn user_call(kind: Kind, credential: &[(HeaderName, HeaderValue)], user_id: Option<&str>) -> Option<Call> {
    let mut call = match kind {
        Kind::Audiobookshelf => plain(Method::POST, "/api/authorize"),
        Kind::Jellyfin => plain(Method::GET, "/Users/Me"),
        Kind::Emby => {
            let id = user_id.filter(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'))?;
            plain(Method::GET, &format!("/Users/{id}"))
        }
    };
    call.headers.extend(credential.iter().cloned());
    Some(call)
}

/// The call that lists the live sessions of a device of ours; Audiobookshelf's login speaks of none.
pub fn sessions_call(kind: Kind, credential: &[(HeaderName, HeaderValue)], device: &Device) -> Option<Call> {
    if kind == Kind::Audiobookshelf {
        return None;
    }
    let mut call = plain(Method::GET, &format!("/Sessions?deviceId={}", device.id));
    call.headers.extend(credential.iter().cloned());
    Some(call)
}

/// What a login answer is made of.
pub struct Ingredients<'a> {
    /// What [`user_call`] brought.
    pub user: Value,
    /// What [`sessions_call`] brought, if anything.
    pub sessions: Option<Value>,
    /// How keygate introduced itself to the upstream.
    pub device: &'a Device,
    /// The upstream's credentials that must not be in the answer.
    pub secrets: &'a [&'a Secret<String>],
    /// The key that takes their place.
    pub key: &'a str,
    /// Whether `refreshToken` is the key too (Audiobookshelf), or `null` as it comes in a cookie.
    pub refresh_in_body: bool,
    /// The time, RFC 3339.
    pub now: &'a str,
}

impl std::fmt::Debug for Ingredients<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingredients").field("device", self.device).finish_non_exhaustive()
    }
}

/// The answer to a login. `None`: what the upstream sent is no user.
pub fn login_answer(kind: Kind, mut from: Ingredients<'_>) -> Option<Value> {
    let cleaner = Cleaner { secrets: from.secrets, key: from.key };
    cleaner.clean(&mut from.user, 0)?;
    if kind == Kind::Audiobookshelf {
        let user = from.user.get_mut("user")?.as_object_mut().filter(|user| user.contains_key("id"))?;
        for field in ["token", "accessToken"] {
            user.insert(field.to_owned(), json!(from.key));
        }
        user.insert("refreshToken".to_owned(), if from.refresh_in_body { json!(from.key) } else { Value::Null });
        return Some(from.user);
    }
    let id = from.user.get("Id")?.as_str().filter(|id| !id.is_empty())?.to_owned();
    let sessions = from.sessions.take().and_then(|mut sessions| cleaner.clean(&mut sessions, 0).map(|()| sessions));
    let is_ours = |session: &&Value| session["DeviceId"] == json!(from.device.id) && session["UserId"] == json!(id);
    let live = sessions.as_ref().and_then(Value::as_array).and_then(|sessions| sessions.iter().find(is_ours)).cloned();
    let session = live.unwrap_or_else(|| session(&from, &id));
    let server = from.user["ServerId"].clone();
    Some(json!({ "User": from.user, "SessionInfo": session, "AccessToken": from.key, "ServerId": server }))
}

/// A session as the servers describe one that does nothing: every field that a client's generated code demands.
fn session(from: &Ingredients<'_>, user_id: &str) -> Value {
    json!({
        "PlayState": {"CanSeek": false, "IsPaused": false, "IsMuted": false, "RepeatMode": "RepeatNone", "PlaybackOrder": "Default"},
        "AdditionalUsers": [],
        "Capabilities": {
            "PlayableMediaTypes": [], "SupportedCommands": [], "SupportsMediaControl": false, "SupportsPersistentIdentifier": true
        },
        "PlayableMediaTypes": [], "Id": from.device.id, "UserId": user_id, "UserName": from.user["Name"],
        "Client": from.device.client, "LastActivityDate": from.now, "LastPlaybackCheckIn": "0001-01-01T00:00:00.0000000Z",
        "DeviceName": "keygate", "DeviceId": from.device.id, "ApplicationVersion": VERSION, "IsActive": true,
        "SupportsMediaControl": false, "SupportsRemoteControl": false, "NowPlayingQueue": [], "NowPlayingQueueFullItems": [],
        "HasCustomDeviceName": false, "ServerId": from.user["ServerId"], "SupportedCommands": []
    })
}

/// Takes every credential out, by the names of fields and by value.
struct Cleaner<'a> {
    secrets: &'a [&'a Secret<String>],
    key: &'a str,
}

impl Cleaner<'_> {
    /// `None`: nested too deeply to be an answer of these servers.
    fn clean(&self, value: &mut Value, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        match value {
            Value::String(text) if self.secrets.iter().any(|secret| text.contains(secret.expose().as_str())) => *value = json!(self.key),
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.clean(item, depth + 1))?,
            Value::Object(fields) => self.clean_object(fields, depth)?,
            _ => {}
        }
        Some(())
    }

    fn clean_object(&self, fields: &mut Map<String, Value>, depth: usize) -> Option<()> {
        fields.retain(|name, _| !DROPPED_FIELDS.contains(&name.to_ascii_lowercase().as_str()));
        for (name, value) in fields.iter_mut() {
            let name = name.to_ascii_lowercase();
            if name == "refreshtoken" {
                *value = Value::Null;
            } else if TOKEN_FIELDS.contains(&name.as_str()) && value.is_string() {
                *value = json!(self.key);
            } else {
                self.clean(value, depth + 1)?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "kg_the_key";

    fn made(kind: Kind, user: Value, sessions: Option<Value>, refresh_in_body: bool) -> Option<Value> {
        let device = Device { client: "phone".to_owned(), id: "d1".to_owned() };
        let secret = Secret::new("SECRET".to_owned());
        let from =
            Ingredients { user, sessions, device: &device, secrets: &[&secret], key: KEY, refresh_in_body, now: "2026-01-01T00:00:00Z" };
        let shown = format!("{from:?}");
        assert!(!shown.contains(KEY) && !shown.contains("SECRET"), "{shown}");
        login_answer(kind, from)
    }

    #[test]
    fn every_token_of_audiobookshelf_becomes_the_key() {
        let user = json!({
            "user": {"id": "1", "token": "SECRET", "accessToken": "other", "refreshToken": "r", "isOldToken": true, "pash": "x",
                     "mediaProgress": [{"note": "has SECRET in it"}]},
            "serverSettings": {"version": "2.36.0", "tokenSecret": "t"}, "Source": "docker"
        });
        let answer = made(Kind::Audiobookshelf, user.clone(), None, false).expect("an answer");
        let wanted = json!({
            "user": {"id": "1", "token": KEY, "accessToken": KEY, "refreshToken": null, "mediaProgress": [{"note": KEY}]},
            "serverSettings": {"version": "2.36.0"}, "Source": "docker"
        });
        assert_eq!(answer, wanted);
        let with_refresh = made(Kind::Audiobookshelf, user, None, true).expect("an answer");
        assert_eq!(with_refresh["user"]["refreshToken"], KEY);
    }

    #[test]
    fn the_session_of_our_device_is_shown_or_one_is_made() {
        let user = json!({"Id": "u1", "Name": "alice", "ServerId": "s"});
        let sessions = json!([{"DeviceId": "d2", "UserId": "u1", "Id": "a"}, {"DeviceId": "d1", "UserId": "u1", "Id": "b"}]);
        for kind in [Kind::Emby, Kind::Jellyfin] {
            let live = made(kind, user.clone(), Some(sessions.clone()), false).expect("an answer");
            assert_eq!((&live["SessionInfo"]["Id"], &live["AccessToken"], &live["ServerId"]), (&json!("b"), &json!(KEY), &json!("s")));
            for none in [None, Some(json!([])), Some(json!({"x": 1})), Some(json!([{"DeviceId": "d1", "UserId": "u2"}]))] {
                let invented = made(kind, user.clone(), none, false).expect("an answer");
                let session = &invented["SessionInfo"];
                assert_eq!((&session["UserId"], &session["UserName"], &session["DeviceId"]), (&json!("u1"), &json!("alice"), &json!("d1")));
            }
        }
    }

    #[test]
    fn what_is_no_user_makes_no_answer() {
        for kind in Kind::ALL {
            for user in [json!(null), json!([]), json!({}), json!({"user": null}), json!({"user": {}}), json!({"Id": ""}), json!("SECRET")]
            {
                assert_eq!(made(kind, user, None, true), None, "{kind}");
            }
        }
        let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(made(Kind::Jellyfin, json!({"Id": "1", "x": deep}), None, true), None);
    }

    #[test]
    fn emby_needs_to_know_whom_to_ask_about() {
        assert!(user_call(Kind::Emby, &[], None).is_none() && user_call(Kind::Emby, &[], Some("../x")).is_none());
        assert_eq!(user_call(Kind::Emby, &[], Some("0a-f")).map(|call| call.path).as_deref(), Some("/Users/0a-f"));
    }
}
