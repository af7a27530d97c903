//! The fingerprint of a certificate, as operators write it.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// The SHA-256 of a certificate's DER: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate.
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not sha256: and 64 hexadecimal digits")]
pub struct NoFingerprint;

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    /// Digits of either case; colons between the bytes, as openssl prints them, are fine.
    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let (algorithm, digits) = text.split_once(':').ok_or(NoFingerprint)?;
        let is_colon_form = digits.contains(':');
        if !algorithm.eq_ignore_ascii_case("sha256") || !digits.is_ascii() || digits.len() != if is_colon_form { 95 } else { 64 } {
            return Err(NoFingerprint);
        }
        let mut bytes = [0; 32];
        for (place, byte) in bytes.iter_mut().enumerate() {
            let start = place * if is_colon_form { 3 } else { 2 };
            let pair = digits.get(start..start + 2).filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit())).ok_or(NoFingerprint)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NoFingerprint)?;
            if is_colon_form && !matches!(digits.as_bytes().get(start + 2), None | Some(b':')) {
                return Err(NoFingerprint);
            }
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_shown_and_as_openssl_shows_it() {
        let own = Fingerprint::of(b"a certificate");
        assert_eq!(own.to_string().parse(), Ok(own));
        assert_eq!(own.to_string().to_uppercase().parse(), Ok(own));
        let digits = own.to_string().split_off("sha256:".len());
        let pairs: Vec<&str> = (0..32).map(|place| &digits[place * 2..place * 2 + 2]).collect();
        assert_eq!(format!("sha256:{}", pairs.join(":").to_uppercase()).parse(), Ok(own));
    }

    #[test]
    fn anything_else_is_no_fingerprint() {
        let digits = "ab".repeat(32);
        for wrong in [
            String::new(),
            digits.clone(),
            "sha256:".to_owned(),
            format!("sha1:{digits}"),
            format!("sha256:{}", &digits[1..]),
            format!("sha256:{digits}a"),
            format!("sha256:{}+f", &digits[2..]),
            format!("sha256:{}zz", &digits[2..]),
            format!("sha256:{}", ["ab"; 32].join("-")),
            format!("sha256:{}:ab-ab", ["ab"; 30].join(":")),
        ] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(NoFingerprint), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(sha256:)?[0-9a-f:é]{0,100}") {
            let _ = text.parse::<Fingerprint>();
        }
    }
}
