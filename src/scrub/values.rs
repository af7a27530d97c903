//! Looks for any of many known texts at once, at a speed that hardly depends on how many they are.
//!
//! The algorithm is Wu's and Manber's ("A fast algorithm for multi-pattern searching", 1994) with blocks of four bytes: the block at the
//! end of a window as long as the shortest text says how far the window may move on. Tokens are long, so it mostly moves by its own
//! length. A thousand tokens fill less than half of the table, also when all of them, and the text, are hex digits.

use std::fmt;

use crate::secret::Secret;

/// Slots of the table of shifts; a block's hash is 16 bits.
const SLOTS: usize = 1 << 16;
/// Length of a block in bytes.
const BLOCK: usize = 4;
/// Shorter texts are not looked for: no server makes such tokens, and ordinary words would be blanked.
pub(super) const SHORTEST: usize = 8;

/// Where a known text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Which value it is a spelling of.
    pub(super) value: usize,
}

struct Spelling {
    text: Secret<Vec<u8>>,
    value: usize,
}

impl Spelling {
    fn bytes(&self) -> &[u8] {
        self.text.expose()
    }
}

/// The compiled texts.
pub(super) struct Values {
    /// Sorted.
    spellings: Vec<Spelling>,
    shortest: usize,
    longest: usize,
    shifts: Box<[u8; SLOTS]>,
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Values({})", self.spellings.len())
    }
}

impl Values {
    /// Compiles spellings, each with the number of its value; `None` without any.
    pub(super) fn new(spellings: impl IntoIterator<Item = (Vec<u8>, usize)>) -> Option<Self> {
        let known = spellings.into_iter().filter(|(text, _)| text.len() >= SHORTEST);
        let mut spellings: Vec<_> = known.map(|(text, value)| Spelling { text: Secret::new(text), value }).collect();
        spellings.sort_by(|one, other| one.bytes().cmp(other.bytes()));
        spellings.dedup_by(|one, other| one.bytes() == other.bytes());
        let shortest = spellings.iter().map(|spelling| spelling.bytes().len()).min()?;
        let longest = spellings.iter().map(|spelling| spelling.bytes().len()).max()?;
        let mut shifts = Box::new([u8::try_from(shortest - BLOCK + 1).unwrap_or(u8::MAX); SLOTS]);
        for spelling in &spellings {
            for (place, block) in spelling.bytes()[..shortest].windows(BLOCK).enumerate() {
                let shift = u8::try_from(shortest - BLOCK - place).unwrap_or(u8::MAX);
                let slot = &mut shifts[slot(block)];
                *slot = shift.min(*slot);
            }
        }
        Some(Self { spellings, shortest, longest, shifts })
    }

    /// Length of the longest spelling in bytes.
    pub(super) const fn longest(&self) -> usize {
        self.longest
    }

    /// All bytes that stand in any spelling.
    pub(super) fn alphabet(&self) -> impl Iterator<Item = u8> {
        self.spellings.iter().flat_map(|spelling| spelling.bytes().iter().copied())
    }

    /// Lengths of the spellings of one value.
    pub(super) fn lengths(&self, value: usize) -> impl Iterator<Item = usize> {
        self.spellings.iter().filter(move |spelling| spelling.value == value).map(|spelling| spelling.bytes().len())
    }

    /// Whether a text is one of the spellings.
    pub(super) fn holds(&self, text: &[u8]) -> bool {
        self.spellings.binary_search_by(|spelling| spelling.bytes().cmp(text)).is_ok()
    }

    /// The first spelling that stands in `text` at `from` or after it.
    pub(super) fn find(&self, text: &[u8], from: usize) -> Option<Found> {
        let mut end = from.checked_add(self.shortest)?;
        // The shift of a block that stands in no text, which nearly all blocks are.
        let full = self.shortest - BLOCK + 1;
        while let Some(block) = end.checked_sub(BLOCK).and_then(|start| text.get(start..end)) {
            let shift = self.shifts[slot(block)];
            // A branch of its own, since the processor need not wait for the table where it guesses the way: a third faster.
            if usize::from(shift) == full {
                end += full;
                continue;
            }
            match shift {
                0 => {
                    let start = end - self.shortest;
                    if let Some(found) = self.at(text, start) {
                        return Some(found);
                    }
                    end += 1;
                }
                shift => end += usize::from(shift),
            }
        }
        None
    }

    /// The longest spelling that stands in `text` just there.
    fn at(&self, text: &[u8], start: usize) -> Option<Found> {
        let text = &text[start..];
        let head = text.get(..SHORTEST)?;
        let first = self.spellings.partition_point(|spelling| &spelling.bytes()[..SHORTEST] < head);
        let alike = self.spellings[first..].iter().take_while(|spelling| &spelling.bytes()[..SHORTEST] == head);
        // Sorted: the longer ones come later.
        let spelling = alike.filter(|spelling| text.starts_with(spelling.bytes())).last()?;
        Some(Found { start, end: start + spelling.bytes().len(), value: spelling.value })
    }

    /// Where the longest tail of `text` begins, at `from` or after it, that a spelling begins with and that is not a whole one; the
    /// length of `text` if none does.
    pub(super) fn open(&self, text: &[u8], from: usize) -> usize {
        let from = from.max(text.len().saturating_sub(self.longest_open(text)));
        (from..text.len()).find(|&start| self.begins(&text[start..])).unwrap_or(text.len())
    }

    /// How long an open tail can be at most, by the last block of the text.
    fn longest_open(&self, text: &[u8]) -> usize {
        match text.last_chunk::<BLOCK>() {
            // The last block of such a tail lies so far before the end of the window.
            Some(block) if self.longest == self.shortest => {
                self.shortest.saturating_sub(usize::from(self.shifts[slot(block)])).max(BLOCK - 1)
            }
            _ => self.longest - 1,
        }
    }

    /// Whether a spelling begins with a text and is longer.
    fn begins(&self, text: &[u8]) -> bool {
        let first = self.spellings.partition_point(|spelling| spelling.bytes() <= text);
        self.spellings.get(first).is_some_and(|spelling| spelling.bytes().starts_with(text))
    }
}

/// Where a block of four bytes stands in the table (Knuth's multiplicative hash).
fn slot(block: &[u8]) -> usize {
    let block = block.try_into().map_or(0, u32::from_le_bytes);
    (block.wrapping_mul(0x9e37_79b1) >> 16) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(texts: &[&str]) -> Values {
        Values::new(texts.iter().enumerate().map(|(value, text)| (text.as_bytes().to_vec(), value))).expect("some")
    }

    #[test]
    fn without_texts_there_is_nothing_to_find() {
        assert!(Values::new([]).is_none());
        assert!(Values::new([(b"short".to_vec(), 0)]).is_none());
    }

    #[test]
    fn the_longest_of_texts_that_begin_alike_is_found() {
        let values = values(&["abcdefgh", "abcdefghij", "abcdefghiz"]);
        assert_eq!(values.find(b"xxabcdefghijk", 0), Some(Found { start: 2, end: 12, value: 1 }));
        assert_eq!(values.find(b"xxabcdefghix", 0), Some(Found { start: 2, end: 10, value: 0 }));
        assert_eq!(values.find(b"xxabcdefghijk", 3), None);
    }

    proptest! {
        #[test]
        fn it_finds_what_a_plain_search_finds(
            texts in proptest::collection::vec("[ab]{8,12}", 1..6),
            text in "[ab]{0,80}",
            from in 0_usize..90,
        ) {
            let texts: Vec<_> = texts.iter().map(String::as_str).collect();
            let values = values(&texts);
            let plain = (from..text.len()).find(|&start| texts.iter().any(|known| text[start..].starts_with(known)));
            prop_assert_eq!(values.find(text.as_bytes(), from).map(|found| found.start), plain);
            let open = (from..text.len()).find(|&start| {
                texts.iter().any(|known| known.len() > text.len() - start && known.starts_with(&text[start..]))
            });
            prop_assert_eq!(values.open(text.as_bytes(), from), open.unwrap_or(text.len()));
        }

        #[test]
        fn texts_of_one_length_too(texts in proptest::collection::vec("[ab]{9}", 1..6), text in "[ab]{0,40}") {
            let texts: Vec<_> = texts.iter().map(String::as_str).collect();
            let values = values(&texts);
            let plain = (0..text.len()).find(|&start| texts.iter().any(|known| text[start..].starts_with(known)));
            prop_assert_eq!(values.find(text.as_bytes(), 0).map(|found| found.start), plain);
            let open = (0..text.len()).find(|&start| {
                texts.iter().any(|known| known.len() > text.len() - start && known.starts_with(&text[start..]))
            });
            prop_assert_eq!(values.open(text.as_bytes(), 0), open.unwrap_or(text.len()));
        }
    }
}
