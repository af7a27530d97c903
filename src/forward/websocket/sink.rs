//! Where what goes on is gathered: bytes that pass as they came are not copied.

use std::ops::Range;

use bytes::Bytes;

/// The outcome of looking through one read. As long as all that goes on is a prefix of what came, nothing is copied.
#[derive(Debug)]
pub(crate) struct Sink<'a> {
    data: &'a Bytes,
    kept: usize,
    copy: Option<Vec<u8>>,
}

impl<'a> Sink<'a> {
    /// For one read.
    pub(crate) const fn new(data: &'a Bytes) -> Self {
        Self { data, kept: 0, copy: None }
    }

    /// A part of the read goes on as it is.
    pub(crate) fn keep(&mut self, range: Range<usize>) {
        match &mut self.copy {
            None if range.start == self.kept => self.kept = range.end,
            _ => {
                let data = self.data;
                self.put(&data[range]);
            }
        }
    }

    /// Other bytes go on.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let kept = &self.data[..self.kept];
        self.copy.get_or_insert_with(|| kept.to_vec()).extend_from_slice(bytes);
    }

    /// Bytes go on that may be a part of the read.
    pub(crate) fn pass(&mut self, bytes: &Bytes) {
        let start = (bytes.as_ptr() as usize).wrapping_sub(self.data.as_ptr() as usize);
        match start.checked_add(bytes.len()) {
            // The read is alive and cannot have changed: the same memory holds the same bytes.
            Some(end) if start < self.data.len() && end <= self.data.len() => self.keep(start..end),
            _ => self.put(bytes),
        }
    }

    /// All that goes on.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.copy.as_deref().unwrap_or(&self.data[..self.kept])
    }

    /// Whether something had to be copied.
    #[cfg(test)]
    pub(crate) const fn has_copied(&self) -> bool {
        self.copy.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_not_copied_and_everything_else_comes_in_order() {
        let data = Bytes::from_static(b"abcdef");
        let mut sink = Sink::new(&data);
        sink.keep(0..2);
        sink.pass(&data.slice(2..4));
        assert!(!sink.has_copied());
        assert_eq!(sink.bytes(), b"abcd");
        sink.pass(&Bytes::from_static(b"XY"));
        sink.keep(5..6);
        assert_eq!(sink.bytes(), b"abcdXYf");
    }
}
