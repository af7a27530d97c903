//! The sweep: no byte that a gateway under test sends to a client, and no line that it logs, holds an upstream credential or a key of
//! somebody else. Every client of the suite ([`super::net`]) shows what it got; [`Sweep`] knows what must not be in it.
//!
//! Each gateway under test has its own sweep, which fails the test that owns the gateway when it is dropped.

pub(crate) mod logs;
pub(crate) mod search;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::Full;
use keygate::demo::{Control, StandIn};
use keygate::keys::ApiKey;
use keygate::keys::key::KEY_LEN;

use super::http::Answer;
use search::{Hit, Index, OVERLAP, is_text, unescaped};

/// Log lines that are kept before they are looked through.
const LOG_BYTES: usize = 1 << 20;

/// Sweeps by the address of their gateway.
static GATEWAYS: Mutex<Option<HashMap<SocketAddr, Weak<Sweep>>>> = Mutex::new(None);

/// What one gateway must not give away, and what of it was found.
#[derive(Default)]
pub(crate) struct Sweep {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Stand-ins, each with how many of its secrets are in the index.
    standins: Vec<(Control, usize)>,
    index: Index,
    allowed: HashSet<String>,
    log: Vec<u8>,
    findings: BTreeSet<Finding>,
}

/// A secret where it may not be.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    secret: String,
    place: String,
    before: String,
    /// Whether a client saw it, and not the log, a file or an operator.
    by_client: bool,
}

/// A panic of one test must not hide what others find.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sweep of the gateway at an address, if a gateway is there.
pub(crate) fn at(address: SocketAddr) -> Option<Arc<Sweep>> {
    lock(&GATEWAYS).get_or_insert_default().get(&address).and_then(Weak::upgrade)
}

/// Every sweep of a gateway that runs now.
fn all() -> Vec<Arc<Sweep>> {
    let mut all: Vec<_> = lock(&GATEWAYS).get_or_insert_default().values().filter_map(Weak::upgrade).collect();
    all.sort_by_key(|sweep| Arc::as_ptr(sweep).addr());
    all.dedup_by(|one, other| Arc::ptr_eq(one, other));
    all
}

/// The keys in a request, and what it asks for.
pub(crate) struct Presented {
    keys: HashSet<String>,
    what: String,
}

/// The keys that a request presents.
pub(crate) fn presented(request: &http::Request<Full<Bytes>>) -> Presented {
    let uri = request.uri().to_string();
    let mut text = format!("{uri}\r\n").into_bytes();
    text.extend(plain(request.headers(), b""));
    // The body of a request in a test is at hand whole.
    let frame = Pin::new(&mut request.body().clone()).poll_frame(&mut Context::from_waker(Waker::noop()));
    if let Poll::Ready(Some(Ok(frame))) = frame {
        text.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    Presented { keys: keys_sent(&text), what: format!("{} {}", request.method(), request.uri().path()) }
}

/// An answer as its client understands it, decoded and without framing, from the gateway at an address.
pub(crate) fn understood(address: SocketAddr, presented: &Presented, answer: &Answer) {
    if let Some(sweep) = at(address) {
        let place = format!("the answer to {:?}", presented.what);
        sweep.answered(&plain(&answer.headers, &answer.body), Some(&presented.keys), &place);
    }
}

/// Shows an answer whose gateway is not known, with the keys that its client presented, to every sweep: whose secret is in it will know it.
pub(crate) fn understood_anywhere(presented: &Presented, answer: &Answer) {
    let text = plain(&answer.headers, &answer.body);
    let place = format!("the answer to {:?}", presented.what);
    for sweep in all() {
        let mut state = lock(&sweep.state);
        let hits = state.find(&text);
        state.note_answer(hits, Some(&presented.keys), &place);
    }
}

impl Sweep {
    /// What clients get from these addresses is looked through from now on.
    pub(crate) fn cover(self: &Arc<Self>, addresses: &[SocketAddr]) {
        let mut gateways = lock(&GATEWAYS);
        let gateways = gateways.get_or_insert_default();
        gateways.retain(|_, sweep| sweep.strong_count() > 0);
        gateways.extend(addresses.iter().map(|address| (*address, Arc::downgrade(self))));
    }

    /// Nothing that was ever secret at this stand-in may come out.
    pub(crate) fn watch(&self, standin: &StandIn) {
        lock(&self.state).standins.push((standin.control().clone(), 0));
    }

    /// One more text that may not come out: an upstream credential that no stand-in knows, or a key.
    pub(crate) fn keep_secret(&self, text: &str) {
        lock(&self.state).index.add(text);
    }

    pub(crate) fn knows(&self, secret: &str) -> bool {
        lock(&self.state).index.holds(secret)
    }

    /// This text may come out to clients, though never into the log. `because` is for whoever reads the test.
    pub(crate) fn allow(&self, text: &str, because: &str) {
        assert!(!because.is_empty());
        let mut state = lock(&self.state);
        state.allowed.insert(text.to_owned());
        state.findings.retain(|finding| !finding.by_client || finding.secret != text);
    }

    /// The same for all secrets in an answer: as when a person's own login passes as it came.
    pub(crate) fn allow_all_of(&self, answer: &Answer, because: &str) {
        let hits = lock(&self.state).find(&plain(&answer.headers, &answer.body));
        for hit in hits {
            self.allow(&hit.secret, because);
        }
    }

    /// Bytes that a client got. Keys are looked for unless `presented` is `None`; those in it are the client's own.
    pub(crate) fn answered(&self, text: &[u8], presented: Option<&HashSet<String>>, place: &str) {
        let mut state = lock(&self.state);
        let mut hits = state.find(text);
        if presented.is_some() {
            hits.extend(keys_in(text).into_iter().map(|secret| Hit { secret, before: String::new() }));
        }
        state.note_answer(hits, presented, place);
    }

    /// A line of the gateway's log: nothing may be in it, not even a key that was presented. Keys are looked for among all that this sweep
    /// knows; whoever logs alone says which others are in the line.
    pub(crate) fn logged(&self, line: &str, keys: HashSet<String>) {
        let mut state = lock(&self.state);
        state.note(keys.into_iter().map(|secret| Hit { secret, before: String::new() }).collect(), "the log");
        state.log.extend_from_slice(line.as_bytes());
        state.log.push(b'\n');
        if state.log.len() > LOG_BYTES {
            state.look_through_log();
        }
    }

    /// What a command printed. `shows_keys` is for those that create one.
    pub(crate) fn printed(&self, text: &str, shows_keys: bool, words: &str) {
        let mut state = lock(&self.state);
        let mut hits = state.find(text.as_bytes());
        let keys = keys_in(text.as_bytes());
        if shows_keys {
            hits.retain(|hit| !keys.contains(&hit.secret));
            keys.iter().for_each(|key| state.index.add(key));
        } else {
            hits.extend(keys.into_iter().map(|secret| Hit { secret, before: String::new() }));
        }
        state.note(hits, &format!("what `keygate {words}` printed"));
    }

    /// A file of the gateway's own.
    pub(crate) fn wrote(&self, bytes: &[u8], place: &str) {
        let mut state = lock(&self.state);
        let hits = state.find(bytes);
        state.note(hits, place);
    }

    /// Everything that was found so far. It is no longer held against the gateway.
    pub(crate) fn take_findings(&self) -> Vec<String> {
        let mut state = lock(&self.state);
        state.look_through_log();
        std::mem::take(&mut state.findings).into_iter().map(|finding| finding.to_string()).collect()
    }

    /// Fails the test that owns the gateway if anything was found. For the end, when the gateway runs no more.
    pub(crate) fn finish(&self) {
        let findings = self.take_findings();
        // One failure is told at a time.
        assert!(findings.is_empty() || std::thread::panicking(), "what nobody may see was seen:\n{}", findings.join("\n"));
    }
}

impl State {
    fn find(&mut self, text: &[u8]) -> Vec<Hit> {
        for (control, known) in &mut self.standins {
            let new = control.secrets_since(*known);
            *known += new.len();
            new.iter().for_each(|secret| self.index.add(secret));
        }
        self.index.find(text)
    }

    fn look_through_log(&mut self) {
        let log = std::mem::take(&mut self.log);
        let hits = self.find(&log);
        self.note(hits, "the log");
    }

    fn note_answer(&mut self, mut hits: Vec<Hit>, presented: Option<&HashSet<String>>, place: &str) {
        let is_own = |secret: &String| ApiKey::parse(secret).is_ok() && presented.is_none_or(|keys| keys.contains(secret));
        hits.retain(|hit| !self.allowed.contains(&hit.secret) && !is_own(&hit.secret));
        self.keep(hits, place, true);
    }

    fn note(&mut self, hits: Vec<Hit>, place: &str) {
        self.keep(hits, place, false);
    }

    fn keep(&mut self, hits: Vec<Hit>, place: &str, by_client: bool) {
        let finding = |hit: Hit| Finding { secret: hit.secret, place: place.to_owned(), before: hit.before, by_client };
        self.findings.extend(hits.into_iter().map(finding));
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before: String = self.before.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        write!(f, "{} in {}: …{before}<here>", kind(&self.secret), self.place)
    }
}

/// What kind of a secret a text is, for people; the text itself is not told.
fn kind(secret: &str) -> String {
    if let Ok(key) = ApiKey::parse(secret) {
        return format!("the key {}", key.id());
    }
    let is_hex = secret.bytes().all(|byte| byte.is_ascii_hexdigit());
    let kind = match secret {
        token if token.starts_with("eyJ") => "a signed token",
        _ if is_hex => "a token",
        _ => "a password or static token",
    };
    // Long ones are told apart by their ends.
    let end = if secret.len() > 30 { &secret[secret.len() - 4..] } else { "" };
    format!("{kind} of {} characters (…{end})", secret.len())
}

/// All keys in a text, escaped ones too.
pub(crate) fn keys_in(text: &[u8]) -> HashSet<String> {
    let mut keys = HashSet::new();
    for text in [Some(text), unescaped(text).as_deref()].into_iter().flatten() {
        // In media, only keys that the index has are looked for.
        if !text.contains(&b'_') || !is_text(text) {
            continue;
        }
        for (at, _) in text.windows(3).enumerate().filter(|(_, window)| *window == b"kg_") {
            let key = text.get(at..at + KEY_LEN).and_then(|key| std::str::from_utf8(key).ok());
            keys.extend(key.filter(|key| ApiKey::parse(key).is_ok()).map(str::to_owned));
        }
    }
    keys
}

/// All keys that a client sends, those of `Authorization: Basic` among them.
fn keys_sent(text: &[u8]) -> HashSet<String> {
    let mut keys = keys_in(text);
    if text.windows(6).any(|window| window == b"Basic ") {
        for word in text.split(u8::is_ascii_whitespace).filter(|word| word.len() > KEY_LEN && word.len() < OVERLAP) {
            keys.extend(keys_in(&STANDARD.decode(word).unwrap_or_default()));
        }
    }
    keys
}

/// What goes over one connection to a gateway.
pub(crate) struct Flow {
    sweep: Arc<Sweep>,
    /// The last bytes that came, and the last that were sent.
    came: Vec<u8>,
    sent: Vec<u8>,
    presented: HashSet<String>,
    /// The first line of the last request.
    request: String,
    /// Whether requests can be read, so that it is known which keys are the client's own: not in HTTP/2.
    is_readable: bool,
}

impl Flow {
    /// For a connection to this address; `None` when no gateway is there.
    pub(crate) fn to(address: SocketAddr) -> Option<Self> {
        at(address).map(Self::of)
    }

    pub(crate) fn of(sweep: Arc<Sweep>) -> Self {
        Self { sweep, came: Vec::new(), sent: Vec::new(), presented: HashSet::new(), request: String::new(), is_readable: true }
    }

    pub(crate) fn unreadable(mut self) -> Self {
        self.is_readable = false;
        self
    }

    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        if line.ends_with(b"HTTP/1.1") {
            self.request = String::from_utf8_lossy(line.split(|byte| *byte == b'?').next().unwrap_or_default()).into_owned();
        }
        self.sent.extend_from_slice(bytes);
        self.presented.extend(keys_sent(&self.sent));
        forget(&mut self.sent);
    }

    pub(crate) fn came(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.came.extend_from_slice(bytes);
        let presented = self.is_readable.then_some(&self.presented);
        self.sweep.answered(&self.came, presented, &format!("what came after {:?}", self.request));
        forget(&mut self.came);
    }
}

/// All but the end, in which the beginning of a secret may stand.
fn forget(bytes: &mut Vec<u8>) {
    let old = bytes.len().saturating_sub(OVERLAP);
    bytes.drain(..old);
}

/// Headers and body of an answer as text, the body decoded.
pub(crate) fn plain(headers: &http::HeaderMap, body: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut text = Vec::new();
    for (name, value) in headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    // What cannot be decoded to its end is looked at as far as it can.
    let _ = match headers.get("content-encoding").map(http::HeaderValue::as_bytes) {
        Some(b"gzip" | b"x-gzip") => flate2::read::MultiGzDecoder::new(body).read_to_end(&mut text),
        Some(b"deflate") => flate2::read::ZlibDecoder::new(body).read_to_end(&mut text),
        Some(b"br") => brotli_decompressor::Decompressor::new(body, 4096).read_to_end(&mut text),
        _ => Ok(0),
    };
    text.extend_from_slice(body);
    text
}
