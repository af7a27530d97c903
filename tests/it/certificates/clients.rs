//! Authorities of clients' certificates that change while everything runs, with the real program.

use keygate::demo::StandIn;

use crate::support::authority::{Authority, Client};
use crate::support::daemon::Home;

const ASKING: &str = "[server.tls]\ncert_file = \"a.pem\"\nkey_file = \"a.key\"\nclient_ca_file = \"clients.pem\"\n";

/// What a gateway shows, the authorities that clients may be of, and a client of each.
struct Known {
    own: Authority,
    all: [Authority; 2],
}

impl Known {
    fn new() -> Self {
        Self { own: Authority::new(), all: [Authority::new(), Authority::new()] }
    }

    fn clients(&self) -> [Client; 2] {
        [0, 1].map(|which| Client::new(&self.own.pem, rustls::DEFAULT_VERSIONS, Some(&self.all[which].issue(&["tv"]))))
    }

    fn write(&self, home: &Home, text: &str) {
        std::fs::write(home.folder.path().join("clients.pem"), text).expect("written");
    }

    async fn home(&self, standin: &StandIn) -> (Home, String) {
        let mut home = Home::of(&[standin], ASKING);
        self.own.issue(&["localhost"]).write(home.folder.path(), "a");
        self.write(&home, &self.all[0].pem);
        home.start().await;
        home.add_alice("alice").await;
        let key = home.key("tv", "alice").await;
        (home, key)
    }
}

/// Whether a client is let in: not at all, or with a 200.
async fn is_let_in(home: &Home, client: &Client, key: &str) -> bool {
    match client.get(home.address, "/System/Info", key).await {
        Ok((answer, _)) => {
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            true
        }
        Err(_) => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_authorities_of_clients_are_taken_over_and_broken_ones_are_not() {
    let (standin, known) = (super::standin().await, Known::new());
    let (mut home, key) = known.home(&standin).await;
    let [first, second] = known.clients();
    assert_eq!((is_let_in(&home, &first, &key).await, is_let_in(&home, &second, &key).await), (true, false));

    // By itself, within seconds. The first client knows a session by now, which lets it in no more than its certificate does.
    known.write(&home, &known.all[1].pem);
    home.logged("the authorities of clients' certificates were replaced").await;
    assert_eq!((is_let_in(&home, &first, &key).await, is_let_in(&home, &second, &key).await), (false, true));

    // Nothing that can be used: the old one stays, and everybody says so.
    known.write(&home, "-----BEGIN CERTIFICATE-----\n");
    let line = home.logged("no new authorities of clients' certificates").await;
    assert!(line.contains("clients.pem") && line.contains("the old ones stay in use"), "{line}");
    assert_eq!((is_let_in(&home, &first, &key).await, is_let_in(&home, &second, &key).await), (false, true));
    assert!(home.run("tls show").await.err.contains("warning: no newer authorities of clients' certificates from"));
    assert!(home.run("reload").await.refused(2).contains("server.tls.client_ca_file: "));
    std::fs::remove_file(home.folder.path().join("clients.pem")).expect("removed");
    assert!(home.run("reload").await.refused(2).contains("clients.pem"));
    assert_eq!((is_let_in(&home, &first, &key).await, is_let_in(&home, &second, &key).await), (false, true));

    // Both, by a reload at once.
    known.write(&home, &format!("{}{}", known.all[0].pem, known.all[1].pem));
    assert!(home.run("reload").await.ok().contains("reloaded: authorities of clients' certificates, for new connections"));
    assert_eq!((is_let_in(&home, &first, &key).await, is_let_in(&home, &second, &key).await), (true, true));
    assert!(home.run("reload").await.ok().contains("nothing changed"));
    assert!(!home.run("tls show").await.err.contains("warning"));
    assert_eq!(home.log().matches("no new authorities").count(), 1, "once:\n{}", home.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_goes_over_to_another_file_and_does_all_or_nothing() {
    let (standin, known) = (super::standin().await, Known::new());
    let (home, key) = known.home(&standin).await;
    let [first, second] = known.clients();
    std::fs::write(home.folder.path().join("others.pem"), "nothing").expect("written");
    let elsewhere = ASKING.replace("clients.pem", "others.pem");
    let new = known.own.issue(&["localhost"]);
    let served = first.sees(home.address, "localhost").await.expect("a handshake");
    new.write(home.folder.path(), "b");
    home.configure(&[&standin], &elsewhere.replace("a.pem", "b.pem").replace("a.key", "b.key"));
    assert!(home.run("reload").await.refused(2).contains("others.pem"));
    assert_eq!(known.clients()[0].sees(home.address, "localhost").await.expect("a handshake"), served, "nothing changed");
    std::fs::write(home.folder.path().join("others.pem"), &known.all[1].pem).expect("written");
    home.run("reload").await.ok();
    assert_eq!((is_let_in(&home, &first, &key).await, is_let_in(&home, &second, &key).await), (false, true));
    // Whether somebody is asked at all is decided when keygate starts.
    home.configure(&[&standin], &ASKING.replace("client_ca_file = \"clients.pem\"\n", ""));
    assert!(home.run("reload").await.refused(2).contains("server.tls.client_ca_file cannot change while keygate runs"));
    home.configure(&[&standin], &format!("{elsewhere}client_ca_listen = \"{}\"\n", home.address));
    assert!(home.run("reload").await.refused(2).contains("server.tls.client_ca_listen cannot change"));
}
