//! What handlers take out of a request. Whatever is wrong with it becomes an [`AdminError`], in the one shape that errors have.

use std::future::Future;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequestParts, Path, Query, Request};
use axum::response::{IntoResponse, Redirect, Response};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::admin::error::AdminError;
use crate::admin::page_sessions::Session;

/// The body as JSON; an absent one is an empty object.
pub(super) struct Given<T>(pub(super) T);

/// The query.
pub(super) struct Asked<T>(pub(super) T);

/// What the path names in braces: a text, or several of them.
pub(super) struct Named<T = String>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Given<T> {
    type Rejection = AdminError;

    async fn from_request(request: Request, state: &S) -> Result<Self, AdminError> {
        json(Bytes::from_request(request, state).await).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Asked<T> {
    type Rejection = AdminError;

    fn from_request_parts(parts: &mut Parts, _: &S) -> impl Future<Output = Result<Self, AdminError>> + Send {
        let found = Query::try_from_uri(&parts.uri).map(|Query(query)| Self(query));
        std::future::ready(found.map_err(|error| AdminError::Invalid(error.body_text())))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AdminError> {
        let found = <Path<T> as FromRequestParts<S>>::from_request_parts(parts, state).await;
        found
            .map(|Path(named)| Self(named))
            .map_err(|_| AdminError::Invalid("the path is not UTF-8 text when its percent signs are read".into()))
    }
}

/// For handlers of pages: who has not logged in is led to the login.
impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = Response;

    fn from_request_parts(parts: &mut Parts, _: &S) -> impl Future<Output = Result<Self, Response>> + Send {
        std::future::ready(parts.extensions.get::<Self>().cloned().ok_or_else(|| Redirect::to("/login").into_response()))
    }
}

/// For handlers that serve both.
impl<S: Send + Sync> OptionalFromRequestParts<S> for Session {
    type Rejection = std::convert::Infallible;

    fn from_request_parts(parts: &mut Parts, _: &S) -> impl Future<Output = Result<Option<Self>, Self::Rejection>> + Send {
        std::future::ready(Ok(parts.extensions.get::<Self>().cloned()))
    }
}

/// An absent body is an empty object. The message names the place, and never what stood there.
fn json<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, AdminError> {
    // At the listener, the guard has answered 413 before.
    let body = body.map_err(|error| AdminError::Invalid(format!("the body cannot be read, or is larger than 64 KiB: {error}")))?;
    let body: &[u8] = if body.is_empty() { b"{}" } else { &body };
    serde_json::from_slice(body).map_err(|error| AdminError::Invalid(describe(&error)))
}

/// serde's own text quotes a value of the wrong type, which may be a password; its data errors about fields do not.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("unknown field") || text.starts_with("missing field") || text.starts_with("duplicate field") {
        return format!("the body is not what this route takes: {text}");
    }
    format!("the body is not valid JSON of the right types (line {}, column {})", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::api::{NewAccountRequest, NewKeyRequest};

    #[test]
    fn an_error_about_the_body_never_quotes_a_value() {
        for body in
            [r#"{"name":1,"password":"hunter2"}"#, r#"{"name":"n","token":["hunter2"]}"#, r#"{"name":"n","verify":"hunter2"}"#, "hunter2"]
        {
            let error = json::<NewAccountRequest>(Ok(Bytes::from(body))).expect_err("wrong").to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error = json::<NewKeyRequest>(Ok(Bytes::from_static(br#"{"networks":[]}"#))).expect_err("unknown").to_string();
        assert!(error.contains("unknown field `networks`"), "{error}");
    }
}
