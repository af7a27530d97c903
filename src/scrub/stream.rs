//! Texts that come in chunks.

use std::sync::Arc;

use bytes::Bytes;

use super::edit::Edit;
use super::walk::{Place, Walk};
use super::{Leak, Plan, Text, playlist, unusual};

/// Scrubs one text, chunk by chunk. A few words large while nothing is held back.
///
/// What is held back is bounded: the beginning of a credential, a string of a login's answer of at most 4 KiB, or a line of a playlist of
/// at most 64 KiB.
pub struct Scrubber {
    plan: Arc<Plan>,
    place: Place,
    held: Vec<u8>,
}

impl std::fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is held back may be a credential.
        f.debug_struct("Scrubber").field("place", &self.place).field("held", &self.held.len()).finish_non_exhaustive()
    }
}

impl Scrubber {
    /// At the beginning of a text.
    pub const fn new(plan: Arc<Plan>) -> Self {
        Self { plan, place: Place::Text, held: Vec::new() }
    }

    /// What can go out after one more chunk: the chunk itself if nothing was found in it (no copy), without a tail that may be the
    /// beginning of a credential. It may be empty.
    ///
    /// # Errors
    /// [`Leak`]: nothing more may go out.
    pub fn push(&mut self, chunk: Bytes) -> Result<Bytes, Leak> {
        if self.held.is_empty() {
            return self.run(chunk, false);
        }
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(&chunk);
        if self.plan.text == Text::Playlist && playlist::is_open_line(&text, chunk.len()) {
            // It is looked at once, when it is whole, however small the pieces are.
            self.held = text;
            return Ok(Bytes::new());
        }
        self.run(Bytes::from(text), false)
    }

    /// What was held back, at the end of the text. The scrubber is then at the beginning of a text again.
    ///
    /// # Errors
    /// [`Leak`].
    pub fn finish(&mut self) -> Result<Bytes, Leak> {
        let held = std::mem::take(&mut self.held);
        let rest = self.run(Bytes::from(held), true);
        self.place = Place::Text;
        self.held = Vec::new();
        rest
    }

    /// How many bytes are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    fn run(&mut self, text: Bytes, last: bool) -> Result<Bytes, Leak> {
        let (end, edited) = run(&self.plan, &mut self.place, &text, last)?;
        self.held = text[end..].to_vec();
        Ok(edited.map_or_else(|| text.slice(..end), Bytes::from))
    }
}

impl Plan {
    /// Scrubs a text that is all here: it itself if nothing was found in it (no copy).
    ///
    /// # Errors
    /// [`Leak`].
    pub fn whole(&self, text: Bytes) -> Result<Bytes, Leak> {
        let (end, edited) = run(self, &mut Place::Text, &text, true)?;
        Ok(edited.map_or_else(|| text.slice(..end), Bytes::from))
    }
}

/// Scrubs as much of a text as can be judged: how much that is, and what goes out in its place if not just that.
fn run(plan: &Plan, place: &mut Place, text: &[u8], last: bool) -> Result<(usize, Option<Vec<u8>>), Leak> {
    let mut edit = Edit::new(text);
    let end = if plan.text == Text::Playlist {
        playlist::run(plan, text, last, &mut edit)?
    } else {
        let whole = unusual::check(&plan.secrets, plan.text, text, last)?;
        Walk::new(plan, plan.text, &text[..whole], last, &mut edit).run(place)
    };
    Ok((end, edit.finish(end)))
}
