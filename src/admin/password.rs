//! The password of the admin page: Argon2id over what the pepper makes of it.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::admin::error::AdminError;
use crate::secret::Secret;

/// Fewest characters. Length is what counts (NIST SP 800-63B-4, section 3.1.1: 15 where it is the only factor; here guesses are throttled,
/// and the listener is closed to other machines by default).
const SHORTEST: usize = 12;
/// Most bytes.
const LONGEST: usize = 1024;
/// OWASP's smallest for Argon2id (Password Storage Cheat Sheet): 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;

/// Whether a text can be a password.
///
/// # Errors
/// [`AdminError::Invalid`], which quotes nothing of it.
pub(super) fn check(password: &Secret<String>) -> Result<(), AdminError> {
    let text = password.expose();
    if text.chars().count() < SHORTEST {
        return Err(AdminError::Invalid(format!(
            "the password is too short: it needs {SHORTEST} characters; four or five words make a good one"
        )));
    }
    if text.len() > LONGEST {
        return Err(AdminError::Invalid(format!("the password is longer than {LONGEST} bytes")));
    }
    Ok(())
}

fn hasher() -> Result<Argon2<'static>, AdminError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|error| AdminError::Failed(format!("Argon2: {error}")))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// The slow hash of a peppered password, as a PHC string. Takes some 30 ms and 19 MiB.
///
/// # Errors
/// [`AdminError::Failed`] without random bytes or memory.
pub(super) fn hash(peppered: &Secret<[u8; 32]>) -> Result<Secret<String>, AdminError> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| AdminError::Failed(format!("the operating system gives no random bytes: {error}")))?;
    let hashed: Result<PasswordHash, _> = hasher()?.hash_password_with_salt(peppered.expose(), &salt);
    let hashed = hashed.map_err(|error| AdminError::Failed(format!("the password cannot be hashed: {error}")))?;
    Ok(Secret::new(hashed.to_string()))
}

/// Whether a peppered password is the one that was hashed; with the cost that the hash names.
pub(super) fn is_right(peppered: &Secret<[u8; 32]>, hash: &Secret<String>) -> Result<bool, AdminError> {
    let hash = PasswordHash::new(hash.expose());
    let hash = hash.map_err(|_| {
        AdminError::Failed("the stored hash of the page's password is damaged: set it anew, keygate admin set-password".to_owned())
    })?;
    Ok(hasher()?.verify_password(peppered.expose(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_recognised_by_its_hash_and_no_other_is() {
        let (right, wrong) = (Secret::new([1; 32]), Secret::new([2; 32]));
        let hashed = hash(&right).expect("hashed");
        assert!(hashed.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hashed.expose());
        assert!(is_right(&right, &hashed).expect("a hash"));
        assert!(!is_right(&wrong, &hashed).expect("a hash"));
        assert_ne!(hash(&right).expect("hashed").expose(), hashed.expose(), "each has a salt of its own");
        assert!(is_right(&right, &"no hash".into()).is_err());
    }

    #[test]
    fn short_and_endless_passwords_are_refused_without_being_quoted() {
        for wrong in ["", "hunter2", "elevenchars", &"a".repeat(1025)] {
            let error = check(&wrong.into()).expect_err("refused").to_string();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
        assert!(check(&"brass otter lamp".into()).is_ok());
    }
}
