//! Logging in and out, and who else is logged in.

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::{HeaderValue, header};
use maud::{Markup, html};

use crate::admin::door::{Visit, set_cookie};
use crate::admin::error::AdminError;
use crate::admin::page_sessions::Session;
use crate::page::error::PageError;
use crate::page::form::Sent;
use crate::page::layout::{self, Place, Question};
use crate::page::visitor::Visitor;
use crate::page::{House, show as shown};
use crate::secret::Secret;

pub(crate) async fn show(State(house): State<House>, session: Option<Extension<Session>>) -> Result<Response, PageError> {
    if session.is_some() {
        return Ok(Redirect::to("/keys").into_response());
    }
    let has_password = house.admin.has_page_password().await?;
    Ok(Html(form(has_password, None).into_string()).into_response())
}

fn form(has_password: bool, error: Option<&str>) -> Markup {
    let body = html! {
        div.login {
            h1 { "Log in" }
            @if let Some(error) = error { p.note.bad role="alert" { (error) } }
            @if has_password {
                form.card method="post" action="/login" {
                    // Password managers want a name to go with it.
                    input type="hidden" name="username" value="keygate" autocomplete="username";
                    label { "Password" input type="password" name="password" required autofocus autocomplete="current-password"; }
                    p.row { button.main { "Log in" } }
                }
            } @else {
                p.note.warn { "There is no password yet, and none by default. Set one on the gateway's machine:" }
                pre tabindex="0" { "keygate admin set-password" }
                p { "Then " a href="/login" { "load this page again" } "." }
            }
        }
    };
    layout::bare("Log in", &body)
}

/// The guard has seen to it that no page of another site sends this.
pub(crate) async fn log_in(
    State(house): State<House>,
    Extension(visit): Extension<Visit>,
    Sent(fields): Sent,
) -> Result<Response, PageError> {
    match house.admin.log_in(fields.secret("password"), visit.address).await {
        Ok((id, _)) => Ok(with_cookie(&house, visit, Some(&id), "/keys")?),
        Err(AdminError::NoPassword) => Ok(Redirect::to("/login").into_response()),
        Err(error @ (AdminError::Unauthorised(_) | AdminError::TooOften(_))) => {
            let mut response = (error.status(), Html(form(true, Some(&error.to_string())).into_string())).into_response();
            if let AdminError::TooOften(seconds) = error {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            Ok(response)
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn log_out(
    State(house): State<House>,
    Extension(visit): Extension<Visit>,
    visitor: Visitor,
) -> Result<Response, PageError> {
    visitor.desk.end_session(visitor.session.number).await?;
    with_cookie(&house, visit, None, "/login")
}

/// It holds a secret: no log may have it.
fn with_cookie(house: &House, visit: Visit, id: Option<&Secret<String>>, to: &str) -> Result<Response, PageError> {
    let line = set_cookie(id, visit, house.admin.page_sessions().limits());
    let mut line = HeaderValue::try_from(line).map_err(|_| AdminError::Failed("a cookie could not be written".to_owned()))?;
    line.set_sensitive(true);
    let mut response = Redirect::to(to).into_response();
    response.headers_mut().insert(header::SET_COOKIE, line);
    Ok(response)
}

pub(crate) async fn sessions(visitor: Visitor) -> Html<String> {
    let now = visitor.desk.now();
    let own = visitor.session.number;
    let body = html! {
        h1 { "Logins" }
        p.faint { "Who is logged in to this page. Logins end with the gateway, too." }
        table.logins {
            thead { tr { @for name in ["Login", "From", "Began", "Last used", "Ends", "Actions"] { th scope="col" { (name) } } } }
            tbody {
                @for one in visitor.desk.sessions().list() {
                    tr {
                        th scope="row" { (one.number) @if one.number == own { " " (shown::pill("good", "this one")) } }
                        td { (one.address) }
                        td { (shown::time(&iso(&one, |one| one.created_at))) }
                        td { (shown::ago(&iso(&one, |one| one.last_used_at), now)) }
                        td { (shown::time(&iso(&one, |one| one.ends_at))) }
                        td { a.button href={ "/sessions/" (one.number) "/end" } { "End" } }
                    }
                }
            }
        }
    };
    layout::page(&visitor, Place::Sessions, "Logins", &body)
}

fn iso(session: &Session, of: impl Fn(&Session) -> crate::clock::Timestamp) -> String {
    of(session).to_string()
}

pub(crate) async fn ask_to_end(visitor: Visitor, Path(number): Path<u64>) -> Html<String> {
    let is_own = number == visitor.session.number;
    let question = Question {
        place: Place::Sessions,
        title: format!("End login {number}?"),
        body: html! { p { @if is_own { "This is your own: you will have to log in again." } @else { "Whoever it is will have to log in again." } } },
        yes: "End it",
        back: "/sessions".to_owned(),
        error: None,
    };
    layout::ask(&visitor, &question)
}

pub(crate) async fn end(visitor: Visitor, Path(number): Path<u64>) -> Result<Redirect, PageError> {
    if !visitor.desk.end_session(number).await? {
        return Err(AdminError::NotFound(format!("nobody is logged in with the number {number} any more")).into());
    }
    Ok(Redirect::to("/sessions?done=ended"))
}
