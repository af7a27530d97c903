//! A text that is copied only if something in it is replaced.

use std::ops::Range;

/// Collects replacements, from the left to the right.
#[derive(Debug)]
pub(super) struct Edit<'t> {
    source: &'t [u8],
    /// What goes out, as far as `done`; `None`: nothing was replaced.
    out: Option<Vec<u8>>,
    done: usize,
}

impl<'t> Edit<'t> {
    pub(super) const fn new(source: &'t [u8]) -> Self {
        Self { source, out: None, done: 0 }
    }

    /// Another text in place of a piece that begins where the last one ended, or after it.
    pub(super) fn replace(&mut self, piece: Range<usize>, with: &[u8]) {
        self.copied(piece).extend_from_slice(with);
    }

    /// The same byte in place of each of a piece.
    pub(super) fn fill(&mut self, piece: Range<usize>, byte: u8) {
        let length = piece.len();
        let out = self.copied(piece);
        out.resize(out.len() + length, byte);
    }

    fn copied(&mut self, piece: Range<usize>) -> &mut Vec<u8> {
        debug_assert!(self.done <= piece.start && piece.start <= piece.end);
        let capacity = self.source.len();
        let out = self.out.get_or_insert_with(|| Vec::with_capacity(capacity));
        out.extend_from_slice(self.source.get(self.done..piece.start).unwrap_or_default());
        self.done = piece.end;
        out
    }

    /// What goes out of the text up to `end`; `None`: just that.
    pub(super) fn finish(self, end: usize) -> Option<Vec<u8>> {
        let mut out = self.out?;
        out.extend_from_slice(self.source.get(self.done..end).unwrap_or_default());
        Some(out)
    }
}
