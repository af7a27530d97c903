//! Published client programs, unmodified, with a key and nothing else. `tests/clients/README.md` says what each one does.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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
}

const fn script(file: &'static str) -> Script {
    Script { file, needs_gateway: false }
}

const fn gateway_script(file: &'static str) -> Script {
    Script { file, needs_gateway: true }
}

const ENVIRONMENTS: [Environment; 4] = [
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
        scripts: &[script("jellyfin_apiclient_client.py"), gateway_script("jellyfin_api_client_client.py")],
    },
    Environment {
        name: "node",
        files: &["package.json", "package-lock.json"],
        pip_options: &[],
        tools: &[],
        scripts: &[script("jellyfin_sdk.mjs"), gateway_script("socketio_client.mjs")],
    },
];

/// What became of the scripts.
#[derive(Default)]
struct Outcome {
    failed: Vec<String>,
    /// Script and reason.
    not_run: Vec<String>,
}

#[tokio::test]
async fn published_clients_work_with_a_key_alone() {
    let (description, _running) = support::demo().await;
    run_all(&description).await;
}

/// Runs every script against what `description` (the JSON of `keygate demo -o json`) names.
///
/// What cannot be installed here is named on standard error and in `target/clients/not-run.txt`, and fails only with `CI=true`.
pub(crate) async fn run_all(description: &Value) {
    let folder = folder();
    fs::create_dir_all(&folder).unwrap();
    let demo = tempfile::NamedTempFile::new().unwrap();
    fs::write(demo.path(), description.to_string()).unwrap();
    let has_gateway = description["upstreams"].as_array().unwrap().iter().all(|one| one["gateway_url"] != one["upstream_url"]);
    let runs = ENVIRONMENTS.map(|environment| {
        let (folder, demo) = (folder.join(environment.name), demo.path().to_owned());
        tokio::task::spawn_blocking(move || environment.run(&folder, &demo, has_gateway))
    });
    let mut all = Outcome::default();
    for run in runs {
        let outcome = run.await.unwrap();
        all.failed.extend(outcome.failed);
        all.not_run.extend(outcome.not_run);
    }
    fs::write(folder.join("not-run.txt"), all.not_run.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    // Past the harness, which shows what a passing test prints to nobody.
    let mut terminal = io::stderr();
    for line in &all.not_run {
        writeln!(terminal, "\nNOT RUN: {line}").unwrap();
    }
    assert!(all.failed.is_empty(), "clients failed:\n{}", all.failed.join("\n"));
    assert!(all.not_run.is_empty() || !is_ci(), "with CI=true every client must run: {:?}", all.not_run);
}

impl Environment {
    fn run(&self, folder: &Path, demo: &Path, has_gateway: bool) -> Outcome {
        let mut outcome = Outcome::default();
        if let Err(why) = self.prepare(folder) {
            outcome.not_run = self.scripts.iter().map(|script| format!("{}: {why}", script.file)).collect();
            return outcome;
        }
        for script in self.scripts {
            if script.needs_gateway && !has_gateway {
                outcome.not_run.push(format!("{}: it needs the gateway, and the servers are asked directly", script.file));
                continue;
            }
            if let Err(why) = self.run_script(script, folder, demo) {
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

    fn run_script(&self, script: &Script, folder: &Path, demo: &Path) -> Result<(), String> {
        let source = scripts().join(script.file);
        let mut command = if self.is_node() {
            // Node looks for packages beside the script.
            let copy = folder.join(script.file);
            fs::copy(source, &copy).map_err(|error| error.to_string())?;
            let mut command = Command::new("node");
            command.arg(copy);
            command
        } else {
            let mut command = Command::new(folder.join("bin/python"));
            command.arg("-B").arg(source);
            command
        };
        run_within(command.arg(demo).env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1"), SCRIPT_LIMIT)
    }
}

/// What a command writes; when it fails, its last line of complaint.
fn succeed(command: &mut Command) -> Result<Vec<u8>, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{program} cannot be started ({error})"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let written = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} failed: {}", written.lines().last().unwrap_or("it says nothing")))
}

/// Runs a script, but not for ever.
fn run_within(command: &mut Command, limit: Duration) -> Result<(), String> {
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
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}
