//! What a form sent, or stands in a query.

use std::future::Future;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use http::request::Parts;

use crate::admin::error::AdminError;
use crate::page::error::PageError;
use crate::secret::Secret;

/// Named texts; a name can stand there several times.
pub(super) struct Fields(Vec<(String, Secret<String>)>);

impl Fields {
    fn read(bytes: &[u8]) -> Self {
        Self(form_urlencoded::parse(bytes).into_owned().map(|(name, value)| (name, Secret::new(value))).collect())
    }

    /// The first of a name, without space around it; empty where there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.first(name).map(|value| value.expose().trim()).unwrap_or_default()
    }

    /// All of a name.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(found, _)| found == name).map(|(_, value)| value.expose().clone()).collect()
    }

    /// The first of a name as it came, to be kept secret.
    pub(super) fn secret(&self, name: &str) -> Secret<String> {
        self.first(name).cloned().unwrap_or_else(|| String::new().into())
    }

    fn first(&self, name: &str) -> Option<&Secret<String>> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }
}

/// The body of a form.
pub(super) struct Sent(pub(super) Fields);

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = PageError;

    async fn from_request(request: Request, state: &S) -> Result<Self, PageError> {
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|error| AdminError::Invalid(format!("the form cannot be read: {error}")))?;
        Ok(Self(Fields::read(&body)))
    }
}

/// The query.
pub(super) struct Query(pub(super) Fields);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = std::convert::Infallible;

    fn from_request_parts(parts: &mut Parts, _: &S) -> impl Future<Output = Result<Self, Self::Rejection>> + Send {
        std::future::ready(Ok(Self(Fields::read(parts.uri.query().unwrap_or_default().as_bytes()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_decoded_and_may_come_several_times() {
        let fields = Fields::read("name=+Kodi%20%C3%A9+&scopes=browse&scopes=stream&empty=&password=+p%26+".as_bytes());
        assert_eq!(fields.text("name"), "Kodi é");
        assert_eq!(fields.all("scopes"), ["browse", "stream"]);
        assert_eq!((fields.text("empty"), fields.text("none")), ("", ""));
        assert_eq!(fields.secret("password").expose(), " p& ", "spaces of a password count");
    }
}
