//! Where a secret comes from: a file, the environment, or a systemd credential. Never the configuration itself.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroize;

use crate::config::environment::Environment;
use crate::secret::Secret;

/// A secret by reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// `{ file = "/path" }`: refused when others may read it.
    File(PathBuf),
    /// `{ env = "NAME" }`: accepted with a warning.
    Env(String),
    /// `{ credential = "name" }`: a file of that name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read, or is not there.
    #[error("cannot read the secret file {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner may read or change the file.
    #[error("the secret file {path} may be read or changed by other users (mode {mode:04o}): chmod 600 {path}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is nothing in it.
    #[error("the secret in {0} is empty")]
    Empty(String),
    /// No such variable.
    #[error("the environment variable {0} is not set")]
    NoVariable(String),
    /// Not started by systemd with credentials.
    #[error("there is no credential {0}: $CREDENTIALS_DIRECTORY is not set (run by systemd with LoadCredential={0}:/path)")]
    NoCredentials(String),
}

impl SecretSource {
    /// The secret, without one newline at its end.
    ///
    /// # Errors
    /// When it is missing, empty, not UTF-8, or lies in a file that others may read or change.
    pub fn read(&self) -> Result<Secret<String>, SourceError> {
        self.read_in(&Environment::of_process())
    }

    /// What an operator should know about this way of keeping a secret.
    pub fn warning(&self) -> Option<String> {
        match self {
            Self::Env(name) => Some(format!(
                "the secret in the environment variable {name} can be read by every process of this user, and is often logged: a file or a systemd credential is better"
            )),
            Self::File(_) | Self::Credential(_) => None,
        }
    }

    pub(crate) fn read_in(&self, environment: &Environment) -> Result<Secret<String>, SourceError> {
        match self {
            Self::File(path) => {
                // What systemd puts there is guarded by the directory, whatever the mode of the file.
                let guarded = environment.variable("CREDENTIALS_DIRECTORY").is_some_and(|folder| path.starts_with(folder));
                read_file(path, guarded)
            }
            Self::Env(name) => match environment.variable(name) {
                Some(value) => without_newline(value.to_owned(), name),
                None => Err(SourceError::NoVariable(name.clone())),
            },
            Self::Credential(name) => match environment.variable("CREDENTIALS_DIRECTORY") {
                Some(folder) => read_file(&Path::new(folder).join(name), true),
                None => Err(SourceError::NoCredentials(name.clone())),
            },
        }
    }

    /// With a relative path made relative to `folder`.
    pub(crate) fn below(self, folder: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(folder.join(path)),
            other => other,
        }
    }
}

fn read_file(path: &Path, guarded: bool) -> Result<Secret<String>, SourceError> {
    let failed = |source| SourceError::File { path: path.to_owned(), source };
    if !guarded {
        check_mode(path)?;
    }
    without_newline(std::fs::read_to_string(path).map_err(failed)?, &path.display().to_string())
}

/// Refuses a file as sshd does (sshd: a key of one's own must have no bit for group or others), and in any case one that everybody
/// may read or that its group may change. `root:keygate 0640` is fine for the user keygate.
pub(crate) fn check_mode(path: &Path) -> Result<(), SourceError> {
    let failed = |source| SourceError::File { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("not a regular file")));
    }
    let mode = metadata.mode() & 0o7777;
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    let refused = if own { 0o077 } else { 0o027 };
    if mode & refused == 0 { Ok(()) } else { Err(SourceError::Open { path: path.to_owned(), mode }) }
}

fn without_newline(mut text: String, place: &str) -> Result<Secret<String>, SourceError> {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        text.zeroize();
        return Err(SourceError::Empty(place.to_owned()));
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn secret_file(folder: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_file_is_read_without_its_last_newline_and_refused_when_others_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let good = secret_file(folder.path(), "good", "hunter2\n\n", 0o400);
        assert_eq!(SecretSource::File(good).read().unwrap().expose(), "hunter2\n");
        for mode in [0o640, 0o604, 0o620, 0o644] {
            let path = secret_file(folder.path(), &format!("bad{mode:o}"), "hunter2", mode);
            let text = SecretSource::File(path.clone()).read().unwrap_err().to_string();
            assert!(text.contains(&format!("(mode 0{mode:o}): chmod 600 {}", path.display())), "{text}");
            assert!(!text.contains("hunter2"));
        }
        let empty = secret_file(folder.path(), "empty", "\n", 0o600);
        assert!(SecretSource::File(empty).read().unwrap_err().to_string().ends_with("is empty"));
        let text = SecretSource::File(folder.path().join("none")).read().unwrap_err().to_string();
        assert!(text.starts_with("cannot read the secret file") && text.contains("No such file"), "{text}");
        let text = SecretSource::File(folder.path().to_owned()).read().unwrap_err().to_string();
        assert!(text.contains("not a regular file"), "{text}");
    }

    #[test]
    fn a_credential_comes_from_its_directory_whatever_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        secret_file(folder.path(), "master-key", "hunter2\n", 0o444);
        let variables = vec![("CREDENTIALS_DIRECTORY".to_owned(), folder.path().display().to_string())];
        let environment = Environment { variables, is_root: false };
        let source = SecretSource::Credential("master-key".to_owned());
        assert_eq!(source.read_in(&environment).unwrap().expose(), "hunter2");
        let text = source.read_in(&Environment::default()).unwrap_err().to_string();
        assert!(text.contains("LoadCredential=master-key:"), "{text}");
    }

    #[test]
    fn a_variable_is_read_with_a_warning() {
        let environment = Environment { variables: vec![("MASTER".to_owned(), "hunter2".to_owned())], is_root: false };
        let source = SecretSource::Env("MASTER".to_owned());
        assert_eq!(source.read_in(&environment).unwrap().expose(), "hunter2");
        assert!(source.warning().unwrap().contains("MASTER"));
        let text = source.read_in(&Environment::default()).unwrap_err().to_string();
        assert_eq!(text, "the environment variable MASTER is not set");
    }
}
