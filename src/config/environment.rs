//! The process's surroundings: environment variables, user, default paths. Nothing else in the program reads the environment.

use std::path::{Path, PathBuf};

use crate::config::file::{File, SECTIONS, misfit, unknown};
use crate::config::problem::{Place, Problem, Report};
use crate::config::source::SecretSource;
use crate::config::value::{Field, Placed};

/// What the configuration takes from outside its file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// Variables whose names and values are UTF-8, by name.
    pub(crate) variables: Vec<(String, String)>,
    /// Whether the process is root.
    pub(crate) is_root: bool,
}

impl Environment {
    /// That of this process.
    pub(crate) fn of_process() -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        let mut variables: Vec<_> = std::env::vars_os().filter_map(utf8).collect();
        variables.sort();
        Self { variables, is_root: rustix::process::geteuid().is_root() }
    }

    /// The value of a variable; an empty one is as good as none.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn folder(&self, name: &str) -> Option<PathBuf> {
        // systemd separates several directories by colons; the first one is ours.
        self.variable(name).and_then(|value| value.split(':').next()).filter(|path| path.starts_with('/')).map(PathBuf::from)
    }

    /// The paths that hold when the configuration names none. `file` is the configuration's own path.
    pub(crate) fn default_paths(&self, file: Option<&Path>) -> DefaultPaths {
        let packaged = self.is_root || file.is_some_and(|file| file.starts_with("/etc"));
        if packaged {
            return DefaultPaths::below(Path::new("/var/lib/keygate"), Path::new("/run/keygate"));
        }
        let data = self.folder("STATE_DIRECTORY").unwrap_or_else(|| {
            let home = self.folder("XDG_DATA_HOME").or_else(|| self.folder("HOME").map(|home| home.join(".local/share")));
            home.map_or_else(|| PathBuf::from("keygate-data"), |home| home.join("keygate"))
        });
        let run = self.folder("RUNTIME_DIRECTORY").or_else(|| self.folder("XDG_RUNTIME_DIR").map(|run| run.join("keygate")));
        DefaultPaths::below(&data, run.as_deref().unwrap_or(&data))
    }

    /// Applies every `KEYGATE_SECTION__FIELD` to the file.
    pub(crate) fn override_fields(&self, file: &mut File, report: &mut Report) {
        for (variable, value) in &self.variables {
            let Some((section, field)) = variable.strip_prefix("KEYGATE_").and_then(|name| name.rsplit_once("__")) else { continue };
            let place = Place::Variable(variable.clone());
            let section = section.to_ascii_lowercase().replace("__", ".");
            let field = field.to_ascii_lowercase();
            if let Some((section, name, source)) = secret(file, &section) {
                match SecretSource::of(&field, value) {
                    Ok(value) => *source = Some(Placed { value, place }),
                    Err(mismatch) => report.problem(misfit(section, name, mismatch, place)),
                }
                continue;
            }
            match file.set(&section, &field, value, &place) {
                Some(Ok(())) => {}
                Some(Err(_)) if secret(file, &format!("{section}.{field}")).is_some() => report.problem(
                    Problem::new(&place, format!("{section}.{field} must say where the secret is, it never holds the secret itself"))
                        .help(format!("set {variable}__FILE, or {variable}__ENV to the name of another variable")),
                ),
                Some(Err(mismatch)) => report.problem(misfit(&section, &field, mismatch, place)),
                None => report.problem(unknown_variable(&section, &field, place)),
            }
        }
    }
}

/// The field of this whole name, if it says where a secret is.
fn secret<'a>(file: &'a mut File, name: &str) -> Option<(&'static str, &'static str, &'a mut Field<SecretSource>)> {
    match name {
        "store.master_key" => Some(("store", "master_key", &mut file.store.master_key)),
        "traces.headers" => Some(("traces", "headers", &mut file.traces.headers)),
        "server.tls.acme.eab_hmac_key" => Some(("server.tls.acme", "eab_hmac_key", &mut file.acme.eab_hmac_key)),
        _ => None,
    }
}

fn unknown_variable(section: &str, field: &str, place: Place) -> Problem {
    if section == "upstream" {
        return Problem::new(&place, "upstreams cannot be set by the environment").help("write them as [[upstream]] in the file");
    }
    if section == "server.tls.certificate" {
        return Problem::new(&place, "further certificates cannot be set by the environment")
            .help("write them as [[server.tls.certificate]] in the file");
    }
    match SECTIONS.iter().find(|(name, _)| *name == section) {
        Some((_, fields)) => unknown(field, place, section, fields),
        None => {
            let known: Vec<&str> =
                SECTIONS.iter().map(|(name, _)| *name).filter(|name| !["upstream", "server.tls.certificate"].contains(name)).collect();
            unknown(section, place, "", &known)
        }
    }
}

/// Paths that hold when the configuration names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DefaultPaths {
    pub(crate) store: PathBuf,
    pub(crate) master_key: PathBuf,
    pub(crate) socket: PathBuf,
    /// What `tls = "self-signed"` keeps.
    pub(crate) tls: PathBuf,
}

impl DefaultPaths {
    fn below(data: &Path, run: &Path) -> Self {
        Self {
            store: data.join("store/keygate.redb"),
            master_key: data.join("master.key"),
            socket: run.join("admin.sock"),
            tls: data.join("tls"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)], is_root: bool) -> Environment {
        Environment { variables: variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(), is_root }
    }

    #[test]
    fn default_paths_follow_the_situation() {
        let packaged = DefaultPaths::below(Path::new("/var/lib/keygate"), Path::new("/run/keygate"));
        let home = [("HOME", "/home/ann")];
        assert_eq!(environment(&home, true).default_paths(None), packaged);
        assert_eq!(environment(&home, false).default_paths(Some(Path::new("/etc/keygate/config.toml"))), packaged);
        let paths = environment(&home, false).default_paths(None);
        assert_eq!(paths.store, Path::new("/home/ann/.local/share/keygate/store/keygate.redb"));
        assert_eq!(paths.socket, Path::new("/home/ann/.local/share/keygate/admin.sock"));
        let paths = environment(&[("HOME", "/h"), ("XDG_DATA_HOME", "/d"), ("XDG_RUNTIME_DIR", "/r")], false).default_paths(None);
        assert_eq!(paths.master_key, Path::new("/d/keygate/master.key"));
        assert_eq!(paths.socket, Path::new("/r/keygate/admin.sock"));
        let paths = environment(&[("STATE_DIRECTORY", "/s:/t"), ("RUNTIME_DIRECTORY", "/u")], false).default_paths(None);
        assert_eq!(paths.store, Path::new("/s/store/keygate.redb"));
        assert_eq!(paths.socket, Path::new("/u/admin.sock"));
    }
}
