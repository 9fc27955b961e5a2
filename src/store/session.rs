//! The folder in which one process makes its temporary files.
//!
//! A lock on the folder's `lock` file says that its process lives. The kernel lets go of it when the
//! process ends, however it ends, so folders left by a crash are known and removed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::folder::read_dir;
use crate::disk;

#[derive(Debug)]
pub struct Session {
    dir: tempfile::TempDir,
    /// Held open, and so locked, as long as the session lives.
    _lock: File,
}

impl Session {
    /// Makes a folder for this process below `tmp` and removes those of processes that are gone.
    pub fn start(tmp: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(tmp).map_err(StoreError::io("create", tmp))?;
        remove_abandoned(tmp)?;
        let create = || {
            disk::fail_point("create", tmp)?;
            tempfile::Builder::new().prefix("session-").tempdir_in(tmp)
        };
        let dir = create().map_err(StoreError::io("create a folder in", tmp))?;
        // The lock is held before it gets the name by which others look for it, so that a folder is
        // never seen with a lock that nobody holds while its process starts.
        let unnamed = dir.path().join("starting");
        let lock = File::create(&unnamed).map_err(StoreError::io("create", &unnamed))?;
        lock.lock().map_err(StoreError::io("lock", &unnamed))?;
        fs::rename(&unnamed, lock_of(dir.path())).map_err(StoreError::io("name", &unnamed))?;
        Ok(Self { dir, _lock: lock })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

fn remove_abandoned(tmp: &Path) -> Result<(), StoreError> {
    for dir in read_dir(tmp)? {
        // A folder without a lock file belongs to a process that is just starting.
        if let Ok(lock) = File::open(lock_of(&dir))
            && lock.try_lock().is_ok()
        {
            // Another process may be removing it too, and that is fine.
            let _ = fs::remove_dir_all(&dir);
        }
    }
    Ok(())
}

fn lock_of(dir: &Path) -> PathBuf {
    dir.join("lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_dead_processes_are_removed_and_of_live_ones_kept() {
        let space = tempfile::tempdir().unwrap();
        let abandoned = space.path().join("session-dead");
        fs::create_dir(&abandoned).unwrap();
        fs::write(abandoned.join("lock"), "").unwrap();
        fs::write(abandoned.join("half a blob"), "x").unwrap();
        let first = Session::start(space.path()).unwrap();
        assert!(!abandoned.exists());
        let second = Session::start(space.path()).unwrap();
        assert!(first.dir().exists() && second.dir().exists());
        drop(first);
        assert_eq!(fs::read_dir(space.path()).unwrap().count(), 1);
    }
}
