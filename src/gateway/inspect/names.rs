//! One pass over the headers: names in disguise, values outside ASCII, and which of the headers that need a closer look are there.

use http::HeaderMap;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE};

use super::Refused;
use crate::carrier::{headers, strip};
use crate::forward::forwarded;

/// Which headers were seen; those that are not need no look-up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) length: bool,
    pub(super) transfer_encoding: bool,
    pub(super) expect: bool,
    pub(super) upgrade: bool,
}

/// Looks at every header once.
pub(super) fn survey(headers: &HeaderMap) -> Result<Seen, Refused> {
    let mut seen = Seen::default();
    for (name, value) in headers {
        let bytes = value.as_bytes();
        // Control characters cannot be in a `HeaderValue`; a tab is legal white space (RFC 9110, section 5.5).
        if bytes.iter().fold(0, |all, byte| all | byte) >= 0x80 {
            return Err(Refused::HeaderValue);
        }
        if strip::disguised(name.as_str()).is_some_and(|plain| is_sensitive(&plain)) {
            return Err(Refused::DisguisedName);
        }
        match *name {
            CONNECTION => judge_connection(bytes)?,
            CONTENT_LENGTH => seen.length = true,
            TRANSFER_ENCODING => seen.transfer_encoding = true,
            EXPECT => seen.expect = true,
            UPGRADE => seen.upgrade = true,
            _ => {}
        }
    }
    Ok(seen)
}

/// Headers that a client must neither disguise nor have dropped on the way.
fn is_sensitive(name: &str) -> bool {
    let framing = ["host", "content-length", "transfer-encoding", "connection", "upgrade", "expect"];
    framing.contains(&name) || headers::is_credential(name) || forwarded::is_forwarding(name)
}

/// `Connection` may not name what keygate sets or judges: a proxy that drops those last loses its own (Traefik CVE-2024-45410).
fn judge_connection(value: &[u8]) -> Result<(), Refused> {
    for name in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
        let usual = [&b"keep-alive"[..], b"close", b"upgrade", b"te", b"http2-settings"];
        if usual.iter().any(|usual| name.eq_ignore_ascii_case(usual)) {
            continue;
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase().replace(['_', '.'], "-");
        if is_sensitive(&name) || name.starts_with("sec-websocket") {
            return Err(Refused::Nominated);
        }
    }
    Ok(())
}
