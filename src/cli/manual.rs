//! `keygate completions` and `keygate man`: what packages install beside the program, made from the one definition of the command
//! line. Hidden from the help, since whoever installs a package has both already.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::failure::Failure;
use crate::cli::output::Output;

/// What the pages are headed with: the "manual" of man(7).
const MANUAL: &str = "keygate manual";
/// No date, so that the same source makes the same pages; an empty one would be left out, and what follows take its place.
const DATE: &str = " ";
/// What the first page says beyond the options.
const MORE: &str = r#".SH EXIT STATUS
.TP
0
done
.TP
1
failed
.TP
2
wrong command line or configuration
.TP
3
not found
.TP
4
gateway not reachable
.TP
5
refused by the media server
.SH FILES
.TP
/etc/keygate/config.toml
the configuration; the example beside the documentation has every field with its default
.TP
/var/lib/keygate
the store, the master key and the certificates of the service
.TP
/run/keygate/admin.sock
the socket that the commands talk to
.SH SEE ALSO
systemctl(1), journalctl(1); the pages by task in /usr/share/doc/keygate
"#;

/// `keygate completions`.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// `keygate man`.
#[derive(Args, Debug)]
pub struct ManArgs {
    /// Write a page for each command into this folder, which must be there; without it, print the first page
    #[arg(value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

/// Prints the completions of a shell.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn completions(args: &CompletionsArgs, mut command: Command, output: &mut Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "keygate", &mut script);
    output.bytes(&script)
}

/// Prints the first page, or writes all of them.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn man(args: &ManArgs, command: Command, output: &mut Output) -> Result<(), Failure> {
    let pages = pages(command)?;
    match &args.folder {
        None => pages.first().map_or(Ok(()), |page| output.bytes(&page.roff)),
        Some(folder) => pages.iter().try_for_each(|page| page.write(folder)),
    }
}

/// One page of the manual.
struct Page {
    /// File name, such as "keygate-keys-create.1".
    name: String,
    roff: Vec<u8>,
}

impl Page {
    fn write(&self, folder: &Path) -> Result<(), Failure> {
        let file = folder.join(&self.name);
        std::fs::write(&file, &self.roff).map_err(|error| Failure::failed(format!("cannot write {}: {error}", file.display())))
    }
}

/// One for the whole first, then a page for each command that is not hidden.
fn pages(mut command: Command) -> Result<Vec<Page>, Failure> {
    // Names such as "keygate keys create" and the options of all commands reach the commands below by this.
    command.build();
    let mut pages = Vec::new();
    add(&command, &mut pages)?;
    Ok(pages)
}

fn add(command: &Command, pages: &mut Vec<Page>) -> Result<(), Failure> {
    let source = concat!("keygate ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).date(DATE).source(source).manual(MANUAL);
    let mut roff = Vec::new();
    man.render(&mut roff).map_err(|error| Failure::failed(format!("cannot write a page of the manual: {error}")))?;
    if pages.is_empty() {
        roff.extend_from_slice(MORE.as_bytes());
    }
    pages.push(Page { name: man.get_filename(), roff });
    command.get_subcommands().filter(|below| !below.is_hide_set()).try_for_each(|below| add(below, pages))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    /// The words of every command that is not hidden: ["keys"], ["keys", "create"], …
    fn commands(command: &Command, words: &[String], found: &mut Vec<Vec<String>>) {
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            let words = [words, &[below.get_name().to_owned()]].concat();
            commands(below, &words, found);
            found.push(words);
        }
    }

    fn all() -> Vec<Vec<String>> {
        let mut found = Vec::new();
        commands(&cli::command(), &[], &mut found);
        assert!(found.len() > 25, "{found:?}");
        found
    }

    fn script(shell: Shell) -> String {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut cli::command(), "keygate", &mut script);
        String::from_utf8(script).expect("text")
    }

    #[test]
    fn the_completions_know_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for words in all() {
                let joined = match shell {
                    // The names of states, in which hyphens are replaced too.
                    Shell::Bash => words.join("-").replace('-', "__subcmd__"),
                    _ => words.last().expect("a word").clone(),
                };
                assert!(script.contains(&joined), "{shell}: {words:?} is missing");
            }
        }
    }

    #[test]
    fn every_command_has_a_page_with_its_options_and_its_name() {
        let pages = pages(cli::command()).expect("pages");
        assert_eq!(pages.len(), all().len() + 1);
        for words in all() {
            let name = format!("keygate-{}.1", words.join("-"));
            let page = pages.iter().find(|page| page.name == name).unwrap_or_else(|| panic!("{name} is missing"));
            let text = String::from_utf8(page.roff.clone()).expect("text");
            assert!(text.contains(&format!("keygate {}", words.join(" ")).replace('-', "\\-")), "{name}:\n{text}");
            assert!(text.contains("\\-\\-config"), "{name} lacks the options of all commands");
        }
    }
}
