//! Let's Encrypt's own small ACME server for tests, and the name server that it asks, as processes of this test.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::authority::{Authority, Client};
use crate::support::daemon::free_address;
use crate::support::http::PATIENCE;
use crate::support::net::TcpStream;

/// Whether both programs are here; says so where they are not, and fails with `CI=true`.
pub(super) fn is_here() -> bool {
    let runs = |name: &str| Command::new(name).arg("-help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    let is_here = runs("pebble") && runs("pebble-challtestsrv");
    if !is_here {
        use std::io::Write as _;
        // Past the harness, which shows what a passing test prints to nobody.
        let _ = writeln!(std::io::stderr(), "\nNOT RUN: a test of ACME: there is no pebble here (apt-get install pebble)");
        assert!(std::env::var("CI").is_err(), "with CI=true pebble must be there");
    }
    is_here
}

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What differs between ACME servers.
pub(super) struct Wishes {
    /// Where names are looked for by http-01.
    pub(super) http: u16,
    /// Where they are looked for by tls-alpn-01.
    pub(super) tls: u16,
    /// Per cent of good nonces that are refused.
    pub(super) refused_nonces: u32,
    /// How long certificates live.
    pub(super) life: Duration,
}

/// An ACME server, which may be stopped.
pub(super) struct Pebble {
    folder: tempfile::TempDir,
    authority: Authority,
    address: SocketAddr,
    management: SocketAddr,
    names: SocketAddr,
    records: SocketAddr,
    server: Option<Process>,
    _names: Process,
    refused_nonces: u32,
}

impl Pebble {
    /// Not started yet. `ip`: where all names lead.
    pub(super) async fn new(ip: IpAddr, wishes: Wishes) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new();
        let [address, management, names, records] = [free_address(), free_address(), free_address(), free_address()];
        authority.issue(&[&address.ip().to_string(), "localhost"]).write(folder.path(), "pebble");
        std::fs::write(folder.path().join("root.pem"), &authority.pem).expect("written");
        let config = serde_json::json!({ "pebble": {
            "listenAddress": address.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": folder.path().join("pebble.pem"),
            "privateKey": folder.path().join("pebble.key"),
            "httpPort": wishes.http,
            "tlsPort": wishes.tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": wishes.life.as_secs(),
        } });
        std::fs::write(folder.path().join("pebble.json"), config.to_string()).expect("written");
        let mut command = Command::new("pebble-challtestsrv");
        command.args(["-defaultIPv4", &ip.to_string(), "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""]);
        command.args(["-dns01", &names.to_string(), "-management", &records.to_string()]);
        let name_server = spawn(command, &folder.path().join("names.log"));
        answers(records).await;
        let refused_nonces = wishes.refused_nonces;
        Self { folder, authority, address, management, names, records, server: None, _names: name_server, refused_nonces }
    }

    /// With nothing in its memory.
    pub(super) async fn start(&mut self) {
        let mut command = Command::new("pebble");
        command.arg("-config").arg(self.folder.path().join("pebble.json")).arg("-dnsserver").arg(self.names.to_string());
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
        command.env("PEBBLE_WFE_NONCEREJECT", self.refused_nonces.to_string());
        self.server = Some(spawn(command, &self.folder.path().join("pebble.log")));
        answers(self.address).await;
        answers(self.management).await;
    }

    pub(super) fn stop(&mut self) {
        self.server = None;
    }

    /// A client that trusts what this server certifies.
    pub(super) async fn client(&self) -> Client {
        let mut wire = self.authority.client().wire(self.management, "localhost").await;
        wire.write("GET /roots/0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        let answer = String::from_utf8(wire.rest().await).expect("text");
        Client::trusting(answer.split_once("\r\n\r\n").expect("an answer").1)
    }

    /// The lines of `[server.tls.acme]` that lead here.
    pub(super) fn section(&self, lines: &str) -> String {
        let root = self.folder.path().join("root.pem");
        format!(
            "[server.tls]\nmode = \"acme\"\n[server.tls.acme]\ndirectory = \"https://{}/dir\"\nca_file = \"{}\"\n{lines}\n",
            self.address,
            root.display()
        )
    }

    /// A program for dns-01 that writes into the name server, and notes what it was told. While there is a file `slow` beside its notes, it
    /// writes nothing and does not end.
    pub(super) fn dns_hook(&self) -> (String, PathBuf) {
        let (script, notes) = (self.folder.path().join("hook.sh"), self.folder.path().join("notes"));
        let text = format!(
            "echo \"$1 $2 $3\" >> {notes}\n[ $1 = present ] && [ -e {slow} ] && sleep 600\ncase $1 in\npresent) path=set-txt body=\"{{\\\"host\\\":\\\"$3.\\\",\\\"value\\\":\\\"$4\\\"}}\" ;;\n\
             cleanup) path=clear-txt body=\"{{\\\"host\\\":\\\"$3.\\\"}}\" ;;\nesac\nexec curl -sSf -d \"$body\" http://{records}/$path\n",
            notes = notes.display(),
            slow = self.folder.path().join("slow").display(),
            records = self.records,
        );
        std::fs::write(&script, text).expect("written");
        (format!("dns_hook = [\"/bin/sh\", \"{}\"]\ndns_propagation_delay = \"0s\"\nchallenge = \"dns-01\"", script.display()), notes)
    }

    /// What both programs have said.
    pub(super) fn log(&self) -> String {
        let read = |name: &str| {
            let mut text = String::new();
            let _ = std::fs::File::open(self.folder.path().join(name)).and_then(|mut file| file.read_to_string(&mut text));
            text
        };
        format!("{}\n{}", read("pebble.log"), read("names.log"))
    }
}

fn spawn(mut command: Command, log: &Path) -> Process {
    let log = std::fs::File::create(log).expect("a log");
    let other = log.try_clone().expect("a log");
    Process(command.stdin(Stdio::null()).stdout(log).stderr(other).spawn().expect("the program"))
}

/// Waits until somebody listens there.
async fn answers(address: SocketAddr) {
    let patience = tokio::time::Instant::now() + PATIENCE;
    while TcpStream::connect(address).await.is_err() {
        assert!(tokio::time::Instant::now() < patience, "nobody listens on {address}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
