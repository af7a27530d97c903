//! Style, script and picture, under names that change with what is in them.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header;
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("assets/page.css");
const SCRIPT: &str = include_str!("assets/page.js");
const ICON: &str = include_str!("assets/icon.svg");

/// For a year, and no question whether it changed: another content has another name (RFC 8246).
const KEPT: &str = "public, max-age=31536000, immutable";

/// Paths of the assets.
pub(super) struct Paths {
    pub(super) style: String,
    pub(super) script: String,
    pub(super) icon: String,
}

/// Where they are.
pub(super) static PATHS: LazyLock<Paths> =
    LazyLock::new(|| Paths { style: path(STYLE, "css"), script: path(SCRIPT, "js"), icon: path(ICON, "svg") });

fn path(content: &str, ending: &str) -> String {
    let hash = Sha256::digest(content.as_bytes()).iter().take(6).fold(String::new(), |mut hash, byte| {
        let _ = write!(hash, "{byte:02x}");
        hash
    });
    format!("/assets/{hash}.{ending}")
}

/// Their routes.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let asset = |kind: &'static str, content: &'static str| {
        get(move || async move { ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, KEPT)], content).into_response() })
    };
    Router::new()
        .route(&PATHS.style, asset("text/css; charset=utf-8", STYLE))
        .route(&PATHS.script, asset("text/javascript; charset=utf-8", SCRIPT))
        .route(&PATHS.icon, asset("image/svg+xml", ICON))
}
