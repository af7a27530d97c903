//! What runs now on one core: streams, uploads and sockets of keys, with what they have moved so far.

use std::net::IpAddr;
use std::rc::Rc;

use http::HeaderValue;
use slab::Slab;

use crate::clock::Timestamp;
use crate::keys::KeyId;
use crate::lifeline::{Cause, Watch};
use crate::upstream::UpstreamName;
use crate::usage::group::Group;
use crate::usage::tally::{SecretTag, Tally};

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// An answer's body.
    Stream,
    /// A WebSocket.
    Socket,
}

impl Sort {
    /// As figures are labelled.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Socket => "socket",
        }
    }
}

/// Names what runs, as long as the program does: its core in the upper 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl StreamId {
    const fn new(core: u16, number: u64) -> Self {
        Self((core as u64) << 48 | number & 0xffff_ffff_ffff)
    }

    pub(super) const fn core(self) -> u16 {
        (self.0 >> 48) as u16
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.core(), self.0 & 0xffff_ffff_ffff)
    }
}

impl std::str::FromStr for StreamId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (core, number) = text.split_once('-').unwrap_or((text, ""));
        Ok(Self::new(core.parse()?, number.parse()?))
    }
}

/// Tells how many bytes of a request's body have gone so far.
pub trait Upload {
    /// So many.
    fn bytes(&self) -> u64;
}

/// Something that begins.
pub struct Opening {
    /// The key, and which of its secrets.
    pub key: (KeyId, SecretTag),
    /// Who asked.
    pub client: IpAddr,
    /// What it calls itself.
    pub agent: Option<HeaderValue>,
    /// Where the key was.
    pub carrier: Option<&'static str>,
    /// Where to.
    pub upstream: UpstreamName,
    /// The path's group.
    pub group: Group,
    /// Since when.
    pub started: Timestamp,
    /// What runs.
    pub sort: Sort,
    /// Cuts it.
    pub watch: Watch,
    /// Bytes of the request's body, while that is still on its way.
    pub upload: Option<Rc<dyn Upload>>,
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening").field("sort", &self.sort).finish_non_exhaustive()
    }
}

struct Open {
    number: u64,
    of: Opening,
    moved: Moved,
    counted: Moved,
}

/// Bytes of something that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Toward the upstream.
    pub bytes_in: u64,
    /// Toward the client.
    pub bytes_out: u64,
}

/// What has moved since the last look.
pub(super) struct Moving<'a> {
    pub(super) key: KeyId,
    pub(super) secret: SecretTag,
    pub(super) client: IpAddr,
    pub(super) agent: Option<&'a HeaderValue>,
    pub(super) carrier: Option<&'static str>,
    pub(super) upstream: &'a UpstreamName,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// What runs, as it is shown.
#[derive(Clone, Debug)]
pub struct StreamView {
    /// Names it.
    pub id: StreamId,
    /// The key.
    pub key: KeyId,
    /// Who asked.
    pub client: IpAddr,
    /// What it calls itself, as it came.
    pub agent: Option<HeaderValue>,
    /// Where to.
    pub upstream: UpstreamName,
    /// The path's group.
    pub group: Group,
    /// Since when.
    pub started: Timestamp,
    /// What runs.
    pub sort: Sort,
    /// How much has moved.
    pub moved: Moved,
}

/// The list of one core.
#[derive(Default)]
pub(super) struct OpenStreams {
    all: Slab<Open>,
    begun: u64,
    /// Whether the last handing over showed some.
    pub(super) were_told: bool,
}

/// A place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenPlace(usize);

impl Tally {
    /// Puts something that runs on the list.
    pub fn open(&self, of: Opening) -> OpenPlace {
        let mut open = self.open.borrow_mut();
        open.begun += 1;
        let number = open.begun;
        OpenPlace(open.all.insert(Open { number, of, moved: Moved::default(), counted: Moved::default() }))
    }

    /// Notes how much has moved.
    pub fn moved(&self, place: OpenPlace, moved: Moved) {
        if let Some(open) = self.open.borrow_mut().all.get_mut(place.0) {
            open.moved = moved;
        }
    }

    /// Takes it off the list: what had moved, and how much of that was counted already.
    pub fn closed(&self, place: OpenPlace) -> (Moved, Moved) {
        let open = self.open.borrow_mut().all.try_remove(place.0);
        open.map(|open| (open.moved, open.counted)).unwrap_or_default()
    }

    /// Cuts what has one of these ids. How many there were.
    pub fn cut(&self, ids: &[StreamId]) -> usize {
        let watches: Vec<Watch> = {
            let open = self.open.borrow();
            let wanted = open.all.iter().filter(|(_, open)| ids.contains(&StreamId::new(self.core(), open.number)));
            wanted.map(|(_, open)| open.of.watch.clone()).collect()
        };
        // After the list was let go of: who is woken may look at it.
        watches.iter().for_each(|watch| watch.cut(Cause::Closed));
        watches.len()
    }
}

impl OpenStreams {
    /// Shows each that has moved, with what is new, and gives a view of all.
    pub(super) fn moved(&mut self, core: u16, mut show: impl FnMut(&Moving<'_>)) -> Vec<StreamView> {
        let mut views = Vec::with_capacity(self.all.len());
        for (_, open) in &mut self.all {
            if let Some(upload) = &open.of.upload {
                open.moved.bytes_in = open.moved.bytes_in.max(upload.bytes());
            }
            let of = &open.of;
            let new = Moved {
                bytes_in: open.moved.bytes_in.saturating_sub(open.counted.bytes_in),
                bytes_out: open.moved.bytes_out.saturating_sub(open.counted.bytes_out),
            };
            open.counted = open.moved;
            if new != Moved::default() {
                show(&Moving {
                    key: of.key.0,
                    secret: of.key.1,
                    client: of.client,
                    agent: of.agent.as_ref(),
                    carrier: of.carrier,
                    upstream: &of.upstream,
                    bytes_in: new.bytes_in,
                    bytes_out: new.bytes_out,
                });
            }
            views.push(StreamView {
                id: StreamId::new(core, open.number),
                key: of.key.0,
                client: of.client,
                agent: of.agent.clone(),
                upstream: of.upstream.clone(),
                group: of.group,
                started: of.started,
                sort: of.sort,
                moved: open.moved,
            });
        }
        views
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = StreamId::new(3, 4711);
        assert_eq!((id.to_string().as_str(), id.to_string().parse(), id.core()), ("3-4711", Ok(id), 3));
        for wrong in ["", "3", "3-", "-1", "70000-1", "a-b", "1-2-3"] {
            assert!(wrong.parse::<StreamId>().is_err(), "{wrong}");
        }
    }
}
