//! HLS playlists: every URL of the upstream's own gets the client's credential (RFC 8216, sections 4.1 and 4.2).

use std::borrow::Cow;

use memchr::memchr;

use super::edit::Edit;
use super::{Leak, Plan, Text, url};
use crate::upstream::Kind;

/// Longest line that is looked at, in bytes.
const MAX_LINE: usize = 64 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Rewrites the whole lines of a text, or all of it if nothing follows; up to where.
pub(super) fn run<'t>(plan: &Plan, text: &'t [u8], last: bool, edit: &mut Edit<'t>) -> Result<usize, Leak> {
    let mut at = 0;
    while at < text.len() {
        let end = match memchr(b'\n', &text[at..]) {
            Some(length) => at + length + 1,
            None if last => text.len(),
            None => break,
        };
        check_length(end - at)?;
        if let Cow::Owned(line) = line(plan, &text[at..end])? {
            edit.replace(at..end, &line);
        }
        at = end;
    }
    check_length(text.len() - at)?;
    Ok(at)
}

/// Whether a line that was held back does not end in its last `new` bytes either, and may still become longer.
pub(super) fn is_open_line(text: &[u8], new: usize) -> bool {
    text.len() <= MAX_LINE && memchr(b'\n', &text[text.len() - new..]).is_none()
}

const fn check_length(line: usize) -> Result<(), Leak> {
    if line > MAX_LINE { Err(Leak::LongLine) } else { Ok(()) }
}

fn line<'l>(plan: &Plan, line: &'l [u8]) -> Result<Cow<'l, [u8]>, Leak> {
    let content = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii();
    let rewritten = if content.starts_with(b"#EXT") {
        attributes(plan, content)?
    } else if content.is_empty() || content.starts_with(b"#") {
        None
    } else {
        uri(plan, content)?
    };
    let Some(rewritten) = rewritten else {
        return plan.clean(Text::Plain, line);
    };
    // What is around the content is white space and a byte order mark.
    let (before, after) = around(line, content);
    let whole = [before, &rewritten, after].concat();
    Ok(Cow::Owned(plan.clean(Text::Plain, &whole)?.into_owned()))
}

fn around<'l>(line: &'l [u8], content: &[u8]) -> (&'l [u8], &'l [u8]) {
    let mark = line.len() - line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).len();
    let before = mark + (line.len() - mark - line[mark..].trim_ascii_start().len());
    (&line[..before], &line[before + content.len()..])
}

/// A tag with each of its `URI="…"` rewritten; `None` if it stays.
fn attributes(plan: &Plan, tag: &[u8]) -> Result<Option<Vec<u8>>, Leak> {
    let mut edit = Edit::new(tag);
    let mut at = 0;
    // From one quoted string to the next: a string may hold anything that looks like an attribute.
    while let Some(quote) = memchr(b'"', &tag[at..]) {
        let start = at + quote + 1;
        let end = memchr(b'"', &tag[start..]).map_or(tag.len(), |length| start + length);
        if tag[at..start].ends_with(b"URI=\"")
            && let Some(url) = uri(plan, &tag[start..end])?
        {
            edit.replace(start..end, &url);
        }
        at = tag.len().min(end + 1);
    }
    Ok(edit.finish(tag.len()))
}

/// A URL rewritten: of the upstream's own, or with a credential in it that is nobody else's business; `None` if it stays.
fn uri(plan: &Plan, text: &[u8]) -> Result<Option<Vec<u8>>, Leak> {
    // Audiobookshelf's segments are below an unguessable id: they need no credential.
    if let Some(url) = url::own(plan, text, "", plan.secrets.kind != Kind::Audiobookshelf) {
        return Ok(Some(url));
    }
    match plan.clean_for_others(text)? {
        Cow::Owned(url) => Ok(Some(url)),
        Cow::Borrowed(_) => Ok(None),
    }
}
