//! Which answer is scrubbed, and how: from the class of its route, its type, its status and its coding.
//!
//! ```text
//! request   Treatment::of ▸ prepare        no ranges of a text, no coding, no "not modified" where a client gets something of its own
//! answer    Treatment::answer ▸ headers    all answers
//!                             ▸ Source     bytes as they are; texts decoded if need be, scrubbed, the first of them before the head goes
//! ```
//! It fails closed: what holds a credential that cannot be taken out, or cannot be read, is answered 502 while nothing has gone out, and
//! cut off afterwards.

mod addresses;
mod coding;
mod headers;
mod look;
mod source;

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ACCEPT_CHARSET, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, response};
use http_body::Body as _;

use crate::carrier::strip::{Names, names};
use crate::forward::body::BodyError;
use crate::forward::forwarded::Forwarding;
use crate::gateway::refusal::Refusal;
use crate::keys::Ticket;
use crate::policy::{Admission, Permit, Proof};
use crate::scrub::{Leak, Own, Plan, Text};
use crate::secret::Secret;
use crate::target::Path;
use crate::upstream::Kind;
use crate::upstream::client::Upstream;
use crate::upstream::dialect::{self, Holding, Media, RouteClass};
use crate::upstream::line::AnswerBody;
use crate::upstream::session::{Session, Sessions};

pub use coding::Damaged;
pub use source::{Place, Scrubbed, Source};

/// What an answer's head says of a text that is not the same any more; the last ones only where it was surely changed.
static OUTDATED: Names<8> = names![
    "accept-ranges",
    "content-encoding",
    "content-md5",
    "digest",
    "content-digest",
    "repr-digest",
    // Here ends what always goes.
    "etag",
    "last-modified",
];
const ALWAYS_OUTDATED: usize = 6;

/// What a request for a text does not ask; the last ones only where the answer is each client's own.
static UNASKED: Names<5> = names![
    "range",
    "if-range",
    // ASP.NET Core writes JSON as UTF-16 on request (`TextOutputFormatter.cs`), in which nothing is found: that would be 502.
    "accept-charset",
    // Here ends what never goes upstream.
    "if-none-match",
    "if-modified-since",
];
const NEVER_ASKED: usize = 3;

/// What a route may answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reveals {
    /// Media and pictures: only what is no success is looked at.
    Bytes,
    /// Media, which are asked for in ranges, or a text.
    Either,
    /// Nobody knows: media, which are asked for in ranges, or a text. A part of a text is asked for once more, as a whole.
    Unlisted,
    /// A text: it is asked for as a whole.
    Text,
}

/// How one request and its answer are treated; made before the request goes out.
#[derive(Clone, Debug)]
pub struct Treatment {
    reveals: Reveals,
    holding: Holding,
    class: RouteClass,
    method: Method,
    /// `https://host`, as the client sees keygate, where the answer is to name it.
    public_origin: Option<String>,
    is_playlist: bool,
}

impl Treatment {
    /// For a request on a route of this class.
    pub fn of(upstream: &Upstream, class: RouteClass, method: &Method, path: &Path<'_>) -> Self {
        let is_playlist = is_playlist(path);
        let reveals = match class {
            RouteClass::Image | RouteClass::Media(Media::Bytes) => Reveals::Bytes,
            RouteClass::Capability if is_playlist => Reveals::Text,
            RouteClass::Media(Media::Either) | RouteClass::Capability | RouteClass::Share => Reveals::Either,
            RouteClass::Media(Media::Text)
            | RouteClass::Identity
            | RouteClass::Answered(_)
            | RouteClass::Login
            | RouteClass::Refresh
            | RouteClass::Logout
            | RouteClass::Socket
            | RouteClass::WebUi
            | RouteClass::Restricted
            | RouteClass::Keyed => Reveals::Text,
        };
        let holding = dialect::holding(upstream.kind, class, path);
        Self { reveals, holding, class, method: method.clone(), public_origin: None, is_playlist }
    }

    /// Takes out of a request what would bring an answer that cannot be scrubbed: parts of a text, codings, and "not modified" for what
    /// is each client's own. `forwarding`: how the client sees keygate.
    pub fn prepare(&mut self, headers: &mut HeaderMap, (kind, path): (Kind, &Path<'_>), forwarding: &Forwarding) {
        if self.class == RouteClass::Keyed && !self.is_surely_text() && headers.contains_key(RANGE) && !dialect::is_of_the_api(kind, path) {
            self.reveals = Reveals::Unlisted;
        }
        match self.reveals {
            Reveals::Bytes => return,
            Reveals::Either | Reveals::Unlisted => {
                // Several ranges come as one body of another type, in which nobody can look.
                if headers.get(RANGE).is_some_and(|range| range.as_bytes().contains(&b',')) {
                    headers.remove(RANGE);
                }
                headers.remove(ACCEPT_CHARSET);
            }
            Reveals::Text => UNASKED.remove_first(headers, if self.holding == Holding::Nothing { NEVER_ASKED } else { UNASKED.len() }),
        }
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if matches!(self.holding, Holding::Urls | Holding::Addresses) {
            let scheme = if forwarding.secure { "https" } else { "http" };
            self.public_origin = forwarding.host.to_str().ok().map(|host| format!("{scheme}://{host}"));
        }
    }

    /// Cleans the head of an answer and says where its body comes from.
    ///
    /// # Errors
    /// [`Refusal::Revealed`], [`Refusal::BadAnswer`], [`Refusal::BrokenOff`].
    pub fn answer(&self, head: &mut response::Parts, incoming: AnswerBody, whose: Whose<'_>) -> Result<Cleaned, Refusal> {
        // The credential in it is the person's own.
        if let Admission::Native(_) = whose.admission {
            return Ok(Cleaned::Now(Source::Plain(incoming)));
        }
        let mut work = Work { treatment: self, whose, for_headers: None };
        if let Err(leak) = headers::clean(&mut head.headers, &mut |what, value| work.header(what, value)) {
            work.place(head).report(&leak, "502 in its place");
            return Err(Refusal::Revealed(leak));
        }
        if work.whose.admission.permit().is_some() {
            headers::keep_private(&mut head.headers);
        }
        match self.text(head)? {
            None => Ok(Cleaned::Now(Source::Plain(incoming))),
            Some(text) => work.scrubbed(text, head, incoming),
        }
    }

    /// Whether an answer is a part of a text that is to be asked for as a whole.
    pub fn is_part(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        self.reveals == Reveals::Unlisted && status == StatusCode::PARTIAL_CONTENT && look::text_of(headers.get(CONTENT_TYPE)).is_some()
    }

    /// Whether that may come.
    pub fn may_come_in_part(&self) -> bool {
        self.reveals == Reveals::Unlisted
    }

    /// The text that is to be scrubbed; `None`: bytes, or nothing.
    fn text(&self, head: &response::Parts) -> Result<Option<Text>, Refusal> {
        let status = head.status;
        if status == StatusCode::NO_CONTENT
            || (self.reveals == Reveals::Bytes && (status.is_success() || status == StatusCode::NOT_MODIFIED))
        {
            return Ok(None);
        }
        let mut types = head.headers.get_all(CONTENT_TYPE).iter();
        let content_type = types.next();
        if types.next().is_some() {
            return Err(Refusal::BadAnswer("it has two content types"));
        }
        let text = match look::text_of(content_type) {
            Some(text) => text,
            // Clients read it by its name, or because they asked for a text.
            None if self.is_surely_text() && look::says_nothing(content_type) => Text::Json,
            None => return Ok(None),
        };
        // Also for `multipart/byteranges`, the form of several ranges of whatever it may be.
        if status == StatusCode::PARTIAL_CONTENT {
            return Err(Refusal::BadAnswer("it has a part of a text that may hold credentials"));
        }
        if look::is_wide(content_type) {
            return Err(Refusal::BadAnswer("it is a text in a charset that cannot be searched"));
        }
        Ok(Some(if self.is_playlist && text != Text::Xml { Text::Playlist } else { text }))
    }

    /// Whether the route has nothing but texts, whatever an answer calls itself.
    fn is_surely_text(&self) -> bool {
        self.reveals == Reveals::Text && (self.is_playlist || self.holding != Holding::Nothing)
    }
}

fn is_playlist(path: &Path<'_>) -> bool {
    let path = path.as_str().trim_end_matches('/').as_bytes();
    path.len() > 5 && path[path.len() - 5..].eq_ignore_ascii_case(b".m3u8")
}

/// Whose answer it is.
#[derive(Clone, Copy)]
pub struct Whose<'a> {
    /// How the request got in.
    pub admission: &'a Admission,
    /// The session that it went out with.
    pub session: Option<&'a Session>,
    /// Where it went.
    pub upstream: &'a Upstream,
    /// The path, judged.
    pub path: &'a str,
    /// What is known of the upstream's credentials.
    pub sessions: &'a Sessions,
    /// Gives the ticket that stands in URLs for a key.
    pub ticket: &'a dyn Fn(&Permit) -> Option<Ticket>,
}

/// What becomes of an answer's body.
#[derive(Debug)]
pub enum Cleaned {
    /// This.
    Now(Source),
    /// A text that is not all here, or coded: [`Pieces::source`] tells.
    Later(Box<Pieces>),
}

/// One answer on its way.
struct Work<'a> {
    treatment: &'a Treatment,
    whose: Whose<'a>,
    /// Made when the first header is to be looked at.
    for_headers: Option<Plan>,
}

impl Work<'_> {
    fn plan(&self, text: Text) -> Plan {
        Plan::new(text, self.whose.sessions.secrets(self.whose.upstream), self.own())
    }

    /// What the client gets in place of its account's tokens.
    fn own(&self) -> Own {
        let Whose { admission, session, ticket, .. } = self.whose;
        let public_origin = self.treatment.public_origin.clone();
        let (Some(permit), Some(session)) = (admission.permit(), session) else { return Own { public_origin, ..Own::default() } };
        let tokens = match self.treatment.holding {
            Holding::Nothing | Holding::Addresses => return Own { public_origin, ..Own::default() },
            Holding::Urls | Holding::Tokens => session.own.to_vec(),
        };
        let is_media = matches!(self.treatment.class, RouteClass::Media(_));
        let (mut in_urls, mut in_fields) = (None, None);
        match (self.treatment.holding, permit.proof()) {
            // It has the key already, and shows it on every line of its own accord.
            (Holding::Urls, Proof::Key(key, carrier)) if is_media && carrier.is_query() => in_urls = Some(Secret::from(key.expose())),
            (Holding::Urls, Proof::Ticket(shown, _)) => in_urls = Some(Secret::from(shown.expose())),
            (Holding::Urls, _) => in_urls = ticket(permit).map(|ticket| Secret::from(ticket.expose())),
            // Not the key: the server's app takes it for a token from before 2.26, and logs out.
            (Holding::Tokens, _) => in_fields = Some(Secret::from("")),
            _ => {}
        }
        Own { tokens, in_urls, in_fields, public_origin }
    }

    fn header(&mut self, what: headers::Value, value: &[u8]) -> Result<Option<Vec<u8>>, Leak> {
        if self.for_headers.is_none() {
            self.for_headers = Some(self.plan(Text::Plain));
        }
        let Some(plan) = &self.for_headers else { return Ok(None) };
        let scrubbed = match what {
            headers::Value::Url => plan.location(value),
            headers::Value::Text => plan.header(value),
        };
        match scrubbed? {
            Cow::Borrowed(_) => Ok(None),
            Cow::Owned(scrubbed) => Ok(Some(scrubbed)),
        }
    }

    fn place(&self, head: &response::Parts) -> Place {
        let Whose { admission, upstream, path, .. } = self.whose;
        let content_type = head.headers.get(CONTENT_TYPE).map_or(Cow::Borrowed("none"), |value| String::from_utf8_lossy(value.as_bytes()));
        Place {
            method: self.treatment.method.clone(),
            path: path.to_owned(),
            content_type: content_type.into_owned(),
            account: admission.permit().map_or_else(|| upstream.name.to_string(), |permit| permit.account().full_name()),
        }
    }

    fn scrubbed(self, text: Text, head: &mut response::Parts, mut incoming: AnswerBody) -> Result<Cleaned, Refusal> {
        let has_body = self.treatment.method != Method::HEAD && !incoming.is_end_stream();
        let first = if has_body { source::first(&mut incoming).map_err(refused)? } else { None };
        match first {
            // Most are short and come with their heads.
            Some(all) if incoming.is_end_stream() && !head.headers.contains_key(CONTENT_ENCODING) => {
                self.whole(text, head, all).map(Cleaned::Now)
            }
            // Rarer, and larger: not a part of every request's memory.
            first => Ok(Cleaned::Later(Box::new(self.in_pieces(text, head, incoming, first.unwrap_or_default())))),
        }
    }

    /// A text that is all here and not coded.
    fn whole(&self, text: Text, head: &mut response::Parts, all: Bytes) -> Result<Source, Refusal> {
        let scrubbed = self.plan(text).whole(all).map_err(|leak| {
            self.place(head).report(&leak, "502 in its place");
            Refusal::Revealed(leak)
        })?;
        let renamed = self.public_origin(text).and_then(|origin| addresses::replaced(&scrubbed, origin));
        let whole = renamed.unwrap_or(scrubbed);
        drop_outdated(&mut head.headers, self.is_rewritten());
        set_length(&mut head.headers, whole.len() as u64);
        Ok(Source::Whole(whole))
    }

    /// What takes the place of the server's own addresses in a text, where it names them.
    fn public_origin(&self, text: Text) -> Option<&str> {
        let origin = self.treatment.public_origin.as_deref()?;
        (self.treatment.holding == Holding::Addresses && text == Text::Json).then_some(origin)
    }

    /// `first`: what of the body is here.
    fn in_pieces(&self, text: Text, head: &response::Parts, incoming: AnswerBody, first: Bytes) -> Pieces {
        let has_body = self.treatment.method != Method::HEAD && !(first.is_empty() && incoming.is_end_stream());
        let (plan, origin, place) = (self.plan(text), self.public_origin(text).map(str::to_owned), self.place(head));
        Pieces { plan, origin, place, is_rewritten: self.is_rewritten(), incoming, first, has_body }
    }

    fn is_rewritten(&self) -> bool {
        self.treatment.holding != Holding::Nothing
    }
}

/// A text that is still to be looked through.
#[derive(Debug)]
pub struct Pieces {
    plan: Plan,
    /// What takes the place of the server's own addresses in it.
    origin: Option<String>,
    /// Whether it is surely changed.
    is_rewritten: bool,
    incoming: AnswerBody,
    /// What of it is here.
    first: Bytes,
    has_body: bool,
    place: Place,
}

impl Pieces {
    /// Where the body comes from; waits for its first bytes, so that a small one is judged as a whole. `head`: the answer's.
    ///
    /// # Errors
    /// As [`Treatment::answer`].
    pub async fn source(self, head: &mut response::Parts) -> Result<Source, Refusal> {
        let coding = coding::Coding::of(&head.headers).map_err(|_| Refusal::BadAnswer("it has a content coding that is not read here"))?;
        let keeps_length = self.plan.keeps_length() && coding.is_none();
        let length = content_length(&head.headers).filter(|_| keeps_length);
        drop_outdated(&mut head.headers, coding.is_some() || self.is_rewritten);
        if !keeps_length {
            head.headers.remove(CONTENT_LENGTH);
        }
        if !self.has_body {
            return Ok(Source::Plain(self.incoming));
        }
        let mut scrubbed = Scrubbed::new(self.incoming, self.first, coding.map(coding::Decoder::new), self.plan);
        let begun = match &self.origin {
            Some(origin) => scrubbed.whole(addresses::MOST_BYTES, |text| addresses::replaced(text, origin)).await,
            None => scrubbed.begin().await,
        };
        match begun {
            Ok(Some(whole)) => {
                set_length(&mut head.headers, whole.len() as u64);
                Ok(Source::Whole(whole))
            }
            Ok(None) => {
                scrubbed.go_on(length, self.place);
                Ok(Source::Scrubbed(Box::new(scrubbed)))
            }
            Err(error) => {
                if let BodyError::Leak(leak) = &error {
                    self.place.report(leak, "502 in its place");
                }
                Err(refused(error))
            }
        }
    }
}

/// Removes what an answer's head says of its text that is not so any more.
fn drop_outdated(headers: &mut HeaderMap, is_changed: bool) {
    OUTDATED.remove_first(headers, if is_changed { OUTDATED.len() } else { ALWAYS_OUTDATED });
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Says how long a body is, unless its head says so already.
fn set_length(headers: &mut HeaderMap, length: u64) {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    let said = lines.next().filter(|_| lines.next().is_none()).map(HeaderValue::as_bytes);
    // In the one spelling in which nobody reads another number.
    let is_plain = said.is_some_and(|said| matches!(said, [b'1'..=b'9', ..]));
    if !is_plain || content_length(headers) != Some(length) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// A body that failed before anything of it went out.
fn refused(error: BodyError) -> Refusal {
    match error {
        BodyError::Leak(leak) => Refusal::Revealed(leak),
        BodyError::Damaged(_) => Refusal::BadAnswer("its coded body is damaged"),
        BodyError::Upstream(error) => Refusal::BrokenOff(error),
        BodyError::Client(_) | BodyError::Idle(_) | BodyError::TooSlow | BodyError::KeyDied(_) => {
            Refusal::BadAnswer("its body did not come")
        }
    }
}
