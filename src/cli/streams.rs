//! `keygate streams`: what runs now, and closing it.

use clap::Subcommand;
use http::Method;

use crate::admin::usage::{StreamLine, StreamList};
use crate::cli::client::{Backend, encoded};
use crate::cli::failure::Failure;
use crate::cli::output::{Format, Output};
use crate::cli::time::ago;
use crate::cli::{Global, keys};

/// `keygate streams …`.
#[derive(Subcommand, Debug)]
pub enum StreamsCommand {
    /// List streams, uploads and sockets that run now
    List {
        /// Of this key only: id, name, or the last four of the id
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
    /// Close one of them; its key stays good, and the client may come again
    Close {
        /// As the list shows it
        id: String,
    },
}

pub(crate) async fn run(command: &StreamsCommand, global: &Global, output: &mut Output) -> Result<(), Failure> {
    let backend = Backend::running(global).await?;
    match command {
        StreamsCommand::List { key } => {
            let filter = match key {
                Some(key) => format!("?key={}", keys::find(&backend, key, false).await?.id),
                None => String::new(),
            };
            let list: StreamList = backend.get(&format!("/api/streams{filter}")).await?;
            if output.format() == Format::Json {
                return output.json(&list);
            }
            let rows: Vec<_> = list.streams.iter().map(row).collect();
            output.rows(&["ID", "KEY", "SORT", "CLIENT", "PATH", "SINCE", "BYTES"], &rows)
        }
        StreamsCommand::Close { id } => {
            let closed: StreamLine = backend.call(Method::DELETE, &format!("/api/streams/{}", encoded(id)), &()).await?;
            match output.format() {
                Format::Json => output.json(&closed),
                _ => output.sentence(&format!("closed {} of key {}", closed.id, closed.key)),
            }
        }
    }
}

fn row(stream: &StreamLine) -> Vec<String> {
    vec![
        stream.id.clone(),
        stream.key.clone(),
        stream.sort.clone(),
        stream.client.clone(),
        format!("{}{}", stream.upstream, stream.path),
        ago(&stream.started),
        (stream.bytes_in + stream.bytes_out).to_string(),
    ]
}
