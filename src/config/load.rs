//! The ways to a [`Config`]: a file, or the command line alone.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::config::check::Checker;
use crate::config::environment::Environment;
use crate::config::file::{File, UpstreamSection};
use crate::config::problem::{Place, Problem, Problems, Report, Warning};
use crate::config::value::{OneOf, Placed, Strings};
use crate::upstream::Kind;

/// Whether loading looks at what the configuration points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// Certificate, key and master key must be there and good: for whoever is going to serve.
    Look,
    /// Only the file itself is judged: for a command that merely needs the admin socket, by a user who may not read the secrets.
    Ignore,
}

/// Where a configuration is looked for when none is named.
const PLACES: [&str; 2] = ["/etc/keygate/config.toml", "config.toml"];

impl Config {
    /// Reads a file, applies `KEYGATE_SECTION__FIELD` of the environment, and checks all of it.
    ///
    /// # Errors
    /// All problems at once.
    pub fn load(path: &Path) -> Result<(Self, Vec<Warning>), Problems> {
        Self::load_with(path, Outside::Look)
    }

    /// [`Config::load`], with a choice of what is looked at.
    ///
    /// # Errors
    /// All problems at once.
    pub fn load_with(path: &Path, outside: Outside) -> Result<(Self, Vec<Warning>), Problems> {
        let source = std::fs::read_to_string(path).map_err(|error| {
            let problem = Problem::new(&Place::Nowhere, format!("cannot read the configuration: {error}"));
            Problems::one(Some(path), problem.help("name another one with --config, or start from config.example.toml"))
        })?;
        let (config, mut warnings) = Self::read(path, &source, &Environment::of_process(), outside)?;
        let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.mode());
        if mode & 0o022 != 0 {
            warnings.push(Warning::new(format!("{0} can be changed by other users: chmod 644 {0}", path.display())));
        }
        Ok((config, warnings))
    }

    /// A configuration for one upstream without any file: `keygate serve --upstream URL --listen ADDR`. All else has its default or
    /// comes from the environment.
    ///
    /// # Errors
    /// All problems at once.
    pub fn for_upstream(url: &str, listen: Option<&str>, kind: Kind) -> Result<(Self, Vec<Warning>), Problems> {
        let environment = Environment::of_process();
        let mut report = Report::default();
        let placed = |value: &str, place: &Place| Placed { value: value.to_owned(), place: place.clone() };
        let (upstream_place, listen_place) = (Place::Argument("--upstream"), Place::Argument("--listen"));
        let upstream = UpstreamSection {
            kind: Some(Placed { value: OneOf(kind), place: upstream_place.clone() }),
            url: Some(placed(url, &upstream_place)),
            ..UpstreamSection::default()
        };
        let mut file = File { upstreams: vec![Placed { value: upstream, place: upstream_place }], ..File::default() };
        environment.override_fields(&mut file, &mut report);
        if let Some(listen) = listen {
            file.server.listen = Some(Placed { value: Strings(vec![placed(listen, &listen_place)]), place: listen_place });
        }
        let mut checker = Checker { folder: PathBuf::new(), environment: &environment, outside: Outside::Look, report: &mut report };
        let config = checker.config(file, None);
        Ok((config, report.finish()?))
    }

    /// The file to read: the given one, else `$KEYGATE_CONFIG`, else `/etc/keygate/config.toml`, else `./config.toml`.
    ///
    /// # Errors
    /// When none is named and none is there.
    pub fn find(argument: Option<&Path>) -> Result<PathBuf, Problems> {
        Self::look_for(argument).ok_or_else(none_found)
    }

    /// What [`Config::find`] finds; `None` when no file is named and none is there.
    fn look_for(argument: Option<&Path>) -> Option<PathBuf> {
        if let Some(path) = argument {
            return Some(path.to_owned());
        }
        if let Some(path) = Environment::of_process().variable("KEYGATE_CONFIG") {
            return Some(PathBuf::from(path));
        }
        first_there(PLACES.map(PathBuf::from))
    }

    /// Where the admin socket of the running gateway is. Without any file it is where `keygate serve --upstream` puts it, so that
    /// the other commands find that gateway.
    ///
    /// # Errors
    /// All problems of the file at once.
    pub fn admin_socket(argument: Option<&Path>) -> Result<PathBuf, Problems> {
        match Self::look_for(argument) {
            Some(file) => Ok(Self::load_with(&file, Outside::Ignore)?.0.admin.socket),
            None => Ok(Self::for_upstream("http://127.0.0.1", Some("127.0.0.1:0"), Kind::Audiobookshelf)?.0.admin.socket),
        }
    }

    /// The configuration of a text, as if it stood in the file `path`.
    pub(crate) fn read(path: &Path, source: &str, environment: &Environment, outside: Outside) -> Result<(Self, Vec<Warning>), Problems> {
        let mut report = Report::new(Some(path), source);
        let mut file = File::read(source, &mut report);
        if report.is_unreadable() {
            return Err(report.into_problems());
        }
        environment.override_fields(&mut file, &mut report);
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        let config = Checker { folder, environment, outside, report: &mut report }.config(file, Some(path));
        Ok((config, report.finish()?))
    }
}

fn first_there(places: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    places.into_iter().find(|path| path.exists())
}

/// What is said where no file is named and none is there.
pub(crate) fn none_found() -> Problems {
    let problem = Problem::new(&Place::Nowhere, format!("there is no configuration: looked at {} and ./{}", PLACES[0], PLACES[1]));
    Problems::one(
        None,
        problem.help(
            "to write one for your media server, run: keygate init --upstream http://127.0.0.1:13378 (config.example.toml has every \
             field); to try it without any file, or run: keygate serve --upstream http://127.0.0.1:13378 --listen 127.0.0.1:8443",
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_that_is_there_is_read_and_a_named_one_before_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let [one, two, three] = ["one", "two", "three"].map(|name| folder.path().join(name));
        assert_eq!(first_there([one.clone(), two.clone()]), None);
        std::fs::write(&two, "").expect("written");
        std::fs::write(&three, "").expect("written");
        assert_eq!(first_there([one.clone(), two.clone(), three]), Some(two));
        assert_eq!(Config::find(Some(&one)).expect("named"), one, "whether it can be read is said by whoever reads it");
    }
}
