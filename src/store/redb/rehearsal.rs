//! A look at a store that cannot change it: redb runs on the file, its locks are real, its writes land in memory.
//!
//! Opening a redb file writes to it (the repair after a crash, the mark of an open writer). A store that turns out to be foreign,
//! damaged or of a newer keygate must stay as it was byte for byte, so the first opening is played through here.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

const BLOCK: usize = 4096;

/// What has been written over the file, and how long it would be.
#[derive(Debug)]
struct Overlay {
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
    len: u64,
    /// Bytes of the file that are still visible: a cut followed by growth shows zeros.
    visible: u64,
}

/// A file under an overlay in memory.
#[derive(Debug)]
pub(super) struct Rehearsal {
    file: FileBackend,
    overlay: Mutex<Overlay>,
}

impl Rehearsal {
    /// Over an opened file.
    pub(super) fn new(file: FileBackend) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self { file, overlay: Mutex::new(Overlay { blocks: BTreeMap::new(), len, visible: len }) })
    }

    fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One block as it would be read, from the overlay or the file.
    fn block(&self, overlay: &Overlay, number: u64) -> io::Result<Box<[u8; BLOCK]>> {
        if let Some(block) = overlay.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = Box::new([0; BLOCK]);
        let start = number * BLOCK as u64;
        let there = usize::try_from(overlay.visible.saturating_sub(start)).unwrap_or(BLOCK).min(BLOCK);
        if there > 0 {
            self.file.read(start, &mut block[..there])?;
        }
        Ok(block)
    }
}

/// Where a run of bytes touches which block: number, offset within it, length.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut at = offset;
    let mut left = len;
    std::iter::from_fn(move || {
        let within = usize::try_from(at % BLOCK as u64).unwrap_or(0);
        let piece = (BLOCK - within).min(left);
        let number = at / BLOCK as u64;
        at += piece as u64;
        left -= piece;
        (piece > 0).then_some((number, within, piece))
    })
}

impl StorageBackend for Rehearsal {
    fn len(&self) -> io::Result<u64> {
        Ok(self.overlay().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let overlay = self.overlay();
        if offset.saturating_add(out.len() as u64) > overlay.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        for (number, within, piece) in pieces(offset, out.len()) {
            let block = self.block(&overlay, number)?;
            out[done..done + piece].copy_from_slice(&block[within..within + piece]);
            done += piece;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut overlay = self.overlay();
        if len < overlay.len {
            let kept = len.div_ceil(BLOCK as u64);
            overlay.blocks.split_off(&kept);
            let within = usize::try_from(len % BLOCK as u64).unwrap_or(0);
            if let Some(last) = overlay.blocks.get_mut(&(len / BLOCK as u64)) {
                last[within..].fill(0);
            }
            overlay.visible = overlay.visible.min(len);
        }
        overlay.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut overlay = self.overlay();
        let mut done = 0;
        for (number, within, piece) in pieces(offset, data.len()) {
            let mut block = self.block(&overlay, number)?;
            block[within..within + piece].copy_from_slice(&data[done..done + piece]);
            overlay.blocks.insert(number, block);
            done += piece;
        }
        overlay.len = overlay.len.max(offset + data.len() as u64);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn writes_are_seen_by_later_reads_and_never_reach_the_file() {
        let mut file = tempfile::tempfile().expect("temporary file");
        file.write_all(&[7; 10_000]).expect("written");
        let rehearsal = Rehearsal::new(FileBackend::new(file.try_clone().expect("clone")).expect("backend")).expect("rehearsal");
        rehearsal.write(4090, &[9; 20]).expect("overlay");
        let mut seen = [0; 24];
        rehearsal.read(4088, &mut seen).expect("read");
        assert_eq!(seen[..2], [7, 7]);
        assert_eq!(seen[2..22], [9; 20]);
        let mut raw = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut raw).map(drop)).expect("raw bytes");
        assert_eq!(raw, [7; 10_000]);
    }

    #[test]
    fn what_was_cut_off_comes_back_as_zeros() {
        let mut file = tempfile::tempfile().expect("temporary file");
        file.write_all(&[7; 10_000]).expect("written");
        let rehearsal = Rehearsal::new(FileBackend::new(file).expect("backend")).expect("rehearsal");
        rehearsal.set_len(5000).and_then(|()| rehearsal.set_len(9000)).expect("lengths");
        let mut seen = [1; 2];
        rehearsal.read(4999, &mut seen).expect("read");
        assert_eq!(seen, [7, 0]);
    }
}
