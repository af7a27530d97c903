//! Whom files and folders belong to that keygate makes: where root runs a command beside a service that has a user of its own, whoever
//! the folder belongs to, or the file that is replaced. They are 0600 and 0700, so the service could not read them else.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use rustix::fs::OFlags;

const ROOT: u32 = 0;

/// A user and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    user: u32,
    group: u32,
}

/// Whom a new thing is given to; `None`: it stays with whoever makes it. Only root may give things away, and root alone makes them for
/// others.
fn heir(maker: u32, place: Owner) -> Option<Owner> {
    (maker == ROOT && place.user != ROOT).then_some(place)
}

/// Gives a new file, which may have no name or another one yet, to the owner of what lies at `place` now, or else of its folder.
///
/// # Errors
/// When the file is not root's to give, with what to do about it.
pub(crate) fn hand_over(file: &File, place: &Path) -> io::Result<()> {
    let made = file.metadata()?;
    let before = match fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::metadata(folder_of(place))?,
        found => found?,
    };
    give(file, made.uid(), Owner { user: before.uid(), group: before.gid() })
}

/// Makes a folder and those above it that are missing, 0700, for the owner of the nearest one that is there.
///
/// # Errors
/// As [`hand_over`], and when it cannot be made.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || fs::metadata(folder).is_ok() {
        return Ok(());
    }
    let above = folder_of(folder);
    make_folder(above)?;
    match DirBuilder::new().mode(0o700).create(folder) {
        // Somebody was quicker; what it is good for is judged by who uses it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    // By what was opened, and not by a name that others could lead elsewhere meanwhile.
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::DIRECTORY).bits()).unwrap_or(0);
    let made = OpenOptions::new().read(true).custom_flags(flags).open(folder)?;
    let (maker, above) = (made.metadata()?.uid(), fs::metadata(above)?);
    give(&made, maker, Owner { user: above.uid(), group: above.gid() })
}

fn give(made: &File, maker: u32, place: Owner) -> io::Result<()> {
    let Some(Owner { user, group }) = heir(maker, place) else { return Ok(()) };
    fchown(made, Some(user), Some(group)).map_err(|error| {
        let text = format!(
            "it would be root's where all else belongs to user id {user}, who could not read it, and it cannot be given to them ({error}); \
             run the command as that user: setpriv --reuid={user} --regid={group} --clear-groups keygate …"
        );
        io::Error::new(error.kind(), text)
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;

    const SERVICE: Owner = Owner { user: 4321, group: 1234 };

    fn owner(path: &Path) -> Owner {
        let found = fs::symlink_metadata(path).expect("there");
        Owner { user: found.uid(), group: found.gid() }
    }

    #[test]
    fn only_root_gives_things_away_and_only_to_others() {
        assert_eq!(heir(0, SERVICE), Some(SERVICE));
        assert_eq!(heir(0, Owner { user: 0, group: 1234 }), None);
        assert_eq!(heir(1000, SERVICE), None);
        assert_eq!(heir(SERVICE.user, SERVICE), None);
    }

    #[test]
    fn what_anybody_makes_in_a_folder_of_their_own_stays_theirs() {
        let root = tempfile::tempdir().expect("a folder");
        let before = owner(root.path());
        make_folder(&root.path().join("one/two")).expect("made");
        make_folder(&root.path().join("one/two")).expect("there already");
        let mode = fs::metadata(root.path().join("one")).expect("there").mode();
        assert_eq!((owner(&root.path().join("one/two")), mode & 0o777), (before, 0o700));
        assert!(make_folder(&root.path().join("one/two/\0")).is_err());
    }

    #[test]
    fn what_root_makes_belongs_to_the_owner_of_the_folder_or_of_the_file_before() {
        let root = tempfile::tempdir().expect("a folder");
        // Nobody else may give files away, so there is nothing to see: the decision is looked at above.
        if owner(root.path()).user != ROOT {
            return;
        }
        chown(root.path(), Some(SERVICE.user), Some(SERVICE.group)).expect("given");
        let folder = root.path().join("state/store");
        make_folder(&folder).expect("made");
        assert_eq!((owner(&folder), owner(&root.path().join("state"))), (SERVICE, SERVICE));
        let file = tempfile::NamedTempFile::new_in(&folder).expect("a file");
        hand_over(file.as_file(), &folder.join("new")).expect("given");
        assert_eq!(owner(file.path()), SERVICE);
        let other = Owner { user: 77, group: 78 };
        let old = folder.join("old");
        fs::write(&old, "").expect("written");
        chown(&old, Some(other.user), Some(other.group)).expect("given");
        let file = tempfile::NamedTempFile::new_in(&folder).expect("a file");
        hand_over(file.as_file(), &old).expect("given");
        assert_eq!(owner(file.path()), other, "as the file whose place it takes");
    }
}
