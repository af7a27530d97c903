//! The bytes of what keys were used for: numbers, addresses and names of clients; nothing sealed.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::encode::{Format, RecordError};

const FORMAT: Format = Format { oldest: 1, upgrades: &[] };

/// The bytes of a record.
pub(super) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, RecordError> {
    FORMAT.encode(record)
}

/// A record from its bytes.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    FORMAT.decode(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::usage::record::{KeyUsage, LastUse, UpstreamUsage};

    proptest! {
        #[test]
        fn no_bytes_whatever_make_the_decoder_panic(text in "[\\[\\]{}0-9,:\"a-z-]{0,200}") {
            let bytes = format!("\u{1}{text}").into_bytes();
            let _ = (decode::<KeyUsage>(&bytes), decode::<LastUse>(&bytes), decode::<UpstreamUsage>(&bytes));
        }
    }
}
