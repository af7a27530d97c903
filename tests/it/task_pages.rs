//! What the README and the pages in `deploy/docs` tell people to type and to write must exist: commands, options, settings, files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, Parser};
use keygate::cli::{self, Cli};

/// Every page for people, below the root of the source.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("README.md"), root.join("deploy/README.md")];
    let docs = fs::read_dir(root.join("deploy/docs")).expect("a folder").map(|entry| entry.expect("an entry").path());
    files.extend(docs.filter(|file| file.extension().is_some_and(|ending| ending == "md")));
    assert!(files.len() > 8, "{files:?}");
    files.into_iter().map(|file| (file.clone(), fs::read_to_string(file).expect("a page"))).collect()
}

/// The texts between lines of three backticks with this word.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut inside: Option<bool> = None;
    for line in page.lines() {
        match (line.trim_start().strip_prefix("```"), inside) {
            (Some(word), None) => {
                inside = Some(word == language);
                found.extend((word == language).then(String::new));
            }
            (Some(_), Some(_)) => inside = None,
            (None, Some(true)) => {
                if let Some(block) = found.last_mut() {
                    block.push_str(line);
                    block.push('\n');
                }
            }
            _ => {}
        }
    }
    assert_eq!(inside, None, "a block is not closed:\n{page}");
    found
}

/// The words of a command of keygate's, wherever it begins in a line; quotes as a shell reads them.
fn commands(line: &str) -> Vec<Vec<String>> {
    let line = line.strip_prefix("$ ").unwrap_or(line);
    let line = if line.starts_with('#') { "" } else { line.split(" #").next().unwrap_or_default() };
    let starts =
        line.match_indices("keygate ").filter(|(at, _)| line[..*at].chars().next_back().is_none_or(|before| " (".contains(before)));
    let words = starts.map(|(at, name)| words(&line[at + name.len()..]));
    // Else it is a unit, a user or an image of that name.
    words.filter(|words| words.first().is_some_and(|first| is_verb(first) && first != "keygate")).collect()
}

fn is_verb(word: &str) -> bool {
    let plain = word.trim_start_matches("--");
    plain.starts_with(|c: char| c.is_ascii_lowercase()) && plain.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}

fn words(rest: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, false);
    for character in rest.chars() {
        match character {
            '"' => {
                quote = !quote;
                word.get_or_insert_default();
            }
            ' ' if !quote => words.extend(word.take()),
            '#' | '|' | ';' | ')' | '&' | '>' | '<' if !quote => break,
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_command_in_a_block_is_one_that_the_program_takes() {
    let mut checked = 0;
    for (file, page) in pages() {
        let blocks = [blocks(&page, "sh"), blocks(&page, "console")].concat();
        for words in blocks.iter().flat_map(|block| block.lines()).flat_map(commands) {
            let parsed = Cli::try_parse_from(std::iter::once("keygate").chain(words.iter().map(String::as_str)));
            // --help and --version end in an "error" as well.
            let problem = parsed.err().filter(clap::Error::use_stderr);
            assert!(problem.is_none(), "{}: keygate {}: {}", file.display(), words.join(" "), problem.expect("a problem"));
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} commands were found");
}

#[test]
fn every_command_within_a_sentence_has_words_and_options_that_exist() {
    let mut command = cli::command();
    command.build();
    let mut checked = 0;
    for (file, page) in pages() {
        let text = blocks_removed(&page);
        for span in text.split('`').skip(1).step_by(2).filter(|span| span.starts_with("keygate ")) {
            for words in commands(span) {
                let wrong = unknown_word(&command, &words);
                assert_eq!(wrong, None, "{}: `{span}`", file.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "only {checked} commands were found");
}

/// The page without its blocks, whose backticks are no pairs.
fn blocks_removed(page: &str) -> String {
    page.split("```").step_by(2).collect()
}

/// The first word that is neither a command nor an option there.
fn unknown_word(command: &Command, words: &[String]) -> Option<String> {
    let mut at = command;
    for word in words {
        let option = word.split('=').next().unwrap_or_default();
        let known = match (option.strip_prefix("--"), at.find_subcommand(word)) {
            (Some("help" | "version"), _) => true,
            (Some(long), _) => at.get_arguments().any(|one| one.get_long_and_visible_aliases().is_some_and(|names| names.contains(&long))),
            (None, Some(below)) => {
                at = below;
                true
            }
            // A name, a file or a placeholder, where no further command is wanted.
            (None, None) => word.starts_with('-') || !at.has_subcommands() || word == "…" || word == "COMMAND",
        };
        if !known {
            return Some(word.clone());
        }
    }
    None
}

/// `section.field` of every line that sets one or shows how to.
fn settings(toml: &str) -> BTreeSet<String> {
    let mut section = String::new();
    let mut found = BTreeSet::new();
    for line in toml.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line).trim();
        let head = line.strip_prefix('[').and_then(|rest| rest.split(']').next()).map(|name| name.trim_start_matches('['));
        match (head, line.split_once(" = ")) {
            (Some(name), _) if line.starts_with('[') && !name.contains(' ') => section = name.to_owned(),
            (None, Some((name, _))) if name.chars().all(|c| c.is_ascii_lowercase() || c == '_') => {
                found.insert(format!("{section}.{name}"));
            }
            _ => {}
        }
    }
    found
}

#[test]
fn every_setting_in_a_block_is_one_of_the_example() {
    let mut known = settings(include_str!("../../config.example.toml"));
    assert!(known.len() > 40, "{known:?}");
    // The short forms of [server.tls], and of a second certificate.
    known.extend(["server.tls", "server.tls.certificate.cert_file", "server.tls.certificate.key_file"].map(str::to_owned));
    let mut checked = 0;
    for (file, page) in pages() {
        for block in blocks(&page, "toml") {
            let parsed: Result<toml::Table, _> = block.parse();
            assert!(parsed.is_ok(), "{}: {parsed:?}\n{block}", file.display());
            for setting in settings(&block) {
                assert!(known.contains(&setting), "{}: {setting} is no setting:\n{block}", file.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 10, "only {checked} settings were found");
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    let mut checked = 0;
    for (file, page) in pages() {
        for (at, _) in page.match_indices("](") {
            let link = page[at + 2..].split(')').next().unwrap_or_default();
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.starts_with("http") {
                continue;
            }
            assert!(file.with_file_name(target).exists(), "{}: {link}", file.display());
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} links were found");
}

#[test]
fn a_wrong_command_or_setting_would_be_noticed() {
    let mut command = cli::command();
    command.build();
    let wrong = |line: &str| commands(line).iter().find_map(|words| unknown_word(&command, words));
    assert_eq!(wrong("sudo keygate keys make ha").as_deref(), Some("make"));
    assert_eq!(wrong("KEY=$(keygate keys create ha --user alice)").as_deref(), Some("--user"));
    assert_eq!(wrong("systemctl enable --now keygate && chgrp keygate /etc/x"), None);
    assert_eq!(wrong("systemctl stop keygate    # when keygate runs"), None);
    assert_eq!(settings("[server]\nlissten = 1").into_iter().collect::<Vec<_>>(), ["server.lissten"]);
}
