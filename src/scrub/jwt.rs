//! Whether a text is a JWT, as far as its shape says.

/// Longest header of a JWT, encoded, in bytes. Audiobookshelf's has 36.
const MAX_HEADER: usize = 1024;
/// What header and payload begin with: `{"`.
const BEGINNING: &[u8] = b"eyJ";

/// What stands at a `eyJ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// Header, dot and the beginning of a payload, up to there: a JWT.
    Whole(usize),
    /// The text ends before that is known.
    Open,
    /// No JWT begins before there.
    None(usize),
}

/// Looks at a `eyJ` that stands at `at`.
pub(super) fn head(text: &[u8], at: usize) -> Head {
    let rest = text.get(at..).unwrap_or_default();
    let header = rest.iter().take(MAX_HEADER).take_while(|byte| is_base64url(**byte)).count();
    let after = &rest[header..];
    match after.strip_prefix(b".") {
        Some(payload) if payload.starts_with(BEGINNING) => Head::Whole(at + header + 1 + BEGINNING.len()),
        Some(payload) if BEGINNING.starts_with(payload) => Head::Open,
        None if header == MAX_HEADER => Head::None(at + BEGINNING.len()),
        None if after.is_empty() => Head::Open,
        _ => Head::None(at + header),
    }
}

/// Where the JWT ends in which `at` is.
pub(super) fn end(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| is_part(**byte)).count()
}

/// A letter of a JWT, dots included.
pub(super) const fn is_part(byte: u8) -> bool {
    is_base64url(byte) || byte == b'.'
}

const fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Whether a whole value is a JWT.
pub(super) fn is_one(value: &[u8]) -> bool {
    value.starts_with(BEGINNING) && matches!(head(value, 0), Head::Whole(_)) && end(value, 0) == value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwt_is_known_by_its_shape() {
        for (text, known) in [
            ("eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQi.sig", Head::Whole(24)),
            ("eyJhbGciOiJIUzI1NiJ9.ey", Head::Open),
            ("eyJhbGciOiJIUzI1NiJ9.", Head::Open),
            ("eyJhbGciOiJI", Head::Open),
            ("eyJhbGciOiJI\"", Head::None(12)),
            ("eyJhbGciOiJI.abc", Head::None(12)),
        ] {
            assert_eq!(head(text.as_bytes(), 0), known, "{text}");
        }
        assert!(is_one(b"eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQi.sig"));
        assert!(!is_one(b"eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQi.sig "));
        assert_eq!(head(&[b"eyJ".as_slice(), &[b'a'; MAX_HEADER]].concat(), 0), Head::None(3));
        assert_eq!(head(b"", 5), Head::Open);
    }
}
