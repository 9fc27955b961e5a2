//! Who may remove what, and when.
//!
//! What may still be wanted is removed only by who has the store to himself: `cache gc`, `cache verify --repair`,
//! and a build that keeps the store within its limit. A build removes less, beside others that run: blobs that
//! are damaged, blobs whose bytes it has noted to be in an output, packs of which nothing is left, and folders of
//! processes that are gone. Whoever has looked such a blob up finds it missing, looks where the bytes are now, or
//! makes it again.
//!
//! Builds hold the store's lock shared, so that any number of them run side by side; what removes
//! more holds it alone. Whoever waits to have it alone holds the gate meanwhile, which
//! a build must find open before it takes the lock: so it waits for the builds that run now, and not for
//! all that start later. The kernel lets go of a lock when its process ends, however it ends.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::error::StoreError;

/// The lock's file.
const FILE: &str = "lock";

/// The gate's file.
const GATE: &str = "gate";

/// How often a lock that is waited for is tried: a wait must end when a signal asks for it, and a signal
/// may come to any thread.
const EVERY: Duration = Duration::from_millis(20);

/// What to do while someone else holds the lock.
#[derive(Clone, Copy)]
pub enum Wait<'a> {
    /// Fail at once.
    Refuse,
    /// Tell, then wait, but no longer than until the flag is set.
    Telling(&'a dyn Fn(), &'a AtomicBool),
}

/// The lock, held as long as this lives.
#[derive(Debug)]
pub struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// To build.
    pub(super) fn shared(root: &Path, wait: Wait<'_>) -> Result<Self, StoreError> {
        let (gate, file) = (open(root, GATE)?, open(root, FILE)?);
        // The gate is never kept while waiting, and not for longer than it takes to get the lock.
        wait.until(root, || {
            if !got(root, gate.try_lock_shared())? {
                return Ok(false);
            }
            let is_ours = got(root, file.try_lock_shared());
            gate.unlock().map_err(StoreError::io("unlock", root))?;
            is_ours
        })?;
        Ok(Self { _file: file })
    }

    /// To remove blobs.
    pub(super) fn exclusive(root: &Path, wait: Wait<'_>) -> Result<Self, StoreError> {
        let (gate, file) = (open(root, GATE)?, open(root, FILE)?);
        // Who does not wait has no need of the gate, and is in nobody's way.
        let mut holds_gate = matches!(wait, Wait::Refuse);
        wait.until(root, || {
            holds_gate = holds_gate || got(root, gate.try_lock())?;
            Ok(holds_gate && got(root, file.try_lock())?)
        })?;
        Ok(Self { _file: file })
    }
}

impl Wait<'_> {
    /// Tries until an attempt succeeds.
    fn until(
        self,
        root: &Path,
        mut attempt: impl FnMut() -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        if attempt()? {
            return Ok(());
        }
        let Self::Telling(tell, interrupted) = self else {
            return Err(StoreError::Locked { path: root.join(FILE) });
        };
        tell();
        while !interrupted.load(Ordering::Relaxed) {
            if attempt()? {
                return Ok(());
            }
            std::thread::sleep(EVERY);
        }
        Err(StoreError::Interrupted)
    }
}

fn open(root: &Path, name: &str) -> Result<File, StoreError> {
    let path = root.join(name);
    let open = || File::options().create(true).truncate(false).write(true).open(&path);
    open().map_err(StoreError::io("open", &path))
}

/// Whether an attempt at a lock succeeded.
fn got(root: &Path, attempt: Result<(), TryLockError>) -> Result<bool, StoreError> {
    match attempt {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(StoreError::io("lock", root)(error)),
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

    #[test]
    fn who_waits_to_be_alone_waits_for_no_build_that_starts_later() {
        let space = tempfile::tempdir().unwrap();
        let running = StoreLock::shared(space.path(), Wait::Refuse).unwrap();
        let never = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (told, waits) = std::sync::mpsc::channel();
            let (root, never) = (space.path(), &never);
            let waiting = scope.spawn(move || {
                StoreLock::exclusive(root, Wait::Telling(&|| told.send(()).unwrap(), never)).unwrap();
            });
            waits.recv().unwrap();
            assert!(matches!(StoreLock::shared(root, Wait::Refuse), Err(StoreError::Locked { .. })));
            drop(running);
            waiting.join().unwrap();
        });
    }

    #[test]
    fn a_signal_ends_the_wait() {
        let space = tempfile::tempdir().unwrap();
        let _running = StoreLock::shared(space.path(), Wait::Refuse).unwrap();
        let interrupted = AtomicBool::new(false);
        let signal = || interrupted.store(true, Ordering::Relaxed);
        let result = StoreLock::exclusive(space.path(), Wait::Telling(&signal, &interrupted));
        assert!(matches!(result, Err(StoreError::Interrupted)));
    }
}
