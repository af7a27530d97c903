//! URLs that an upstream writes: whose they are, and which credential stands in them.

use super::Plan;
use crate::carrier::encoding::decoded;
use crate::upstream::Kind;

/// Names of query parameters that carry a credential, in any letter case.
const CREDENTIALS: [&str; 7] = ["api_key", "apikey", "x-emby-token", "x-mediabrowser-token", "token", "accesstoken", "access_token"];

/// A URL of the upstream's own, in which the credential is the client's; `None` for a URL that is somebody else's.
///
/// An absolute URL becomes a root-relative one, or one at `origin`. `add`: a credential is added where there was none.
pub(super) fn own(plan: &Plan, url: &[u8], origin: &str, add: bool) -> Option<Vec<u8>> {
    let (path, is_absolute) = path(plan, url)?;
    let (rest, fragment) = split(path, b'#');
    let (path, query) = split(rest, b'?');
    let mut out = Vec::with_capacity(url.len() + 64);
    if is_absolute {
        out.extend_from_slice(origin.as_bytes());
        if !path.starts_with(b"/") {
            out.push(b'/');
        }
    }
    out.extend_from_slice(path);
    let query = with_credential(plan, query.map(|query| &query[1..]), add);
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(&query);
    }
    out.extend_from_slice(fragment.unwrap_or_default());
    Some(out)
}

/// Before a mark, and from it on.
fn split(text: &[u8], mark: u8) -> (&[u8], Option<&[u8]>) {
    memchr::memchr(mark, text).map_or((text, None), |at| (&text[..at], Some(&text[at..])))
}

/// What of a URL of the upstream's own stands after scheme and host, and whether these were there.
fn path<'u>(plan: &Plan, url: &'u [u8]) -> Option<(&'u [u8], bool)> {
    for origin in plan.secrets.origins() {
        let after_scheme = origin.find("//").map_or(origin.as_str(), |at| &origin[at..]);
        for beginning in [origin.as_bytes(), after_scheme.as_bytes()] {
            if let Some((head, rest)) = url.split_at_checked(beginning.len())
                && head.eq_ignore_ascii_case(beginning)
                && rest.first().is_none_or(|byte| matches!(byte, b'/' | b'?' | b'#'))
            {
                return Some((rest, true));
            }
        }
    }
    // Browsers and players read a backslash as a slash.
    let is_elsewhere = matches!(url.first_chunk(), Some([b'/' | b'\\', b'/' | b'\\'])) || has_scheme(url);
    (!is_elsewhere).then_some((url, false))
}

fn has_scheme(url: &[u8]) -> bool {
    let length = url.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')).count();
    length > 0 && url.get(length) == Some(&b':')
}

/// The query with one credential: in the place of the first that was there, or else at the end.
fn with_credential(plan: &Plan, query: Option<&[u8]>, add: bool) -> Option<Vec<u8>> {
    let mut credential = plan.own.in_urls.as_ref().map(|credential| [name(plan.secrets.kind), "=", credential.expose()].concat());
    let mut out: Vec<Vec<u8>> = Vec::new();
    let mut removed = false;
    for piece in query.into_iter().flat_map(|query| query.split(|byte| *byte == b'&')) {
        if is_credential(split(piece, b'=').0) {
            removed = true;
            out.extend(credential.take().map(String::into_bytes));
        } else {
            out.push(piece.to_vec());
        }
    }
    if add && let Some(credential) = credential.take() {
        // `?` and `?a&` have an empty piece at their end, which the credential takes.
        out.pop_if(|piece| piece.is_empty());
        out.push(credential.into_bytes());
    }
    (!out.is_empty() || (query.is_some() && !removed)).then(|| out.join(&b'&'))
}

/// Whether a parameter carries a credential, by its name as it stands.
fn is_credential(name: &[u8]) -> bool {
    let name = decoded(name);
    let name = name.split(|byte| *byte == b'[').next().unwrap_or_default().trim_ascii();
    CREDENTIALS.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// The parameter in which each kind itself writes a credential.
const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Audiobookshelf => "token",
        Kind::Emby => "api_key",
        Kind::Jellyfin => "ApiKey",
    }
}
