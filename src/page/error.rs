//! What went wrong, as a page.

use axum::response::{Html, IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use maud::html;

use crate::admin::error::AdminError;
use crate::page::layout;

/// An error that is shown as a page of its own.
#[derive(Debug)]
pub(super) struct PageError(AdminError);

impl From<AdminError> for PageError {
    fn from(error: AdminError) -> Self {
        Self(error)
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let (status, text) = (self.0.status(), self.0.to_string());
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = %text, "the admin page could not do what was asked: {text}");
        }
        let mut response = (status, Html(refusal(status, &text))).into_response();
        if let AdminError::TooOften(seconds) = self.0 {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A page that says why something was refused.
pub(super) fn refusal(status: StatusCode, sentence: &str) -> String {
    let title = status.canonical_reason().unwrap_or("It did not work");
    // Nothing else is to be had by a name that is not ours, the style neither.
    if status == StatusCode::MISDIRECTED_REQUEST {
        return layout::plain(title, &html! { h1 { (title) } p { (sentence) } }).into_string();
    }
    let body = html! {
        h1 { (title) }
        p.note.bad role="alert" { (sentence) }
        p { a.button href="/keys" { "Back to the keys" } }
    };
    layout::bare(title, &body).into_string()
}
