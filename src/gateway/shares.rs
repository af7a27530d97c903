//! The one cookie that passes keygate: Audiobookshelf knows the visitor of a share by it, and it opens nothing else.

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

use crate::target::Path;
use crate::upstream::dialect::RouteClass;
use crate::upstream::dialect::capability::is_share_data;

const NAME: &[u8] = b"share_session_id=";
/// The server's own are UUIDs.
const LONGEST_VALUE: usize = 128;

/// Which cookies of an answer reach the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cookies {
    /// None: they are credentials of the upstream (`connect.sid`, `refresh_token`).
    Dropped,
    /// The one of shares.
    OfShare,
}

impl Cookies {
    pub(super) fn on(class: RouteClass, path: &Path<'_>) -> Self {
        if class == RouteClass::Share && is_share_data(path) { Self::OfShare } else { Self::Dropped }
    }

    /// The cookie that may go to the upstream, alone. To be read before all cookies are taken out of the request.
    pub(super) fn wanted(self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self == Self::Dropped {
            return None;
        }
        let mut pairs = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b';'));
        let pair = pairs.find_map(|pair| Some(pair.trim_ascii()).filter(|pair| is_of_share(pair)))?;
        HeaderValue::from_bytes(pair).ok()
    }

    /// Takes out of an answer what may not reach the client.
    pub(super) fn strip(self, headers: &mut HeaderMap) {
        if !headers.contains_key(SET_COOKIE) {
            return;
        }
        let kept: Vec<HeaderValue> = match self {
            Self::Dropped => Vec::new(),
            Self::OfShare => headers
                .get_all(SET_COOKIE)
                .iter()
                .filter(|line| is_of_share(line.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default()))
                .cloned()
                .collect(),
        };
        headers.remove(SET_COOKIE);
        for line in kept {
            headers.append(SET_COOKIE, line);
        }
    }
}

/// `share_session_id=…` with letters, digits and dashes.
fn is_of_share(pair: &[u8]) -> bool {
    pair.strip_prefix(NAME).is_some_and(|value| {
        (1..=LONGEST_VALUE).contains(&value.len()) && value.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: http::HeaderName, lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), HeaderValue::from_static(line))).collect()
    }

    #[test]
    fn the_cookie_of_shares_passes_alone_and_on_shares_only() {
        let path = |text: &'static str| Path::parse(text).expect(text);
        let on = Cookies::on(RouteClass::Share, &path("/audiobookshelf/public/share/s/track/1"));
        let sent = headers(COOKIE, &["connect.sid=x; share_session_id=abc-1", "refresh_token=y"]);
        assert_eq!(on.wanted(&sent).expect("there"), "share_session_id=abc-1");
        for (class, text) in [(RouteClass::Share, "/feed/s"), (RouteClass::Keyed, "/public/share/s"), (RouteClass::Capability, "/hls/a/b")]
        {
            let off = Cookies::on(class, &path(text));
            assert_eq!((off, off.wanted(&sent)), (Cookies::Dropped, None), "{text}");
        }
        for line in ["share_session_id=", "share_session_id=a=b", "xshare_session_id=a", "share_session_id=\"a\"", "share_session_id"] {
            assert_eq!(on.wanted(&headers(COOKIE, &[line])), None, "{line}");
        }
        let lines = ["refresh_token=y; Path=/", "share_session_id=abc; Max-Age=9; Path=/; HttpOnly", "connect.sid=x"];
        let mut answer = headers(SET_COOKIE, &lines);
        on.strip(&mut answer);
        assert_eq!(answer.get_all(SET_COOKIE).iter().collect::<Vec<_>>(), [lines[1]]);
        Cookies::Dropped.strip(&mut answer);
        assert!(answer.is_empty());
    }
}
