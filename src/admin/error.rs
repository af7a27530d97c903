//! Why the admin socket refuses, as a status, a word and a sentence.

use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderValue, StatusCode, header};

use crate::admin::api::ErrorBody;
use crate::admin::navigation::Said;
use crate::certificates::acme::RenewError;
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
    /// Nobody was recognised.
    #[error("{0}")]
    Unauthorised(String),
    /// Who asks may not, or it came from somewhere else than it must.
    #[error("{0}")]
    Forbidden(String),
    /// The page has no password.
    #[error("the admin page has no password yet: set one on the gateway's machine with: keygate admin set-password")]
    NoPassword,
    /// Too many failures; seconds until the next try, at least 1.
    #[error("too many failed tries from this address; try again in {0} s")]
    TooOften(u64),
    /// A body of more than 64 KiB.
    #[error("the body is larger than 64 KiB")]
    TooLarge,
    /// A body that did not come in time.
    #[error("the body did not come within 10 s")]
    TooSlow,
    /// A body that is not JSON.
    #[error("{0}")]
    WrongType(String),
    /// A host name that is none of ours.
    #[error("{0}")]
    Misdirected(String),
    /// Something inside did not work.
    #[error("{0}")]
    Failed(String),
    /// The configuration on disk is wrong; the old one goes on.
    #[error("{0}")]
    Config(String),
    /// No new certificate.
    #[error(transparent)]
    Renewal(RenewError),
    /// A task died.
    #[error("the gateway failed inside: {0}")]
    Inside(#[from] tokio::task::JoinError),
}

impl AdminError {
    /// The status. Keys answer as Audiobookshelf's own interface does: 400 for what is wrong, 404 for what is gone.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) | Self::Registry(RegistryError::Invalid(_) | RegistryError::NoAccount) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) | Self::Registry(RegistryError::NoKey(_) | RegistryError::NoAdminToken(_) | RegistryError::Revoked(_)) => {
                StatusCode::NOT_FOUND
            }
            Self::Registry(
                RegistryError::AccountExists(_) | RegistryError::AccountInUse { .. } | RegistryError::AdministratorInUse { .. },
            ) => StatusCode::CONFLICT,
            Self::Unauthorised(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::NoPassword => StatusCode::FORBIDDEN,
            Self::TooOften(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::WrongType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Misdirected(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::Registry(_) | Self::Inside(_) | Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Config(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Renewal(RenewError::NotAcme) => StatusCode::CONFLICT,
            Self::Renewal(RenewError::Failed(_)) => StatusCode::BAD_GATEWAY,
            Self::Renewal(RenewError::Slow) => StatusCode::GATEWAY_TIMEOUT,
            Self::Upstream { source, .. } => match source {
                SessionError::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
                SessionError::Waiting { .. } => StatusCode::SERVICE_UNAVAILABLE,
                SessionError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
                SessionError::NoAccount => StatusCode::NOT_FOUND,
                SessionError::NoUpstream(_) => StatusCode::BAD_REQUEST,
                // The media server is there, and what it was shown is wrong: whoever asks again reads the same.
                SessionError::Broken(_) => StatusCode::UNPROCESSABLE_ENTITY,
                SessionError::Unreachable(_) => StatusCode::BAD_GATEWAY,
            },
        }
    }

    /// The word for programs.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Invalid(_) | Self::Registry(RegistryError::Invalid(_)) => "bad_request",
            Self::Registry(RegistryError::NoAccount) => "no_such_account",
            Self::NotFound(_) | Self::Registry(RegistryError::NoKey(_) | RegistryError::NoAdminToken(_)) => "not_found",
            Self::Registry(RegistryError::Revoked(_)) => "revoked",
            Self::Registry(RegistryError::AccountExists(_)) => "account_exists",
            Self::Registry(RegistryError::AccountInUse { .. }) => "account_in_use",
            Self::Registry(RegistryError::AdministratorInUse { .. }) => "administrator_in_use",
            Self::Unauthorised(_) => "unauthorised",
            Self::Forbidden(_) => "forbidden",
            Self::NoPassword => "no_password",
            Self::TooOften(_) => "too_often",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::WrongType(_) => "wrong_content_type",
            Self::Misdirected(_) => "wrong_host",
            Self::Registry(RegistryError::Random(_)) | Self::Inside(_) | Self::Failed(_) => "failed",
            Self::Registry(_) => "store_failed",
            Self::Config(_) => "config_problems",
            Self::Renewal(RenewError::NotAcme) => "not_acme",
            Self::Renewal(_) => "renewal_failed",
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
        let body = ErrorBody { error: self.word().to_owned(), message: self.to_string() };
        let mut response = (status, Extension(Said(body.message.clone())), Json(body)).into_response();
        match self {
            Self::Unauthorised(_) => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"keygate admin\""));
            }
            Self::TooOften(seconds) => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            _ => {}
        }
        response
    }
}
