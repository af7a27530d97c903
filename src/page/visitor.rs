//! Who looks at the page.

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Redirect, Response};
use http::request::Parts;
use http::{HeaderValue, header};

use crate::admin::page_sessions::Session;
use crate::page::once::Once;
use crate::page::{Desk, House};

/// Somebody who is logged in. Who is not is led to the login.
pub(super) struct Visitor {
    pub(super) desk: Desk,
    pub(super) session: Session,
    pub(super) once: std::sync::Arc<Once>,
    /// The host by which the page was asked for, without its port.
    pub(super) host: String,
    /// What to say first: a word of [`crate::page::layout::told`].
    pub(super) done: Option<String>,
}

impl Visitor {
    /// What each form must bring along.
    pub(super) fn csrf(&self) -> &str {
        self.session.csrf.expose()
    }
}

impl FromRequestParts<House> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, house: &House) -> Result<Self, Response> {
        let Some(session) = parts.extensions.get::<Session>().cloned() else { return Err(Redirect::to("/login").into_response()) };
        let host = parts.headers.get(header::HOST).map(HeaderValue::to_str).and_then(Result::ok).unwrap_or_default();
        let host = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name).to_owned();
        let query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        let done = query.into_owned().find(|(name, _)| name == "done").map(|(_, value)| value);
        let desk = Desk::new(std::sync::Arc::clone(&house.admin), session.number, session.address);
        Ok(Self { desk, session, once: std::sync::Arc::clone(&house.once), host, done })
    }
}
