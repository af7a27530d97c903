//! What clients say on the sockets of Emby and Jellyfin takes what the routes take that do the same.

use keygate::audit::{Entry, Line, Reading, Verb};
use keygate::keys::{ApiKey, Scope, Scopes};
use keygate::registry::KeyPatch;
use keygate::store::Store;
use keygate::upstream::Kind;

use crate::support::socket::{Socket, frame};
use crate::support::{self, Rig};

/// Types of messages, and what each takes beside the socket itself.
const TAKES: [(&str, Option<Scope>); 20] = [
    ("KeepAlive", None),
    ("SessionsStart", Some(Scope::Status)),
    ("SessionsStop", None),
    ("SystemInfoStart", Some(Scope::Status)),
    ("SystemInfoStop", None),
    ("ScheduledTasksInfoStart", Some(Scope::Admin)),
    ("ScheduledTasksInfoStop", None),
    ("ActivityLogEntryStart", Some(Scope::Admin)),
    ("ActivityLogEntryStop", None),
    ("LogFileStart", Some(Scope::Admin)),
    ("LogFileStop", None),
    ("PlaybackStart", Some(Scope::Progress)),
    ("PlaybackProgress", Some(Scope::Progress)),
    ("PlaybackStopped", Some(Scope::Progress)),
    ("ReportPlaybackStart", Some(Scope::Progress)),
    ("ReportPlaybackProgress", Some(Scope::Progress)),
    ("ReportPlaybackStopped", Some(Scope::Progress)),
    ("Context", Some(Scope::Progress)),
    ("Identity", Some(Scope::Admin)),
    ("NobodyKnowsThis", Some(Scope::Manage)),
];
const MASK: Option<[u8; 4]> = Some([7, 77, 177, 17]);

fn message(name: &str, data: &str) -> String {
    format!(r#"{{"MessageType":"{name}","Data":"{data}"}}"#)
}

/// A socket of a key.
async fn open(rig: &Rig, kind: Kind, key: &ApiKey) -> Socket {
    let path = if kind == Kind::Emby { "/embywebsocket?deviceId=d" } else { "/socket?deviceId=d" };
    let mut socket = Socket::open(rig, &format!("{path}&api_key={}", key.expose()), "").await;
    assert!(socket.hear().await.contains("ForceKeepAlive"));
    socket
}

/// Gives the rig's key these scopes, and the one for sockets.
fn give(rig: &Rig, scopes: Scopes) {
    let scopes = Some(scopes.or(Scopes::of(Scope::Events)));
    rig.keep().registry.edit_key(rig.key.id(), KeyPatch { scopes, ..KeyPatch::default() }).expect("edited");
}

/// What of these frames the server has heard, once it has heard what was said after them.
async fn heard(rig: &Rig, socket: &mut Socket, frames: &[u8]) -> Vec<String> {
    let before = rig.standin.control().said();
    let last = message("KeepAlive", &format!("after {}", before.len()));
    socket.wire.write([frames, &frame(0x81, last.as_bytes(), MASK)].concat()).await;
    support::until("the last one is heard", || rig.standin.control().said().last() == Some(&last)).await;
    let mut said = rig.standin.control().said().split_off(before.len());
    said.pop();
    said
}

fn refused(rig: &Rig) -> u64 {
    let totals = rig.keep().usage.totals().expect("read");
    totals.get("media").map(|totals| totals.refusals.values().sum()).unwrap_or_default()
}

/// The lines of the audit log about what was refused: of what, and with which fields.
fn notices(rig: &Rig) -> Vec<(String, Vec<String>)> {
    rig.keep().usage.finish().expect("written");
    let mut notices = Vec::new();
    let texts = |line: &Line| line.fields.iter().map(|field| field.after.clone().expect("a value").to_string()).collect();
    let mut note = |entry: Entry| {
        let line = entry.line;
        notices.extend((line.verb == Verb::Refused).then(|| (line.object.name.to_string(), texts(&line))));
        true
    };
    rig.store.read_audit(Reading::After(0), &mut note).expect("the log");
    notices
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_of_a_client_goes_on_with_its_scope_and_not_without_it() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let rig = Rig::new(kind).await;
        let mut dropped = 0;
        let mut socket = open(&rig, kind, &rig.key).await;
        for has in Scope::ALL.map(Scopes::of).into_iter().chain([Scopes::FULL, Scopes::ALL]) {
            // It holds from the next message on, in the socket that is open.
            give(&rig, has);
            for (name, takes) in TAKES {
                let (text, may) = (message(name, "0,1500"), takes.is_none_or(|scope| has.contains(scope)));
                let both = [0x81, 0x82].map(|opcode| frame(opcode, text.as_bytes(), MASK)).concat();
                let said = heard(&rig, &mut socket, &both).await;
                assert_eq!(said, vec![text; if may { 2 } else { 0 }], "{kind}: {name} with {:?}", has.names());
                dropped += if may { 0 } else { 2 };
            }
        }
        support::until("what was left out is counted", || refused(&rig) == dropped).await;
        let fields = ["missing-scope".to_owned(), dropped.to_string(), "api_key".to_owned(), "127.0.0.1".to_owned()];
        assert_eq!(notices(&rig), [("test key".to_owned(), fields.into())], "one line for all of them");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_judged_as_the_server_puts_it_together_and_what_cannot_be_read_is_for_administrators() {
    let rig = Rig::new(Kind::Jellyfin).await;
    let mut socket = open(&rig, Kind::Jellyfin, &rig.key).await;
    let text = message("ActivityLogEntryStart", "0,1000");
    let (begin, end) = text.split_at(19);
    let pieces = [frame(0x01, begin.as_bytes(), MASK), frame(0x89, b"between", MASK), frame(0x80, end.as_bytes(), MASK)].concat();
    let two = message("KeepAlive", "") + &text;
    let lax = text.replace('"', "'");
    for (scopes, is_ruler) in [(Scopes::FULL, false), (Scopes::ALL, true)] {
        give(&rig, scopes);
        let said = heard(&rig, &mut socket, &pieces).await;
        assert_eq!(said, vec![text.clone(); usize::from(is_ruler)]);
        while socket.next().await.expect("the answer to the ping") != (10, b"between".to_vec()) {}
        for unreadable in [&two, &lax, r#"{"MessageType":26}"#] {
            let said = heard(&rig, &mut socket, &frame(0x81, unreadable.as_bytes(), MASK)).await;
            assert_eq!(said.len(), usize::from(is_ruler), "{unreadable}");
        }
        // No object, and so nothing that any server obeys: as a message that nobody knows.
        assert_eq!(heard(&rig, &mut socket, &frame(0x81, b"hello", MASK)).await, ["hello"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_or_no_frame_closes_the_socket_and_says_why() {
    let rig = Rig::new(Kind::Emby).await;
    let large = message("Something", &"x".repeat(600_000));
    for (bytes, code, why) in
        [(frame(0x81, large.as_bytes(), MASK), 1009, "message too large"), (frame(0x81, b"unmasked", None), 1002, "malformed frame")]
    {
        let mut socket = open(&rig, Kind::Emby, &rig.key).await;
        socket.wire.write(bytes).await;
        assert_eq!(socket.closed().await, (code, why.to_owned()));
    }
    assert!(rig.standin.control().said().is_empty());
}
