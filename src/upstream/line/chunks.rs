//! The chunked coding of answers (RFC 9112, section 7.1), taken off byte by byte where it is not data. Trailers are dropped: a credential could
//! hide in them.

use bytes::{Buf, Bytes, BytesMut};

use super::Broken;

/// Bytes of chunk extensions and trailers that one body may have.
const MOST_EXTRAS: u32 = 16 << 10;

/// How far a body has been read.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    at: At,
    /// Bytes of extensions and trailers so far.
    extras: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Before a size.
    #[default]
    Begin,
    /// Within a size, which is this so far.
    Size(u64),
    /// After a size: what stands up to the end of the line means nothing here.
    Extension(u64),
    /// The line of a size ends with the next byte.
    SizeEnd(u64),
    /// So many bytes of data are still to come.
    Data(u64),
    /// After data.
    DataEnd,
    /// The line after data ends with the next byte.
    DataLineEnd,
    /// Where a trailer begins, or the end of all.
    Trailer,
    /// Within a trailer.
    TrailerLine,
    /// The line of a trailer ends with the next byte.
    TrailerEnd,
    /// The empty line ends with the next byte.
    LastLineEnd,
    /// After all of it.
    Done,
}

impl Chunks {
    /// Whether all of it was read.
    pub(super) const fn is_done(&self) -> bool {
        matches!(self.at, At::Done)
    }

    /// Takes data off the front of `inbox`, and what frames it before and after; empty: no data is there.
    ///
    /// # Errors
    /// [`Broken::Chunks`].
    pub(super) fn take(&mut self, inbox: &mut BytesMut) -> Result<Bytes, Broken> {
        self.skip(inbox)?;
        let At::Data(left) = &mut self.at else { return Ok(Bytes::new()) };
        let here = usize::try_from(*left).unwrap_or(usize::MAX).min(inbox.len());
        *left -= here as u64;
        let data = inbox.split_to(here).freeze();
        if *left == 0 {
            self.at = At::DataEnd;
            // That it was the last of all shows at once, where it does.
            self.skip(inbox)?;
        }
        Ok(data)
    }

    /// Takes off what is not data.
    fn skip(&mut self, inbox: &mut BytesMut) -> Result<(), Broken> {
        let mut taken = 0;
        for &byte in &**inbox {
            if matches!(self.at, At::Data(_) | At::Done) {
                break;
            }
            self.at = self.next(byte).ok_or(Broken::Chunks)?;
            taken += 1;
        }
        inbox.advance(taken);
        Ok(())
    }

    /// Where a byte leads; `None`: it may not stand there.
    fn next(&mut self, byte: u8) -> Option<At> {
        Some(match (self.at, byte) {
            (At::Begin, _) => At::Size(digit(byte)?),
            (At::Size(size), b'\r') => At::SizeEnd(size),
            (At::Size(size), b';' | b' ' | b'\t') => At::Extension(size),
            (At::Size(size), _) => At::Size(size.checked_mul(16)? + digit(byte)?),
            (At::Extension(size), b'\r') => At::SizeEnd(size),
            (At::SizeEnd(0), b'\n') | (At::TrailerEnd, b'\n') => At::Trailer,
            (At::SizeEnd(size), b'\n') => At::Data(size),
            (At::DataEnd, b'\r') => At::DataLineEnd,
            (At::DataLineEnd, b'\n') => At::Begin,
            (At::Trailer, b'\r') => At::LastLineEnd,
            (At::TrailerLine, b'\r') => At::TrailerEnd,
            (At::LastLineEnd, b'\n') => At::Done,
            (At::Extension(_) | At::Trailer | At::TrailerLine, b'\n') => return None,
            (At::Extension(size), _) => self.extra(At::Extension(size))?,
            (At::Trailer | At::TrailerLine, _) => self.extra(At::TrailerLine)?,
            _ => return None,
        })
    }

    fn extra(&mut self, at: At) -> Option<At> {
        self.extras += 1;
        (self.extras <= MOST_EXTRAS).then_some(at)
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The data of `bytes` that come in pieces of `size`, whether they were all, and what is left of them.
    fn read(bytes: &[u8], size: usize) -> Result<(Vec<u8>, bool, Vec<u8>), Broken> {
        let (mut chunks, mut data, mut inbox) = (Chunks::default(), Vec::new(), BytesMut::new());
        for piece in bytes.chunks(size) {
            inbox.extend_from_slice(piece);
            loop {
                let some = chunks.take(&mut inbox)?;
                if some.is_empty() {
                    break;
                }
                data.extend_from_slice(&some);
            }
        }
        Ok((data, chunks.is_done(), inbox.to_vec()))
    }

    #[test]
    fn sizes_extensions_and_trailers_are_taken_off_and_what_follows_stays() {
        let bytes = b"5\r\nhello\r\n0001 ; a=\"b\"\r\n!\r\nA\t\r\n0123456789\r\n0;x\r\nA: 1\r\nB: 2\r\n\r\nHTTP/1.1";
        for size in 1..=bytes.len() {
            assert_eq!(read(bytes, size).expect("right"), (b"hello!0123456789".to_vec(), true, b"HTTP/1.1".to_vec()), "{size}");
        }
    }

    #[test]
    fn the_last_data_and_the_end_of_all_show_together() {
        let (mut chunks, mut inbox) = (Chunks::default(), BytesMut::from(&b"2\r\nhi\r\n0\r\n\r\n"[..]));
        assert_eq!(&chunks.take(&mut inbox).expect("right")[..], b"hi");
        assert!(chunks.is_done() && inbox.is_empty());
    }

    #[test]
    fn what_is_not_chunked_is_an_error() {
        let wrong = [
            "\r\n",
            ";\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1\n",
            "1\r\r",
            "1;\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "1\r\na\r\r",
            "0\r\n\n",
            "0\r\nA: 1\n",
            "0\r\n\r\r",
            "0\r\nA: 1\r\r",
            "10000000000000000\r\n",
            "fffffffffffffffff\r\n",
        ];
        for text in wrong {
            for size in [1, text.len()] {
                assert!(matches!(read(text.as_bytes(), size), Err(Broken::Chunks)), "{text:?}");
            }
        }
        assert!(read(b"ffffffffffffffff\r\n", 1).is_ok(), "a length like any other");
    }

    #[test]
    fn extensions_and_trailers_have_no_end_but_a_bound() {
        let most = usize::try_from(MOST_EXTRAS).expect("small");
        for (before, after) in [("1;", "\r\n"), ("0\r\n", "\r\n\r\n")] {
            let text = |length: usize| format!("{before}{}{after}", "x".repeat(length));
            assert!(read(text(most).as_bytes(), 999).is_ok());
            assert!(matches!(read(text(most + 1).as_bytes(), 999), Err(Broken::Chunks)));
        }
    }

    proptest! {
        #[test]
        fn what_was_chunked_is_read_as_it_was(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8), size in 1_usize..50) {
            let mut bytes: Vec<u8> = pieces.iter().flat_map(|piece| [format!("{:X}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()).collect();
            bytes.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(read(&bytes, size).expect("right"), (pieces.concat(), true, Vec::new()));
        }

        #[test]
        fn no_bytes_make_it_panic(text in "[0-9a-f;x\r\n ]{0,80}", size in 1_usize..20) {
            let _ = read(text.as_bytes(), size);
        }
    }
}
