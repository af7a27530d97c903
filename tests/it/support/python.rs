//! Programs of PyPI, each in an installation of its own beside what is built.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The interpreter of an installation of this requirement (a whole line that pip understands). `None`, and a line that says so, where it
/// cannot be had; with `CI=true` that is a failure.
pub(crate) async fn installed(name: &'static str, requirement: &'static str) -> Option<PathBuf> {
    match tokio::task::spawn_blocking(move || install(name, requirement)).await.unwrap() {
        Ok(python) => Some(python),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "with CI=true {name} must run: {why}");
            // Past the harness, which shows what a passing test prints to nobody.
            let mut stderr = io::stderr();
            writeln!(stderr, "\nNOT RUN: {name}: {why}").unwrap();
            None
        }
    }
}

/// The interpreter of an installation, made where there is none.
fn install(name: &str, requirement: &str) -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_BIN_EXE_keygate")).ancestors().nth(2).unwrap();
    let (folder, python) = (target.join(name), target.join(name).join("bin/python"));
    let run = |command: &mut Command| match command.stdin(Stdio::null()).output() {
        Err(error) => Err(format!("{} cannot be started ({error})", command.get_program().to_string_lossy())),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()),
    };
    let stamp = folder.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == requirement) {
        return Ok(python);
    }
    // Whatever an interrupted run left is not to be trusted.
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| error.to_string())?;
    }
    run(Command::new("python3").arg("-m").arg("venv").arg(&folder))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]))?;
    fs::write(&stamp, requirement).map_err(|error| error.to_string())?;
    Ok(python)
}
