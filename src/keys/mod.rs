//! keygate's own credential: its text, its stored form, and the index that the request path asks.

pub mod index;
pub mod key;
pub mod record;
mod shard;

pub use key::{ApiKey, KeyDigest, KeyHasher, KeyId, MalformedKey};
