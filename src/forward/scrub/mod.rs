//! Which answer is scrubbed, and how.

mod coding;
