//! What a build tells while it runs. Whoever listens decides what to show.

use std::path::Path;
use std::time::Instant;

use crate::digest::Digest;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Another process removes results; the build waits until it is done.
    Waiting,
    /// A source tensor was read and hashed.
    Hashed { model: &'a str, tensor: &'a str, bytes: u64 },
    /// An action was run.
    Ran { stage: &'a str, tensor: &'a str, bytes: u64 },
    /// An action was found in the store.
    Reused { stage: &'a str, tensor: &'a str },
    /// A blob was damaged and has been removed; what needs it is made again.
    Damaged { digest: Digest },
    /// The current thread has been busy with something since `began`.
    Span { what: &'static str, of: &'a str, began: Instant },
    /// A file of somebody else's made room for one of a model's, and has this name now.
    KeptAside { path: &'a Path },
    /// What is left of an earlier version, or of a build that was killed, could not be removed.
    NotRemoved { path: &'a Path },
    /// The store's index was damaged and has been put aside; the build starts over.
    IndexDamaged { problem: &'a str },
}

/// Listens to a build, on any of its threads.
pub trait Events: Sync {
    fn event(&self, event: Event<'_>);
}

impl<F: Fn(Event<'_>) + Sync> Events for F {
    fn event(&self, event: Event<'_>) {
        self(event);
    }
}

/// Does some work and tells of the time that it took.
pub fn spanned<T>(events: &dyn Events, what: &'static str, of: &str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    events.event(Event::Span { what, of, began });
    result
}
