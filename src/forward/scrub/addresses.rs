//! The server's own addresses in what it says about itself: apps remember them, and would connect to them past the gateway.

use bytes::Bytes;
use serde_json::Value;

/// Longest answer that is looked at; `/System/Info` has 2 KiB.
pub(super) const MOST_BYTES: usize = 256 << 10;

/// `PublicSystemInfo.cs`, `SystemInfo.cs`; Emby has the lists and `WanAddress` as well. In lower case: profiles may write `localAddress`.
const FIELDS: [&str; 5] = ["localaddress", "localaddresses", "wanaddress", "remoteaddresses", "remoteaddress"];

/// The answer with keygate's address in place of the server's; `None`: it is no JSON object, or it names none.
pub(super) fn replaced(answer: &[u8], origin: &str) -> Option<Bytes> {
    let mut value: Value = serde_json::from_slice(answer).ok()?;
    let mut changed = false;
    for (name, field) in value.as_object_mut()? {
        if FIELDS.iter().any(|listed| name.eq_ignore_ascii_case(listed)) {
            match field {
                Value::String(address) if !address.is_empty() => *address = origin.to_owned(),
                Value::Array(addresses) if !addresses.is_empty() => *addresses = vec![Value::from(origin)],
                _ => continue,
            }
            changed = true;
        }
    }
    if changed { serde_json::to_vec(&value).ok().map(Bytes::from) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced_text(answer: &str) -> Option<String> {
        replaced(answer.as_bytes(), "https://m.example").map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    #[test]
    fn every_address_of_the_server_becomes_the_one_that_the_client_came_by() {
        assert_eq!(
            replaced_text(r#"{"LocalAddress":"http://192.168.1.5:8096"}"#).as_deref(),
            Some(r#"{"LocalAddress":"https://m.example"}"#)
        );
        assert_eq!(replaced_text(r#"{"localAddresses":["a","b"]}"#).as_deref(), Some(r#"{"localAddresses":["https://m.example"]}"#));
        for same in [r#"{"RemoteAddresses":[]}"#, r#"{"WanAddress":null}"#, r#"{"Name":"x"}"#, "[]", "no JSON"] {
            assert_eq!(replaced_text(same), None, "{same}");
        }
    }
}
