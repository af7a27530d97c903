//! The web page: what operators do most, in a browser. Server-rendered; it works without JavaScript, and asks nobody but keygate.
//!
//! It stands behind the guard of the admin listener (`admin::guard`), which has checked the host, the origin, the session's cookie and, for
//! each change, the session's token, before anything here is reached. Handlers ask a [`Desk`], which does what the interface does.
//! Every change answers with a redirection, so that a reload repeats nothing. A secret is shown once (`once`): it is in no URL, and the
//! page that shows it is shown once only.

mod accounts;
mod assets;
mod audit;
mod error;
mod field;
mod form;
mod keys;
mod layout;
mod login;
mod once;
mod plot;
mod show;
mod status;
mod visitor;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::admin::listener::Pages;
use crate::admin::{Admin, Desk};
use crate::page::once::Once;

/// What all handlers share.
#[derive(Clone)]
struct House {
    admin: Arc<Admin>,
    once: Arc<Once>,
}

/// All that the admin listener has for people, to be put behind its guard, and nowhere else.
pub fn pages(admin: Arc<Admin>) -> Pages {
    Pages { routes: routes(admin), refusals: error::refusal }
}

fn routes(admin: Arc<Admin>) -> Router {
    let house = House { admin, once: Arc::default() };
    assets::router()
        .route("/", get(keys::list::start))
        .route("/login", get(login::show).post(login::log_in))
        .route("/logout", post(login::log_out))
        .route("/sessions", get(login::sessions))
        .route("/sessions/{number}/end", get(login::ask_to_end).post(login::end))
        .route("/keys", get(keys::list::show))
        .route("/keys/new", get(keys::new::show).post(keys::new::create))
        .route("/keys/{id}", get(keys::detail::show))
        .route("/keys/{id}/secret", get(keys::secret::show))
        .route("/keys/{id}/edit", get(keys::edit::show).post(keys::edit::change))
        .route("/keys/{id}/rotate", get(keys::end::ask_to_rotate).post(keys::end::rotate))
        .route("/keys/{id}/disable", get(keys::end::ask_to_disable).post(keys::end::disable))
        .route("/keys/{id}/enable", post(keys::end::enable))
        .route("/keys/{id}/revoke", get(keys::end::ask_to_revoke).post(keys::end::revoke))
        .route("/keys/{id}/streams/{stream}/close", get(keys::end::ask_to_close).post(keys::end::close))
        .route("/keys/{id}/tickets", get(keys::end::ask_to_take_back).post(keys::end::take_back))
        .route("/accounts", get(accounts::show))
        .route("/accounts/{id}/login", post(accounts::log_in))
        .route("/accounts/{id}/password", get(accounts::ask_for_password).post(accounts::set_password))
        .route("/refused", get(audit::refused))
        .route("/audit", get(audit::show))
        .route("/status", get(status::show))
        .with_state(house)
}
