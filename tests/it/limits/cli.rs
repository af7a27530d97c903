//! Limits as operators set, see and lift them: on the command line, and in JSON.

use serde_json::{Value, json};

use crate::admin::AdminSide;
use crate::cli::{keygate, out, refused};

async fn limits(side: &AdminSide, name: &str) -> Value {
    let shown = out(&keygate(&side.socket, &format!("keys show {name} -o json")).await);
    serde_json::from_str::<Value>(&shown).expect("JSON")["apiKey"]["limits"].clone()
}

#[tokio::test]
async fn limits_are_set_shown_kept_and_lifted() {
    let side = AdminSide::start();
    side.add_account("abs/alice").await;
    out(&keygate(&side.socket, "keys create plain -a alice -q").await);
    assert_eq!(limits(&side, "plain").await, Value::Null);
    out(&keygate(&side.socket, "keys create tv -a alice --network 192.168.1.0/24 --network 2001:db8::/64 -q").await);
    let networks = json!(["192.168.1.0/24", "2001:db8::/64"]);
    assert_eq!(limits(&side, "tv").await["networks"], networks);
    out(&keygate(&side.socket, "keys edit tv --name telly").await);
    assert_eq!(limits(&side, "telly").await["networks"], networks, "another edit leaves them alone");
    let shown = out(&keygate(&side.socket, "keys show telly").await);
    assert!(shown.lines().any(|line| line.ends_with("192.168.1.0/24, 2001:db8::/64")), "{shown}");
    let listed = out(&keygate(&side.socket, "keys list -o plain").await);
    assert!(listed.contains("\tfull+limits\n") && listed.contains("\tfull\n"), "{listed}");
    out(&keygate(&side.socket, "keys edit telly --network 10.0.0.0/8").await);
    assert_eq!(limits(&side, "telly").await, json!({"networks": ["10.0.0.0/8"]}));
    out(&keygate(&side.socket, "keys edit telly --network any --rate 120/minute --streams 2 --bandwidth 8000kbit --daily 2048MiB").await);
    assert_eq!(limits(&side, "telly").await, json!({"rate": "120/min", "streams": 2, "bandwidth": "8Mbit", "daily": "2GiB"}));
    out(&keygate(&side.socket, "keys edit telly --rate none --streams none --bandwidth none").await);
    assert_eq!(limits(&side, "telly").await, json!({"daily": "2GiB"}));
    let listed = out(&keygate(&side.socket, "keys list -o plain").await);
    assert!(listed.contains("\tfull+limits\n"), "{listed}");
    out(&keygate(&side.socket, "keys edit telly --daily 500MiB").await);
    let log = out(&keygate(&side.socket, "audit tail -n 1").await);
    assert!(log.contains("daily 2GiB") && log.contains("daily 500MiB"), "before and after: {log}");
    out(&keygate(&side.socket, "keys edit telly --daily none").await);
    assert_eq!(limits(&side, "telly").await, Value::Null);
    out(&keygate(&side.socket, "keys edit telly --network 10.0.0.0/8").await);
    out(&keygate(&side.socket, "keys edit telly --no-limits").await);
    assert_eq!(limits(&side, "telly").await, Value::Null);
}

#[tokio::test]
async fn what_is_no_limit_is_told_by_the_name_of_its_switch() {
    let side = AdminSide::start();
    side.add_account("abs/alice").await;
    out(&keygate(&side.socket, "keys create tv -a alice -q").await);
    for (switches, says) in [
        ("--network home", "--network: \"home\" is no network"),
        ("--network 10.0.0.1/8", "write 10.0.0.0/8 for the network"),
        ("--bandwidth 20MB", "--bandwidth: \"20MB\" is no bandwidth: write one like 20Mbit"),
        ("--daily 50GB", "--daily: \"50GB\" is no number of bytes a day: write one like 50GiB"),
        ("--streams 0", "--streams: a key without a single stream"),
        ("--streams many", "--streams: \"many\" is no number of streams"),
        ("--rate fast", "--rate: \"fast\" is no rate: write one like 60/min"),
    ] {
        for command in ["create x -a alice", "edit tv"] {
            let why = refused(&keygate(&side.socket, &format!("keys {command} {switches}")).await, 2);
            assert!(why.contains(says), "{switches}: {why}");
        }
    }
    refused(&keygate(&side.socket, "keys edit tv --network 10.0.0.0/8 --no-limits").await, 2);
}
