//! The routes of Emby and Jellyfin, in one table: a route that only one of them has is nothing to the other.
//!
//! Sources: all `[Http…]` attributes of `Jellyfin.Api/Controllers` of 10.8 to 12; `MediaBrowser.Api` of Emby 3.5.2; the OpenAPI file of the
//! Emby SDK 4.8, all of it. Where Jellyfin has DELETE, Emby has a POST of `…/Delete` beside it.

mod account;
mod library;
mod media;
mod server;

use std::sync::LazyLock;

use crate::upstream::dialect::routes::Route;

/// The table.
pub(in crate::upstream::dialect) static ROUTES: LazyLock<Vec<Route>> =
    LazyLock::new(|| [server::ROUTES, media::ROUTES, library::ROUTES, account::ROUTES].concat());
