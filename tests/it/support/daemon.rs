//! The real program with a configuration in a folder of its own: as a daemon, and as the commands that talk to it.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keygate::demo::StandIn;

use super::http::PATIENCE;
use super::sweep::{Sweep, keys_in};

/// The exit code and the texts of a command.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let code = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(1));
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }

    /// What it printed, if it worked.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out
    }

    /// What it complained of, if it ended with this code.
    pub(crate) fn refused(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self.err
    }
}

/// A folder with a configuration, a store, a socket; and the daemon that runs there, if one does.
pub(crate) struct Home {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    daemon: Option<Child>,
    log: Arc<Mutex<String>>,
    /// Reads the log of each daemon that ran here.
    readers: Vec<std::thread::JoinHandle<()>>,
    /// Looks through all that the program lets out, and fails the test at the end if a secret was in it.
    pub(crate) sweep: Arc<Sweep>,
}

impl Drop for Home {
    fn drop(&mut self) {
        self.kill();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        if let Ok(bytes) = fs::read(self.store()) {
            self.sweep.wrote(&bytes, "the store's file");
        }
        self.sweep.finish();
    }
}

/// A free port of a loopback address that nobody else uses: on the common one, any connection of another test could take it before the
/// daemon does.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let own = Ipv4Addr::new(127, std::process::id().to_le_bytes()[0] | 1, high, low);
    TcpListener::bind((own, 0)).and_then(|listener| listener.local_addr()).expect("a free port")
}

impl Home {
    /// A folder without a configuration.
    pub(crate) fn empty() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (address, sweep) = (free_address(), Arc::<Sweep>::default());
        sweep.cover(&[address]);
        Self { folder, address, daemon: None, log: Arc::default(), readers: Vec::new(), sweep }
    }

    /// A configuration for these stand-ins; each has its kind's name, and with several of them its own host name `KIND.test`.
    pub(crate) fn of(standins: &[&StandIn], more: &str) -> Self {
        let home = Self::empty();
        home.configure(standins, more);
        home
    }

    /// Writes the configuration anew. `more` comes first: fields of the file's top, or whole sections.
    pub(crate) fn configure(&self, standins: &[&StandIn], more: &str) {
        let mut text = format!(
            "{more}\n[server]\nlisten = \"{}\"\nthreads = 2\ndrain_timeout = \"3s\"\n[store]\npath = \"store/keygate.redb\"\n\
             master_key = {{ file = \"master.key\" }}\n[admin]\nsocket = \"run/admin.sock\"\n",
            self.address
        );
        for standin in standins {
            self.sweep.watch(standin);
            let _ = write!(text, "[[upstream]]\nkind = \"{}\"\nurl = \"{}\"\n", standin.kind, standin.url);
            if standins.len() > 1 {
                let _ = writeln!(text, "hosts = [\"{}.test\"]", standin.kind);
            }
        }
        self.write(&text);
    }

    pub(crate) fn write(&self, config: &str) {
        fs::write(self.config(), config).expect("written");
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("run/admin.sock")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store/keygate.redb")
    }

    /// The program with this folder's configuration.
    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keygate"));
        command.env("KEYGATE_CONFIG", self.config()).env_remove("KEYGATE_SOCKET").env_remove("NOTIFY_SOCKET");
        command.current_dir(self.folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end; words are separated by spaces.
    pub(crate) async fn run(&self, words: &str) -> Said {
        self.run_with(words, "").await
    }

    /// [`Home::run`], with this on standard input.
    pub(crate) async fn run_with(&self, words: &str, input: &str) -> Said {
        let mut command = self.program();
        command.args(words.split(' '));
        if words.contains("-stdin") {
            self.sweep.keep_secret(input.trim_end());
        }
        let input = input.to_owned();
        let ran = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().expect("the program");
            let mut stdin = child.stdin.take().expect("standard input");
            // A program that fails early reads nothing of it.
            let _ = stdin.write_all(input.as_bytes());
            drop(stdin);
            child.wait_with_output().expect("its end")
        });
        let said = Said::of(ran.await.expect("no panic"));
        let creates = ["keys create", "keys rotate"].iter().any(|creating| words.contains(creating));
        self.sweep.printed(&format!("{}\n{}", said.out, said.err), creates, words);
        said
    }

    /// Starts `keygate serve` and waits until it is ready.
    pub(crate) async fn start(&mut self) {
        self.start_with("serve").await;
    }

    pub(crate) async fn start_with(&mut self, words: &str) {
        let mut command = self.program();
        command.args(words.split(' '));
        self.spawn(command);
        self.logged("ready").await;
    }

    /// Starts a daemon without waiting for it.
    pub(crate) fn spawn(&mut self, mut command: Command) {
        command.stdin(Stdio::null());
        self.spawn_with_input(command);
    }

    /// [`Home::spawn`] with the socket units of systemd in front: this socket under these names, `:` between them.
    pub(crate) fn spawn_activated(&mut self, socket: &impl AsFd, names: &str) {
        let mut command = Command::new("sh");
        // The process that systemd means is the one that the shell becomes.
        let count = names.split(':').count();
        let places: String = (3..3 + count).fold(String::new(), |mut places, place| {
            let _ = write!(places, " {place}<&0");
            places
        });
        command.args([
            "-c",
            &format!("exec{places} </dev/null; LISTEN_PID=$$ LISTEN_FDS={count} exec \"$0\" serve"),
            env!("CARGO_BIN_EXE_keygate"),
        ]);
        command.env("KEYGATE_CONFIG", self.config()).env_remove("KEYGATE_SOCKET").env_remove("NOTIFY_SOCKET").env("LISTEN_FDNAMES", names);
        command.current_dir(self.folder.path()).stderr(Stdio::piped());
        command.stdin(socket.as_fd().try_clone_to_owned().expect("a descriptor"));
        self.spawn_with_input(command);
    }

    fn spawn_with_input(&mut self, mut command: Command) {
        assert!(self.daemon.is_none(), "one runs already");
        self.log.lock().expect("no panic").clear();
        let mut child = command.stdout(Stdio::null()).spawn().expect("the program");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (log, sweep) = (Arc::clone(&self.log), Arc::clone(&self.sweep));
        self.readers.push(std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                sweep.logged(&line, keys_in(line.as_bytes()));
                let mut log = log.lock().expect("no panic");
                log.push_str(&line);
                log.push('\n');
            }
        }));
        self.daemon = Some(child);
    }

    /// Waits until the log of the running daemon has a text in it, and gives the first line that has it.
    pub(crate) async fn logged(&mut self, text: &str) -> String {
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            // Asked before the log is looked at: its last lines are read after its end.
            let ended = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().expect("its state"));
            let is_over = ended.is_some() && self.readers.iter().all(std::thread::JoinHandle::is_finished);
            if let Some(line) = self.log().lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(!is_over && tokio::time::Instant::now() < patience, "no {text:?} ({ended:?}) in:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// All that the daemon has logged since it was started.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("running").id()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().expect("kill");
        assert!(sent.success(), "{name}");
    }

    /// Waits for the daemon's end; its exit code.
    pub(crate) async fn ended(&mut self) -> i32 {
        let mut daemon = self.daemon.take().expect("running");
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = daemon.try_wait().expect("its state") {
                return status.code().unwrap_or_else(|| -status.signal().unwrap_or(1));
            }
            if tokio::time::Instant::now() > patience {
                let _ = daemon.kill();
                panic!("it does not end:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Adds alice with her password, in the running daemon or in the store.
    pub(crate) async fn add_alice(&self, account: &str) {
        self.run_with(&format!("accounts add {account} --secret-stdin"), "alice-password\n").await.ok();
    }

    /// A new key for an account.
    pub(crate) async fn key(&self, name: &str, account: &str) -> String {
        self.run(&format!("keys create {name} --account {account} -q")).await.ok().trim_end().to_owned()
    }

    /// The status of a GET with a key.
    pub(crate) async fn status(&self, path: &str, key: &str) -> u16 {
        super::http::get(self.address, path, &[("x-emby-token", key)]).await.status.as_u16()
    }
}
