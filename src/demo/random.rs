//! Identifiers that nobody can guess.

use std::fmt::Write as _;

/// `count` random bytes as lower-case hex: the shape of Emby's and Jellyfin's tokens is 16 of them.
pub(super) fn hex(count: usize) -> String {
    let mut bytes = vec![0_u8; count];
    // Without the operating system's randomness nothing here is worth serving; zeros make that visible at once.
    if getrandom::fill(&mut bytes).is_err() {
        bytes.fill(0);
    }
    to_hex(&bytes)
}

/// Bytes as lower-case hex.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A random UUID (version 4).
pub(super) fn uuid() -> String {
    let raw = hex(16);
    format!("{}-{}-4{}-a{}-{}", &raw[..8], &raw[8..12], &raw[13..16], &raw[17..20], &raw[20..32])
}
