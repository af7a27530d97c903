//! Tokens in the shape of Audiobookshelf's: JSON Web Tokens, HS256.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

/// Signs claims.
pub(super) fn sign(secret: &[u8], claims: &Value) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
    let signature = signature(secret, &format!("{header}.{payload}"));
    format!("{header}.{payload}.{signature}")
}

/// The claims of a token with a good signature; expiry is the caller's matter.
pub(super) fn verify(secret: &[u8], token: &str) -> Option<Value> {
    let (signed, given) = token.rsplit_once('.')?;
    if signature(secret, signed) != given {
        return None;
    }
    let (_, payload) = signed.split_once('.')?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

fn signature(secret: &[u8], text: &str) -> String {
    match Hmac::<Sha256>::new_from_slice(secret) {
        Ok(mut mac) => {
            mac.update(text.as_bytes());
            URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
        }
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_token_is_not_believed() {
        let token = sign(b"secret", &serde_json::json!({"userId": "u"}));
        assert_eq!(verify(b"secret", &token).unwrap()["userId"], "u");
        assert!(verify(b"other", &token).is_none());
        assert!(verify(b"secret", &format!("{token}x")).is_none());
        assert!(verify(b"secret", "junk").is_none());
    }
}
