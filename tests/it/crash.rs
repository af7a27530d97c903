//! The daemon killed at any moment, and a disk that takes no more.

mod taken_back;
mod under_load;

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support;
use crate::support::daemon::Home;
use crate::support::net::TcpStream;

const ROUNDS: u32 = 24;

/// Asks again and again until the gateway is gone; errors are expected.
async fn load(address: SocketAddr, key: String) {
    let head = format!("GET /api/me HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\r\n");
    while let Ok(mut stream) = TcpStream::connect(address).await {
        let mut answer = Vec::new();
        if stream.write_all(head.as_bytes()).await.is_err() || stream.read_to_end(&mut answer).await.is_err() || answer.is_empty() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_while_it_renews_a_session_never_locks_the_account_out() {
    let options = Options { access_life: Duration::from_secs(2), login_limit: None, ..Options::default() };
    let standin = StandIn::start(Kind::Audiobookshelf, options).await.expect("a stand-in");
    let control = standin.control();
    let mut home = Home::of(&[&standin], "");
    home.add_alice("alice").await;
    let key = home.key("ha", "alice").await;
    for round in 0..ROUNDS {
        home.start().await;
        assert_eq!(home.status("/api/me", &key).await, 200, "round {round}:\n{}", home.log());
        let lost_answer = round % 3 == 0;
        control.faults(|faults| faults.delay_refresh = if lost_answer { Duration::from_secs(3600) } else { Duration::ZERO });
        let before = control.counters().refreshes;
        control.kill_access_tokens();
        let asking: Vec<_> = (0..4).map(|_| tokio::spawn(load(home.address, key.clone()))).collect();
        support::until("the rotation", || control.counters().refreshes > before).await;
        if round % 3 == 2 {
            // Spreads the kills over the moments between the answer, the commit and what comes after.
            tokio::time::sleep(Duration::from_micros(u64::from(round) * 300)).await;
        }
        home.kill();
        control.faults(|faults| faults.delay_refresh = Duration::ZERO);
        for one in asking {
            one.await.expect("no panic");
        }
    }
    home.start().await;
    assert_eq!(home.status("/api/me", &key).await, 200);
    let counters = control.counters();
    assert_eq!((counters.logins, counters.refused_logins, counters.refused_refreshes), (1, 0, 0), "{counters:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_were_acknowledged_survive_a_kill_and_revoked_ones_stay_dead() {
    let standin = StandIn::start(Kind::Audiobookshelf, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    home.add_alice("alice").await;
    let mut living = Vec::new();
    for round in 0..4 {
        let key = home.key(&format!("living-{round}"), "alice").await;
        let dead = home.key(&format!("dead-{round}"), "alice").await;
        home.run(&format!("keys revoke dead-{round} --yes")).await.ok();
        home.kill();
        home.start().await;
        assert_eq!(home.status("/api/me", &dead).await, 401, "round {round}");
        living.push(key);
        for key in &living {
            assert_eq!(home.status("/api/me", key).await, 200, "round {round}");
        }
    }
    assert_eq!(standin.control().counters().logins, 1);
}

/// Lets the daemon write to files, or not, as a full disk does.
fn set_disk_full(home: &Home, is_full: bool) {
    let limit = if is_full { "--fsize=0:unlimited" } else { "--fsize=unlimited:unlimited" };
    let set = std::process::Command::new("prlimit").arg(format!("--pid={}", home.pid())).arg(limit).status().expect("prlimit");
    assert!(set.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_full_disk_requests_go_on_and_a_revocation_holds_at_once_and_later_for_good() {
    if std::process::Command::new("prlimit").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("not run: there is no prlimit (util-linux) here");
        return;
    }
    let standin = StandIn::start(Kind::Audiobookshelf, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], "");
    let program = home.program();
    let mut command = std::process::Command::new("sh");
    // Without the trap a write beyond the limit ends the process instead of failing.
    command.args(["-c", "trap '' XFSZ; exec \"$0\" serve"]).arg(program.get_program());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(home.folder.path());
    command.stderr(Stdio::piped());
    home.spawn(command);
    home.logged("ready").await;
    home.add_alice("alice").await;
    let (first, second) = (home.key("first", "alice").await, home.key("second", "alice").await);
    assert_eq!(home.status("/api/me", &first).await, 200);

    set_disk_full(&home, true);
    let said = home.run("keys revoke first --yes").await;
    assert_eq!(home.status("/api/me", &first).await, 401, "{said:?}");
    assert!(said.err.contains("durable") || said.err.contains("written") || said.out.contains("durable"), "{said:?}");
    let said = home.run("keys create third -a alice -q").await;
    assert!(said.code == 1 && said.out.is_empty(), "a key that is not durable is not given out: {said:?}");
    for _ in 0..5 {
        assert_eq!(home.status("/api/me", &second).await, 200);
    }

    set_disk_full(&home, false);
    home.logged("durable now").await;
    home.kill();
    home.start().await;
    assert_eq!((home.status("/api/me", &first).await, home.status("/api/me", &second).await), (401, 200));
    let _ = home.key("third", "alice").await;
}
