//! A new version of an output directory: made beside the old one, then put in its place at once.
//!
//! The two directories trade places in one step (`renameat2` with `RENAME_EXCHANGE`), so that a reader, or
//! whoever comes after a crash, finds the old model, whole, or the new one. Files that stay as they are
//! are hard links to the old ones. Where a directory cannot trade places (it is a mount point, its parent
//! cannot be written, or the file system does not know how), files are renamed into it one by one, the
//! lock file last.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tempfile::{Builder, TempDir};

use super::{LOCK_FILE, OutputError};
use crate::disk;

/// Begins the names of directories in the making.
const PREFIX: &str = ".lamarck-";

/// A directory in the making. Without [`Staging::publish`] it goes as if it had never been.
pub(super) struct Staging {
    target: PathBuf,
    dir: TempDir,
    /// Tells other processes, by its lock, that this one lives.
    _alive: File,
}

impl Staging {
    /// Begins a new version of `target`, which need not exist.
    pub fn start(target: &Path) -> Result<Self, OutputError> {
        // A link to a directory stays one; what it leads to is replaced.
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let parent =
            target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(OutputError::io("create", parent))?;
        clear(parent, &target).map_err(OutputError::io("clear up in", parent))?;
        clear(&target, &target).map_err(OutputError::io("clear up in", &target))?;
        let permissions =
            fs::metadata(&target).map_or(Permissions::from_mode(0o777), |old| old.permissions());
        let prefix = prefix(&target);
        let make = |folder: &Path| {
            disk::step("create", folder)?;
            Builder::new().prefix(&prefix).permissions(permissions.clone()).tempdir_in(folder)
        };
        let dir = if is_mount_point(&target, parent) { make(&target) } else { make(parent) };
        let dir = match dir {
            Err(error) if is_refused(&error) && target.is_dir() => make(&target),
            dir => dir,
        };
        let dir = dir.map_err(OutputError::io("create a folder in", parent))?;
        let start = || {
            let alive = File::open(dir.path())?;
            alive.lock()?;
            Ok(alive)
        };
        let alive = start().map_err(OutputError::io("lock", dir.path()))?;
        Ok(Self { target, dir, _alive: alive })
    }

    /// Where a file of the new version is made.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file of the new version.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        let mut file = File::create(&path)?;
        disk::step("write", &path)?;
        file.write_all(bytes)?;
        disk::step("sync", &path)?;
        file.sync_all()
    }

    /// Takes a file of the old version over as it is.
    pub fn keep(&self, name: &OsStr) -> io::Result<()> {
        let (old, new) = (self.target.join(name), self.dir.path().join(name));
        disk::step("link", &new)?;
        if fs::hard_link(&old, &new).is_ok() {
            return Ok(());
        }
        fs::copy(&old, &new)?;
        File::open(&new)?.sync_all()
    }

    /// Puts the new version in the old one's place and removes the old one, but for folders that somebody
    /// else put into it.
    pub fn publish(self) -> Result<PathBuf, OutputError> {
        let Self { target, dir, _alive } = self;
        let failed = OutputError::io("write", &target);
        publish(&target, dir).map_err(failed)?;
        Ok(target)
    }
}

fn publish(target: &Path, dir: TempDir) -> io::Result<()> {
    sync_folder(dir.path())?;
    let is_inside = dir.path().parent() == Some(target);
    disk::step("exchange", target)?;
    let traded = match target.exists() {
        _ if is_inside => Err(Errno::BUSY),
        true => renameat_with(CWD, dir.path(), CWD, target, RenameFlags::EXCHANGE),
        false => rustix::fs::rename(dir.path(), target),
    };
    match traded {
        Ok(()) => {
            adopt_folders(dir.path(), target)?;
        }
        Err(Errno::BUSY | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::XDEV) => {
            move_in(dir.path(), target)?;
        }
        Err(error) => return Err(error.into()),
    }
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_folder(parent)?;
    disk::step("remove", dir.path())?;
    let removed = dir.path().to_owned();
    drop(dir);
    if removed.exists() { fs::remove_dir_all(removed) } else { Ok(()) }
}

/// Renames every file into the target, removes what the new version does not have, and renames the lock
/// file last.
fn move_in(new: &Path, target: &Path) -> io::Result<()> {
    let names: Vec<_> =
        entries(new)?.iter().filter_map(|path| path.file_name().map(OsStr::to_owned)).collect();
    for name in names.iter().filter(|name| *name != LOCK_FILE) {
        fs::rename(new.join(name), target.join(name))?;
    }
    for path in entries(target)? {
        let is_kept = path.is_dir() || names.iter().any(|name| path.file_name() == Some(name));
        if !is_kept {
            fs::remove_file(&path)?;
        }
    }
    sync_folder(target)?;
    fs::rename(new.join(LOCK_FILE), target.join(LOCK_FILE))?;
    sync_folder(target)
}

/// Moves the folders of an old version, which are not ours, into the new one.
fn adopt_folders(old: &Path, target: &Path) -> io::Result<()> {
    if !old.exists() {
        return Ok(());
    }
    for path in entries(old)?.into_iter().filter(|path| is_folder(path) && !is_ours(path)) {
        let place = target.join(path.file_name().expect("entries have names"));
        if !place.exists() {
            fs::rename(&path, place)?;
        }
    }
    Ok(())
}

/// Removes what a process that is gone left behind in `folder` on its way to `target`.
fn clear(folder: &Path, target: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    let prefix = prefix(target);
    for path in entries(folder)? {
        let is_left = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
        if is_left && is_folder(&path) && File::open(&path)?.try_lock().is_ok() {
            if target.is_dir() {
                adopt_folders(&path, target)?;
            }
            // Another process may be removing it too, and that is fine.
            let _ = fs::remove_dir_all(&path);
        }
    }
    Ok(())
}

/// Whether a file or folder in an output directory is one of those made here.
pub(super) fn is_ours(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
}

fn prefix(target: &Path) -> String {
    format!("{PREFIX}{}-", target.file_name().unwrap_or_default().to_string_lossy())
}

fn is_mount_point(target: &Path, parent: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    device(target).is_some_and(|of_target| device(parent) != Some(of_target))
}

fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
}

/// Makes the names in a folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    disk::step("sync", folder)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        let mut names: Vec<String> = entries(folder).unwrap().iter().map(name).collect();
        names.sort();
        names
    }

    fn version(target: &Path, files: &[(&str, &str)]) -> Staging {
        let staging = Staging::start(target).unwrap();
        for (name, text) in files {
            staging.write(name, text.as_bytes()).unwrap();
        }
        staging
    }

    #[test]
    fn versions_replace_one_another_whole() {
        let space = tempfile::tempdir().unwrap();
        let target = space.path().join("out");
        version(&target, &[("a", "1"), (LOCK_FILE, "1")]).publish().unwrap();
        fs::create_dir(target.join("theirs")).unwrap();
        fs::write(target.join("theirs/x"), "precious").unwrap();
        let staging = version(&target, &[("b", "2"), (LOCK_FILE, "2")]);
        assert_eq!(fs::read_to_string(target.join(LOCK_FILE)).unwrap(), "1");
        staging.publish().unwrap();
        assert_eq!(names(&target), ["b", LOCK_FILE, "theirs"]);
        assert_eq!(fs::read_to_string(target.join("theirs/x")).unwrap(), "precious");
        assert_eq!(names(space.path()), ["out"]);
    }

    #[test]
    fn a_version_that_is_given_up_leaves_nothing() {
        let space = tempfile::tempdir().unwrap();
        let target = space.path().join("out");
        version(&target, &[("a", "1")]).publish().unwrap();
        drop(version(&target, &[("a", "2")]));
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "1");
        assert_eq!(names(space.path()), ["out"]);
    }

    #[test]
    fn leftovers_go_and_what_is_being_made_stays() {
        let space = tempfile::tempdir().unwrap();
        let target = space.path().join("out");
        version(&target, &[("a", "1")]).publish().unwrap();
        let left = space.path().join(".lamarck-out-dead");
        fs::create_dir_all(left.join("theirs")).unwrap();
        let alive = version(&target, &[("a", "2")]);
        let other = version(&target, &[("a", "3")]);
        assert!(!left.exists() && target.join("theirs").exists());
        alive.publish().unwrap();
        other.publish().unwrap();
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "3");
        assert_eq!(names(space.path()), ["out"]);
    }

    #[test]
    fn files_are_moved_in_where_a_folder_cannot_trade_places() {
        let space = tempfile::tempdir().unwrap();
        let (new, target) = (space.path().join("new"), space.path().join("out"));
        for (folder, files) in [(&target, &["a", "old", LOCK_FILE][..]), (&new, &["a", "b", LOCK_FILE])] {
            fs::create_dir(folder).unwrap();
            for file in files {
                fs::write(folder.join(file), folder.file_name().unwrap().to_str().unwrap()).unwrap();
            }
        }
        move_in(&new, &target).unwrap();
        assert_eq!(names(&target), ["a", "b", LOCK_FILE]);
        assert!(
            ["a", "b", LOCK_FILE].iter().all(|file| fs::read_to_string(target.join(file)).unwrap() == "new")
        );
    }

    #[test]
    fn a_kept_file_is_the_same_file() {
        let space = tempfile::tempdir().unwrap();
        let target = space.path().join("out");
        version(&target, &[("a", "1")]).publish().unwrap();
        let inode = fs::metadata(target.join("a")).unwrap().ino();
        let staging = version(&target, &[("b", "2")]);
        staging.keep(OsStr::new("a")).unwrap();
        staging.publish().unwrap();
        assert_eq!(fs::metadata(target.join("a")).unwrap().ino(), inode);
    }
}
