//! What work tells of itself while it goes on. Whoever listens decides what to show.
//!
//! Work that takes time has an id: it starts, may tell how far it is, and finishes. Everything else is a fact
//! about a model, an action or a file, told when it happens.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::digest::Digest;

/// Tells pieces of work of one process apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkId(u64);

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The current thread begins with something.
    Started {
        /// The same until it has ended.
        id: WorkId,
        /// The kind of work, in a few words.
        what: &'static str,
        /// What it is done on, such as a tensor; may be empty.
        of: &'a str,
    },
    /// So many more bytes of it are done.
    Progress {
        /// That of its start.
        id: WorkId,
        /// Since it was last told, not since the start.
        bytes: u64,
    },
    /// It has ended, well or not, on the thread that began with it.
    Finished {
        /// That of its start, which was not told if nobody listened then.
        id: WorkId,
        /// As at the start.
        what: &'static str,
        /// As at the start.
        of: &'a str,
        /// When it started; it ends now.
        began: Instant,
    },
    /// Another process removes results; the build waits until it is done.
    Waiting,
    /// A file has come from the hub in full and is in place.
    Fetched {
        /// `org/name`.
        model: &'a str,
        /// Its place in the model's folder.
        file: &'a str,
        /// Its size.
        bytes: u64,
    },
    /// A source tensor is to be read and hashed in this build.
    Unread {
        /// The checkpoint's folder.
        model: &'a str,
        /// Its name in the checkpoint.
        tensor: &'a str,
        /// The tensor's size.
        bytes: u64,
    },
    /// A source tensor was read and hashed.
    Hashed {
        /// The checkpoint's folder.
        model: &'a str,
        /// Its name in the checkpoint.
        tensor: &'a str,
        /// The tensor's size.
        bytes: u64,
    },
    /// A thread begins to run an action.
    Running {
        /// The stage whose work it is.
        stage: &'a str,
        /// The tensor of that stage.
        tensor: &'a str,
    },
    /// An action was run.
    Ran {
        /// The stage whose work it is.
        stage: &'a str,
        /// The tensor of that stage.
        tensor: &'a str,
        /// The result's size.
        bytes: u64,
    },
    /// An action was found in the store.
    Reused {
        /// The stage whose work it would be.
        stage: &'a str,
        /// The tensor of that stage.
        tensor: &'a str,
    },
    /// A blob was damaged and has been removed; what needs it is made again.
    Damaged {
        /// What its bytes should have, and so its name in the store.
        digest: Digest,
    },
    /// A file of somebody else's made room for one of a model's, and has this name now.
    KeptAside {
        /// The new name.
        path: &'a Path,
    },
    /// What is left of an earlier version, or of a build that was killed, could not be removed.
    NotRemoved {
        /// What is still there.
        path: &'a Path,
    },
    /// The store's index was damaged and has been put aside; the build starts over.
    IndexDamaged {
        /// What is wrong with it.
        problem: &'a str,
    },
}

/// Listens to work, on any of its threads.
pub trait Events: Sync {
    /// Called where the work goes on, from many threads at once; work waits until it returns.
    fn event(&self, event: Event<'_>);
}

impl<F: Fn(Event<'_>) + Sync> Events for F {
    fn event(&self, event: Event<'_>) {
        self(event);
    }
}

/// Where nobody listens.
pub fn tell_nobody(_: Event<'_>) {}

/// Work under way. It finishes when this is dropped.
pub struct Span<'e> {
    events: &'e dyn Events,
    id: WorkId,
    what: &'static str,
    of: &'e str,
    began: Instant,
}

impl<'e> Span<'e> {
    /// Starts `what`, a word for the kind of work, on `of`, which may be empty.
    pub fn start(events: &'e dyn Events, what: &'static str, of: &'e str) -> Self {
        let span = Self::since(Instant::now(), events, what, of);
        events.event(Event::Started { id: span.id, what, of });
        span
    }

    /// Work that began before anyone listened.
    pub fn since(began: Instant, events: &'e dyn Events, what: &'static str, of: &'e str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { events, id: WorkId(NEXT.fetch_add(1, Ordering::Relaxed)), what, of, began }
    }

    /// Tells that so many more bytes are done.
    pub fn progress(&self, bytes: u64) {
        self.events.event(Event::Progress { id: self.id, bytes });
    }
}

impl Drop for Span<'_> {
    fn drop(&mut self) {
        let Self { events, id, what, of, began } = *self;
        events.event(Event::Finished { id, what, of, began });
    }
}

/// Does some work and tells of its start and end.
pub fn spanned<T>(events: &dyn Events, what: &'static str, of: &str, work: impl FnOnce() -> T) -> T {
    let _span = Span::start(events, what, of);
    work()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn work_finishes_under_the_id_that_it_started_with() {
        let told = Mutex::new(Vec::new());
        let listen = |event: Event<'_>| {
            told.lock().unwrap().push(match event {
                Event::Started { id, what, .. } => (id, format!("start {what}")),
                Event::Progress { id, bytes } => (id, format!("{bytes}")),
                Event::Finished { id, of, .. } => (id, format!("end of {of}")),
                other => panic!("{other:?}"),
            });
        };
        {
            let span = Span::start(&listen, "hash", "a");
            spanned(&listen, "read", "b", || span.progress(7));
        }
        let told = told.into_inner().unwrap();
        let (ids, texts): (Vec<WorkId>, Vec<&str>) =
            told.iter().map(|(id, text)| (*id, text.as_str())).unzip();
        assert_eq!(texts, ["start hash", "start read", "7", "end of b", "end of a"]);
        assert!(ids[0] == ids[2] && ids[0] == ids[4] && ids[1] == ids[3] && ids[0] != ids[1]);
    }
}
