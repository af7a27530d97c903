//! Manual pages as man and its formatter read them.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;

#[test]
fn every_page_of_the_manual_is_one_that_man_can_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = Command::new(env!("CARGO_BIN_EXE_keygate")).arg("man").arg(folder.path()).output().expect("the program");
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let pages: Vec<PathBuf> = std::fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    assert!(pages.len() > 25, "{pages:?}");
    let printed = Command::new(env!("CARGO_BIN_EXE_keygate")).arg("man").output().expect("the program");
    assert_eq!(printed.stdout, std::fs::read(folder.path().join("keygate.1")).expect("the first page"));

    let linted = match Command::new("mandoc").args(["-T", "lint", "-W", "error"]).args(&pages).output() {
        Ok(output) => output,
        Err(_) if std::env::var_os("CI").is_some_and(|ci| ci == "true") => panic!("mandoc is not there: install the package mandoc"),
        Err(_) => {
            // Past the harness, which shows what a passing test prints to nobody.
            return writeln!(io::stderr(), "\nNOT RUN: manual pages through mandoc: it is not there (package mandoc)")
                .expect("standard error");
        }
    };
    let said = String::from_utf8_lossy(&linted.stdout);
    assert!(linted.status.success() && said.is_empty(), "{said}");
}

#[test]
fn a_folder_that_is_not_there_is_said() {
    let output = Command::new(env!("CARGO_BIN_EXE_keygate")).args(["man", "/nonexistent/man1"]).output().expect("the program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("cannot write /nonexistent/man1/keygate.1"), "{said}");
}
