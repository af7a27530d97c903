//! The bytes of a line of the audit log, and the marks from which numbers follow.

use serde::{Deserialize, Serialize};

use crate::audit::{Bounds, Entry, Line};
use crate::clock::Timestamp;
use crate::store::encode::{Format, RecordError};

const FORMAT: Format = Format { oldest: 1, upgrades: &[] };

/// What goes, at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruning {
    /// Now.
    pub now: Timestamp,
    /// What may stay.
    pub bounds: Bounds,
}

/// The newest numbers of both sorts; they outlive the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) act: u64,
    pub(super) notice: u64,
}

impl Marks {
    pub(super) const LEN: usize = 16;

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.act.to_le_bytes());
        bytes[8..].copy_from_slice(&self.notice.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (act, notice) = bytes.split_first_chunk::<8>()?;
        Some(Self { act: u64::from_le_bytes(*act), notice: u64::from_le_bytes(notice.try_into().ok()?) })
    }

    /// The newest number of all.
    pub(super) fn newest(self) -> u64 {
        self.act.max(self.notice)
    }

    /// Gives a line its place.
    pub(super) fn place(&mut self, line: Line) -> Entry {
        let number = self.newest().saturating_add(1);
        let mark = if line.verb.is_notice() { &mut self.notice } else { &mut self.act };
        Entry { number, previous: std::mem::replace(mark, number), line }
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    previous: u64,
    line: Line,
}

/// The bytes of a line below its number.
pub(super) fn encode(entry: &Entry) -> Result<Vec<u8>, RecordError> {
    FORMAT.encode(&Stored { previous: entry.previous, line: entry.line.clone() })
}

/// A line from its number and bytes.
pub(super) fn decode(number: u64, bytes: &[u8]) -> Result<Entry, RecordError> {
    let Stored { previous, line } = FORMAT.decode(bytes)?;
    Ok(Entry { number, previous, line })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::{Act, Actor, Field, Object, Verb};

    #[test]
    fn a_line_round_trips() {
        let act = Act::new(Verb::Compacted, Object::store()).with([Field::new("bytes", 5_u64)]);
        let actor = Actor::Socket { uid: 0, pid: Some(7), user: Some("root".to_owned()) };
        let entry = Entry { number: 9, previous: 4, line: act.by(&actor, Timestamp::from_millis(77)) };
        assert_eq!(decode(9, &encode(&entry).expect("encoded")).expect("decoded"), entry);
    }

    #[test]
    fn numbers_are_of_one_sequence_and_each_sort_names_its_own_predecessor() {
        let line = |verb| Act::new(verb, Object::store()).by(&Actor::Gateway, Timestamp::from_millis(0));
        let mut marks = Marks::default();
        let verbs = [Verb::Created, Verb::Refused, Verb::Throttled, Verb::Revoked];
        let placed = verbs.map(|verb| marks.place(line(verb))).map(|entry| (entry.number, entry.previous));
        assert_eq!(placed, [(1, 0), (2, 0), (3, 2), (4, 1)]);
        assert_eq!(Marks::from_bytes(&marks.to_bytes()), Some(marks));
    }

    proptest! {
        #[test]
        fn no_bytes_whatever_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut versioned = vec![1];
            versioned.extend_from_slice(&bytes);
            let _ = (decode(1, &bytes), decode(1, &versioned), Marks::from_bytes(&bytes));
        }
    }
}
