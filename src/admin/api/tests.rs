//! The words of the admin socket, as JSON.

use super::*;

#[test]
fn an_expiry_of_null_is_told_from_an_absent_one() {
    let never: PatchKeyRequest = serde_json::from_str(r#"{"expiresAt":null}"#).expect("valid");
    let absent: PatchKeyRequest = serde_json::from_str("{}").expect("valid");
    assert_eq!(never.expires_at, Some(None));
    assert_eq!(absent.expires_at, None);
    assert_eq!(serde_json::to_string(&never).expect("JSON"), r#"{"expiresAt":null}"#);
    assert_eq!(serde_json::to_string(&absent).expect("JSON"), "{}");
}

#[test]
fn a_field_that_nobody_knows_is_refused() {
    assert!(serde_json::from_str::<NewKeyRequest>(r#"{"name":"n","userId":"1","network":["::1"]}"#).is_err());
}

#[test]
fn a_password_crosses_the_socket_and_no_debug_output() {
    let request: NewAccountRequest = serde_json::from_str(r#"{"name":"n","password":"hunter2"}"#).expect("valid");
    assert!(!format!("{request:?}").contains("hunter2"));
    assert!(serde_json::to_string(&request).expect("JSON").contains("hunter2"));
}
