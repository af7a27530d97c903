//! Audiobookshelf's own API keys, made for a user by an administrator (`server/controllers/ApiKeyController.js`, 2.26 and newer).

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::secret::Secret;
use crate::upstream::Kind;
use crate::upstream::dialect::minting::{Headers, MintError, encoded, refused, with};
use crate::upstream::dialect::reading::{json, plain, post_json};
use crate::upstream::dialect::{Answer, Call, Grant, GrantError};

const KIND: Kind = Kind::Audiobookshelf;
const KEYS: &str = "/api/api-keys";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    api_key: NewKey,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewKey {
    /// Shown here and never again.
    api_key: String,
    id: String,
    user_id: String,
    is_active: bool,
    user: Option<KeyUser>,
}

#[derive(Deserialize)]
struct KeyUser {
    username: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    api_keys: Vec<Listed>,
}

/// A key as the list shows it: without its text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// The server's id of it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The user it acts for.
    pub user_id: String,
}

/// `POST /api/api-keys`. `isActive` must be there: a key that is made without it answers 401 until somebody switches it on.
pub fn create(administrator: &Headers, name: &str, user_id: &str) -> Call {
    with(post_json(KEYS, &json!({ "name": name, "userId": user_id, "isActive": true })), administrator)
}

/// The key that was made, as a grant that does not end by time.
///
/// # Errors
/// [`MintError`].
pub fn read_created(answer: &Answer) -> Result<Grant, MintError> {
    match answer.status {
        StatusCode::OK => {}
        StatusCode::BAD_REQUEST => {
            return Err(MintError::Impossible("Audiobookshelf makes no API key for the user (400): was the user deleted?".to_owned()));
        }
        StatusCode::NOT_FOUND => {
            return Err(MintError::Impossible("Audiobookshelf has no API keys (404): keygate needs version 2.26 or newer".to_owned()));
        }
        _ => return Err(refused(KIND, KEYS, answer)),
    }
    let Created { api_key } = json(KIND, KEYS, &answer.body)?;
    if api_key.api_key.is_empty() || !api_key.is_active {
        return Err(GrantError::Unavailable("Audiobookshelf made an API key that is not active".to_owned()).into());
    }
    Ok(Grant {
        token: Secret::new(api_key.api_key),
        refresh_token: None,
        other_secrets: Vec::new(),
        lifetime: None,
        user_id: Some(api_key.user_id),
        user_name: api_key.user.and_then(|user| user.username),
        minted_id: Some(api_key.id),
    })
}

/// `GET /api/api-keys`.
pub fn list(administrator: &Headers) -> Call {
    with(plain(Method::GET, KEYS), administrator)
}

/// The keys of the answer to [`list`].
///
/// # Errors
/// [`MintError`].
pub fn read_list(answer: &Answer) -> Result<Vec<Listed>, MintError> {
    match answer.status {
        StatusCode::OK => Ok(json::<List>(KIND, KEYS, &answer.body)?.api_keys),
        _ => Err(refused(KIND, KEYS, answer)),
    }
}

/// `DELETE /api/api-keys/{id}`.
pub fn delete(administrator: &Headers, id: &str) -> Call {
    with(plain(Method::DELETE, &format!("{KEYS}/{}", encoded(id))), administrator)
}

/// Whether the key is gone: deleted now or before.
///
/// # Errors
/// [`MintError`].
pub fn read_deleted(answer: &Answer) -> Result<(), MintError> {
    match answer.status {
        StatusCode::OK | StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(()),
        _ => Err(refused(KIND, KEYS, answer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use http::header::AUTHORIZATION;

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).expect("a status");
        Answer { status, headers: HeaderMap::new(), body: body.to_owned().into() }
    }

    /// As recorded from 2.36.0, with the parts that matter.
    fn created(is_active: bool) -> Answer {
        let body = json!({"apiKey": {
            "apiKey": "the.jwt.text", "id": "cf39587f", "name": "n", "expiresAt": null, "userId": "1b959fe4", "isActive": is_active,
            "createdByUserId": "5bbb2046", "user": {"id": "1b959fe4", "username": "alice", "type": "user"}
        }});
        answer(200, &body.to_string())
    }

    #[test]
    fn a_key_is_asked_for_active_by_name_and_with_the_administrators_header() {
        let headers = [(AUTHORIZATION, "Bearer root".parse().expect("a value"))];
        let call = create(&headers, "keygate alice", "1b959fe4");
        assert_eq!((call.method, call.path.as_str()), (Method::POST, "/api/api-keys"));
        assert_eq!(call.headers[AUTHORIZATION], "Bearer root");
        let body: serde_json::Value = serde_json::from_slice(call.body.expose()).expect("JSON");
        assert_eq!(body, json!({"name": "keygate alice", "userId": "1b959fe4", "isActive": true}));
        assert_eq!(delete(&headers, "a/b").path, "/api/api-keys/a%2Fb");
    }

    #[test]
    fn the_key_becomes_a_grant_that_knows_how_to_delete_it() {
        let grant = read_created(&created(true)).expect("a grant");
        assert_eq!((grant.token.expose().as_str(), grant.minted_id.as_deref()), ("the.jwt.text", Some("cf39587f")));
        assert_eq!((grant.user_id.as_deref(), grant.user_name.as_deref()), (Some("1b959fe4"), Some("alice")));
        assert!(grant.lifetime.is_none() && grant.refresh_token.is_none());
    }

    #[test]
    fn an_inactive_key_is_no_grant_and_refusals_mean_what_they_say() {
        assert!(matches!(read_created(&created(false)), Err(MintError::Later(_))));
        assert!(matches!(read_created(&answer(400, "Bad Request")), Err(MintError::Impossible(why)) if why.contains("deleted")));
        assert!(matches!(read_created(&answer(404, "")), Err(MintError::Impossible(why)) if why.contains("2.26")));
        assert_eq!(read_created(&answer(401, "")).expect_err("refused"), MintError::TokenRefused);
        assert_eq!(read_created(&answer(403, "Forbidden")).expect_err("refused"), MintError::NotAdministrator);
        assert!(matches!(read_created(&answer(503, "")), Err(MintError::Later(_))));
    }

    #[test]
    fn a_key_that_is_not_there_any_more_counts_as_deleted() {
        assert_eq!(read_deleted(&answer(200, "OK")), Ok(()));
        assert_eq!(read_deleted(&answer(404, "Not Found")), Ok(()));
        assert_eq!(read_deleted(&answer(403, "")), Err(MintError::NotAdministrator));
        let listed = read_list(&answer(200, r#"{"apiKeys":[{"id":"a","name":"n","userId":"u","isActive":true}]}"#)).expect("a list");
        assert_eq!(listed, [Listed { id: "a".to_owned(), name: "n".to_owned(), user_id: "u".to_owned() }]);
    }
}
