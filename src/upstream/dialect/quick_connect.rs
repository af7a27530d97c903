//! Jellyfin's Quick Connect, asked for and authorised by keygate itself (`QuickConnectController.cs`, `UserController.cs` of 10.9).

use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::secret::Secret;
use crate::upstream::Kind;
use crate::upstream::dialect::mediabrowser;
use crate::upstream::dialect::minting::{Headers, MintError, encoded, refused, with};
use crate::upstream::dialect::reading::{json, plain, post_json, unavailable};
use crate::upstream::dialect::{Answer, Call, Device, Grant, GrantError};

const KIND: Kind = Kind::Jellyfin;
const INITIATE: &str = "/QuickConnect/Initiate";
const AUTHORIZE: &str = "/QuickConnect/Authorize";
const REDEEM: &str = "/Users/AuthenticateWithQuickConnect";

/// What is said of a server that authorises for the caller alone.
pub const TOO_OLD: &str = "minted accounts need Jellyfin 10.9 or newer, where an administrator may authorise Quick Connect for another \
                           user; give the account its password instead";

/// A request that waits for its authorisation; the server forgets it after ten minutes.
#[derive(Debug)]
pub struct Request {
    /// Redeems it.
    pub secret: Secret<String>,
    /// What is authorised.
    pub code: Secret<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Initiated {
    secret: String,
    code: String,
}

fn introduced(mut call: Call, device: &Device) -> Call {
    if let Ok(value) = HeaderValue::try_from(mediabrowser::identity("MediaBrowser", device)) {
        call.headers.insert(AUTHORIZATION, value);
    }
    call
}

/// `POST /QuickConnect/Initiate`, as the device that the session will belong to.
pub fn initiate(device: &Device) -> Call {
    introduced(plain(Method::POST, INITIATE), device)
}

/// The request that was begun.
///
/// # Errors
/// [`MintError`].
pub fn read_initiated(answer: &Answer) -> Result<Request, MintError> {
    match answer.status {
        StatusCode::OK => {
            let Initiated { secret, code } = json(KIND, INITIATE, &answer.body)?;
            Ok(Request { secret: Secret::new(secret), code: Secret::new(code) })
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(MintError::Impossible(
            "Quick Connect is switched off in Jellyfin: tick \"Enable Quick Connect on this server\" under Dashboard, General \
             (QuickConnectAvailable in system.xml)"
                .to_owned(),
        )),
        // Up to 10.8 it is a GET.
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Err(MintError::Impossible(TOO_OLD.to_owned())),
        _ => Err(unavailable(KIND, INITIATE, answer).into()),
    }
}

/// `POST /QuickConnect/Authorize` for a user, with the administrator's credential.
pub fn authorize(administrator: &Headers, request: &Request, user_id: &str) -> Call {
    let path = format!("{AUTHORIZE}?code={}&userId={}", encoded(request.code.expose()), encoded(user_id));
    with(plain(Method::POST, &path), administrator)
}

/// Whether it was authorised.
///
/// # Errors
/// [`MintError`].
pub fn read_authorized(answer: &Answer) -> Result<(), MintError> {
    match answer.status {
        StatusCode::OK if answer.body.trim_ascii() != b"false" => Ok(()),
        StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => Err(MintError::Impossible(format!(
            "Jellyfin does not let the administrator's account authorise Quick Connect for the user ({}). Is it an administrator \
             there? And {TOO_OLD}",
            answer.status.as_u16()
        ))),
        StatusCode::OK | StatusCode::NOT_FOUND => {
            Err(GrantError::Unavailable("Jellyfin does not know its own Quick Connect request".to_owned()).into())
        }
        _ => Err(refused(KIND, AUTHORIZE, answer)),
    }
}

/// `POST /Users/AuthenticateWithQuickConnect`.
pub fn redeem(request: &Request, device: &Device) -> Call {
    introduced(post_json(REDEEM, &json!({ "Secret": request.secret.expose() })), device)
}

/// The session: the same answer as that of a password login.
///
/// # Errors
/// [`MintError`].
pub fn read_redeemed(answer: &Answer) -> Result<Grant, MintError> {
    match answer.status {
        StatusCode::OK | StatusCode::FORBIDDEN => mediabrowser::read_login(KIND, answer).map_err(|error| match error {
            GrantError::Refused(why) => MintError::Impossible(why),
            later => MintError::Later(later),
        }),
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => Err(GrantError::Unavailable(format!(
            "Jellyfin did not redeem the Quick Connect request that it had authorised ({})",
            answer.status.as_u16()
        ))
        .into()),
        _ => Err(unavailable(KIND, REDEEM, answer).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).expect("a status");
        Answer { status, headers: HeaderMap::new(), body: body.to_owned().into() }
    }

    fn device() -> Device {
        Device { client: "keygate".to_owned(), id: "00aa".to_owned() }
    }

    fn request() -> Request {
        read_initiated(&answer(200, r#"{"Secret":"s3cret","Code":"123 456","Authenticated":false}"#)).expect("a request")
    }

    #[test]
    fn the_device_asks_the_administrator_authorises_and_the_device_redeems() {
        let call = initiate(&device());
        assert_eq!((&call.method, call.path.as_str()), (&Method::POST, "/QuickConnect/Initiate"));
        assert!(call.headers[AUTHORIZATION].to_str().expect("text").contains("DeviceId=\"00aa\""));
        let headers = [(AUTHORIZATION, "MediaBrowser Token=\"t\"".parse().expect("a value"))];
        let call = authorize(&headers, &request(), "u 1");
        assert_eq!(call.path, "/QuickConnect/Authorize?code=123%20456&userId=u%201");
        assert_eq!(call.headers[AUTHORIZATION], "MediaBrowser Token=\"t\"");
        let call = redeem(&request(), &device());
        assert_eq!(call.path, "/Users/AuthenticateWithQuickConnect");
        assert_eq!(call.body.expose().as_slice(), br#"{"Secret":"s3cret"}"#);
        let grant = read_redeemed(&answer(200, r#"{"User":{"Id":"u1","Name":"alice"},"AccessToken":"t"}"#)).expect("a session");
        assert_eq!((grant.token.expose().as_str(), grant.user_id.as_deref()), ("t", Some("u1")));
        assert!(!format!("{:?}", request()).contains("s3cret"));
    }

    #[test]
    fn what_an_operator_must_change_is_said_with_its_name() {
        let impossible = |error: MintError| match error {
            MintError::Impossible(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(impossible(read_initiated(&answer(401, "")).expect_err("off")).contains("QuickConnectAvailable"));
        assert!(impossible(read_initiated(&answer(405, "")).expect_err("old")).contains("10.9"));
        assert!(impossible(read_authorized(&answer(403, "")).expect_err("old")).contains("10.9"));
        assert!(impossible(read_redeemed(&answer(403, "")).expect_err("disabled")).contains("(403)"));
    }

    #[test]
    fn what_may_pass_is_tried_again_and_a_dead_token_is_replaced() {
        assert_eq!(read_authorized(&answer(200, "true")), Ok(()));
        assert_eq!(read_authorized(&answer(401, "")), Err(MintError::TokenRefused));
        for status in [404, 503] {
            assert!(matches!(read_authorized(&answer(status, "")), Err(MintError::Later(_))), "{status}");
        }
        assert!(matches!(read_authorized(&answer(200, "false")), Err(MintError::Later(_))));
        for status in [400, 401, 404, 503] {
            assert!(matches!(read_redeemed(&answer(status, "")), Err(MintError::Later(_))), "{status}");
        }
        assert!(matches!(read_initiated(&answer(503, "")), Err(MintError::Later(_))));
    }
}
