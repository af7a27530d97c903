//! Tests of whole texts.

mod playlists;
mod properties;
mod shapes;

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::upstream::Kind;

/// Tokens of Emby and Jellyfin.
const MINE: &str = "d0aa472dc34e4b9cac0f0f75a20a3196";
const YOURS: &str = "b4fb7b47ee5745d4b6024f524f230ea2";
const TICKET: &str = "kgt_AAAABBBBCCCCDDDDEEEEFFFFGGGG";
const KEY: &str = "kg_0123456789_secretsecretsecretsecretsecret";
const ORIGIN: &str = "http://127.0.0.1:8096";
/// Tokens of Audiobookshelf.
const ACCESS: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VySWQiOiI1YmJiMjA0NiIsInR5cGUiOiJhY2Nlc3MifQ.AAAA-BBBB_CCCC";
const REFRESH: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VySWQiOiI1YmJiMjA0NiIsInR5cGUiOiJyZWZyZXNoIn0.DDDD-EEEE_FFFF";
const PERMANENT: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VySWQiOiI1YmJiMjA0NiIsImlhdCI6MTc5NTMwMzEwMH0.0000000000";

fn secret(text: &str) -> Secret<String> {
    Secret::from(text)
}

fn secrets(kind: Kind, values: &[&str]) -> Arc<Secrets> {
    let values: Vec<_> = values.iter().map(|value| secret(value)).collect();
    Arc::new(Secrets::new(kind, &values, &[ORIGIN.to_owned()]))
}

/// Nothing is given for what is taken.
fn blank(kind: Kind, text: Text, values: &[&str]) -> Plan {
    Plan::new(text, secrets(kind, values), Own::default())
}

/// The ticket for tokens in URLs.
fn ticket(kind: Kind, text: Text) -> Plan {
    let own = Own { tokens: vec![secret(MINE)], in_urls: Some(secret(TICKET)), ..Own::default() };
    Plan::new(text, secrets(kind, &[MINE, YOURS]), own)
}

/// The key in token fields.
fn login(kind: Kind, text: Text) -> Plan {
    let tokens = [MINE, ACCESS, REFRESH, PERMANENT].map(secret).into();
    let own = Own { tokens, in_fields: Some(secret(KEY)), ..Own::default() };
    Plan::new(text, secrets(kind, &[MINE, YOURS, ACCESS, REFRESH, PERMANENT]), own)
}

/// A text scrubbed in chunks that end at the given places.
fn chunked(plan: &Plan, text: &[u8], places: &[usize]) -> Result<Vec<u8>, Leak> {
    let mut scrubber = Scrubber::new(Arc::new(plan.clone()));
    let mut out = Vec::new();
    let mut from = 0;
    for place in places.iter().map(|place| place % (text.len() + 1)).collect::<std::collections::BTreeSet<_>>() {
        out.extend_from_slice(&scrubber.push(Bytes::copy_from_slice(&text[from..place]))?);
        from = place;
    }
    out.extend_from_slice(&scrubber.push(Bytes::copy_from_slice(&text[from..]))?);
    out.extend_from_slice(&scrubber.finish()?);
    Ok(out)
}

/// A text scrubbed at once.
fn whole(plan: &Plan, text: &[u8]) -> Result<Vec<u8>, Leak> {
    plan.whole(Bytes::copy_from_slice(text)).map(|out| out.to_vec())
}

/// A text scrubbed whole, cut in two at every place, and byte by byte: always the same.
fn scrubbed(plan: &Plan, text: &str) -> String {
    let text = text.as_bytes();
    let out = whole(plan, text).expect("no leak");
    for place in 0..text.len() {
        assert_eq!(
            String::from_utf8_lossy(&chunked(plan, text, &[place]).expect("no leak")),
            String::from_utf8_lossy(&out),
            "cut at {place}"
        );
    }
    let everywhere: Vec<_> = (0..text.len()).collect();
    assert_eq!(chunked(plan, text, &everywhere).expect("no leak"), out, "byte by byte");
    if plan.keeps_length() {
        assert_eq!(out.len(), text.len());
    }
    String::from_utf8(out).expect("text")
}
