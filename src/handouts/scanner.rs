//! Finds one string field at the top of a JSON object while its bytes go by: constant memory, nothing held back.

use super::LONGEST_ID;

/// What is being looked for, and how far it has come.
#[derive(Debug)]
pub(super) struct Scanner {
    field: &'static str,
    depth: u32,
    string: Option<Text>,
    /// At the top of the object: whether the next string is a value, and whether it is the one.
    place: Place,
    is_done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A name, or nothing of interest.
    Name,
    /// The wanted name was read; its colon comes next.
    Wanted,
    /// Its value comes next.
    Value,
}

/// A string that is being read.
#[derive(Debug)]
struct Text {
    /// What was read of it; kept at the top of the object only.
    bytes: Vec<u8>,
    is_kept: bool,
    is_escaped: bool,
}

impl Scanner {
    /// `field`: compared without regard to case (Jellyfin writes names in either).
    pub(super) const fn new(field: &'static str) -> Self {
        Self { field, depth: 0, string: None, place: Place::Name, is_done: false }
    }

    /// Whether nothing more can be found.
    pub(super) const fn is_done(&self) -> bool {
        self.is_done
    }

    /// Reads on; the value, once it is whole.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Option<String> {
        if self.is_done {
            return None;
        }
        for &byte in bytes {
            let found = match self.string.take() {
                Some(text) => self.in_string(text, byte),
                None => {
                    self.outside(byte);
                    None
                }
            };
            if self.is_done {
                return found;
            }
        }
        None
    }

    fn in_string(&mut self, mut text: Text, byte: u8) -> Option<String> {
        if byte == b'"' && !text.is_escaped {
            return self.end_string(text);
        }
        text.is_escaped = byte == b'\\' && !text.is_escaped;
        // Neither the names nor the ids that are looked for are ever escaped or so long.
        text.is_kept &= byte != b'\\' && text.bytes.len() < LONGEST_ID;
        if text.is_kept {
            text.bytes.push(byte);
        }
        self.string = Some(text);
        None
    }

    fn end_string(&mut self, text: Text) -> Option<String> {
        if self.depth != 1 {
            return None;
        }
        match self.place {
            Place::Name if text.is_kept && text.bytes.eq_ignore_ascii_case(self.field.as_bytes()) => self.place = Place::Wanted,
            Place::Value => {
                self.is_done = true;
                return text.is_kept.then(|| String::from_utf8(text.bytes).ok()).flatten();
            }
            _ => {}
        }
        None
    }

    fn outside(&mut self, byte: u8) {
        match byte {
            b'"' => self.string = Some(Text { bytes: Vec::new(), is_kept: self.depth == 1, is_escaped: false }),
            b'{' | b'[' => {
                // A list at the top, or an object where the string should be.
                self.is_done |= (self.depth == 0 && byte == b'[') || (self.depth == 1 && self.place == Place::Value);
                self.depth = self.depth.saturating_add(1);
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.is_done |= self.depth == 0;
            }
            b':' if self.depth == 1 && self.place == Place::Wanted => self.place = Place::Value,
            b',' if self.depth == 1 => {
                // A value that is no string went by.
                self.is_done |= self.place == Place::Value;
                self.place = Place::Name;
            }
            b'\xef' | b'\xbb' | b'\xbf' | b' ' | b'\t' | b'\r' | b'\n' => {}
            // Something that is not JSON.
            _ => self.is_done |= self.depth == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(field: &'static str, text: &str) -> Option<String> {
        Scanner::new(field).read(text.as_bytes())
    }

    #[test]
    fn the_field_at_the_top_is_found_and_no_other_of_its_name() {
        for (text, value) in [
            (r#"{"id":"abc"}"#, Some("abc")),
            (r#" { "a" : {"id":"no"}, "b":["id","no",{"id":"no"}], "ID" : "yes" , "id":"later"}"#, Some("yes")),
            (r#"{"x":"id","id":"abc"}"#, Some("abc")),
            (r#"{"x":"\"id\":\"no\"","y":"\\","id":"abc"}"#, Some("abc")),
            (r#"{"x":"{[","id":"abc"}"#, Some("abc")),
            (r#"{"a":{"id":"no"}}"#, None),
            (r#"{"id":7,"a":"no"}"#, None),
            (r#"{"id":null,"id":"no"}"#, None),
            (r#"{"id":{"id":"no"}}"#, None),
            (r#"{"id":"a\u0062c"}"#, None),
            (r#"[{"id":"no"}]"#, None),
            (r#""id":"no""#, None),
            (r#"<html id="no">"#, None),
            ("", None),
        ] {
            assert_eq!(found("id", text).as_deref(), value, "{text}");
        }
    }

    #[test]
    fn a_value_that_is_too_long_for_an_id_is_none() {
        let text = |length: usize| format!(r#"{{"id":"{}"}}"#, "a".repeat(length));
        assert!(found("id", &text(LONGEST_ID)).is_some() && found("id", &text(LONGEST_ID + 1)).is_none());
    }

    /// Objects with names and texts that could confuse.
    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let text = r#"[a-z"\\{}\[\]:,]{0,6}|id"#;
        let leaf = prop_oneof![Just(serde_json::Value::Null), any::<i32>().prop_map(Into::into), text.prop_map(serde_json::Value::String)];
        let nested = leaf.prop_recursive(3, 12, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
                proptest::collection::btree_map(text, inner, 0..4).prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        });
        proptest::collection::btree_map(text, nested, 0..5).prop_map(|map| serde_json::Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn it_reads_what_a_json_parser_reads_wherever_the_pieces_are_cut(value in any_json(), cut in 1_usize..9) {
            let wanted = value.get("id").and_then(serde_json::Value::as_str).filter(|id| !id.contains(['"', '\\'])).map(str::to_owned);
            let mut scanner = Scanner::new("id");
            let text = value.to_string();
            let read = text.as_bytes().chunks(cut).find_map(|piece| scanner.read(piece));
            prop_assert_eq!(read, wanted, "{}", text);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Scanner::new("id").read(&bytes);
        }
    }
}
