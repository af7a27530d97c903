//! What clients say on the sockets of Emby and Jellyfin, and what it takes: as much as the route that does the same.
//!
//! Messages are JSON objects with a `MessageType`. Jellyfin answers `KeepAlive` and lets one subscribe to sessions, tasks and the activity
//! log (its `SessionMessageType`, and the listeners derived from `BasePeriodicWebSocketListener`); older servers and Emby also take reports
//! of playback, and an `Identity` that makes the socket another device's (Emby 3, `SessionWebSocketListener`). Both servers read binary
//! messages as they read text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::keys::{Scope, Scopes};

/// Types of messages in lower case, and what each takes.
const TAKES: [(&str, Scopes); 19] = [
    ("keepalive", Scopes::NONE),
    ("sessionsstart", Scopes::of(Scope::Status)),
    ("sessionsstop", Scopes::NONE),
    ("systeminfostart", Scopes::of(Scope::Status)),
    ("systeminfostop", Scopes::NONE),
    ("scheduledtasksinfostart", Scopes::of(Scope::Admin)),
    ("scheduledtasksinfostop", Scopes::NONE),
    ("activitylogentrystart", Scopes::of(Scope::Admin)),
    ("activitylogentrystop", Scopes::NONE),
    ("logfilestart", Scopes::of(Scope::Admin)),
    ("logfilestop", Scopes::NONE),
    ("playbackstart", Scopes::of(Scope::Progress)),
    ("playbackprogress", Scopes::of(Scope::Progress)),
    ("playbackstopped", Scopes::of(Scope::Progress)),
    ("reportplaybackstart", Scopes::of(Scope::Progress)),
    ("reportplaybackprogress", Scopes::of(Scope::Progress)),
    ("reportplaybackstopped", Scopes::of(Scope::Progress)),
    ("context", Scopes::of(Scope::Progress)),
    // Who a client is says keygate: by this, a socket would hear what is meant for another device.
    ("identity", Scopes::of(Scope::Admin)),
];
/// A message that is in no list, as a route that is in no table.
const UNKNOWN: Scopes = Scopes::of(Scope::Manage);
/// What cannot be read: a server that is more generous could read anything in it.
const UNREADABLE: Scopes = Scopes::among(&[Scope::Manage, Scope::Admin]);

/// What a message of a client takes.
pub fn needs(message: &[u8]) -> Scopes {
    // No server finds an object in it, however generously it reads.
    if !message.contains(&b'{') {
        return UNKNOWN;
    }
    let mut reader = serde_json::Deserializer::from_slice(message);
    // The object, and nothing after it: Jellyfin keeps what follows for the next message.
    match reader.deserialize_map(Types).and_then(|needs| reader.end().map(|()| needs)) {
        Ok(needs) => needs,
        Err(_) => UNREADABLE,
    }
}

/// Reads an object for all members that a server could take for its type.
struct Types;

impl<'de> Visitor<'de> for Types {
    type Value = Scopes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scopes, A::Error> {
        let mut needs = None;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if is_type(&name) {
                needs = Some(needs.unwrap_or(Scopes::NONE).or(of_type(&map.next_value()?)));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(needs.unwrap_or(UNKNOWN))
    }
}

/// Servers ignore the letter case of names, and some libraries what stands between words.
fn is_type(name: &str) -> bool {
    let letters = name.chars().filter(|letter| !matches!(letter, '_' | '-' | ' '));
    letters.map(|letter| letter.to_ascii_lowercase()).eq("messagetype".chars())
}

/// .NET reads the names of an enumeration in any letter case and with white space around them, and numbers and lists of names too.
fn of_type(value: &Value) -> Scopes {
    let Some(name) = value.as_str().map(str::trim) else { return UNREADABLE };
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return UNREADABLE;
    }
    TAKES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map_or(UNKNOWN, |(_, takes)| *takes)
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;

    use super::*;
    use crate::target::Path;
    use crate::upstream::Kind;
    use crate::upstream::dialect;

    fn of(text: &str) -> Scopes {
        needs(text.as_bytes())
    }

    fn message(name: &str) -> String {
        format!(r#"{{"MessageType":"{name}","Data":"0,1500"}}"#)
    }

    #[test]
    fn each_takes_what_the_route_takes_that_does_the_same() {
        for (name, method, path) in [
            ("SessionsStart", Method::GET, "/Sessions"),
            ("SystemInfoStart", Method::GET, "/System/Info"),
            ("ScheduledTasksInfoStart", Method::GET, "/ScheduledTasks"),
            ("ActivityLogEntryStart", Method::GET, "/System/ActivityLog/Entries"),
            ("LogFileStart", Method::GET, "/System/Logs/Log"),
            ("PlaybackStart", Method::POST, "/Sessions/Playing"),
            ("ReportPlaybackStart", Method::POST, "/Sessions/Playing"),
            ("PlaybackProgress", Method::POST, "/Sessions/Playing/Progress"),
            ("ReportPlaybackProgress", Method::POST, "/Sessions/Playing/Progress"),
            ("PlaybackStopped", Method::POST, "/Sessions/Playing/Stopped"),
            ("ReportPlaybackStopped", Method::POST, "/Sessions/Playing/Stopped"),
            ("Context", Method::POST, "/Sessions/Viewing"),
        ] {
            for kind in [Kind::Emby, Kind::Jellyfin] {
                let path = Path::parse(path).expect("a path");
                assert_eq!(of(&message(name)), dialect::of(kind).routed(&method, &path).needs, "{kind}: {name}");
            }
        }
        for name in ["KeepAlive", "SessionsStop", "ScheduledTasksInfoStop", "ActivityLogEntryStop"] {
            assert!(of(&message(name)).is_empty(), "{name}");
        }
        assert_eq!((of(&message("Identity")), of(&message("Play"))), (Scopes::of(Scope::Admin), Scopes::of(Scope::Manage)));
    }

    #[test]
    fn a_type_is_found_however_it_is_written() {
        let admin = Scopes::of(Scope::Admin);
        for text in [
            r#"{"MessageType":"ActivityLogEntryStart"}"#,
            r#"{"messagetype":"activitylogentrystart"}"#,
            r#" {"Data":{"MessageType":"KeepAlive"},"MESSAGETYPE":" ActivityLogEntryStart\t"} "#,
            r#"{"Message\u0054ype":"Activity\u004cogEntryStart"}"#,
            r#"{"message_type":"ActivityLogEntryStart"}"#,
            r#"{"MessageType":"KeepAlive","MessageType":"ActivityLogEntryStart"}"#,
            r#"{"MessageType":"ActivityLogEntryStart","MessageType":"KeepAlive"}"#,
            r#"{"MessageType":"ActivityLogEntryStart","messageType":"KeepAlive"}"#,
        ] {
            assert_eq!(of(text), admin, "{text}");
        }
    }

    #[test]
    fn what_a_generous_server_could_read_otherwise_takes_everything() {
        for text in [
            r#"{"MessageType":"KeepAlive"}{"MessageType":"SessionsStart"}"#,
            r#"{"MessageType":"KeepAlive"} x"#,
            r#"{"MessageType":"KeepAlive""#,
            r#"{MessageType:"KeepAlive"}"#,
            r#"{'MessageType':'KeepAlive'}"#,
            r#"{"MessageType":"KeepAlive",}"#,
            r#"{"MessageType":31}"#,
            r#"{"MessageType":"31"}"#,
            r#"{"MessageType":null}"#,
            r#"{"MessageType":"KeepAlive,ActivityLogEntryStart"}"#,
            r#"{"MessageType":""}"#,
            "{\"MessageType\":\"\\ud800\"}",
            "\u{feff}{\"MessageType\":\"KeepAlive\"}",
        ] {
            assert_eq!(of(text), UNREADABLE, "{text}");
        }
        assert_eq!(needs(b"{\"MessageType\":\"\xff\"}"), UNREADABLE);
        assert_eq!(of("{}"), UNKNOWN, "it is none");
    }

    #[test]
    fn what_has_no_object_in_it_is_a_message_that_nobody_knows() {
        for text in ["", "hello", "KeepAlive", "[]", r#""KeepAlive""#, "MessageType=ActivityLogEntryStart"] {
            assert_eq!(of(text), UNKNOWN, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_only_objects_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let read = bytes.contains(&b'{') && needs(&bytes) != UNREADABLE;
            prop_assert!(!read || serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes).is_ok());
        }
    }
}
