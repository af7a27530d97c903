//! Blanking of what may be a secret in lines of the file that a message is about to show.

/// Words that, in a line, make its strings suspicious.
const SUSPICIOUS: [&str; 7] = ["password", "passwd", "secret", "token", "master_key", "apikey", "-----begin"];
/// Beginnings of lines within a secret's table that is spread over several lines.
const PARTS: [&str; 2] = ["env", "credential"];

/// `source` with each suspicious string blanked by as many `*`, so that byte positions stay.
///
/// It works on text, not on the parsed document, so that it also holds where the document does not parse. Blanking too much
/// only makes a message less helpful.
pub(crate) fn redacted(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut inside_block = false;
    for line in source.split_inclusive('\n') {
        let folded = line.to_ascii_lowercase().replace("api_key", "apikey");
        let part = PARTS.iter().any(|word| folded.trim_start().starts_with(word));
        let suspicious = part || SUSPICIOUS.iter().any(|word| folded.contains(word));
        let fences = line.matches("\"\"\"").count() + line.matches("'''").count();
        if inside_block || (suspicious && !is_reference(line)) {
            out.push_str(&blank_after_equals(line, inside_block));
            inside_block = if fences % 2 == 1 { !inside_block } else { inside_block };
        } else {
            out.push_str(&blank_loose_secrets(line));
        }
    }
    out
}

/// Whether a line is `name = { file = "…" }` or the like, or a comment without a value.
fn is_reference(line: &str) -> bool {
    let Some((_, value)) = line.split_once('=') else { return !line.contains(['"', '\'']) };
    let Some(inner) = value.trim().strip_prefix('{') else { return false };
    let Some((form, text)) = inner.split_once('=') else { return false };
    let text = text.trim_start();
    let rest = text.strip_prefix('"').and_then(|text| text.split_once('"')).map(|(_, rest)| rest.trim());
    matches!(form.trim(), "file" | "env" | "credential")
        && !(form.trim() != "file" && text.contains(|c: char| !(c.is_ascii_alphanumeric() || "\"_-. }#\r\n".contains(c))))
        && rest.and_then(|rest| rest.strip_prefix('}')).is_some_and(|rest| rest.trim().is_empty() || rest.trim().starts_with('#'))
}

/// All after the first `=`, or the whole line.
fn blank_after_equals(line: &str, whole: bool) -> String {
    let start = if whole { 0 } else { line.find('=').map_or(0, |at| at + 1) };
    let (head, tail) = line.split_at(start);
    let mut out = head.to_owned();
    for c in tail.chars() {
        if c.is_ascii_whitespace() { out.push(c) } else { out.extend(std::iter::repeat_n('*', c.len_utf8())) }
    }
    out
}

/// The credentials of URLs, and keygate's own keys.
fn blank_loose_secrets(line: &str) -> String {
    let mut bytes = line.as_bytes().to_vec();
    let mut from = 0;
    while let Some(at) = line[from..].find("//").map(|at| from + at + 2) {
        let end = line[at..].find(['"', '\'', ' ', '\n']).map_or(line.len(), |end| at + end);
        if let Some(sign) = line[at..end].rfind('@') {
            bytes[at..at + sign].fill(b'*');
        }
        from = at;
    }
    for (at, _) in line.match_indices("kg_") {
        let end = line[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(line.len(), |end| at + end);
        bytes[at..end].fill(b'*');
    }
    String::from_utf8(bytes).unwrap_or_else(|_| "*".repeat(line.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_secret_is_blanked_and_a_reference_is_shown() {
        for (line, secret) in [
            ("master_key = \"hunter2\"", "hunter2"),
            ("master_key = { value = \"hunter2\" }", "hunter2"),
            ("master_key = { env = \"hunter2=\" }", "hunter2"),
            ("master_key = \"hunter2", "hunter2"),
            ("password = 'hunter2'", "hunter2"),
            ("url = \"http://root:hunter2@127.0.0.1:80\"", "hunter2"),
            ("url = \"http://root:hun/ter2@127.0.0.1:80\"", "hun/ter2@127"),
            ("api_key = 'hunter2'", "hunter2"),
            ("note = \"kg_0123456789_hunter2\"", "hunter2"),
            ("master_key = \"\"\"\nhunter2\nhunter2\"\"\"\nlisten = 1", "hunter2"),
        ] {
            let shown = redacted(line);
            assert!(!shown.contains(secret), "{shown}");
            assert_eq!(shown.len(), line.len());
        }
        for line in ["master_key = { file = \"/etc/keygate/master.key\" }", "url = \"http://127.0.0.1:80\" # home", "listen = 1\n"] {
            assert_eq!(redacted(line), line);
        }
    }

    proptest::proptest! {
        #[test]
        fn lengths_and_lines_stay(text in "(\\PC|\n|//|@|=|kg_|token)*") {
            let shown = redacted(&text);
            proptest::prop_assert_eq!(shown.len(), text.len());
            proptest::prop_assert_eq!(shown.lines().count(), text.lines().count());
        }
    }
}
