//! What systemd hears: of the real program at each stage of its life, and of a core that stands still.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keygate::clock::{Clock, SystemClock, Timestamp};
use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;

use crate::support::daemon::Home;
use crate::support::http::PATIENCE;
use crate::support::wire::Wire;
use crate::support::{Setup, until};

/// Waits for a message that has this line; those before it are skipped.
fn hear(socket: &UnixDatagram, line: &str) -> String {
    let mut buffer = [0; 4096];
    loop {
        let count = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {line}: {error}"));
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        if text.lines().any(|known| known.starts_with(line)) {
            return text;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_of_start_reload_and_stop_and_of_life_until_the_last_stream_has_ended() {
    let standin = StandIn::start(Kind::Jellyfin, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], "");
    let socket = UnixDatagram::bind(home.folder.path().join("notify")).expect("bound");
    socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let mut command = home.program();
    command.env("NOTIFY_SOCKET", home.folder.path().join("notify")).env("WATCHDOG_USEC", "200000").arg("serve");
    home.spawn(command);
    hear(&socket, "READY=1");
    hear(&socket, "WATCHDOG=1");
    home.add_alice("jellyfin/alice").await;
    let key = home.key("k", "alice").await;
    home.signal("HUP");
    assert!(hear(&socket, "RELOADING=1").contains("MONOTONIC_USEC="), "Type=notify-reload needs both in one message");
    hear(&socket, "READY=1");
    let mut stream = Wire::plain(home.address).await;
    stream.write(format!("GET /keygate-test/slow?pause=100 HTTP/1.1\r\nHost: localhost\r\nX-Emby-Token: {key}\r\n\r\n")).await;
    assert!(stream.head().await.starts_with("HTTP/1.1 200"));
    home.signal("TERM");
    assert!(hear(&socket, "STOPPING=1").contains("EXTEND_TIMEOUT_USEC=13000000"), "3 s to drain, and 10 s");
    hear(&socket, "WATCHDOG=1");
    assert!(stream.rest().await.ends_with(b"0\r\n\r\n"));
    assert_eq!(home.ended().await, 0);
}

/// A clock that holds the first core fast when it looks at it.
struct Trap {
    machine: SystemClock,
    is_set: AtomicBool,
}

impl Clock for Trap {
    fn now(&self) -> Timestamp {
        while self.is_set.load(Ordering::Relaxed) && std::thread::current().name() == Some("core-0") {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.machine.now()
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_that_stands_still_is_noticed_and_so_is_its_coming_back() {
    let trap = Arc::new(Trap { machine: SystemClock::new(), is_set: AtomicBool::new(false) });
    let rig = Setup::new(Kind::Jellyfin).clock(Arc::clone(&trap) as Arc<dyn Clock>).start().await;
    let pulses = rig.app().server.pulses();
    // Long enough between two looks for every core that turns: they count twice a second.
    let look = || {
        let mut seen = Vec::new();
        pulses.standing_since(&mut seen);
        std::thread::sleep(Duration::from_secs(2));
        pulses.standing_since(&mut seen)
    };
    until("both cores turn", || look().is_empty()).await;
    trap.is_set.store(true, Ordering::Relaxed);
    until("the first core stands", || look() == [0]).await;
    trap.is_set.store(false, Ordering::Relaxed);
    until("both turn again", || look().is_empty()).await;
}
