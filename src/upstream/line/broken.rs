//! What breaks an exchange with the upstream.

use std::io;

use crate::forward::body::BodyError;

/// Why an exchange with the upstream did not come to its end. No byte of a message is in it.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The operating system's or TLS' answer.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The upstream closed the connection in the middle of a message, or before one.
    #[error("it closed the connection before its answer was whole")]
    Closed,
    /// The answer's head is not HTTP/1.
    #[error("the head of its answer is not HTTP: {0}")]
    Head(&'static str),
    /// The answer's head has no end.
    #[error("the head of its answer is longer than {} KiB", super::head::MOST_BYTES >> 10)]
    LongHead,
    /// The end of the answer's body cannot be told.
    #[error("the length of its answer is not one number")]
    Length,
    /// Not the chunked coding of RFC 9112, section 7.1.
    #[error("its answer's chunks are malformed")]
    Chunks,
    /// The request's own body ended early.
    #[error("the request's body: {0}")]
    Body(#[source] Box<BodyError>),
    /// The request's body is not as long as its head said.
    #[error("the request's body is not as long as was said")]
    BodyLength,
}
