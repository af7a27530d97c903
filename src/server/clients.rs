//! The authorities of clients' certificates, as their file has them now: a new file holds from the next handshake on, a broken one never.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::server::ResolvesServerCert;

use crate::certificates::Trouble;
use crate::certificates::challenges::Challenges;
use crate::config::ClientCa;
use crate::config::tls::{Authorities, TlsProblem};
use crate::server::tls::{Acceptor, AcceptorError};

/// Who must have signed a client's certificate, at the listeners that ask for one.
pub struct ClientAuthorities {
    acceptor: Arc<Acceptor>,
    state: Mutex<State>,
}

struct State {
    file: PathBuf,
    digest: [u8; 32],
    trouble: Trouble,
}

/// Why others cannot take their place.
#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    /// The file.
    #[error("server.tls.client_ca_file: {0}")]
    File(#[from] TlsProblem),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] AcceptorError),
}

impl ClientAuthorities {
    /// Reads the file. `certificates` are what keygate itself shows there, `challenges` what it shows to ACME servers. Blocking.
    ///
    /// # Errors
    /// [`ClientsError`].
    pub fn load(ca: &ClientCa, certificates: Arc<dyn ResolvesServerCert>, challenges: Arc<Challenges>) -> Result<Self, ClientsError> {
        let Authorities { roots, digest } = Authorities::read(&ca.file)?;
        let acceptor = Arc::new(Acceptor::new(certificates, Some(Arc::new(roots)), challenges)?);
        Ok(Self { acceptor, state: Mutex::new(State { file: ca.file.clone(), digest, trouble: Trouble::default() }) })
    }

    /// What the listeners that ask for certificates shake hands with.
    pub fn acceptor(&self) -> Arc<Acceptor> {
        Arc::clone(&self.acceptor)
    }

    /// Takes over what the file holds now, and logs what it finds. What runs goes on; sessions that began under the old file are not taken
    /// up again. Blocking.
    pub fn look(&self) {
        let mut state = self.state();
        match self.take_over(&state.file, state.digest) {
            Ok(None) => state.trouble.end(),
            Ok(Some(digest)) => {
                tracing::info!("the authorities of clients' certificates were replaced, from {}", state.file.display());
                state.digest = digest;
                state.trouble.end();
            }
            Err(error) => {
                let text = error.to_string();
                if state.trouble.is_to_be_told(&text) {
                    tracing::warn!("no new authorities of clients' certificates: {text}; the old ones stay in use");
                }
            }
        }
    }

    /// Goes over to what this file holds now, if it can be used: what changed, as a sentence. Blocking.
    ///
    /// # Errors
    /// [`ClientsError`]; the old ones stay in use.
    pub fn change(&self, ca: &ClientCa) -> Result<Option<String>, ClientsError> {
        let mut state = self.state();
        let newer = self.take_over(&ca.file, state.digest)?;
        state.file.clone_from(&ca.file);
        state.trouble.end();
        state.digest = newer.unwrap_or(state.digest);
        Ok(newer.map(|_| "authorities of clients' certificates, for new connections".to_owned()))
    }

    /// Whether a file could take the place of the one that is in use. Blocking.
    ///
    /// # Errors
    /// [`ClientsError`].
    pub fn check(ca: &ClientCa) -> Result<(), ClientsError> {
        Ok(Authorities::read(&ca.file).map(drop)?)
    }

    /// The file, and why what it holds now is not in use.
    pub fn show(&self) -> (PathBuf, Option<String>) {
        let state = self.state();
        (state.file.clone(), state.trouble.told())
    }

    fn take_over(&self, file: &std::path::Path, digest: [u8; 32]) -> Result<Option<[u8; 32]>, ClientsError> {
        let found = Authorities::read(file)?;
        if found.digest == digest {
            return Ok(None);
        }
        self.acceptor.ask_clients_of(Arc::new(found.roots))?;
        Ok(Some(found.digest))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for ClientAuthorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientAuthorities").finish_non_exhaustive()
    }
}
