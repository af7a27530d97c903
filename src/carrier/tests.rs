//! The table of carriers and disguises, and the properties of taking.

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::keys::KeyId;

fn key(number: u64) -> String {
    ApiKey::generate(KeyId::from_u64(number)).expect("random bytes").expose().to_owned()
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let line = |&(name, value): &(&str, &str)| (name.parse::<HeaderName>().expect(name), HeaderValue::from_str(value).expect(value));
    lines.iter().map(line).fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(name, value);
        map
    })
}

fn take<'q>(headers: &mut HeaderMap, query: Option<&'q str>, token_query: bool) -> Result<Taken<'q>, CarrierError> {
    Ok(read(headers, query, token_query)?.take_out(headers))
}

/// The carrier in which the key was found, after a check that nothing of it is left.
fn taken(lines: &[(&str, &str)], query: Option<&str>) -> Result<Option<Carrier>, CarrierError> {
    let mut map = headers(lines);
    let taken = take(&mut map, query, true)?;
    let left = format!("{map:?} {:?}", taken.query);
    assert!(!left.contains("kg_"), "{left}");
    match taken.presented {
        Presented::Key(_, carrier) => Ok(Some(carrier)),
        Presented::Nothing => Ok(None),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_carrier_yields_the_key_and_is_removed() {
    let k = key(1);
    let structured = format!(r#"MediaBrowser Client="a, b", Token="{k}""#);
    let emby = format!(r#"Emby UserId="u", token={k}"#);
    for (name, value, carrier) in [
        ("authorization", format!("Bearer {k}"), Carrier::Bearer),
        ("Authorization", format!("bearer {k}"), Carrier::Bearer),
        ("authorization", structured.clone(), Carrier::MediaBrowser),
        ("authorization", emby.clone(), Carrier::MediaBrowser),
        ("x-emby-authorization", structured, Carrier::XEmbyAuthorization),
        ("x-emby-authorization", emby, Carrier::XEmbyAuthorization),
        ("X-EMBY-TOKEN", k.clone(), Carrier::XEmbyToken),
        ("x-mediabrowser-token", k.clone(), Carrier::XMediaBrowserToken),
    ] {
        assert_eq!(taken(&[(name, &value), ("accept", "*/*")], None), Ok(Some(carrier)), "{name}");
    }
    let encoded: String = k.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for (name, carrier) in [
        ("api_key", Carrier::ApiKeyQuery),
        ("ApiKey", Carrier::ApiKeyQuery),
        ("%61PI%5fkey", Carrier::ApiKeyQuery),
        ("api_key[]", Carrier::ApiKeyQuery),
        ("api_key%5B0%5D", Carrier::ApiKeyQuery),
        ("X-Emby-Token", Carrier::EmbyTokenQuery),
        ("x-mediabrowser-token", Carrier::EmbyTokenQuery),
        ("token", Carrier::TokenQuery),
    ] {
        assert_eq!(taken(&[], Some(&format!("a=1&{name}={k}&b"))), Ok(Some(carrier)), "{name}");
        assert_eq!(taken(&[], Some(&format!("{name}={encoded}"))), Ok(Some(carrier)), "{name}, encoded");
    }
}

#[test]
fn the_same_key_may_come_in_several_carriers_and_two_keys_may_not() {
    let (one, two) = (key(1), key(2));
    let (bearer, query) = (format!("Bearer {one}"), format!("api_key={one}"));
    assert!(taken(&[("authorization", &bearer), ("x-emby-token", &one)], Some(&query)).is_ok_and(|carrier| carrier.is_some()));
    assert_eq!(taken(&[("authorization", &bearer), ("x-emby-token", &two)], None), Err(CarrierError::Conflicting));
    assert_eq!(taken(&[("x-emby-token", &two)], Some(&query)), Err(CarrierError::Conflicting));
    assert_eq!(taken(&[("x-emby-token", "0123456789abcdef")], Some(&query)), Err(CarrierError::Conflicting));
    assert_eq!(taken(&[("x-emby-token", "")], Some(&query)), Ok(Some(Carrier::ApiKeyQuery)));
}

#[test]
fn a_repeated_credential_header_is_refused_even_when_both_lines_are_equal() {
    let k = key(1);
    for name in ["authorization", "x-emby-token", "x-mediabrowser-token", "x-emby-authorization"] {
        assert_eq!(taken(&[(name, &k), (name, &k)], None), Err(CarrierError::Repeated), "{name}");
    }
    assert_eq!(taken(&[("cookie", "a=1"), ("cookie", "b=2")], None), Ok(None));
}

#[test]
fn token_is_read_for_audiobookshelf_only_and_removed_for_all() {
    let query = format!("token={}&a=1", key(1));
    let taken = take(&mut HeaderMap::new(), Some(&query), false).expect("fine");
    assert!(matches!(taken.presented, Presented::Nothing));
    assert_eq!(taken.query.as_deref(), Some("a=1"));
}

#[test]
fn dead_keys_and_foreign_tokens_are_told_apart() {
    for (text, malformed) in [("kg_short", true), ("kgt_0123", true), ("kg", true), ("0123456789abcdef", false)] {
        let mut map = headers(&[("x-emby-token", text)]);
        let presented = take(&mut map, None, false).expect("fine").presented;
        assert_eq!(matches!(presented, Presented::Malformed(_, Carrier::XEmbyToken)), malformed, "{text}");
        assert_eq!(matches!(presented, Presented::Foreign(Carrier::XEmbyToken)), !malformed, "{text}");
    }
}

#[test]
fn whatever_else_holds_a_key_is_removed_or_refused() {
    let k = key(1);
    let referer = format!("https://media.example.org/x?api_key={k}");
    let cookie = format!("a=b; refresh_token={k}");
    let lines =
        [("referer", referer.as_str()), ("x-my-key", &k), ("cookie", &cookie), ("authorization", "Basic dTpw"), ("x_emby_token", &k)];
    let mut map = headers(&lines);
    map.insert("accept", HeaderValue::from_static("*/*"));
    assert!(matches!(take(&mut map, None, false).expect("fine").presented, Presented::Nothing));
    assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    assert_eq!(taken(&[], Some(&format!("q={k}"))), Err(CarrierError::Misplaced));
    assert_eq!(taken(&[], Some(&format!("{}=q", k.replace('_', "%5F")))), Err(CarrierError::Misplaced));
    let ticket = Ticket::generate().expect("random bytes");
    let mut map = headers(&[("referer", &format!("https://media.example.org/x?api_key={}", ticket.expose()))]);
    assert!(take(&mut map, None, false).is_ok() && map.is_empty());
    assert_eq!(taken(&[], Some(&format!("q={}", ticket.expose()))), Err(CarrierError::Misplaced));
    assert!(holds_key(&format!("/items/{k}")) && !holds_key("/items/kg_1"));
}

#[test]
fn after_an_error_the_headers_are_as_they_were() {
    let mut map = headers(&[("x-emby-token", "a"), ("x-mediabrowser-token", "b")]);
    let before = map.clone();
    assert!(take(&mut map, None, false).is_err());
    assert_eq!(map, before);
}

/// The reading of an upstream that is as generous as any: decoded once, case folded, `_` and `.` as dashes in header names.
fn shows_a_credential(map: &HeaderMap, query: &str) -> bool {
    const HEADERS: &[&str] =
        &["authorization", "x-emby-token", "x-mediabrowser-token", "x-emby-authorization", "cookie", "x-refresh-token"];
    const QUERY: &[&str] = &["api_key", "apikey", "token", "accesstoken", "x-emby-token", "x-mediabrowser-token", "x-emby-authorization"];
    let in_headers = map.keys().any(|name| HEADERS.contains(&name.as_str().replace(['_', '.'], "-").as_str()));
    let in_query = query.split(['&', ';']).any(|piece| {
        let name = encoding::decoded(piece.split('=').next().unwrap_or_default().as_bytes()).into_owned();
        let name = String::from_utf8_lossy(&name).to_lowercase();
        QUERY.contains(&name.trim_matches(['[', ']', '0', ' ']))
    });
    in_headers || in_query
}

fn a_header() -> impl Strategy<Value = (String, String)> {
    let name = prop_oneof![
        "(authorization|x[-_.]emby[-_.]token|x-mediabrowser-token|x[-_]emby[-_]authorization|cookie|x-refresh-token|proxy-authorization)",
        "[a-z][a-z-]{0,8}",
    ];
    (name, "(Bearer |MediaBrowser |Emby Token=)?[!-~]{0,12}")
}

fn a_query() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "(?i)(api_key|api%5fkey|%61pikey|token|\\[?token|access_?token|x-emby-token|x%2demby-token)(\\[0?\\]|%5B%5D)?[=;]?[a-c]?",
        "[a-z%0-9+;=]{0,8}",
    ];
    proptest::collection::vec(piece, 0..5).prop_map(|pieces| pieces.join("&"))
}

proptest! {
    #[test]
    fn whatever_arrives_no_credential_name_survives(lines in proptest::collection::vec(a_header(), 0..5), query in a_query(), token_query: bool) {
        let lines: Vec<_> = lines.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut map = headers(&lines);
        if let Ok(taken) = take(&mut map, Some(&query), token_query) {
            prop_assert!(!shows_a_credential(&map, taken.query.as_deref().unwrap_or_default()), "{:?} {:?}", map, taken.query);
        }
    }

    #[test]
    fn no_bytes_make_taking_panic(value in proptest::collection::vec(any::<u8>(), 0..40), query in "\\PC*") {
        let mut map = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            map.insert("authorization", value.clone());
            map.insert("x-emby-authorization", value);
        }
        let _ = take(&mut map, Some(&query), true);
    }
}
