//! The web page, as clients see it (`plain`), and as people do, in a real browser (`browser`).

mod browser;
mod forms;
mod past;
mod plain;
mod refusals;
mod shown;

use http::Method;

use crate::admin_listener::{PASSWORD, Site};
use crate::support::http::Answer;

/// A site whose page has a password, and somebody who is logged in.
pub(crate) struct Page {
    pub(crate) site: Site,
    cookie: String,
    csrf: String,
    origin: String,
}

fn form(fields: &[(&str, &str)]) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    text.extend_pairs(fields).finish()
}

/// The text between two others.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before:?} in {text}"));
    rest.split_once(after).unwrap_or_else(|| panic!("no {after:?} in {rest}")).0
}

impl Page {
    pub(crate) async fn open() -> Self {
        let site = Site::start().await;
        site.set_password(PASSWORD).await;
        let origin = format!("http://{}", site.address);
        let mut page = Self { site, cookie: String::new(), csrf: String::new(), origin };
        page.log_in().await;
        page
    }

    async fn log_in(&mut self) {
        let answer = self.post_as("", "/login", &form(&[("password", PASSWORD)])).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, Some("/keys")), "{}", answer.text());
        self.cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        self.site.rig.sweep.keep_secret(self.cookie.split_once('=').unwrap().1);
        let list = self.get("/keys").await;
        assert_eq!(list.status, 200, "{}", list.text());
        self.csrf = between(&list.text(), "name=\"csrf\" value=\"", "\"").to_owned();
    }

    async fn get(&self, path: &str) -> Answer {
        self.site.bare(Method::GET, path, &[("cookie", &self.cookie)], "").await
    }

    async fn post_as(&self, cookie: &str, path: &str, body: &str) -> Answer {
        let headers = [("cookie", cookie), ("origin", self.origin.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        self.site.bare(Method::POST, path, &headers, body.to_owned()).await
    }

    /// A form of the page's own.
    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body = format!("csrf={}&{}", self.csrf, form(fields));
        self.post_as(&self.cookie, path, &body).await
    }

    /// Makes a key by the form; its path.
    async fn make(&self, name: &str) -> String {
        let account = self.site.rig.account.id.0.to_string();
        let made = self.post("/keys/new", &[("name", name), ("account", &account), ("expires", "1y"), ("preset", "full")]).await;
        assert_eq!(made.status, 303, "{}", made.text());
        made.header("location").unwrap().strip_suffix("/secret").unwrap().to_owned()
    }

    /// The secret that waits for a key, on the page that shows it.
    async fn secret(&self, path: &str) -> (Answer, String) {
        let shown = self.get(&format!("{path}/secret")).await;
        let text = shown.text();
        assert!(text.contains("id=\"secret\""), "{text}");
        let secret = between(between(&text, "id=\"secret\"", ">"), "value=\"", "\"").to_owned();
        self.site.rig.sweep.allow(&secret, "it was just made, and is shown once");
        (shown, secret)
    }

    /// The status that the gateway gives to a key.
    async fn status(&self, secret: &str) -> u16 {
        let headers = [("authorization", &*format!("Bearer {secret}"))];
        crate::support::http::get(self.site.rig.address, "/api/libraries", &headers).await.status.as_u16()
    }
}
