//! Keys that are confined to libraries.

use super::*;
use serde_json::json;

/// A key of the rig's account that is confined to a library.
fn confined(rig: &Rig, library: &str) -> ApiKey {
    let key = rig.another_key("confined");
    let patch = KeyPatch { libraries: Some(Some(vec![library.to_owned()])), ..KeyPatch::default() };
    rig.keep().registry.edit_key(key.id(), patch).expect("edited");
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confined_key_reads_its_library_and_single_things_and_lists_no_other() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        let there = rig.keep().sessions.libraries(rig.account.id).await.expect("libraries");
        let id = &there[0].id;
        let key = confined(&rig, id);
        let ask = async |path: &str| with_key(&rig, &key, Method::GET, path).await;
        let (mine, others): (Vec<String>, Vec<String>) = match kind {
            Kind::Audiobookshelf => (
                vec![
                    format!("/api/libraries/{id}/items"),
                    format!("/API//libraries/{id}/"),
                    "/api/libraries".to_owned(),
                    "/api/me".to_owned(),
                ],
                vec![
                    "/api/libraries/0a0a/items".to_owned(),
                    "//api//libraries/0a0a/items".to_owned(),
                    "/api/collections".to_owned(),
                    "/api/tasks".to_owned(),
                    "/unknown".to_owned(),
                ],
            ),
            _ => (
                vec![format!("/Items?ParentId={id}"), format!("//Items?Recursive=true&parentid={id}"), format!("/Users/{}/Views", "7")],
                vec![
                    "/Items".to_owned(),
                    "/Items?ParentId=0a0a".to_owned(),
                    format!("/Items?ParentId={id}&ParentId=0a0a"),
                    "/Sessions".to_owned(),
                    "/Search/Hints".to_owned(),
                    "/unknown".to_owned(),
                ],
            ),
        };
        for path in mine {
            assert_eq!(ask(&path).await.status, 200, "{kind}: {path}");
        }
        let before = rig.standin.control().counters().requests;
        for path in others {
            let answer = ask(&path).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["error"]), (403, &json!("other_library")), "{kind}: {path}");
        }
        assert_eq!(rig.standin.control().counters().requests, before, "{kind}");
        let socket = if kind == Kind::Audiobookshelf { "/socket.io/?EIO=4&transport=polling" } else { "/socket" };
        assert_eq!(ask(socket).await.status, 403, "{kind}: a socket tells of all libraries");
        let free = KeyPatch { libraries: Some(None), ..KeyPatch::default() };
        rig.keep().registry.edit_key(key.id(), free).expect("edited");
        let list = if kind == Kind::Audiobookshelf { "/api/libraries/0a0a/items" } else { "/Items" };
        assert_ne!(ask(list).await.status, 403, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auth_in_a_socket_does_not_help_a_confined_key() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let key = confined(&rig, "0a0a");
    let mut socket = crate::socketio::connected(&rig, crate::socketio::OPEN).await;
    socket.say(&crate::socketio::auth(key.expose())).await;
    assert!(socket.hear().await.starts_with("42[\"auth_failed\""));
}
