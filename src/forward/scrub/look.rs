//! What a content type says: bytes that nobody reads, or a text in which a credential may stand.

use http::HeaderValue;

use crate::scrub::Text;

/// Types of `application/` that are files: never looked into.
const FILES: &[&str] = &[
    "octet-stream",
    "zip",
    "x-zip",
    "x-zip-compressed",
    "gzip",
    "x-gzip",
    "x-tar",
    "x-7z-compressed",
    "vnd.rar",
    "x-rar-compressed",
    "pdf",
    "epub+zip",
    "x-mobipocket-ebook",
    "vnd.amazon.ebook",
    "vnd.comicbook+zip",
    "vnd.comicbook-rar",
    "x-cbz",
    "x-cbr",
    "ogg",
    "mp4",
    "wasm",
    "font-woff",
    "font-woff2",
    "x-font-ttf",
    "x-font-otf",
    "vnd.ms-fontobject",
    "x-bittorrent",
];

/// The text of an answer that says it is of this type; `None`: bytes. What says nothing, and what nobody knows, is looked into.
pub(super) fn text_of(content_type: Option<&HeaderValue>) -> Option<Text> {
    let Some(whole) = content_type.map(|value| value.as_bytes()) else { return Some(Text::Json) };
    let essence = whole.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    // Nearly all of them.
    if essence == b"application/json" {
        return Some(Text::Json);
    }
    let Ok(essence) = std::str::from_utf8(essence) else { return Some(Text::Plain) };
    let (main, sub) = essence.split_once('/').unwrap_or((essence, ""));
    let is = |name: &str| sub.eq_ignore_ascii_case(name);
    let ends = |end: &str| {
        sub.len() >= end.len() && sub.is_char_boundary(sub.len() - end.len()) && sub[sub.len() - end.len()..].eq_ignore_ascii_case(end)
    };
    if ["vnd.apple.mpegurl", "x-mpegurl", "mpegurl"].into_iter().any(is) {
        return Some(Text::Playlist);
    }
    if ends("+xml") || is("xml") {
        return Some(Text::Xml);
    }
    if ["audio", "video", "image", "font"].iter().any(|bytes| main.eq_ignore_ascii_case(bytes)) {
        return None;
    }
    if main.eq_ignore_ascii_case("application") && FILES.iter().copied().any(is) {
        return None;
    }
    // Text that calls itself plain is what Socket.IO's packets travel as, and what servers say of JSON that they do not name.
    let is_json = is("json") || ends("+json") || is("x-ndjson") || is("jsonl") || (main.eq_ignore_ascii_case("text") && is("plain"));
    Some(if is_json || essence.is_empty() { Text::Json } else { Text::Plain })
}

/// Whether a type is the one of files that are of no type.
pub(super) fn says_nothing(content_type: Option<&HeaderValue>) -> bool {
    content_type.is_none_or(|value| {
        let essence = value.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        essence.eq_ignore_ascii_case(b"application/octet-stream")
    })
}

/// Whether a text is written in units of more than one byte: then nothing can be found in it.
pub(super) fn is_wide(content_type: Option<&HeaderValue>) -> bool {
    let parameters = content_type.and_then(|value| Some(&value.as_bytes()[memchr::memchr(b';', value.as_bytes())? + 1..]));
    // What servers write who write any.
    let Some(parameters) = parameters.filter(|parameters| *parameters != b" charset=utf-8") else { return false };
    let charset = String::from_utf8_lossy(parameters).to_ascii_lowercase();
    ["utf-16", "utf16", "utf-32", "utf32", "utf-7", "ucs-2", "iso-10646", "unicode"].iter().any(|wide| charset.contains(wide))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(content_type: &'static str) -> Option<Text> {
        text_of(Some(&HeaderValue::from_static(content_type)))
    }

    #[test]
    fn media_and_files_are_bytes() {
        for content_type in [
            "audio/mpeg",
            "VIDEO/mp2t",
            "image/png",
            "font/woff2",
            "application/octet-stream",
            "Application/ZIP; x=y",
            "application/epub+zip",
        ] {
            assert_eq!(text(content_type), None, "{content_type}");
        }
    }

    #[test]
    fn texts_are_told_apart_by_where_credentials_stand_in_them() {
        for (content_type, wanted) in [
            ("application/json; charset=utf-8", Text::Json),
            ("application/problem+json", Text::Json),
            ("text/json", Text::Json),
            ("text/plain; charset=UTF-8", Text::Json),
            ("", Text::Json),
            ("application/xml", Text::Xml),
            ("text/XML", Text::Xml),
            ("application/rss+xml", Text::Xml),
            ("image/svg+xml", Text::Xml),
            ("application/x-mpegURL", Text::Playlist),
            ("application/vnd.apple.mpegurl", Text::Playlist),
            ("audio/mpegurl;charset=utf-8", Text::Playlist),
            ("text/html", Text::Plain),
            ("text/vtt", Text::Plain),
            ("application/javascript", Text::Plain),
            ("application/x-subrip", Text::Plain),
            ("application/something-new", Text::Plain),
            ("nonsense", Text::Plain),
        ] {
            assert_eq!(text(content_type), Some(wanted), "{content_type}");
        }
        assert_eq!(text_of(None), Some(Text::Json));
    }

    #[test]
    fn wide_characters_are_noticed() {
        let wide = |value| is_wide(Some(&HeaderValue::from_static(value)));
        assert!(wide("application/json; charset=UTF-16LE") && wide("text/xml;charset=\"utf-32\""));
        assert!(wide("text/plain; charset=unicode"));
        assert!(is_wide(Some(&HeaderValue::from_bytes(b"text/plain; x=\xe9; charset=utf-16").expect("a value"))));
        assert!(!wide("application/json; charset=utf-8") && !wide("application/json") && !is_wide(None));
    }
}
