//! What a request asks for: its path in the one form that is both judged and forwarded, and the host that it names.

mod host;
mod path;

pub use host::{Host, InvalidHost};
pub use path::{AmbiguousPath, Path};
