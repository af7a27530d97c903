//! Why the admin socket refuses, as a status, a word and a sentence.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::admin::api::ErrorBody;
use crate::registry::RegistryError;
use crate::upstream::session::SessionError;

/// Why a request to the admin socket failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// What it names is not there.
    #[error("{0}")]
    NotFound(String),
    /// The registry refused it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The upstream refused the credential, or did not answer. The text says what became of the change.
    #[error("{text}")]
    Upstream {
        /// What happened, and what was done about it.
        text: String,
        /// Cause.
        #[source]
        source: SessionError,
    },
    /// The configuration on disk is wrong; the old one goes on.
    #[error("{0}")]
    Config(String),
    /// A task died.
    #[error("the gateway failed inside: {0}")]
    Inside(#[from] tokio::task::JoinError),
}

impl AdminError {
    /// The status. Keys answer as Audiobookshelf's own interface does: 400 for what is wrong, 404 for what is gone.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) | Self::Registry(RegistryError::Invalid(_) | RegistryError::NoAccount) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) | Self::Registry(RegistryError::NoKey(_) | RegistryError::Revoked(_)) => StatusCode::NOT_FOUND,
            Self::Registry(
                RegistryError::AccountExists(_) | RegistryError::AccountInUse { .. } | RegistryError::AdministratorInUse { .. },
            ) => StatusCode::CONFLICT,
            Self::Registry(_) | Self::Inside(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Config(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Upstream { source, .. } => match source {
                SessionError::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
                SessionError::Waiting { .. } => StatusCode::SERVICE_UNAVAILABLE,
                SessionError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
                SessionError::NoAccount => StatusCode::NOT_FOUND,
                SessionError::NoUpstream(_) => StatusCode::BAD_REQUEST,
                SessionError::Broken(_) | SessionError::Unreachable(_) => StatusCode::BAD_GATEWAY,
            },
        }
    }

    /// The word for programs.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Invalid(_) | Self::Registry(RegistryError::Invalid(_)) => "bad_request",
            Self::Registry(RegistryError::NoAccount) => "no_such_account",
            Self::NotFound(_) | Self::Registry(RegistryError::NoKey(_)) => "not_found",
            Self::Registry(RegistryError::Revoked(_)) => "revoked",
            Self::Registry(RegistryError::AccountExists(_)) => "account_exists",
            Self::Registry(RegistryError::AccountInUse { .. }) => "account_in_use",
            Self::Registry(RegistryError::AdministratorInUse { .. }) => "administrator_in_use",
            Self::Registry(RegistryError::Random(_)) | Self::Inside(_) => "failed",
            Self::Registry(_) => "store_failed",
            Self::Config(_) => "config_problems",
            Self::Upstream { source, .. } => match source {
                SessionError::Broken(_) => "upstream_refused",
                SessionError::Unreachable(_) => "upstream_unreachable",
                SessionError::TimedOut(_) => "upstream_timeout",
                SessionError::Waiting { .. } => "upstream_limits",
                SessionError::NoAccount => "not_found",
                SessionError::NoUpstream(_) => "no_such_upstream",
                SessionError::Store(_) => "store_failed",
            },
        }
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = %self, "the admin socket could not do what was asked: {self}");
        }
        (status, Json(ErrorBody { error: self.word().to_owned(), message: self.to_string() })).into_response()
    }
}
