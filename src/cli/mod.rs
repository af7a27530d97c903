//! The command line: one file a noun. Commands talk to the running gateway over its admin socket, or, when none runs, open the
//! store themselves and say so.

mod accounts;
mod admin;
mod arguments;
mod ask;
mod audit;
mod bulk;
mod changes;
pub mod check_config;
mod client;
pub mod demo;
mod doctor;
mod explain;
pub mod failure;
mod gateway;
mod housekeeping;
mod init;
mod keys;
mod limits;
mod manual;
mod online;
pub mod open;
pub mod output;
mod outstanding;
mod process;
pub mod serve;
mod signals;
mod store;
mod streams;
mod time;
mod timekeeping;
mod tls;
mod transfer;
mod usage;
mod watchdog;

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::cli::failure::Failure;
use crate::cli::output::{Format, Output};

const HELP: &str = "\
{about}

{usage-heading} {usage}

Run:
  init          Write a configuration for a media server
  serve         Run the gateway
  demo          Run it in front of built-in stand-ins of the three media servers
  check-config  Check the configuration
  reload        Let the running gateway read its configuration again
  status        Show what the running gateway does
  doctor        Look at the whole installation, and say what to change
  healthcheck   Exit 0 when the gateway answers, else 1

Keys and accounts:
  keys          create, list, show, edit, test, disable, enable, rotate, tickets, revoke,
                export, import
  streams       list, close
  accounts      add, list, show, login, sessions, set-credential, set-administrator, remove
  explain       Say what right a request takes, and which presets have it

Store and certificates:
  store         check, backup, restore, compact, rekey, forget-time
  audit         tail
  tls           show, ca, renew

Admin listener and page:
  admin         tokens, set-password, sessions

Options:
{options}

keygate COMMAND --help says more. Exit codes: 0 done, 1 failed, 2 wrong command line or configuration,
3 not found, 4 gateway not reachable, 5 refused by the media server.
";

/// The command line.
#[derive(Parser, Debug)]
#[command(
    name = "keygate",
    version,
    about = "Gateway with its own API keys for Audiobookshelf, Emby and Jellyfin",
    help_template = HELP,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Options of all commands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all commands.
#[derive(Args, Debug, Default)]
pub struct Global {
    /// Configuration file [default: /etc/keygate/config.toml, then config.toml]
    #[arg(short, long, global = true, value_name = "FILE", env = "KEYGATE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Admin socket of the running gateway [default: as the configuration says]
    #[arg(long, global = true, value_name = "PATH", env = "KEYGATE_SOCKET")]
    pub socket: Option<PathBuf>,
    /// How to print
    #[arg(short, long, global = true, value_enum, default_value_t, hide_possible_values = true, value_name = "table|json|plain")]
    pub output: Format,
    /// Print only the essential
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Log more; twice: still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Write a configuration for a media server, after finding out what it is
    Init(init::InitArgs),
    /// Run the gateway
    Serve(serve::ServeArgs),
    /// Run the gateway in front of built-in stand-ins of the three media servers, with a key for each
    Demo(demo::DemoArgs),
    /// Check the configuration, and say all that is wrong with it
    CheckConfig(CheckConfigArgs),
    /// Let the running gateway read its configuration again; a wrong one changes nothing
    Reload,
    /// Show what the running gateway does
    Status,
    /// Look at the whole installation and say of each thing whether it is right, and what to change; exit 1 when something failed
    Doctor,
    /// Exit 0 when the running gateway answers and accepts connections, else 1; for containers
    Healthcheck,
    /// Make, show and change API keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Say what right a request takes, how it is treated, and which presets have it
    Explain(explain::ExplainArgs),
    /// Show what runs now on keys, and close it
    #[command(subcommand)]
    Streams(streams::StreamsCommand),
    /// Add, show and change the accounts of media servers that keys act for
    #[command(subcommand)]
    Accounts(accounts::AccountsCommand),
    /// Say who may come in at the admin listener: programs by tokens, people by a password
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    /// Look after the store
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Show who changed what, and who was refused
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Show the certificates that are served, and the authority's that devices must know
    #[command(subcommand)]
    Tls(tls::TlsCommand),
    /// Print completions for a shell
    #[command(hide = true)]
    Completions(manual::CompletionsArgs),
    /// Print the manual, or write a page for each command
    #[command(hide = true)]
    Man(manual::ManArgs),
}

/// `keygate check-config`.
#[derive(Args, Debug)]
pub struct CheckConfigArgs {
    /// Also ask every media server whether it is there and what is configured
    #[arg(long)]
    pub online: bool,
}

/// Parses the command line, does what it says, and gives the process's exit code.
pub fn main() -> ExitCode {
    // Before anything repeats them.
    match arguments::check(std::env::args_os()).and_then(|()| run(&Cli::parse())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure);
            failure.code()
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let global = &cli.global;
    let mut output = Output::new(global.output, global.quiet);
    match &cli.command {
        Command::Serve(args) => serve::run(args, global),
        Command::Demo(args) => demo::run(args, global),
        Command::CheckConfig(args) => check_config(args, global, &mut output),
        Command::Reload => block_on(gateway::reload(global, &mut output)),
        Command::Init(args) => block_on(init::run(args, global, &mut output)),
        Command::Healthcheck => block_on(gateway::healthcheck(global, &mut output)),
        Command::Doctor => block_on(doctor::run(global, &mut output)),
        Command::Status => block_on(gateway::status(global, &mut output)),
        Command::Keys(command) => block_on(keys::run(command, global, &mut output)),
        Command::Explain(args) => block_on(explain::explain(args, global, &mut output)),
        Command::Streams(command) => block_on(streams::run(command, global, &mut output)),
        Command::Accounts(command) => block_on(accounts::run(command, global, &mut output)),
        Command::Admin(command) => block_on(admin::run(command, global, &mut output)),
        Command::Store(command) => block_on(store::run(command, global, &mut output)),
        Command::Audit(command) => block_on(audit::run(command, global, &mut output)),
        Command::Tls(command) => block_on(tls::run(command, global, &mut output)),
        Command::Completions(args) => manual::completions(args, command(), &mut output),
        Command::Man(args) => manual::man(args, command(), &mut output),
    }
}

fn check_config(args: &CheckConfigArgs, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let text = check_config::check(global.config.as_deref()).map_err(open::problems)?;
    text.lines().try_for_each(|line| output.message(line))?;
    if !args.online {
        return Ok(());
    }
    let (config, _) = open::config(global)?;
    block_on(online::check(&config, global, output))
}

/// A small runtime of its own for commands that end.
fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start a runtime: {error}")))?;
    runtime.block_on(work)
}

/// The command line's definition, for manual pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_help_names_every_command() {
        let mut command = command();
        command.clone().debug_assert();
        let help = command.render_help().to_string();
        for name in command.get_subcommands().filter(|command| !command.is_hide_set()).map(clap::Command::get_name) {
            assert!(help.contains(&format!("\n  {name} ")), "{name} is missing from:\n{help}");
        }
        for noun in ["keys", "accounts", "store", "tls", "admin"] {
            let mut lines = help.lines().skip_while(|line| !line.trim_start().starts_with(noun));
            let first = lines.next().expect("a line");
            // What does not fit stands further in below it.
            let line = [first].into_iter().chain(lines.take_while(|line| line.starts_with("    "))).collect::<Vec<_>>().join(" ");
            for verb in command.find_subcommand(noun).expect("a noun").get_subcommands() {
                assert!(line.contains(verb.get_name()), "{noun} {} is missing from: {line}", verb.get_name());
            }
        }
    }

    #[test]
    fn an_edit_without_a_change_is_refused() {
        assert!(Cli::try_parse_from(["keygate", "keys", "edit", "ha"]).is_err());
        assert!(Cli::try_parse_from(["keygate", "keys", "edit", "ha", "--name", "tv", "--expires", "never"]).is_ok());
    }

    #[test]
    fn no_secret_can_be_given_as_an_argument() {
        for noun in ["add", "set-credential"] {
            let result = Cli::try_parse_from(["keygate", "accounts", noun, "alice", "--password", "hunter2"]);
            assert!(result.is_err());
            assert!(Cli::try_parse_from(["keygate", "accounts", noun, "alice", "--token", "hunter2"]).is_err());
        }
    }
}
