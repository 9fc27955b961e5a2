//! Who may remove blobs: nobody while anyone builds.
//!
//! Builds hold the store's lock shared, so that any number of them run side by side; what removes blobs
//! that may still be wanted holds it alone. The kernel lets go of a lock when its process ends, however
//! it ends.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::StoreError;

/// The lock's file.
const FILE: &str = "lock";

/// What to do while someone else holds the lock.
#[derive(Clone, Copy)]
pub enum Wait<'a> {
    /// Fail at once.
    Refuse,
    /// Tell, then wait.
    Telling(&'a dyn Fn()),
}

/// The lock, held as long as this lives.
#[derive(Debug)]
pub struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// To build.
    pub(super) fn shared(root: &Path, wait: Wait<'_>) -> Result<Self, StoreError> {
        Self::take(root, wait, File::try_lock_shared, File::lock_shared)
    }

    /// To remove blobs.
    pub(super) fn exclusive(root: &Path, wait: Wait<'_>) -> Result<Self, StoreError> {
        Self::take(root, wait, File::try_lock, File::lock)
    }

    fn take(
        root: &Path,
        wait: Wait<'_>,
        attempt: fn(&File) -> Result<(), TryLockError>,
        block: fn(&File) -> std::io::Result<()>,
    ) -> Result<Self, StoreError> {
        let path = root.join(FILE);
        let open = || File::options().create(true).truncate(false).write(true).open(&path);
        let file = open().map_err(StoreError::io("open", &path))?;
        match (attempt(&file), wait) {
            (Ok(()), _) => {}
            (Err(TryLockError::WouldBlock), Wait::Refuse) => {
                return Err(StoreError::Locked { path });
            }
            (Err(TryLockError::WouldBlock), Wait::Telling(tell)) => {
                tell();
                block(&file).map_err(StoreError::io("lock", &path))?;
            }
            (Err(TryLockError::Error(error)), _) => return Err(StoreError::io("lock", &path)(error)),
        }
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_share_the_lock_and_removing_does_not() {
        let space = tempfile::tempdir().unwrap();
        let one = StoreLock::shared(space.path(), Wait::Refuse).unwrap();
        let two = StoreLock::shared(space.path(), Wait::Refuse).unwrap();
        assert!(matches!(StoreLock::exclusive(space.path(), Wait::Refuse), Err(StoreError::Locked { .. })));
        drop((one, two));
        let alone = StoreLock::exclusive(space.path(), Wait::Refuse).unwrap();
        assert!(StoreLock::shared(space.path(), Wait::Refuse).is_err());
        drop(alone);
        assert!(StoreLock::shared(space.path(), Wait::Refuse).is_ok());
    }
}
