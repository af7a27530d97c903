//! Published client programs, unmodified, with a key and nothing else: over plain HTTP, and over https with keygate's own authority.
//! `tests/clients/README.md` says what each one does.

mod https;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support;

/// Longest run of one script; most take a second.
const SCRIPT_LIMIT: Duration = Duration::from_secs(120);
/// Between two looks at whether a script has ended.
const LOOK: Duration = Duration::from_millis(20);

/// An installation and the scripts that run in it.
struct Environment {
    name: &'static str,
    files: &'static [&'static str],
    pip_options: &'static [&'static str],
    /// Programs that the scripts run.
    tools: &'static [&'static str],
    scripts: &'static [Script],
}

struct Script {
    file: &'static str,
    /// Whether the client sends its key in a way that the media server itself does not read.
    needs_gateway: bool,
    /// Whether the client speaks HTTP/2 where it can.
    speaks_http2: bool,
}

const fn script(file: &'static str) -> Script {
    Script { file, needs_gateway: false, speaks_http2: false }
}

const fn gateway_script(file: &'static str) -> Script {
    Script { needs_gateway: true, ..script(file) }
}

const fn by_http2(script: Script) -> Script {
    Script { speaks_http2: true, ..script }
}

static ENVIRONMENTS: [Environment; 4] = [
    Environment {
        name: "audiobookshelf",
        files: &["requirements-audiobookshelf.txt"],
        // It declares Python 3.12 and runs on 3.11.
        pip_options: &["--ignore-requires-python"],
        tools: &[],
        scripts: &[
            script("aioaudiobookshelf_client.py"),
            gateway_script("aioaudiobookshelf_login_client.py"),
            gateway_script("socketio_client.py"),
        ],
    },
    Environment {
        name: "emby",
        files: &["requirements-emby.txt"],
        pip_options: &[],
        tools: &["ffprobe", "ffmpeg"],
        scripts: &[script("pyemby_client.py"), script("embyclient_client.py")],
    },
    Environment {
        name: "jellyfin",
        files: &["requirements-jellyfin.txt"],
        pip_options: &[],
        tools: &["ffprobe", "ffmpeg"],
        scripts: &[script("jellyfin_apiclient_client.py"), by_http2(gateway_script("jellyfin_api_client_client.py"))],
    },
    Environment {
        name: "node",
        files: &["package.json", "package-lock.json"],
        pip_options: &[],
        tools: &[],
        scripts: &[by_http2(script("jellyfin_sdk.mjs")), gateway_script("socketio_client.mjs")],
    },
];

/// What became of the scripts.
#[derive(Default)]
struct Outcome {
    failed: Vec<String>,
    /// Script and reason.
    not_run: Vec<String>,
}

/// What the scripts are told.
#[derive(Clone)]
struct Given {
    /// Beside each other, runs of different names do not disturb each other.
    name: &'static str,
    /// A folder with a description for each script, `FILE.json` (the JSON of `keygate demo -o json`).
    descriptions: PathBuf,
    /// Whether a gateway stands in front of the servers.
    has_gateway: bool,
    /// The authority to trust, in PEM.
    authority: Option<PathBuf>,
}

#[tokio::test]
async fn published_clients_work_with_a_key_alone() {
    let (description, _running) = support::demo().await;
    run_all(&description).await;
}

/// Runs every script against what `description` (the JSON of `keygate demo -o json`) names.
pub(crate) async fn run_all(description: &Value) {
    let descriptions = tempfile::tempdir().unwrap();
    for script in ENVIRONMENTS.iter().flat_map(|environment| environment.scripts) {
        fs::write(descriptions.path().join(format!("{}.json", script.file)), description.to_string()).unwrap();
    }
    let has_gateway = description["upstreams"].as_array().unwrap().iter().all(|one| one["gateway_url"] != one["upstream_url"]);
    run(Given { name: "plain", descriptions: descriptions.path().to_owned(), has_gateway, authority: None }).await;
}

/// Runs every script; those that ran.
///
/// What cannot be installed here is named on standard error and in `target/clients/not-run.txt`, and fails only with `CI=true`.
async fn run(given: Given) -> Vec<&'static Script> {
    let folder = folder();
    fs::create_dir_all(&folder).unwrap();
    let runs = ENVIRONMENTS.each_ref().map(|environment| {
        let (folder, given) = (folder.join(environment.name), given.clone());
        tokio::task::spawn_blocking(move || environment.run(&folder, &given))
    });
    let mut all = Outcome::default();
    for run in runs {
        let outcome = run.await.unwrap();
        all.failed.extend(outcome.failed);
        all.not_run.extend(outcome.not_run);
    }
    let list = if given.authority.is_some() { "not-run-https.txt" } else { "not-run.txt" };
    fs::write(folder.join(list), all.not_run.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    // Past the harness, which shows what a passing test prints to nobody.
    let mut terminal = io::stderr();
    for line in &all.not_run {
        writeln!(terminal, "\nNOT RUN: {line}").unwrap();
    }
    assert!(all.failed.is_empty(), "clients failed:\n{}", all.failed.join("\n"));
    assert!(all.not_run.is_empty() || !is_ci(), "with CI=true every client must run: {:?}", all.not_run);
    let has_run = |script: &&Script| !all.not_run.iter().any(|line| line.starts_with(script.file));
    ENVIRONMENTS.iter().flat_map(|environment| environment.scripts).filter(has_run).collect()
}

impl Environment {
    fn run(&self, folder: &Path, given: &Given) -> Outcome {
        /// One installation at a time, and whoever comes second finds it.
        static INSTALLING: [Mutex<()>; ENVIRONMENTS.len()] = [const { Mutex::new(()) }; ENVIRONMENTS.len()];
        let number = ENVIRONMENTS.iter().position(|one| one.name == self.name).unwrap();
        let mut outcome = Outcome::default();
        let alone = INSTALLING[number].lock().unwrap_or_else(PoisonError::into_inner);
        let prepared = self.prepare(folder);
        drop(alone);
        if let Err(why) = prepared {
            outcome.not_run = self.scripts.iter().map(|script| format!("{}: {why}", script.file)).collect();
            return outcome;
        }
        for script in self.scripts {
            if script.needs_gateway && !given.has_gateway {
                outcome.not_run.push(format!("{}: it needs the gateway, and the servers are asked directly", script.file));
                continue;
            }
            if let Err(why) = self.run_script(script, folder, given) {
                outcome.failed.push(format!("== {}\n{why}", script.file));
            }
        }
        outcome
    }

    fn is_node(&self) -> bool {
        self.name == "node"
    }

    /// Installs the pinned versions, unless the same ones are there already.
    fn prepare(&self, folder: &Path) -> Result<(), String> {
        for tool in self.tools {
            succeed(Command::new(tool).arg("-version"))?;
        }
        let mut hash = Sha256::new();
        // Another interpreter makes another installation.
        hash.update(succeed(Command::new(if self.is_node() { "node" } else { "python3" }).arg("--version"))?);
        for file in self.files {
            hash.update(fs::read(scripts().join(file)).map_err(|error| format!("{file}: {error}"))?);
        }
        let wanted = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let stamp = folder.join("installed.txt");
        if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(());
        }
        // Whatever an interrupted run left is not to be trusted.
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(|error| error.to_string())?;
        }
        if self.is_node() {
            self.install_node(folder)?
        } else {
            self.install_python(folder)?
        }
        fs::write(&stamp, wanted).map_err(|error| error.to_string())
    }

    fn install_python(&self, folder: &Path) -> Result<(), String> {
        succeed(Command::new("python3").arg("-m").arg("venv").arg(folder))?;
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(self.pip_options);
        for file in self.files {
            pip.arg("-r").arg(scripts().join(file));
        }
        succeed(&mut pip).map(drop)
    }

    fn install_node(&self, folder: &Path) -> Result<(), String> {
        fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        for file in self.files {
            fs::copy(scripts().join(file), folder.join(file)).map_err(|error| format!("{file}: {error}"))?;
        }
        succeed(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(folder)).map(drop)
    }

    fn run_script(&self, script: &Script, folder: &Path, given: &Given) -> Result<(), String> {
        let source = scripts().join(script.file);
        let mut command = if self.is_node() {
            // Node looks for packages beside the script.
            let copy = folder.join(format!("{}-{}", given.name, script.file));
            fs::copy(source, &copy).map_err(|error| error.to_string())?;
            let mut command = Command::new("node");
            command.arg(copy);
            command
        } else {
            let mut command = Command::new(folder.join("bin/python"));
            command.arg("-B").arg(source);
            command
        };
        command.arg(given.descriptions.join(format!("{}.json", script.file)));
        command.env("NO_PROXY", "127.0.0.1,localhost").env("no_proxy", "127.0.0.1,localhost");
        // For OpenSSL and httpx, requests, node.
        for variable in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
            command.env_remove(variable).envs(given.authority.iter().map(|authority| (variable, authority)));
        }
        run_within(&mut command, SCRIPT_LIMIT)
    }
}

/// What a command writes; when it fails, its last line of complaint.
pub(crate) fn succeed(command: &mut Command) -> Result<Vec<u8>, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{program} cannot be started ({error})"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let written = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} failed: {}", written.lines().last().unwrap_or("it says nothing")))
}

/// Runs a script, but not for ever.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<(), String> {
    let (mut reader, writer) = io::pipe().map_err(|error| error.to_string())?;
    let errors = writer.try_clone().map_err(|error| error.to_string())?;
    let mut child = command.stdin(Stdio::null()).stdout(writer).stderr(errors).spawn().map_err(|error| error.to_string())?;
    // The command holds the pipe's writing ends; they must go for the reading to end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let written = std::thread::spawn(move || io::read_to_string(&mut reader).unwrap_or_default());
    let mut waited = Duration::ZERO;
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break Some(status),
            None if waited >= limit => {
                child.kill().map_err(|error| error.to_string())?;
                child.wait().map_err(|error| error.to_string())?;
                break None;
            }
            None => {
                std::thread::sleep(LOOK);
                waited += LOOK;
            }
        }
    };
    let written = written.join().unwrap_or_default();
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{written}{status}")),
        None => Err(format!("{written}it did not end within {limit:?}")),
    }
}

/// `tests/clients`.
fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// `target/clients`.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients")
}

#[expect(clippy::disallowed_methods, reason = "the switch of the build machines, not configuration of the program")]
pub(crate) fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}
