//! Turns a panic of the database into an error: on a damaged file it may come upon something that it
//! takes for impossible.
//!
//! What it was about is dropped then, which may panic again; that ends the process, whoever catches. Before it
//! does, the damaged file is put aside, so that the next process starts with a new one.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::Error;

thread_local! {
    static CALLS: RefCell<Option<Call>> = const { RefCell::new(None) };
}

/// A call into the database that is under way.
struct Call {
    path: Arc<Path>,
    panics: u32,
}

/// What a panic hook should make of a panic.
#[derive(Debug, PartialEq, Eq)]
pub enum Panic {
    /// None of the database's.
    Elsewhere,
    /// It is caught and told of as an error.
    Caught,
    /// The second one of a call: the process ends. This file was damaged and has been put aside.
    Fatal(PathBuf),
}

/// Takes note of a panic on this thread; to be called once by the panic hook.
pub fn note_panic() -> Panic {
    CALLS.with_borrow_mut(|call| {
        let Some(Call { path, panics }) = call else { return Panic::Elsewhere };
        *panics += 1;
        if *panics == 1 {
            return Panic::Caught;
        }
        // If it cannot be moved, the next process will find it as this one did.
        let _ = put_aside(path);
        Panic::Fatal(path.to_path_buf())
    })
}

/// Moves a damaged index out of the way. Another process may have been faster.
pub(super) fn put_aside(path: &Path) -> io::Result<()> {
    match fs::rename(path, path.with_extension("redb.damaged")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Runs a call into the database in the file at `path`. Whatever the call was about must not be used after a
/// panic but to be closed, which holds since every such error ends the use of the index.
pub(super) fn catch_panic<T>(path: &Arc<Path>, call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let outer = CALLS.replace(Some(Call { path: Arc::clone(path), panics: 0 }));
    let result = catch_unwind(AssertUnwindSafe(call));
    CALLS.set(outer);
    result.unwrap_or_else(|_| Err(Error::Corrupted("a page holds what was never written".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_and_a_second_one_puts_the_file_aside() {
        let space = tempfile::tempdir().unwrap();
        let path: Arc<Path> = space.path().join("index.redb").into();
        fs::write(&path, "x").unwrap();
        let result: Result<(), Error> = catch_panic(&path, || panic!("impossible"));
        assert!(matches!(result, Err(Error::Corrupted(_))));
        assert_eq!(note_panic(), Panic::Elsewhere);
        let call = || {
            assert_eq!(note_panic(), Panic::Caught);
            assert!(path.exists());
            assert_eq!(note_panic(), Panic::Fatal(path.to_path_buf()));
            Ok(7)
        };
        assert_eq!(catch_panic(&path, call).ok(), Some(7));
        assert!(!path.exists() && space.path().join("index.redb.damaged").exists());
    }
}
