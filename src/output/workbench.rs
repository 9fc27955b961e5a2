//! Folders in which new versions are made, beside what they will replace.
//!
//! A lock on the folder's `lock` file says that its process lives. It is taken before anybody else looks for
//! it, and the kernel lets go of it when the process ends, however it ends: a folder whose lock is free was
//! left behind.
//!
//! Names are `PREFIX` + whose + `-` + six random letters or digits, so what was made for `X-converge` is never
//! taken for something of `X`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::Builder;

use crate::disk;

/// Begins the names of folders for new versions of an output.
const PREFIX: &str = ".lamarck-";

/// Begins the names of folders in which a model is built only to be compared.
const SCRATCH_PREFIX: &str = ".lamarck.verify-";

const LOCK: &str = "lock";
const N_RANDOM: usize = 6;

/// The folders for new versions of a directory that are there, most often because a build was killed: the next one
/// removes them.
pub fn folders_of(dir: &Path) -> Vec<PathBuf> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else { return Vec::new() };
    let begin = [PREFIX.as_bytes(), name.as_bytes(), b"-"].concat();
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let is_one = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        name.as_bytes().strip_prefix(&begin[..]).is_some_and(|rest| rest.len() == N_RANDOM)
    };
    entries.filter(is_one).map(|entry| entry.path()).collect()
}

/// A folder of this process, or one left behind that this process has taken over.
#[derive(Debug)]
pub struct Workbench {
    dir: PathBuf,
    /// Held as long as the folder is in use.
    _lock: File,
}

impl Workbench {
    /// Makes a folder in `parent` for a new version of something called `name`.
    pub(super) fn start(parent: &Path, name: &OsStr) -> io::Result<Self> {
        let mut prefix = OsString::from(PREFIX);
        prefix.push(name);
        prefix.push("-");
        Self::make(parent, &prefix)
    }

    /// Makes a folder in `parent` to build something in that is thrown away, after removing what killed
    /// processes left of theirs.
    ///
    /// # Errors
    /// If the parent cannot be read or written.
    pub fn scratch(parent: &Path) -> io::Result<Self> {
        clear_scratch(parent)?;
        Self::make(parent, OsStr::new(SCRATCH_PREFIX))
    }

    fn make(parent: &Path, prefix: &OsStr) -> io::Result<Self> {
        loop {
            disk::fail_point("create", parent)?;
            let private = Permissions::from_mode(0o700);
            let mut builder = Builder::new();
            let dir = builder.prefix(prefix).rand_bytes(N_RANDOM).permissions(private).tempdir_in(parent)?;
            let dir = dir.keep();
            // Whoever clears up may have come in between: then there is nothing here, and a new one is made.
            match File::create_new(dir.join(LOCK)) {
                // Where the file system has no locks, nobody can tell that a folder was left behind.
                Ok(lock) => match lock.try_lock() {
                    Ok(()) | Err(TryLockError::Error(_)) if is_lock_of(&dir, &lock) => {
                        return Ok(Self { dir, _lock: lock });
                    }
                    _ => {}
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let _ = fs::remove_dir(&dir);
                    return Err(error);
                }
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Whether it was made for something of this name.
    pub(super) fn is_for(&self, name: Option<&OsStr>) -> bool {
        self.dir.file_name().and_then(stem) == name
    }

    /// Removes the folder, which must hold nothing but its lock.
    pub(super) fn end(self) -> io::Result<()> {
        let Self { dir, _lock: lock } = self;
        disk::fail_point("remove", &dir)?;
        fs::remove_file(dir.join(LOCK))?;
        // Some file systems keep a name for a file that is open.
        drop(lock);
        match fs::remove_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes the folder with all that was built in it, which nobody but lamarck has written to.
    ///
    /// # Errors
    /// If something of it cannot be removed.
    pub fn throw_away(self) -> io::Result<()> {
        fs::remove_dir_all(&self.dir)
    }
}

/// Removes folders to be thrown away whose processes are gone. What cannot be removed is left to the next time.
pub(super) fn clear_scratch(parent: &Path) -> io::Result<()> {
    for left in abandoned(parent, |name| whose(name, SCRATCH_PREFIX).is_some_and(OsStr::is_empty))? {
        let _ = left.throw_away();
    }
    Ok(())
}

/// Whether there is anything in a folder that may have been left on the way to a new version, or is in use.
pub(super) fn is_any_in(parent: &Path) -> bool {
    let is_one = |name: &OsStr| whose(name, PREFIX).or_else(|| whose(name, SCRATCH_PREFIX)).is_some();
    fs::read_dir(parent).is_ok_and(|entries| entries.flatten().any(|entry| is_one(&entry.file_name())))
}

/// The folders in `parent` that were left on the way to new versions; of `name`, or of anything.
pub(super) fn left_behind(parent: &Path, name: Option<&OsStr>) -> io::Result<Vec<Workbench>> {
    abandoned(parent, |entry| stem(entry).is_some_and(|stem| name.is_none_or(|name| name == stem)))
}

/// Of what a folder's new version was to become one, if the name tells.
fn stem(name: &OsStr) -> Option<&OsStr> {
    Some(OsStr::from_bytes(whose(name, PREFIX)?.as_bytes().strip_suffix(b"-")?))
}

fn abandoned(parent: &Path, is_one: impl Fn(&OsStr) -> bool) -> io::Result<Vec<Workbench>> {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    let entries = match fs::read_dir(parent) {
        // What cannot be looked through has not been written to, either.
        Err(error) if matches!(error.kind(), NotFound | NotADirectory | PermissionDenied) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if !is_one(&entry.file_name()) || !entry.file_type()?.is_dir() {
            continue;
        }
        let dir = entry.path();
        let is_file = fs::symlink_metadata(dir.join(LOCK)).is_ok_and(|lock| lock.is_file());
        if !is_file {
            // Its process was killed before it began, or is just about to begin, and will begin again.
            let _ = fs::remove_dir(&dir);
        } else if let Ok(lock) = open(&dir.join(LOCK))
            && lock.try_lock().is_ok()
            && is_lock_of(&dir, &lock)
        {
            found.push(Workbench { dir, _lock: lock });
        }
    }
    Ok(found)
}

/// Some file systems lock only what is open for writing.
fn open(lock: &Path) -> io::Result<File> {
    File::options().read(true).write(true).open(lock).or_else(|_| File::open(lock))
}

/// Whether an open file is still the folder's lock.
fn is_lock_of(dir: &Path, lock: &File) -> bool {
    let inode = |metadata: fs::Metadata| metadata.ino();
    let found = lock.metadata().map(inode).ok();
    found.is_some() && fs::metadata(dir.join(LOCK)).map(inode).ok() == found
}

/// Waits until no other process puts an output into `parent`, and keeps others out until the file is dropped.
/// Where the file system has no locks, nobody waits.
///
/// # Errors
/// Those of `proceed`, which is asked while waiting.
pub(super) fn take_turn<E>(parent: &Path, proceed: &dyn Fn() -> Result<(), E>) -> Result<Option<File>, E> {
    let Ok(folder) = File::open(parent) else { return Ok(None) };
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(Some(folder)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) => {
                proceed()?;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Whether a folder has the name of one of these.
pub(super) fn is_one(path: &Path) -> bool {
    path.file_name().is_some_and(|name| stem(name).is_some())
}

/// What stands between the prefix and the random letters.
fn whose<'a>(name: &'a OsStr, prefix: &str) -> Option<&'a OsStr> {
    let rest = name.as_bytes().strip_prefix(prefix.as_bytes())?;
    let (stem, random) = rest.split_at_checked(rest.len().checked_sub(N_RANDOM)?)?;
    random.iter().all(u8::is_ascii_alphanumeric).then(|| OsStr::from_bytes(stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_whose_a_folder_is() {
        let space = tempfile::tempdir().unwrap();
        let left = |name: &str| left_behind(space.path(), Some(OsStr::new(name))).unwrap().len();
        for name in ["X", "X-converge", "verify"] {
            drop(Workbench::start(space.path(), OsStr::new(name)).unwrap());
        }
        drop(Workbench::scratch(space.path()).unwrap());
        assert_eq!([left("X"), left("X-converge"), left("X-con"), left("verify")], [1, 1, 0, 1]);
        clear_scratch(space.path()).unwrap();
        assert_eq!(left_behind(space.path(), None).unwrap().len(), 3);
    }

    #[test]
    fn what_is_in_use_is_not_left_behind() {
        let space = tempfile::tempdir().unwrap();
        let name = OsStr::new("out");
        let alive = Workbench::start(space.path(), name).unwrap();
        assert!(left_behind(space.path(), Some(name)).unwrap().is_empty());
        let dir = alive.path().to_owned();
        drop(alive);
        let taken: Vec<Workbench> = left_behind(space.path(), Some(name)).unwrap();
        assert_eq!(taken.iter().map(Workbench::path).collect::<Vec<_>>(), [dir.as_path()]);
        assert!(left_behind(space.path(), Some(name)).unwrap().is_empty(), "only one takes it over");
        taken.into_iter().for_each(|left| left.end().unwrap());
        assert!(!dir.exists());
    }
}
