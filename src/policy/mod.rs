//! What a known key may do, and the values that prove that a request was admitted.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::carrier::Carrier;
use crate::clock::Timestamp;
use crate::keys::index::Verified;
use crate::keys::{ApiKey, Preset, Scope, Scopes, Ticket};
use crate::lifeline::{Lifeline, Lifelines};
use crate::limits::Exceeded;
use crate::limits::live::Live;
use crate::limits::streams::Place;
use crate::store::records::AccountRecord;
use crate::upstream::UpstreamName;
use crate::upstream::dialect::RouteClass;
use crate::upstream::dialect::libraries::Subject;

/// Proof that a request may go to an upstream as an account. Made by [`admit`] alone, cannot be copied, and lives until the last
/// byte of the answer.
#[derive(Debug)]
pub struct Permit {
    verified: Verified,
    proof: Proof,
    account: Arc<AccountRecord>,
    lifeline: Lifeline,
    /// Its place among the key's streams, if it is one and they are counted.
    _place: Option<Place>,
}

impl Permit {
    /// The key.
    pub const fn key(&self) -> &Verified {
        &self.verified
    }

    /// By what it was told who asks.
    pub const fn proof(&self) -> &Proof {
        &self.proof
    }

    /// The account that it acts for.
    pub const fn account(&self) -> &Arc<AccountRecord> {
        &self.account
    }

    /// Tells when the key has died.
    pub const fn lifeline(&self) -> &Lifeline {
        &self.lifeline
    }
}

/// By what a request showed whose key it comes with: the client's own credential.
#[derive(Debug)]
pub enum Proof {
    /// The key itself.
    Key(ApiKey, Carrier),
    /// A media ticket.
    Ticket(Ticket, Carrier),
    /// An id of the upstream's, in the path or the query, that was handed out to the key.
    Capability,
    /// A session of Engine.IO in which the key was shown before.
    Socket,
}

impl Proof {
    /// Its name in the log: the carrier, where it was the key.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Key(_, carrier) => carrier.as_str(),
            Self::Ticket(..) => "ticket",
            Self::Capability => "capability",
            Self::Socket => "socket",
        }
    }

    /// Where it was; `None`: in no carrier.
    pub const fn carrier(&self) -> Option<Carrier> {
        match self {
            Self::Key(_, carrier) | Self::Ticket(_, carrier) => Some(*carrier),
            Self::Capability | Self::Socket => None,
        }
    }
}

/// How a request got in.
#[derive(Debug)]
pub enum Admission {
    /// With a key.
    Key(Permit),
    /// Without one, on a route that needs none.
    Open(OpenPass),
    /// As a person with a credential of the server's own, or on the way to one.
    Native(NativePass),
    /// Without one, where the key comes later, within what was opened.
    Opening(OpeningPass),
}

impl Admission {
    /// The permit, if a key was needed.
    pub const fn permit(&self) -> Option<&Permit> {
        match self {
            Self::Key(permit) => Some(permit),
            Self::Open(_) | Self::Native(_) | Self::Opening(_) => None,
        }
    }
}

/// Proof that a request may go to an upstream without a credential. Made by [`open`] alone.
#[derive(Debug)]
pub struct OpenPass(());

/// Proof that a request may open a session of Engine.IO that nobody has authenticated yet. Made by [`opening`] alone; what may pass
/// through such a session is judged packet by packet.
#[derive(Debug)]
pub struct OpeningPass(());

/// Why a known key may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Switched off.
    #[error("the key is disabled")]
    Disabled,
    /// Past its expiry.
    #[error("the key has expired")]
    Expired,
    /// Its account is not of this upstream, or is gone: for this upstream the key is an unknown one.
    #[error("the key belongs to another upstream")]
    OtherUpstream,
    /// It may not be used from the client's address.
    #[error("the key may not be used from this address")]
    OtherNetwork,
    /// One of its limits is reached.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// It is confined to libraries, and the request is not about one of them.
    #[error("the key is confined to other libraries")]
    OtherLibrary,
    /// It lacks scopes that the route asks for.
    #[error("the key lacks the scope {} ({})", .missing.listed(), described(*.has))]
    MissingScope {
        /// What it would need beside what it has.
        missing: Scopes,
        /// What it has.
        has: Scopes,
    },
}

/// What a request is judged by beside its key.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The upstream that it is for.
    pub upstream: &'a UpstreamName,
    /// What its route takes.
    pub needs: Scopes,
    /// What it says of libraries; `None`: it goes across all of them.
    pub subject: Option<Subject<'a>>,
    /// The time.
    pub now: Timestamp,
}

/// Who asks, and where.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The client's address, as far as it is believed.
    pub address: IpAddr,
    /// What runs on the core that serves it.
    pub lifelines: &'a Rc<Lifelines>,
    /// The monotonic time of a request that counts against the key's limits; `None`: what it belongs to was counted.
    pub counted_at: Option<Duration>,
}

/// The rights of a key in a few words: `preset dashboard`, or `scopes browse, stream`.
pub fn described(has: Scopes) -> String {
    Preset::of(has).map_or_else(|| format!("scopes {}", has.listed()), |preset| format!("preset {preset}"))
}

/// Routes whose answers are streams, by what they need.
const STREAMS: Scopes = Scopes::among(&[Scope::Stream, Scope::Download]);

/// Judges a known key for a request. Where the client is comes before what the key may do: nobody outside its networks learns of its
/// scopes. What is admitted stands on the list of the client's core until it ends.
///
/// # Errors
/// [`Denied`].
pub fn admit(
    verified: Verified,
    proof: Proof,
    account: Option<Arc<AccountRecord>>,
    wanted: Wanted<'_>,
    client: Client<'_>,
) -> Result<Permit, Denied> {
    let account = judge_here(&verified, account, wanted)?;
    if verified.limits().is_some_and(|limits| !limits.may_come_from(client.address)) {
        return Err(Denied::OtherNetwork);
    }
    judge_rights(&verified, wanted)?;
    if let (Some(limits), Some(now)) = (verified.limits(), client.counted_at) {
        limits.request(now, wanted.now)?;
    }
    let is_stream = client.counted_at.is_some() && !wanted.needs.and(STREAMS).is_empty();
    let place = verified.limits().filter(|_| is_stream).map(Live::stream).transpose()?;
    let lifeline = client.lifelines.begin(&verified, client.address);
    Ok(Permit { verified, proof, account, lifeline, _place: place })
}

/// The judgement alone: whether a known key may, wherever its client is, and the account that it acts for then. It lets nothing pass.
///
/// # Errors
/// [`Denied`].
pub fn judge(verified: &Verified, account: Option<Arc<AccountRecord>>, wanted: Wanted<'_>) -> Result<Arc<AccountRecord>, Denied> {
    let account = judge_here(verified, account, wanted)?;
    judge_rights(verified, wanted)?;
    Ok(account)
}

/// Whether a key is good for anything at this upstream.
fn judge_here(verified: &Verified, account: Option<Arc<AccountRecord>>, wanted: Wanted<'_>) -> Result<Arc<AccountRecord>, Denied> {
    let account = judge_alone(verified, account, wanted.now)?;
    if account.upstream == *wanted.upstream { Ok(account) } else { Err(Denied::OtherUpstream) }
}

/// Whether its scopes and libraries allow what is wanted.
fn judge_rights(verified: &Verified, wanted: Wanted<'_>) -> Result<(), Denied> {
    let has = verified.scopes();
    let missing = wanted.needs.without(has);
    if !missing.is_empty() {
        return Err(Denied::MissingScope { missing, has });
    }
    let is_within = |allowed| wanted.subject.is_some_and(|subject| subject.is_within(allowed));
    if verified.libraries().is_some_and(|allowed| !is_within(allowed)) {
        return Err(Denied::OtherLibrary);
    }
    Ok(())
}

/// Whether a key is good for anything at all.
///
/// # Errors
/// [`Denied`].
pub fn judge_alone(verified: &Verified, account: Option<Arc<AccountRecord>>, now: Timestamp) -> Result<Arc<AccountRecord>, Denied> {
    if !verified.is_active() {
        return Err(Denied::Disabled);
    }
    if verified.expires_at() <= now {
        return Err(Denied::Expired);
    }
    account.ok_or(Denied::OtherUpstream)
}

/// What may pass without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRoutes {
    /// Pictures.
    pub images: bool,
    /// The server's own web files.
    pub web_ui: bool,
    /// Share pages and RSS feeds.
    pub shares: bool,
}

/// Judges a request that presented no credential at all and whose route authenticates later.
pub fn opening(route: RouteClass) -> Option<OpeningPass> {
    (route == RouteClass::Socket).then_some(OpeningPass(()))
}

/// Judges a request that presented no credential at all.
pub fn open(route: RouteClass, open: OpenRoutes) -> Option<OpenPass> {
    let may = match route {
        RouteClass::Identity => true,
        RouteClass::Image => open.images,
        RouteClass::WebUi => open.web_ui,
        RouteClass::Share => open.shares,
        RouteClass::Answered(_)
        | RouteClass::Login
        | RouteClass::Refresh
        | RouteClass::Logout
        | RouteClass::Socket
        | RouteClass::Capability
        | RouteClass::Media(_)
        | RouteClass::Restricted
        | RouteClass::Keyed => false,
    };
    may.then_some(OpenPass(()))
}

/// Proof that a request may go to an upstream with what credential it has. Made by [`native`] alone.
#[derive(Debug)]
pub struct NativePass(());

/// What a request without a keygate key has of the server's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owned {
    /// Nothing that anybody has asked about.
    Nothing,
    /// The id of a play session that was opened with a good credential.
    HandedOut,
    /// A credential that the upstream called good a short while ago.
    Checked,
}

/// Why a person's own request may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NativeDenied {
    /// Without a good credential.
    NeedsCredential,
    /// At all: a key with the scope `admin` may.
    Restricted,
}

/// Judges a request for which `native_logins` is on and that holds nothing of keygate's. What leads to a login passes, the web client
/// among it; for all else a credential is needed, also where the upstream would want none: its open media routes must not become public
/// by this switch.
///
/// # Errors
/// [`NativeDenied`].
pub fn native(route: RouteClass, open: OpenRoutes, owned: Owned) -> Result<NativePass, NativeDenied> {
    let may = match route {
        RouteClass::Restricted => return Err(NativeDenied::Restricted),
        RouteClass::Identity
        | RouteClass::Answered(_)
        | RouteClass::WebUi
        | RouteClass::Login
        | RouteClass::Refresh
        | RouteClass::Logout => true,
        RouteClass::Image => open.images || owned == Owned::Checked,
        RouteClass::Share => open.shares || owned == Owned::Checked,
        // A socket that authenticates inside is another matter than this.
        RouteClass::Socket => false,
        RouteClass::Capability => matches!(owned, Owned::HandedOut | Owned::Checked),
        RouteClass::Media(_) | RouteClass::Keyed => owned == Owned::Checked,
    };
    if may { Ok(NativePass(())) } else { Err(NativeDenied::NeedsCredential) }
}
