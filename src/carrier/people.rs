//! Carriers of people who log in: the password of a form, the refresh token that follows from it; and what is left in a request whose
//! credential is the person's own.

use http::HeaderMap;
use http::header::COOKIE;

use super::{Carrier, CarrierError, Credential, Found, Presented, encoding, headers, query, strip};

/// Audiobookshelf's header with a refresh token; it wins over the cookie.
const REFRESH_HEADER: &str = "x-refresh-token";
const REFRESH_COOKIE: &str = "refresh_token";

/// What the password of a login form is.
pub fn of_password(text: &str) -> Presented {
    Presented::of(text.as_bytes(), Carrier::LoginForm)
}

/// The refresh token of a request: the header's, else the cookie's; and whether it was the header's.
///
/// # Errors
/// [`CarrierError::Repeated`]: several headers.
pub fn refresh_token(headers: &HeaderMap) -> Result<(Presented, bool), CarrierError> {
    let mut lines = headers.get_all(REFRESH_HEADER).iter();
    if let Some(line) = lines.next() {
        if lines.next().is_some() {
            return Err(CarrierError::Repeated);
        }
        return Ok((Presented::of(line.as_bytes(), Carrier::RefreshToken), true));
    }
    let pairs = headers.get_all(COOKIE).into_iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b';'));
    let mut values = pairs.filter_map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=')?;
        (pair[..at].trim_ascii() == REFRESH_COOKIE.as_bytes()).then(|| &pair[at + 1..])
    });
    let Some(value) = values.next() else { return Ok((Presented::Nothing, false)) };
    // A browser sends a cookie of another path beside it; which of them a server reads is its own affair.
    if values.any(|other| other.trim_ascii() != value.trim_ascii()) {
        return Err(CarrierError::Repeated);
    }
    Ok((Presented::of(&encoding::decoded(value), Carrier::RefreshToken), false))
}

impl Presented {
    /// Whether there is nothing of keygate's in it.
    pub const fn is_native(&self) -> bool {
        matches!(self, Self::Nothing | Self::Foreign(_))
    }

    /// This, found in a carrier, and what was found in a form or cookie of the same request.
    ///
    /// # Errors
    /// [`CarrierError::Conflicting`]: two credentials, one of them keygate's.
    pub fn joined(self, other: Self) -> Result<Self, CarrierError> {
        match (self, other) {
            (one, Self::Nothing) => Ok(one),
            (Self::Nothing, other) | (Self::Foreign(_), other @ Self::Foreign(_)) => Ok(other),
            (Self::Key(one, _), Self::Key(other, carrier)) if one.expose() == other.expose() => Ok(Self::Key(other, carrier)),
            _ => Err(CarrierError::Conflicting),
        }
    }
}

impl Found<'_> {
    /// For a request whose credential is the person's own: that one stays. Removed is what holds a keygate key (a cookie that an
    /// earlier login with a key left in the browser, a `Referer`), and headers that some servers read under another name.
    pub fn leave_native(headers: &mut HeaderMap) {
        let is_ours = |value: &[u8]| encoding::holds_key(value);
        let mut removed = Vec::new();
        let mut cookies = Vec::new();
        for (name, value) in &*headers {
            if *name == COOKIE {
                cookies.push(value.clone());
            } else if strip::is_odd(name.as_str()) || is_ours(value.as_bytes()) {
                removed.push(name.clone());
            }
        }
        for name in removed {
            headers.remove(name);
        }
        if cookies.iter().any(|line| is_ours(line.as_bytes())) {
            headers.remove(COOKIE);
            let pairs = cookies.iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b';')).map(<[u8]>::trim_ascii);
            let kept = pairs.filter(|pair| !pair.is_empty() && !is_ours(pair)).collect::<Vec<_>>().join(&b"; "[..]);
            if let Ok(value) = http::HeaderValue::from_bytes(&kept)
                && !kept.is_empty()
            {
                headers.insert(COOKIE, value);
            }
        }
    }
}

/// The credential of a request that presented [`Presented::Foreign`], so that it can be asked about. `None` when it could not be a
/// token of any of the servers.
pub fn native_token(headers: &HeaderMap, query: Option<&str>, token_query: bool) -> Option<String> {
    let mut credential = Credential::default();
    headers::read(headers, &mut credential).ok()?;
    if let Some(query) = query {
        query::read(query, token_query, &mut credential).ok()?;
    }
    let (text, _) = credential.found?;
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let is_token = text.len() <= 8192 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    is_token.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::keys::{ApiKey, KeyId};

    fn key(number: u64) -> String {
        ApiKey::generate(KeyId::from_u64(number)).expect("random bytes").expose().to_owned()
    }

    fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        map
    }

    #[test]
    fn a_refresh_token_is_in_the_header_or_else_in_the_cookie() {
        let (one, two) = (key(1), key(2));
        let cookie = format!("a=b; refresh_token={two}; c");
        let (presented, by_header) = refresh_token(&map(&[("x-refresh-token", &one), ("cookie", &cookie)])).expect("fine");
        assert!(by_header && matches!(presented, Presented::Key(key, Carrier::RefreshToken) if key.expose() == one));
        let (presented, by_header) = refresh_token(&map(&[("cookie", &cookie)])).expect("fine");
        assert!(!by_header && matches!(presented, Presented::Key(key, _) if key.expose() == two));
        assert!(matches!(refresh_token(&map(&[("cookie", "xrefresh_token=1")])), Ok((Presented::Nothing, false))));
        assert!(refresh_token(&map(&[("x-refresh-token", &one), ("x-refresh-token", &one)])).is_err());
        assert!(refresh_token(&map(&[("cookie", &cookie), ("cookie", "refresh_token=x")])).is_err());
    }

    #[test]
    fn a_form_beside_a_carrier_must_hold_the_same_key() {
        let (one, two) = (key(1), key(2));
        assert!(matches!(of_password(&one).joined(of_password(&one)), Ok(Presented::Key(..))));
        assert!(matches!(Presented::Nothing.joined(of_password(&one)), Ok(Presented::Key(..))));
        assert!(matches!(of_password("abc").joined(of_password("def")), Ok(Presented::Foreign(_))));
        for (carrier, form) in
            [(&*one, &*two), ("native", &*one), (&*one, "native"), ("kg_damaged", "native"), ("kg_damaged", "kg_damaged")]
        {
            assert_eq!(of_password(carrier).joined(of_password(form)).err(), Some(CarrierError::Conflicting), "{carrier} {form}");
        }
    }

    #[test]
    fn what_is_left_for_natives_holds_no_key_and_is_else_as_it_was() {
        let k = key(1);
        let cookie = format!("connect.sid=s; refresh_token={k}; share_session_id=x");
        let mut headers = map(&[
            ("authorization", "Bearer eyJ.a.b"),
            ("x-emby-device-id", "d"),
            ("cookie", &cookie),
            ("referer", &format!("https://a/?x={k}")),
            ("x-refresh-token", &k),
            ("x_emby_token", "t"),
        ]);
        Found::leave_native(&mut headers);
        let left: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
        assert_eq!(left, ["authorization: Bearer eyJ.a.b", "x-emby-device-id: d", "cookie: connect.sid=s; share_session_id=x"]);
        let mut plain = map(&[("cookie", "a=1;b=2"), ("cookie", "c")]);
        let before = plain.clone();
        Found::leave_native(&mut plain);
        assert_eq!(plain, before);
    }

    #[test]
    fn only_what_could_be_a_token_is_asked_about() {
        assert_eq!(native_token(&map(&[("authorization", "Bearer a.b-c_d")]), None, true).as_deref(), Some("a.b-c_d"));
        assert_eq!(native_token(&HeaderMap::new(), Some("a=1&ApiKey=0af"), false).as_deref(), Some("0af"));
        assert_eq!(native_token(&HeaderMap::new(), Some("token=0af"), false), None);
        assert_eq!(native_token(&HeaderMap::new(), Some("ApiKey=x%22%2C%20Token%3D%22y"), false), None);
    }
}
