//! Keys: the list, a new one, one in detail, and what can be done to it.

pub(super) mod detail;
pub(super) mod edit;
pub(super) mod end;
mod fields;
mod limits;
pub(super) mod list;
pub(super) mod new;
pub(super) mod secret;
mod used;
