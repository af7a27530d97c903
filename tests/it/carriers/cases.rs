//! The matrix: every carrier in every disguise, alone and together with every other one.

use keygate::upstream::Kind;

/// What must become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Forwarded with the session of the key's account.
    Forwarded,
    /// Refused with this status, and nothing reaches the upstream.
    Refused(u16),
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) what: String,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    /// Pieces of the query, joined by `&`.
    pub(super) query: Vec<String>,
    /// What must be left of the query.
    pub(super) rest: Option<String>,
    pub(super) fate: Fate,
}

/// A place where a credential may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A header: its name, and what stands before and after the key.
    Header(&'static str, &'static str, &'static str),
    /// A query parameter.
    Query(&'static str),
}

/// All places that are read, whatever the kind; `token` for Audiobookshelf alone.
pub(super) const PLACES: &[Place] = &[
    Place::Header("authorization", "Bearer ", ""),
    Place::Header("authorization", "MediaBrowser Client=\"A, b\", DeviceId=\"d\", Version=\"1\", Token=\"", "\""),
    Place::Header("authorization", "Emby UserId=\"u\", Token=\"", "\", Device=\"x\""),
    Place::Header("x-emby-authorization", "MediaBrowser Token=\"", "\""),
    Place::Header("x-emby-authorization", "Emby Client=x,Token=", ""),
    Place::Header("x-emby-token", "", ""),
    Place::Header("x-mediabrowser-token", "", ""),
    Place::Query("api_key"),
    Place::Query("ApiKey"),
    Place::Query("X-Emby-Token"),
    Place::Query("X-MediaBrowser-Token"),
    Place::Query("token"),
];

impl Place {
    /// Whether a key counts here for this kind.
    pub(super) fn is_read_by(self, kind: Kind) -> bool {
        self != Self::Query("token") || kind == Kind::Audiobookshelf
    }

    /// Whether two of them in one request are one header line repeated.
    fn is_same_header(self, other: Self) -> bool {
        matches!((self, other), (Self::Header(one, ..), Self::Header(two, ..)) if one == two)
    }

    pub(super) fn put(self, case: &mut Case, key: &str) {
        match self {
            Self::Header(name, before, after) => case.headers.push((name.to_owned(), format!("{before}{key}{after}").into_bytes())),
            Self::Query(name) => case.query.push(format!("{name}={key}")),
        }
    }
}

/// A case without anything in it.
pub(super) fn empty(what: impl Into<String>, fate: Fate) -> Case {
    Case { what: what.into(), headers: Vec::new(), query: Vec::new(), rest: None, fate }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn headers(what: &str, lines: &[(&str, &[u8])], fate: Fate) -> Case {
    let headers = lines.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
    Case { headers, ..empty(format!("{what}: {}", lines[0].0), fate) }
}

fn query(pieces: &[&str], rest: Option<&str>, fate: Fate) -> Case {
    Case { query: pieces.iter().map(|piece| (*piece).to_owned()).collect(), rest: rest.map(str::to_owned), ..empty(pieces.join("&"), fate) }
}

/// Every case for a kind, with two good keys of the same account.
pub(super) fn all(kind: Kind, key: &str, other: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for &place in PLACES {
        match place {
            Place::Header(name, before, after) => disguised_header(&mut cases, name, (before, after), key, other),
            Place::Query(name) => disguised_query(&mut cases, name, place.is_read_by(kind), key, other),
        }
        for &second in PLACES {
            pair(&mut cases, kind, (place, key), (second, key));
            pair(&mut cases, kind, (place, key), (second, other));
            pair(&mut cases, kind, (place, key), (second, "0123456789abcdef0123456789abcdef"));
            pair(&mut cases, kind, (place, key), (second, ""));
        }
    }
    misplaced(&mut cases, key);
    cases
}

fn disguised_header(cases: &mut Vec<Case>, name: &str, (before, after): (&str, &str), key: &str, other: &str) {
    use Fate::{Forwarded, Refused};
    let value = |key: &str| format!("{before}{key}{after}").into_bytes();
    let capital: String = name.to_ascii_uppercase();
    let mixed: String = name.char_indices().map(|(at, c)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c }).collect();
    for spelling in [name, &capital, &mixed] {
        cases.push(headers("letter case", &[(spelling, &value(key))], Forwarded));
    }
    let scheme_in_capitals = format!("{}{key}{after}", before.replacen("Bearer", "BEARER", 1).replacen("MediaBrowser", "MEDIABROWSER", 1));
    cases.push(headers("scheme in capitals", &[(name, scheme_in_capitals.as_bytes())], Forwarded));
    cases.push(headers("white space around", &[(name, &[b"  ".as_slice(), &value(key), b" "].concat())], Forwarded));
    cases.push(headers("repeated, equal", &[(name, &value(key)), (name, &value(key))], Refused(400)));
    cases.push(headers("repeated, different", &[(name, &value(key)), (name, &value(other))], Refused(400)));
    cases.push(headers("repeated, one empty", &[(name, &value(key)), (name, b"")], Refused(400)));
    // In quotes a comma belongs to the value, which then is no key; elsewhere it is a second credential, or a second field.
    let joined = Refused(if before.is_empty() || before.ends_with('"') { 401 } else { 400 });
    cases.push(headers("joined by a comma", &[(name, &value(&format!("{key},{key}")))], joined));
    cases.push(headers("bytes above 127", &[(name, &[value(key).as_slice(), b"\xc3\xa9"].concat())], Refused(400)));
    for sign in ["_", "."] {
        let disguise = name.replacen('-', sign, 1);
        let fate = if disguise == name { Forwarded } else { Refused(400) };
        cases.push(headers("a name that is read as another", &[(&disguise, &value(key))], fate));
        cases.push(headers(
            "the same beside a good one",
            &[("x-emby-token", key.as_bytes()), ("x_emby-token", &value(other))],
            Refused(400),
        ));
    }
    // Structured values are URL-decoded by Jellyfin; in all others a percent sign is a percent sign.
    let is_structured = before.ends_with("Token=\"") || before.ends_with("Token=");
    let fate = match (is_structured, before) {
        (true, _) => Forwarded,
        (false, "") => Refused(401),
        _ => Refused(400),
    };
    cases.push(headers("percent-encoded", &[(name, &value(&encoded(key)))], fate));
}

fn disguised_query(cases: &mut Vec<Case>, name: &str, is_read: bool, key: &str, other: &str) {
    use Fate::Refused;
    let good = if is_read { Fate::Forwarded } else { Refused(401) };
    let lower = name.to_ascii_lowercase();
    let capital = name.to_ascii_uppercase();
    let first_encoded = format!("%{:02X}{}", name.as_bytes()[0], &name[1..]);
    let all_encoded = encoded(name);
    let spellings = [
        name.to_owned(),
        lower,
        capital,
        first_encoded,
        all_encoded,
        format!("{name}[]"),
        format!("{name}[0]"),
        format!("{name}%5B%5D"),
        format!("{name}%5b7%5d"),
        format!("[{name}]"),
        format!("+{name}"),
        format!("{name}%20"),
    ];
    for spelling in &spellings {
        cases.push(query(&[&format!("{spelling}={key}")], None, good));
        cases.push(query(&["a=%2c&&b", &format!("{spelling}={key}"), "c=+d"], Some("a=%2c&&b&c=+d"), good));
        let fate = if is_read { Refused(400) } else { Refused(401) };
        cases.push(query(&[&format!("{spelling}={key}"), &format!("{name}={other}")], None, fate));
        cases.push(query(&[&format!("{name}={key}"), "x", &format!("{spelling}={key}")], Some("x"), good));
    }
    cases.push(query(&[&format!("{name}={}", encoded(key))], None, good));
    cases.push(query(&[&format!("{name}=+{key}+")], None, good));
    cases.push(query(&[&format!("{name}="), &format!("{name}={key}"), name], None, good));
    for nothing in ["", "=", "=+", "=%20"] {
        cases.push(query(&[&format!("{name}{nothing}")], None, Refused(401)));
    }
    for ambiguous in [format!("a=1;{name}={key}"), format!("{name}%3D{key}"), format!("a%26{name}%3D{key}")] {
        cases.push(query(&[&ambiguous], None, Refused(400)));
    }
    // Decoded once only: this is an unknown parameter, and it holds a key.
    cases.push(query(&[&format!("{}={key}", first_encoded_twice(name))], None, Refused(400)));
}

fn first_encoded_twice(name: &str) -> String {
    format!("%25{:02X}{}", name.as_bytes()[0], &name[1..])
}

/// Two places at once.
fn pair(cases: &mut Vec<Case>, kind: Kind, (place, key): (Place, &str), (second, other): (Place, &str)) {
    let read = (place.is_read_by(kind), second.is_read_by(kind));
    let fate = match read {
        _ if place.is_same_header(second) => Fate::Refused(400),
        (false, false) => Fate::Refused(401),
        (true, true) if !other.is_empty() && key != other => Fate::Refused(400),
        (true, _) => Fate::Forwarded,
        // The first is not read: the second decides.
        (false, true) if other.starts_with("kg_") => Fate::Forwarded,
        (false, true) => Fate::Refused(401),
    };
    let mut case = empty(format!("{place:?} and {second:?} with {other:?}"), fate);
    place.put(&mut case, key);
    second.put(&mut case, other);
    cases.push(case);
}

/// Keys in places that are no carriers, and credentials that are not keygate's.
fn misplaced(cases: &mut Vec<Case>, key: &str) {
    use Fate::{Forwarded, Refused};
    let plain = key.as_bytes();
    for name in ["cookie", "x-api-key", "sec-websocket-protocol", "referer", "proxy-authorization", "x-refresh-token", "range"] {
        cases.push(headers("no carrier", &[(name, plain)], Refused(401)));
        cases.push(headers("no carrier, beside one", &[(name, plain), ("x-emby-token", plain)], Forwarded));
    }
    cases.push(headers("a bare key", &[("authorization", plain)], Refused(401)));
    for value in ["Basic YTpi", "Digest username=x", "Negotiate abc", ""] {
        cases.push(headers("no carrier's scheme", &[("authorization", value.as_bytes())], Refused(401)));
        cases.push(headers(
            "no carrier's scheme, beside a key",
            &[("authorization", value.as_bytes()), ("x-emby-token", plain)],
            Forwarded,
        ));
    }
    for name in ["access_token", "accesstoken", "X-Emby-Authorization", "X-Emby-Device-Id", "X-Emby-Client", "x-emby-client-version"] {
        cases.push(query(&[&format!("{name}={key}")], None, Refused(401)));
        cases.push(query(&[&format!("{name}=x"), &format!("api_key={key}")], None, Forwarded));
    }
    cases.push(query(&[&format!("q={key}"), &format!("api_key={key}")], None, Refused(400)));
    cases.push(query(&[&format!("{key}=1"), &format!("api_key={key}")], None, Refused(400)));
    cases.push(query(&[&format!("q={}", encoded(key)), &format!("api_key={key}")], None, Refused(400)));
    cases.push(query(&["xapi_key=1&api_keys=2&q=%FF", &format!("api_key={key}")], Some("xapi_key=1&api_keys=2&q=%FF"), Forwarded));
}
