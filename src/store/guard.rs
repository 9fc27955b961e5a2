//! Turns a panic of the database into an error: on a damaged file it may come upon something that it
//! takes for impossible.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::Error;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic on this thread will be caught and told of as an error, so that a panic hook may keep
/// quiet about it.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// Runs a call into the database. Whatever the call was about must not be used after a panic but to be
/// closed, which holds since every such error ends the use of the index.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(outer);
    result.unwrap_or_else(|_| Err(Error::Corrupted("a page holds what was never written".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        let quiet = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !is_guarded() {
                quiet(info);
            }
        }));
        let result: Result<(), Error> = guarded(|| panic!("impossible"));
        assert!(matches!(result, Err(Error::Corrupted(_))));
        assert!(!is_guarded());
        assert_eq!(guarded(|| Ok(7)).ok(), Some(7));
    }
}
