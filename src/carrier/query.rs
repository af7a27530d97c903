//! Credentials in the query. Carriers are cut out; the rest stays byte for byte and in order.
//!
//! Names are decoded once and compared without regard to case, as ASP.NET and Express do; Express reads `api_key[]`,
//! `api_key[0]` and `[api_key]` as `api_key` too.

use std::borrow::Cow;
use std::ops::Range;

use super::encoding::decoded;
use super::{Carrier, CarrierError, Credential};

/// What a query parameter is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Plain,
    Carrier(Carrier),
    /// A token of a kind that is not read, the client's identity, or another method than the one that is judged: removed.
    Dropped,
}

/// Reads the carriers of a query; what is left of it, `None` if nothing.
pub(super) fn read<'q: 'c, 'c>(
    query: &'q str,
    token_query: bool,
    credential: &mut Credential<'c>,
) -> Result<Option<Cow<'q, str>>, CarrierError> {
    let mut rest = Rest { query, run: None, joined: None, removed: false };
    let mut start = 0;
    loop {
        let end = query[start..].find('&').map_or(query.len(), |length| start + length);
        let piece = &query[start..end];
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        refuse_hidden(piece, name)?;
        match role(name.as_bytes())? {
            Role::Plain => rest.keep(start..end),
            Role::Dropped => rest.removed = true,
            Role::Carrier(carrier) => {
                rest.removed = true;
                if token_query || carrier != Carrier::TokenQuery {
                    credential.add(decoded(value.as_bytes()), carrier)?;
                }
            }
        }
        if end == query.len() {
            return Ok(rest.finish());
        }
        start = end + 1;
    }
}

/// What is kept, as a slice of the query for as long as that is possible.
struct Rest<'q> {
    query: &'q str,
    run: Option<Range<usize>>,
    joined: Option<String>,
    removed: bool,
}

impl<'q> Rest<'q> {
    fn keep(&mut self, piece: Range<usize>) {
        match (&mut self.joined, &mut self.run) {
            (Some(text), _) => {
                text.push('&');
                text.push_str(&self.query[piece]);
            }
            (None, None) => self.run = Some(piece),
            (None, Some(run)) if run.end + 1 == piece.start => run.end = piece.end,
            (None, Some(run)) => {
                let mut text = String::with_capacity(self.query.len());
                text.push_str(&self.query[run.clone()]);
                text.push('&');
                text.push_str(&self.query[piece]);
                self.joined = Some(text);
            }
        }
    }

    fn finish(self) -> Option<Cow<'q, str>> {
        let text = match (self.joined, self.run) {
            (Some(text), _) => Cow::Owned(text),
            (None, run) => Cow::Borrowed(&self.query[run?]),
        };
        (!self.removed || !text.is_empty()).then_some(text)
    }
}

/// Refuses a piece in which another way of splitting (at `;`, or after decoding: Jellyfin's `UrlDecodeQueryFeature` takes
/// `?ApiKey%3Dx` apart) would show a credential.
fn refuse_hidden(piece: &str, name: &str) -> Result<(), CarrierError> {
    if piece.contains(';') {
        // The first part was already judged as the name of the piece, unless the semicolon stands in that name (`token;a=1`).
        for part in piece.split(';').skip(usize::from(!name.contains(';'))) {
            refuse_credential(part.split('=').next().unwrap_or(part).as_bytes())?;
        }
    }
    if name.contains('%') {
        let name = decoded(name.as_bytes());
        let parts = name.split(|byte| matches!(byte, b'&' | b';' | b'?'));
        for part in parts.filter(|part| part.len() < name.len() || part.contains(&b'=')) {
            refuse_credential(part.split(|&byte| byte == b'=').next().unwrap_or(part))?;
        }
    }
    Ok(())
}

fn refuse_credential(name: &[u8]) -> Result<(), CarrierError> {
    if role(name)? == Role::Plain { Ok(()) } else { Err(CarrierError::AmbiguousQuery) }
}

/// What a name, still encoded, stands for.
fn role(name: &[u8]) -> Result<Role, CarrierError> {
    let name = decoded(name);
    let name = bare(&name);
    if name.is_ascii() {
        return Ok(role_of_bare(name));
    }
    // The Kelvin sign, the long s and the dotless i become ASCII letters in some case mappings.
    let folded = String::from_utf8_lossy(name).to_lowercase().replace('\u{17f}', "s").replace('\u{131}', "i");
    if role_of_bare(bare(folded.as_bytes())) == Role::Plain { Ok(Role::Plain) } else { Err(CarrierError::AmbiguousQuery) }
}

/// The name without array brackets and outer white space.
fn bare(name: &[u8]) -> &[u8] {
    let name = name.trim_ascii();
    let name = name.strip_prefix(b"[").unwrap_or(name);
    name.split(|byte| matches!(byte, b'[' | b']')).next().unwrap_or(name).trim_ascii()
}

fn role_of_bare(name: &[u8]) -> Role {
    let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
    match name.len() {
        5 if is("token") => Role::Carrier(Carrier::TokenQuery),
        6 if is("apikey") => Role::Carrier(Carrier::ApiKeyQuery),
        7 if is("api_key") => Role::Carrier(Carrier::ApiKeyQuery),
        12 if is("x-emby-token") => Role::Carrier(Carrier::EmbyTokenQuery),
        20 if is("x-mediabrowser-token") => Role::Carrier(Carrier::EmbyTokenQuery),
        11 if is("accesstoken") => Role::Dropped,
        12 if is("access_token") => Role::Dropped,
        20 if is("x-emby-authorization") => Role::Dropped,
        13 if is("x-emby-client") => Role::Dropped,
        16 if is("x-emby-device-id") => Role::Dropped,
        18 if is("x-emby-device-name") => Role::Dropped,
        21 if is("x-emby-client-version") => Role::Dropped,
        // Emby 3.0 looks for the header of this name in the query too (`Param` of its `WebSocketSharpRequest.cs`).
        22 if is("x-http-method-override") => Role::Dropped,
        _ => Role::Plain,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn left(query: &str) -> Result<Option<String>, CarrierError> {
        read(query, true, &mut Credential::default()).map(|rest| rest.map(Cow::into_owned))
    }

    #[test]
    fn the_rest_stays_byte_for_byte() {
        for (query, rest) in [
            ("a=1&b=%2c&c", Some("a=1&b=%2c&c")),
            ("", Some("")),
            ("api_key=x", None),
            ("api_key=", None),
            ("api_key", None),
            ("api_key=x&", None),
            ("a=1&api_key=x", Some("a=1")),
            ("api_key=x&a=1&&b", Some("a=1&&b")),
            ("a=1&api_key=x&b=2", Some("a=1&b=2")),
            ("a&api%5Fkey=x&b&%61pi_key=x&c", Some("a&b&c")),
            ("API_KEY=x&api_key[]=x&api_key%5B0%5D=x&[api_key]=x&q=%FF", Some("q=%FF")),
            ("api%255Fkey=x", Some("api%255Fkey=x")),
            ("xapi_key=1&api_keys=2", Some("xapi_key=1&api_keys=2")),
            ("X-Emby-Device-Id=d&X-Emby-Language=de&access_token=z", Some("X-Emby-Language=de")),
            ("a=1;b=2", Some("a=1;b=2")),
            ("a=1&X-Http%2DMethod-Override=DELETE&b", Some("a=1&b")),
        ] {
            assert_eq!(left(query), Ok(rest.map(str::to_owned)), "{query}");
        }
    }

    #[test]
    fn no_rest_is_allocated_when_it_is_one_slice() {
        for query in ["a=1", "api_key=x&a=1", "a=1&b&api_key=x"] {
            let rest = read(query, false, &mut Credential::default()).expect(query);
            assert!(matches!(rest, Some(Cow::Borrowed(_))), "{query}");
        }
    }

    #[test]
    fn hidden_credential_names_are_refused() {
        for query in [
            "a=1;api_key=x",
            "token;",
            "token;a=1",
            "a;token=x",
            "a;%61pi_key=x",
            "ApiKey%3Dabc",
            "a%26api_key%3Dx",
            "api_\u{212a}ey=x",
            "acce\u{17f}stoken=x",
        ] {
            assert_eq!(left(query), Err(CarrierError::AmbiguousQuery), "{query}");
        }
    }

    #[test]
    fn two_different_values_conflict_and_two_equal_ones_do_not() {
        assert_eq!(left("api_key=a&apikey=b"), Err(CarrierError::Conflicting));
        assert_eq!(left("api_key=a&token=b"), Err(CarrierError::Conflicting));
        assert_eq!(left("api_key=a%5F&ApiKey=a_&token="), Ok(None));
    }

    proptest! {
        #[test]
        fn the_rewriter_changes_nothing_but_the_carriers(
            pieces in proptest::collection::vec(("[a-zA-Z%2-9.=+]{0,9}", "(api_key|ApiKey|TOKEN|api%5fkey|x-emby-token)(\\[\\])?=k"), 0..6),
            order in proptest::collection::vec(any::<bool>(), 6),
        ) {
            let mut all = Vec::new();
            let mut kept = Vec::new();
            for ((plain, carrier), first) in pieces.iter().zip(order) {
                kept.push(plain.as_str());
                if first { all.extend([plain.as_str(), carrier]) } else { all.extend([carrier.as_str(), plain]) }
            }
            let query = all.join("&");
            if let Ok(rest) = left(&query) {
                prop_assert_eq!(rest.unwrap_or_default(), kept.join("&"));
            }
        }
    }
}
