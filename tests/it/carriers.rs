//! Every carrier, in every disguise, over HTTP/1.1 and HTTP/2: a request goes to the upstream with exactly one valid identity, and
//! then with the upstream's credential and nothing of the client's; else it does not go.

mod cases;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use keygate::demo::Seen;
use keygate::upstream::Kind;

use crate::support::tls::{self, Trust};
use crate::support::{Rig, Setup, http as client};
use cases::{Case, Fate};

const PATH: &str = "/keygate-test/echo";

/// What the query of the case looks like, with its question mark.
fn query_of(case: &Case) -> String {
    if case.query.is_empty() { String::new() } else { format!("?{}", case.query.join("&")) }
}

/// The query and the headers of every case, for who looks at something else about them.
pub(crate) fn every_request(kind: Kind, key: &str, other: &str) -> impl Iterator<Item = (String, Vec<(String, Vec<u8>)>)> {
    cases::all(kind, key, other).into_iter().map(|case| (query_of(&case), case.headers))
}

/// Names that would be a credential or an identity, in headers and in queries, beside those that keygate itself writes.
const NEVER_HEADERS: [&str; 11] = [
    "x-mediabrowser-token",
    "x-emby-authorization",
    "proxy-authorization",
    "cookie",
    "x-refresh-token",
    "x-return-tokens",
    "x-application",
    "x-emby-client",
    "x-emby-device-name",
    "x-emby-device-id",
    "x-emby-client-version",
];

/// Holds what arrived against what may arrive.
fn judge_arrival(rig: &Rig, case: &Case, seen: &Seen) {
    let what = format!("{} {}: {seen:?}", rig.standin.kind, case.what);
    assert_eq!(seen.path(), PATH, "{what}");
    assert_eq!(seen.query(), case.rest.as_deref(), "the rest of the query is as it was: {what}");
    for name in NEVER_HEADERS {
        assert!(!seen.headers.contains_key(name), "{name}: {what}");
    }
    let all: String = seen.headers.iter().map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()))).collect();
    // The session's own token is random, and may look like anything.
    let all = rig.standin.control().live_tokens().iter().fold(format!("{}\n{all}", seen.target), |all, token| all.replace(token, "TOKEN"));
    let all = all.to_ascii_lowercase();
    assert!(!all.contains("kg_") && !all.contains("%6b%67") && !all.contains("kg%5f"), "a key arrived: {what}");
    assert!(seen.headers.keys().all(|name| !name.as_str().contains(['_', '.'])), "{what}");
    judge_credential(rig, seen, &what);
}

/// Exactly the dialect's credential, once.
fn judge_credential(rig: &Rig, seen: &Seen, what: &str) {
    let lines: Vec<_> = seen.headers.get_all("authorization").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(lines.len(), 1, "{what}");
    let is_live = |token: &str| rig.standin.control().live_tokens().iter().any(|live| live == token);
    match rig.standin.kind {
        Kind::Audiobookshelf => {
            assert!(lines[0].strip_prefix("Bearer ").is_some_and(is_live), "{what}");
            assert!(!seen.headers.contains_key("x-emby-token"), "{what}");
        }
        Kind::Jellyfin => {
            let token = lines[0].strip_prefix("MediaBrowser Token=\"").and_then(|rest| rest.strip_suffix('"'));
            assert!(token.is_some_and(is_live), "{what}");
            assert!(!seen.headers.contains_key("x-emby-token"), "{what}");
        }
        Kind::Emby => {
            let tokens: Vec<_> = seen.headers.get_all("x-emby-token").iter().map(|value| value.to_str().unwrap()).collect();
            assert!(tokens.len() == 1 && is_live(tokens[0]), "{what}");
            assert!(lines[0].starts_with("Emby Client=\"") && !lines[0].contains("Token"), "{what}");
        }
    }
}

/// Holds the answer and the upstream's journal against the fate of the case; what is wrong, if anything.
fn judge(rig: &Rig, case: &Case, status: u16) -> Option<String> {
    let arrived = rig.standin.control().journal();
    rig.standin.control().clear_journal();
    let wanted = match case.fate {
        Fate::Forwarded => (200, 1),
        Fate::Refused(status) => (status, 0),
    };
    if (status, arrived.len()) != wanted {
        let headers: Vec<_> = case.headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect();
        return Some(format!("{} not {wanted:?}: {} {headers:?} {:?}", status, case.what, case.query));
    }
    for seen in &arrived {
        judge_arrival(rig, case, seen);
    }
    None
}

/// A gateway whose keys have their sessions already, and all cases for it.
async fn prepared(setup: Setup) -> (Rig, Vec<Case>) {
    let kind = setup.kind;
    // One session for both keys: what differs between cases is the carrier alone.
    let rig = setup.with(|config| config.upstreams[0].session_per_key = false).start().await;
    let other = rig.another_key("other");
    let cases = cases::all(kind, rig.secret(), other.expose());
    assert!(cases.len() > 700, "{}", cases.len());
    (rig, cases)
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http1_exactly_one_valid_identity_is_forwarded_and_as_the_upstreams_own() {
    for kind in Kind::ALL {
        let (rig, cases) = prepared(Setup::new(kind)).await;
        assert_eq!(rig.get(PATH).await.status, 200, "{kind}");
        rig.standin.control().clear_journal();
        let host = rig.address.to_string();
        let mut wrong = Vec::new();
        for case in &cases {
            let mut lines = vec![("Host", host.as_bytes()), ("Connection", b"close")];
            lines.extend(case.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
            let answer = client::raw(rig.address, &client::head("GET", &format!("{PATH}{}", query_of(case)), &lines)).await;
            wrong.extend(judge(&rig, case, client::status_of(&answer)));
        }
        assert!(wrong.is_empty(), "{kind}: {wrong:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_exactly_one_valid_identity_is_forwarded_and_as_the_upstreams_own() {
    for kind in Kind::ALL {
        let trust = Trust::new();
        let (rig, cases) = prepared(Setup::new(kind).tls(trust.certificate())).await;
        let mut sender = trust.http2(rig.address).await;
        let warm = Request::builder().uri(format!("https://{}{PATH}", tls::NAME)).header("x-emby-token", rig.secret());
        assert_eq!(tls::exchange(&mut sender, warm.body(Full::default()).unwrap()).await.status, 200, "{kind}");
        rig.standin.control().clear_journal();
        let mut wrong = Vec::new();
        for case in &cases {
            let mut request = Request::builder().uri(format!("https://{}{PATH}{}", tls::NAME, query_of(case)));
            for (name, value) in &case.headers {
                request = request.header(name.as_str(), value.as_slice());
            }
            let answer = tls::exchange(&mut sender, request.body(Full::new(Bytes::new())).unwrap()).await;
            wrong.extend(judge(&rig, case, answer.status.as_u16()));
        }
        assert!(wrong.is_empty(), "{kind}: {wrong:#?}");
    }
}
