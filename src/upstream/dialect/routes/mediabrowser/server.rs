//! What leads to a login, rules the server, or shows how it is doing; the web client.

use crate::upstream::dialect::routes::need::*;
use crate::upstream::dialect::routes::{ANY, DELETE, POST, READ, Route, WRITE, closed, keyed, on};
use crate::upstream::dialect::{OwnAnswer, RouteClass};

use RouteClass::{Answered, Identity, Image, Login, Logout, WebUi};

/// This part of the table.
pub(super) const ROUTES: &[Route] = &[
    // Public facts, which every app reads before its login.
    on(READ, "/System/Info/Public", Identity, NOTHING),
    on(READ, "/System/Ping", Identity, NOTHING),
    on(POST, "/System/Ping", Identity, NOTHING),
    on(READ, "/health", Identity, NOTHING),
    on(READ, "/GetUtcTime", Identity, NOTHING),
    on(READ, "/Branding/**", Identity, NOTHING),
    on(READ, "/Users/Public", Answered(OwnAnswer::EmptyList), NOTHING),
    on(READ, "/QuickConnect/Enabled", Answered(OwnAnswer::False), NOTHING),
    // Login and logout (`UserController.cs`, `SessionController.cs`).
    on(POST, "/Users/AuthenticateByName", Login, NOTHING),
    on(POST, "/Sessions/Logout", Logout, NOTHING),
    // Other ways to a token: Quick Connect (Authorize mints one for any user if the account is an administrator's), the login by a user's
    // id, the reset of a password, Emby's cloud, the plugin for OpenID and SAML, which also links foreign identities to an account.
    closed(ANY, "/QuickConnect/**"),
    closed(ANY, "/Users/AuthenticateWithQuickConnect"),
    closed(ANY, "/Users/{id}/Authenticate"),
    closed(ANY, "/Users/ForgotPassword/**"),
    closed(ANY, "/Connect/**"),
    closed(ANY, "/sso/**"),
    // All API keys, in clear (`ApiKeyController.cs`); Emby's providers of logins. Devices (`DevicesController.cs`): with one, its logins go.
    // Their list shows tokens, by a field that is taken out of every answer.
    closed(ANY, "/Auth/**"),
    closed(WRITE, "/Devices"),
    closed(ANY, "/Devices/*"),
    keyed(READ, "/Devices", MANAGE),
    keyed(READ, "/Devices/Info", MANAGE),
    keyed(READ, "/Devices/Options", MANAGE),
    keyed(READ, "/Devices/CameraUploads", MANAGE),
    keyed(POST, "/Devices/CameraUploads", UPLOAD),
    // Users: made, renamed, removed, their passwords and what they may do. Their own settings (`…/Configuration`) are theirs.
    closed(ANY, "/Users/New"),
    closed(WRITE, "/Users"),
    closed(WRITE, "/Users/{id}"),
    closed(ANY, "/Users/{id}/Delete"),
    closed(ANY, "/Users/Password"),
    closed(ANY, "/Users/{id}/Password"),
    closed(ANY, "/Users/{id}/EasyPassword"),
    closed(ANY, "/Users/{id}/Policy"),
    closed(ANY, "/Users/{id}/Connect/**"),
    // The server itself. It lets anybody in its own network restart it, and through a gateway everybody is that (jellyfin#16673). Its logs
    // hold tokens.
    closed(ANY, "/System/Restart"),
    closed(ANY, "/System/Shutdown"),
    closed(ANY, "/System/Logs/**"),
    // The path and the options of the encoder, a program that the server runs (`SystemController.cs` up to 10.8; Emby).
    closed(ANY, "/System/MediaEncoder/**"),
    closed(ANY, "/Encoding/**"),
    keyed(READ, "/Encoding/PublicToneMapOptions", BROWSE),
    closed(ANY, "/System/Configuration/**"),
    closed(ANY, "/System/ActivityLog/**"),
    closed(ANY, "/Startup/**"),
    closed(ANY, "/Environment/**"),
    closed(ANY, "/ScheduledTasks/**"),
    closed(ANY, "/Backup/**"),
    closed(ANY, "/BackupRestore/**"),
    // Code that runs in it: plugins, where they come from, their pages. Emby's newer ones are drawn by the client, and show and take what the
    // plugin is set to (`GenericUIApiService`, for administrators).
    closed(ANY, "/Plugins/**"),
    closed(ANY, "/Packages/**"),
    closed(ANY, "/Repositories/**"),
    closed(ANY, "/web/ConfigurationPage/**"),
    closed(ANY, "/web/ConfigurationPages/**"),
    closed(ANY, "/UI/**"),
    on(READ, "/Plugins/{id}/{version}/Image", Image, NOTHING),
    // What the libraries are made of; the passwords of tuners and programme guides.
    closed(ANY, "/Library/VirtualFolders/**"),
    closed(ANY, "/LiveTv/TunerHosts/**"),
    closed(ANY, "/LiveTv/ListingProviders/**"),
    // Who one is, and whether one is at home: every key may ask.
    keyed(READ, "/Users/Me", NOTHING),
    keyed(READ, "/System/Endpoint", NOTHING),
    // How it is doing, and who is there.
    keyed(READ, "/System/Info", STATUS),
    keyed(READ, "/System/Info/Storage", STATUS),
    keyed(READ, "/System/WakeOnLanInfo", STATUS),
    keyed(READ, "/System/ReleaseNotes", STATUS),
    keyed(READ, "/System/ReleaseNotes/Versions", STATUS),
    keyed(READ, "/Sessions", STATUS),
    keyed(READ, "/Sessions/PlayQueue", STATUS),
    keyed(READ, "/Users", STATUS),
    keyed(READ, "/Users/Query", STATUS),
    keyed(READ, "/Users/Prefixes", STATUS),
    keyed(READ, "/Users/ItemAccess", STATUS),
    keyed(READ, "/Items/Counts", STATUS),
    // What it can do.
    keyed(READ, "/Localization/**", BROWSE),
    keyed(READ, "/AudioCodecs", BROWSE),
    keyed(READ, "/AudioLayouts", BROWSE),
    keyed(READ, "/Containers", BROWSE),
    keyed(READ, "/ExtendedVideoTypes", BROWSE),
    keyed(READ, "/StreamLanguages", BROWSE),
    keyed(READ, "/SubtitleCodecs", BROWSE),
    keyed(READ, "/VideoCodecs", BROWSE),
    keyed(READ, "/openapi", BROWSE),
    keyed(READ, "/openapi.json", BROWSE),
    keyed(READ, "/swagger", BROWSE),
    keyed(READ, "/swagger.json", BROWSE),
    // Notifications, logs of clients, DLNA, the administrator's side that is on no deny list.
    keyed(ANY, "/Notifications/**", MANAGE),
    keyed(POST, "/ClientLog/Document", MANAGE),
    keyed(ANY, "/Dlna/**", MANAGE),
    keyed(READ, "/Features", MANAGE),
    keyed(POST, "/Branding/Splashscreen", MANAGE),
    keyed(DELETE, "/Branding/Splashscreen", MANAGE),
    keyed(READ, "/Library/PhysicalPaths", MANAGE),
    keyed(READ, "/Libraries/AvailableOptions", MANAGE),
    // Having it look for new files (Sonarr, Radarr and their kin).
    keyed(POST, "/Library/Refresh", SCAN),
    keyed(POST, "/Library/Media/Updated", SCAN),
    keyed(POST, "/Library/Movies/Added", SCAN),
    keyed(POST, "/Library/Movies/Updated", SCAN),
    keyed(POST, "/Library/Series/Added", SCAN),
    keyed(POST, "/Library/Series/Updated", SCAN),
    // Sockets: `SessionWebSocketListener.cs`, `apiclient.js` of Emby.
    keyed(READ, "/socket", EVENTS),
    keyed(READ, "/embywebsocket", EVENTS),
    // The web client.
    on(READ, "/", WebUi, NOTHING),
    on(READ, "/web/**", WebUi, NOTHING),
    on(READ, "/favicon.ico", WebUi, NOTHING),
    on(READ, "/robots.txt", WebUi, NOTHING),
];
