//! The values of `Authorization` and `X-Emby-Authorization`.
//!
//! `Bearer K` is read exactly (RFC 6750, section 2.1). The structured form `MediaBrowser Client="…", Token="K"` (scheme `Emby`
//! alike) is read as Jellyfin's `AuthorizationContext.cs` does: commas inside quotes belong to the value, values are URL-decoded.
//! Where Emby 3.5 (which splits on every comma) or a second reading would find another token, the header is refused.

use std::borrow::Cow;

use super::CarrierError;
use super::encoding::decoded;

/// How the token was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// `Bearer K`.
    Bearer,
    /// `MediaBrowser …` or `Emby …`.
    Structured,
}

/// A token, not empty unless the client wrote an empty one, and how it was written.
pub(super) type Token<'a> = (Cow<'a, [u8]>, Scheme);

/// The token in a value and how it was written. `None`: no token, or a scheme that is no carrier (`Basic`, `Digest`, …).
pub(super) fn token(value: &str) -> Result<Option<Token<'_>>, CarrierError> {
    let value = value.trim_matches(' ');
    let (scheme, rest) =
        value.split_once(|c: char| !c.is_ascii_alphanumeric()).map_or((value, ""), |(scheme, _)| value.split_at(scheme.len()));
    if scheme.eq_ignore_ascii_case("bearer") {
        return bearer(rest).map(|text| text.map(|text| (Cow::Borrowed(text.as_bytes()), Scheme::Bearer)));
    }
    if scheme.eq_ignore_ascii_case("mediabrowser") || scheme.eq_ignore_ascii_case("emby") {
        return structured(rest).map(|text| text.map(|text| (text, Scheme::Structured)));
    }
    Ok(None)
}

/// `rest` is all after the word `Bearer`.
fn bearer(rest: &str) -> Result<Option<&str>, CarrierError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let text = rest.strip_prefix(' ').ok_or(CarrierError::Ambiguous)?;
    let body = text.trim_end_matches('=');
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
    if body.is_empty() || !body.bytes().all(fits) {
        return Err(CarrierError::Ambiguous);
    }
    Ok(Some(text))
}

/// The one field `Token`; its name in any letter case, since Emby takes any.
fn structured(rest: &str) -> Result<Option<Cow<'_, [u8]>>, CarrierError> {
    if !(rest.is_empty() || rest.starts_with(' ')) {
        return Err(CarrierError::Ambiguous);
    }
    let mut token = None;
    let mut rest = rest;
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if rest.is_empty() {
            return Ok(token);
        }
        let (name, value, after) = field(rest)?;
        if name.eq_ignore_ascii_case("token") && token.replace(decoded(value.as_bytes())).is_some() {
            return Err(CarrierError::Ambiguous);
        }
        rest = after;
    }
}

/// The first `name=value` or `name="value"`, and what stands after its comma.
fn field(text: &str) -> Result<(&str, &str, &str), CarrierError> {
    let (name, rest) = text.split_once('=').ok_or(CarrierError::Ambiguous)?;
    let name = name.trim_matches(' ');
    if name.bytes().any(|byte| matches!(byte, b'"' | b',' | b'\\' | b'\t')) {
        return Err(CarrierError::Ambiguous);
    }
    let rest = rest.trim_start_matches(' ');
    let Some(quoted) = rest.strip_prefix('"') else {
        let (value, after) = rest.split_once(',').unwrap_or((rest, ""));
        return if value.contains(['"', '\\']) || names_token(value) {
            Err(CarrierError::Ambiguous)
        } else {
            Ok((name, value.trim_matches(' '), after))
        };
    };
    let (value, after) = quoted.split_once('"').ok_or(CarrierError::Ambiguous)?;
    let after = after.trim_start_matches(' ');
    if value.contains('\\') || names_token(value) || !(after.is_empty() || after.starts_with(',')) {
        return Err(CarrierError::Ambiguous);
    }
    Ok((name, value, after))
}

/// Whether a value would show a field `Token` to a reader that splits it at commas, semicolons or spaces.
fn names_token(value: &str) -> bool {
    value.contains('=')
        && value.split([',', ';', ' ', '\t']).any(|part| part.split_once('=').is_some_and(|(name, _)| name.eq_ignore_ascii_case("token")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(value: &str) -> Result<Option<(String, Scheme)>, CarrierError> {
        token(value).map(|found| found.map(|(text, scheme)| (String::from_utf8_lossy(&text).into_owned(), scheme)))
    }

    #[test]
    fn tokens_are_found_as_the_servers_find_them() {
        for (value, text) in [
            ("Bearer kg_x", "kg_x"),
            ("bearer abc.def-ghi==", "abc.def-ghi=="),
            (r#"MediaBrowser Token="t""#, "t"),
            (r#"mediabrowser Client="a", Device="b, c", DeviceId="d", Version="1", Token="t""#, "t"),
            (r#"Emby UserId="u",Client="x",token="t""#, "t"),
            ("MediaBrowser Client=My App, Token=t", "t"),
            (r#"MediaBrowser Token="a%5Fb", Client="%C3%A9""#, "a_b"),
            (r#"MediaBrowser , Client="a", Token = "t","#, "t"),
            (r#"Emby Token="""#, ""),
        ] {
            assert_eq!(read(value).map(|found| found.map(|(text, _)| text)), Ok(Some(text.to_owned())), "{value}");
        }
    }

    #[test]
    fn schemes_that_are_no_carriers_count_as_nothing() {
        for value in
            ["Basic dTpwYXNz", "Digest username=x", "Negotiate abc", "kg_bare", "", "Bearer", "MediaBrowser", r#"MediaBrowser Client="x""#]
        {
            assert_eq!(read(value), Ok(None), "{value}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for value in [
            "Bearer  two-spaces",
            "Bearer\ttab",
            "Bearer a b",
            "Bearer a,Bearer b",
            "Bearer a, MediaBrowser Token=b",
            "Bearer =",
            "Bearer:x",
            r#"MediaBrowser Token="a", Token="b""#,
            r#"MediaBrowser Token="a", token="a""#,
            r#"MediaBrowser Token="a"#,
            r#"MediaBrowser Token="a"b"#,
            r#"MediaBrowser Token="a\"b""#,
            r#"MediaBrowser Device="x, Token=evil", Token="a""#,
            r#"MediaBrowser Device="x, Token=evil""#,
            "MediaBrowser Device=x Token=a",
            "MediaBrowser Token",
        ] {
            assert_eq!(read(value), Err(CarrierError::Ambiguous), "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_the_parser_panic(value in "(MediaBrowser|Emby|Bearer)? ?([a-zT=\",\\\\% ]|Token=|\\PC){0,24}") {
            let _ = token(&value);
        }
    }
}
