//! The routes of Audiobookshelf. Sources: `server/Server.js`, `server/routers/{ApiRouter,HlsRouter,PublicRouter}.js` of 2.36.0.

use crate::upstream::dialect::routes::{ANY, PATCH, POST, READ, Route, WRITE, on};
use crate::upstream::dialect::{Media, RouteClass};

use RouteClass::{Capability, Identity, Image, Keyed, Login, Logout, Refresh, Restricted, Share, Socket, WebUi};

const BYTES: RouteClass = RouteClass::Media(Media::Bytes);

/// The table.
pub(in crate::upstream::dialect) const ROUTES: &[Route] = &[
    // `server/Server.js`: public facts, which every app reads before its login.
    on(READ, "/status", Identity),
    on(READ, "/ping", Identity),
    on(READ, "/healthcheck", Identity),
    // `server/Auth.js`.
    on(POST, "/login", Login),
    on(POST, "/logout", Logout),
    on(POST, "/auth/refresh", Refresh),
    // OpenID ends in a redirect that holds a permanent token; `/auth/openid/config` shows the settings. The same for what may come.
    on(ANY, "/auth/**", Restricted),
    // Makes the first administrator.
    on(ANY, "/init", Restricted),
    // Engine.IO looks at nothing but the beginning of the path (`attach` of `engine.io/lib/server.ts`).
    on(ANY, "/socket.io/**", Socket),
    // `HlsRouter.js`, `PublicRouter.js`: media below the id of a play session.
    on(READ, "/hls/{session}/*", Capability),
    on(READ, "/public/session/{session}/track/{track}", Capability),
    // `PublicRouter.js`, `RssFeedManager.js`: share pages' data, with the listener's progress, and feeds.
    on(READ, "/public/share/{slug}/**", Share),
    on(PATCH, "/public/share/{slug}/progress", Share),
    on(READ, "/feed/{slug}/**", Share),
    // Pictures that the server shows to everybody.
    on(READ, "/api/items/{id}/cover", Image),
    on(READ, "/api/authors/{id}/image", Image),
    // Files. `ffprobe`, `/api/libraries/{id}/opml` and the like answer with JSON or XML: they are no media.
    on(READ, "/api/items/{id}/file/{ino}", BYTES),
    on(READ, "/api/items/{id}/file/{ino}/download", BYTES),
    on(READ, "/api/items/{id}/ebook", BYTES),
    on(READ, "/api/items/{id}/ebook/{ino}", BYTES),
    on(READ, "/api/items/{id}/download", BYTES),
    on(READ, "/api/libraries/{id}/download", BYTES),
    // The administrator's side of the API: users and their tokens, keys, backups (which hold the secret of all tokens), settings.
    on(ANY, "/api/api-keys/**", Restricted),
    on(ANY, "/api/users/**", Restricted),
    on(ANY, "/api/backups/**", Restricted),
    on(ANY, "/api/settings/**", Restricted),
    on(ANY, "/api/auth-settings/**", Restricted),
    on(ANY, "/api/sorting-prefixes/**", Restricted),
    on(ANY, "/api/emails/**", Restricted),
    on(ANY, "/api/notifications/**", Restricted),
    on(ANY, "/api/filesystem/**", Restricted),
    on(ANY, "/api/cache/**", Restricted),
    on(ANY, "/api/tools/**", Restricted),
    on(ANY, "/api/custom-metadata-providers/**", Restricted),
    on(ANY, "/api/feeds/**", Restricted),
    on(ANY, "/api/share/**", Restricted),
    // All users' play sessions; `/api/session/{id}` is the listener's own.
    on(ANY, "/api/sessions/**", Restricted),
    on(ANY, "/api/logger-data/**", Restricted),
    on(ANY, "/api/watcher/**", Restricted),
    // Libraries are read by everybody and changed by administrators; narrators are metadata, which the permission "update" is for.
    on(POST, "/api/libraries", Restricted),
    on(WRITE, "/api/libraries/*", Restricted),
    on(ANY, "/api/libraries/{id}/scan", Restricted),
    on(WRITE, "/api/libraries/{id}/narrators/{narrator}", Keyed),
    // The account itself: its password, the logins that it has (keygate's own among them), where its books are mailed to.
    on(ANY, "/api/me/password", Restricted),
    on(ANY, "/api/me/sessions/**", Restricted),
    on(ANY, "/api/me/ereader-devices", Restricted),
    // The web client: its pages (`dyanimicRoutes` of `server/Server.js`) and static files.
    on(READ, "/", WebUi),
    on(READ, "/login", WebUi),
    on(READ, "/account", WebUi),
    on(READ, "/batch/**", WebUi),
    on(READ, "/upload", WebUi),
    on(READ, "/oops", WebUi),
    on(READ, "/audiobook/**", WebUi),
    on(READ, "/author/**", WebUi),
    on(READ, "/collection/**", WebUi),
    on(READ, "/config/**", WebUi),
    on(READ, "/item/**", WebUi),
    on(READ, "/library/**", WebUi),
    on(READ, "/playlist/**", WebUi),
    on(READ, "/share/{slug}", WebUi),
    on(READ, "/_nuxt/**", WebUi),
    on(READ, "/client/**", WebUi),
    on(READ, "/fonts/**", WebUi),
    on(READ, "/images/**", WebUi),
    on(READ, "/libarchive/**", WebUi),
    on(READ, "/libs/**", WebUi),
    on(READ, "/textures/**", WebUi),
    on(READ, "/200.html", WebUi),
    on(READ, "/index.html", WebUi),
    on(READ, "/book_placeholder.jpg", WebUi),
    on(READ, "/favicon.ico", WebUi),
    on(READ, "/icon.svg", WebUi),
    on(READ, "/icon48.png", WebUi),
    on(READ, "/icon64.png", WebUi),
    on(READ, "/icon192.png", WebUi),
    on(READ, "/ios_icon.png", WebUi),
    on(READ, "/Logo.png", WebUi),
    on(READ, "/robots.txt", WebUi),
    on(READ, "/sw.js", WebUi),
    on(READ, "/manifest.json", WebUi),
];
