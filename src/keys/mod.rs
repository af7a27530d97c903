//! keygate's own credential: its text, its stored form, and the index that the request path asks.

pub mod admin;
mod dead;
pub mod index;
pub mod key;
pub mod preset;
pub mod record;
pub mod scope;
mod shard;
pub mod ticket;

pub use key::{ApiKey, KeyDigest, KeyHasher, KeyId, MalformedKey};
pub use preset::{Preset, UnknownPreset};
pub use scope::{Scope, Scopes, UnknownScope};
pub use ticket::Ticket;
