//! The account's own: positions, marks, playlists, settings; and other people's players.

use crate::upstream::dialect::routes::need::*;
use crate::upstream::dialect::routes::{DELETE, POST, READ, Route, WRITE, keyed};

/// This part of the table.
pub(super) const ROUTES: &[Route] = &[
    // `PlaystateController.cs`, `UserLibraryController.cs`, `ItemsController.cs`.
    keyed(POST, "/Sessions/Playing", PROGRESS),
    keyed(POST, "/Sessions/Playing/Progress", PROGRESS),
    keyed(POST, "/Sessions/Playing/Stopped", PROGRESS),
    keyed(POST, "/Sessions/Viewing", PROGRESS),
    keyed(WRITE, "/PlayingItems/{id}/**", PROGRESS),
    keyed(WRITE, "/UserFavoriteItems/{id}", PROGRESS),
    keyed(WRITE, "/UserPlayedItems/{id}", PROGRESS),
    keyed(WRITE, "/UserItems/{id}/Rating", PROGRESS),
    keyed(WRITE, "/UserItems/{id}/UserData", PROGRESS),
    keyed(WRITE, "/Users/{id}/FavoriteItems/{item}/**", PROGRESS),
    keyed(WRITE, "/Users/{id}/PlayedItems/{item}/**", PROGRESS),
    keyed(WRITE, "/Users/{id}/PlayingItems/{item}/**", PROGRESS),
    keyed(WRITE, "/Users/{id}/Items/{item}/Rating/**", PROGRESS),
    keyed(POST, "/Users/{id}/Items/{item}/UserData", PROGRESS),
    keyed(POST, "/Users/{id}/Items/{item}/HideFromResume", PROGRESS),
    // Playlists, collections, what is shared with whom.
    keyed(READ, "/Playlists/{id}", BROWSE),
    keyed(READ, "/Playlists/{id}/Items", BROWSE),
    keyed(READ, "/Playlists/{id}/Users/**", BROWSE),
    keyed(READ, "/Playlists/{id}/AddToPlaylistInfo", BROWSE),
    keyed(WRITE, "/Playlists/**", PERSONAL),
    keyed(WRITE, "/Collections/**", PERSONAL),
    keyed(POST, "/Items/Access", PERSONAL),
    keyed(POST, "/Items/Shared/Leave", PERSONAL),
    keyed(POST, "/Items/{id}/MakePrivate", PERSONAL),
    keyed(POST, "/Items/{id}/MakePublic", PERSONAL),
    // Settings and the picture.
    keyed(READ, "/DisplayPreferences/{id}", BROWSE),
    keyed(POST, "/DisplayPreferences/{id}", PERSONAL),
    keyed(WRITE, "/Users/Configuration", PERSONAL),
    keyed(POST, "/Users/{id}/Configuration/**", PERSONAL),
    keyed(POST, "/Users/{id}/TypedSettings/{key}", PERSONAL),
    keyed(WRITE, "/Users/{id}/TrackSelections/{kind}/**", PERSONAL),
    keyed(WRITE, "/Users/{id}/Images/**", PERSONAL),
    keyed(WRITE, "/UserImage", PERSONAL),
    // Other players (`SessionController.cs`, `SyncPlayController.cs`).
    keyed(POST, "/Sessions/{id}/Command/**", CONTROL),
    keyed(POST, "/Sessions/{id}/Message", CONTROL),
    keyed(POST, "/Sessions/{id}/Playing/**", CONTROL),
    keyed(POST, "/Sessions/{id}/System/{command}", CONTROL),
    keyed(POST, "/Sessions/{id}/Viewing", CONTROL),
    keyed(POST, "/Sessions/{id}/User/{user}", CONTROL),
    keyed(DELETE, "/Sessions/{id}/User/{user}", CONTROL),
    keyed(WRITE, "/Sessions/{id}/Users/{user}/**", CONTROL),
    keyed(READ, "/SyncPlay/**", CONTROL),
    keyed(POST, "/SyncPlay/**", CONTROL),
];
