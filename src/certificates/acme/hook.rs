//! The operator's program that writes and removes DNS records for dns-01.
//!
//! It is called with `present|cleanup DOMAIN RECORD_NAME VALUE` after its own first arguments, with nothing of keygate's environment: what it
//! needs to know (the password of a DNS provider), it reads from a file of its own.

use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::config::DnsHook;
use crate::redact::Redacted;

/// What of its output is looked at, of each stream; the rest is read and forgotten.
const MOST_OUTPUT: usize = 16 << 10;
/// Lines of it in the log.
const MOST_LINES: usize = 40;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What it is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Present,
    Cleanup,
}

impl Action {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Cleanup => "cleanup",
        }
    }
}

/// A TXT record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// `example.org`, also for `*.example.org`.
    pub(super) domain: String,
    /// `_acme-challenge.example.org`.
    pub(super) name: String,
    /// What it must hold, beside what others of this name hold.
    pub(super) value: String,
}

impl Record {
    pub(super) fn new(domain: &str, value: String) -> Self {
        let domain = domain.strip_prefix("*.").unwrap_or(domain);
        Self { domain: domain.to_owned(), name: format!("_acme-challenge.{domain}"), value }
    }
}

/// Why the record is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookError {
    #[error("dns_hook {program} cannot be started: {source}")]
    Start { program: String, source: std::io::Error },
    #[error("dns_hook {program} {action} {domain} did not end within {seconds} s (dns_hook_timeout), and was killed")]
    Slow { program: String, action: &'static str, domain: String, seconds: u64 },
    #[error("dns_hook {program} {action} {domain} failed ({status}){said}")]
    Failed { program: String, action: &'static str, domain: String, status: ExitStatus, said: String },
}

/// Runs the program to its end; what it writes goes to the log.
pub(super) async fn run(hook: &DnsHook, action: Action, record: &Record) -> Result<(), HookError> {
    let program = hook.program.display().to_string();
    let mut child = start(hook, action, record).map_err(|source| HookError::Start { program: program.clone(), source })?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (action, domain) = (action.as_str(), record.domain.clone());
    let ended = timeout(hook.timeout, async { tokio::join!(child.wait(), output(out), output(err)) }).await;
    let Ok((status, out, err)) = ended else {
        kill(&mut child).await;
        return Err(HookError::Slow { program, action, domain, seconds: hook.timeout.as_secs() });
    };
    let status = status.map_err(|source| HookError::Start { program: program.clone(), source })?;
    for line in lines(&out).chain(lines(&err)).take(MOST_LINES) {
        tracing::info!("dns_hook {action} {domain}: {}", Redacted(line));
    }
    if status.success() {
        return Ok(());
    }
    let said = lines(&err).last().or_else(|| lines(&out).last()).map(|line| format!(": {}", Redacted(line))).unwrap_or_default();
    Err(HookError::Failed { program, action, domain, status, said })
}

fn start(hook: &DnsHook, action: Action, record: &Record) -> std::io::Result<Child> {
    let mut command = Command::new(&hook.program);
    command.args(&hook.arguments).args([action.as_str(), &record.domain, &record.name, &record.value]);
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // With a group of its own, what it has started can be ended with it.
    command.process_group(0).kill_on_drop(true).spawn()
}

async fn kill(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let _ = child.kill().await;
}

/// The beginning of a stream, which is read to its end.
async fn output(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let (mut kept, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        let room = MOST_OUTPUT - kept.len();
        kept.extend_from_slice(&piece[..length.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim_end).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    fn shell(script: &str, timeout: Duration) -> DnsHook {
        let arguments = vec!["-c".to_owned(), script.to_owned(), "hook".to_owned()];
        DnsHook { program: "/bin/sh".into(), arguments, timeout, propagation_delay: Duration::ZERO }
    }

    fn record() -> Record {
        Record::new("*.example.org", "VALUE_1-x".to_owned())
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn it_is_told_what_to_do_and_nothing_of_our_environment() {
        let folder = tempfile::tempdir().expect("a folder");
        let said = folder.path().join("said");
        let script = format!("{{ echo \"$@\"; pwd; env | grep -v -e ^PWD -e ^_= -e ^SHLVL -e ^OLDPWD | sort; }} > {}", said.display());
        for (action, word) in [(Action::Present, "present"), (Action::Cleanup, "cleanup")] {
            run(&shell(&script, MINUTE), action, &record()).await.expect("ran");
            let expected = format!("{word} example.org _acme-challenge.example.org VALUE_1-x\n/\nLC_ALL=C.UTF-8\nPATH={PATH}\n");
            assert_eq!(std::fs::read_to_string(&said).expect("written"), expected);
        }
    }

    #[tokio::test]
    async fn a_failure_is_told_with_its_last_words_without_secrets() {
        let error = run(&shell("echo first >&2; echo 'refused: token=hunter2' >&2; exit 3", MINUTE), Action::Present, &record()).await;
        let text = error.expect_err("failed").to_string();
        assert_eq!(text, "dns_hook /bin/sh present example.org failed (exit status: 3): refused: token=***");
        let none = DnsHook { program: Path::new("/nowhere/hook").into(), ..shell("", MINUTE) };
        let text = run(&none, Action::Present, &record()).await.expect_err("failed").to_string();
        assert!(text.starts_with("dns_hook /nowhere/hook cannot be started: No such file"), "{text}");
    }

    #[tokio::test]
    async fn one_that_does_not_end_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let fifo = folder.path().join("pids");
        let script = format!("sleep 600 & echo $! > {}; wait", fifo.display());
        let error = run(&shell(&script, Duration::from_secs(1)), Action::Present, &record()).await.expect_err("killed");
        assert!(error.to_string().contains("did not end within 1 s (dns_hook_timeout), and was killed"), "{error}");
        let pid: i32 = std::fs::read_to_string(&fifo).expect("written").trim().parse().expect("a number");
        let is_gone = || std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
        while !is_gone() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn one_that_talks_too_much_is_heard_to_its_end() {
        let script = "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done";
        run(&shell(script, MINUTE), Action::Present, &record()).await.expect("ran");
    }
}
