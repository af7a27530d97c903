//! Who may read the store and the master key: files 0600, directories 0700, no symbolic links.
//!
//! The rule for what exists already is sshd's (`StrictModes`): what is open too wide is refused, not tightened, for others may have
//! read or replaced it by then and the operator should know.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tempfile::NamedTempFile;

use crate::store::{StoreError, owner};

const STICKY: u32 = 0o1000;

/// The directory of a file; `.` for a bare name.
pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Makes the file's directory 0700 where it is missing, and refuses one in which others could swap the file.
pub(super) fn prepare_directory(path: &Path) -> Result<(), StoreError> {
    let directory = directory_of(path);
    owner::make_folder(directory).map_err(io_error("create", directory))?;
    let mode = fs::metadata(directory).map_err(io_error("read", directory))?.mode();
    if mode & 0o022 != 0 && mode & STICKY == 0 {
        return Err(unusable(
            directory,
            format!("others may write in this directory (mode {:04o}), so they could swap the file in it; run: chmod go-w", mode & 0o7777),
        ));
    }
    Ok(())
}

/// Opens an existing store for reading and writing, if it is a file of ours that nobody else may read.
pub(super) fn open_private(path: &Path) -> Result<File, StoreError> {
    let found = fs::symlink_metadata(path).map_err(io_error("read", path))?;
    if found.file_type().is_symlink() {
        return Err(unusable(path, "is a symbolic link; name the store itself".to_owned()));
    }
    if !found.is_file() {
        return Err(unusable(path, "is not a file".to_owned()));
    }
    if found.mode() & 0o077 != 0 {
        return Err(unusable(path, format!("others may read or write it (mode {:04o}); run: chmod 600", found.mode() & 0o7777)));
    }
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    OpenOptions::new().read(true).write(true).custom_flags(no_follow).open(path).map_err(io_error("open", path))
}

/// Writes a file that must not exist yet, 0600, and waits until it and its name are on the disk. With `place` it is for whoever owns
/// what lies there, or its folder.
pub(super) fn write_new(path: &Path, text: &str, place: Option<&Path>) -> Result<(), StoreError> {
    prepare_directory(path)?;
    let mut file = new_in(directory_of(path))?;
    place.map_or(Ok(()), |place| hand_over(&file, place))?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(io_error("write", path))?;
    name_new(file, path)
}

/// A file without a name worth knowing yet, 0600, which is gone again unless it gets one.
pub(super) fn new_in(folder: &Path) -> Result<NamedTempFile, StoreError> {
    tempfile::Builder::new().prefix(".keygate-").tempfile_in(folder).map_err(io_error("create a file in", folder))
}

/// Gives a new file to whoever owns what lies at `place`, or its folder.
pub(super) fn hand_over(file: &NamedTempFile, place: &Path) -> Result<(), StoreError> {
    owner::hand_over(file.as_file(), place).map_err(io_error("create", place))
}

/// Gives a complete file its name, which nothing may have yet, and waits until that is on the disk.
pub(super) fn name_new(file: NamedTempFile, path: &Path) -> Result<(), StoreError> {
    file.persist_noclobber(path).map_err(|error| io_error("create", path)(error.error))?;
    sync_directory(path)
}

/// Puts a complete file in the place of another in one step, and waits until that is on the disk. With `aside` the old one stays, under
/// that name; there is no moment at which `path` does not exist.
pub(super) fn replace(file: NamedTempFile, path: &Path, aside: Option<&Path>) -> Result<(), StoreError> {
    if let Some(aside) = aside {
        fs::hard_link(path, aside).map_err(io_error("create", aside))?;
    }
    file.persist(path).map_err(|error| io_error("replace", path)(error.error))?;
    sync_directory(path)
}

/// Waits until the name of a new file is on the disk.
pub(super) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let directory = directory_of(path);
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_error("write", directory))
}

/// An error that says what was tried with which file.
pub(super) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { what, path, source: source.into() }
}

/// A refusal of a file.
pub(super) fn unusable(path: &Path, problem: String) -> StoreError {
    StoreError::Unusable { path: PathBuf::from(path), problem }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_file_and_its_directory_are_for_the_owner_alone() {
        let root = tempfile::tempdir().expect("temporary directory");
        let path = root.path().join("state/key");
        write_new(&path, "text", Some(&path)).expect("written");
        assert_eq!(fs::metadata(&path).expect("file").mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(root.path().join("state")).expect("directory").mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_that_exists_is_never_overwritten() {
        let root = tempfile::tempdir().expect("temporary directory");
        let path = root.path().join("key");
        write_new(&path, "first", None).expect("written");
        assert!(write_new(&path, "second", None).is_err());
        assert_eq!(fs::read_to_string(&path).expect("file"), "first");
    }

    #[test]
    fn a_directory_in_which_others_may_write_is_refused() {
        let root = tempfile::tempdir().expect("temporary directory");
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o777)).expect("mode");
        let refused = prepare_directory(&root.path().join("store")).expect_err("refused");
        assert!(refused.to_string().contains("chmod go-w"), "{refused}");
    }
}
