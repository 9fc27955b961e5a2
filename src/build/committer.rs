//! Commits finished actions in the background, many at a time.
//!
//! Computing goes on while results are made durable. Nothing in a build waits for a commit but its
//! end: consumers read results from memory or from the temporary file.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::BuildError;
use crate::store::blob::Content;
use crate::store::index::MemoRow;
use crate::store::{Finished, Kept, Store};

/// A commit is not made larger once it holds this many bytes.
const BATCH_BYTES: u64 = 512 << 20;

/// How long a commit waits for company. Every commit copies the paths of the index that it touches, and
/// the build's own view of the index keeps the old copies alive, so that many small ones make it swell.
const BATCH_TIME: Duration = Duration::from_millis(30);

/// A commit is not made of more actions: each result is an open file until it has its name.
const BATCH_ACTIONS: usize = 256;

/// Something to be kept.
enum Job {
    Action(Finished),
    Memo(MemoRow),
    /// Answered once everything sent before is committed.
    Flush(Sender<()>),
}

/// The sending side. When it is dropped, the worker commits what is left and ends.
pub struct Committer {
    sender: Sender<Job>,
    waiting: Arc<Waiting>,
    limit: u64,
}

/// Bytes in memory that wait for the worker.
#[derive(Default)]
struct Waiting {
    bytes: Mutex<u64>,
    fewer: Condvar,
}

type Check<'a> = &'a (dyn Fn() -> Result<(), BuildError> + Sync);

impl Committer {
    /// Starts the worker. `check` is asked before every commit; if it fails, nothing more is kept.
    pub fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        store: &'scope Store,
        limit: u64,
        check: Check<'scope>,
    ) -> (Self, ScopedJoinHandle<'scope, Result<(), BuildError>>) {
        let (sender, receiver) = channel();
        let waiting = Arc::new(Waiting::default());
        let shared = Arc::clone(&waiting);
        let worker = scope.spawn(move || {
            let result = work(&receiver, store, &shared, limit, check);
            drop(receiver);
            // Whoever waits for room must not wait forever: the closed channel stops it.
            *shared.bytes.lock().expect("no thread panics with it") = 0;
            shared.fewer.notify_all();
            result
        });
        (Self { sender, waiting, limit }, worker)
    }

    /// Hands over a finished action; waits while too many bytes are on their way.
    ///
    /// # Errors
    /// If the worker has stopped; its own result says why.
    pub fn keep(&self, finished: Finished) -> Result<(), BuildError> {
        let mut bytes = self.waiting.bytes.lock().expect("no thread panics with it");
        while *bytes > self.limit {
            bytes = self.waiting.fewer.wait(bytes).expect("no thread panics with it");
        }
        *bytes += in_memory(&finished);
        drop(bytes);
        self.sender.send(Job::Action(finished)).map_err(|_| BuildError::Interrupted)
    }

    /// Hands over what a range of a source held.
    pub fn remember(&self, row: MemoRow) -> Result<(), BuildError> {
        self.sender.send(Job::Memo(row)).map_err(|_| BuildError::Interrupted)
    }

    /// Waits until everything handed over so far is committed.
    ///
    /// # Errors
    /// If the worker has stopped; its own result says why.
    pub fn flush(&self) -> Result<(), BuildError> {
        let (done, wait) = channel();
        self.sender.send(Job::Flush(done)).map_err(|_| BuildError::Interrupted)?;
        wait.recv().map_err(|_| BuildError::Interrupted)
    }
}

fn in_memory(finished: &Finished) -> u64 {
    match &finished.kept {
        Kept::Blob(Content::Bytes(bytes)) => bytes.len() as u64,
        Kept::Blob(Content::File(_)) | Kept::Elsewhere(_) | Kept::Nowhere => 0,
    }
}

fn work(
    receiver: &Receiver<Job>,
    store: &Store,
    waiting: &Waiting,
    limit: u64,
    check: Check<'_>,
) -> Result<(), BuildError> {
    while let Ok(first) = receiver.recv() {
        let (mut actions, mut memo, mut flushed) = (Vec::new(), Vec::new(), Vec::new());
        let started = Instant::now();
        let mut total = 0;
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Action(finished) => {
                    total += finished.row.n_bytes;
                    actions.push(finished);
                }
                Job::Memo(row) => memo.push(row),
                Job::Flush(done) => flushed.push(done),
            }
            // Nobody may wait for a batch that waits for them.
            let is_full = actions.len() >= BATCH_ACTIONS || total >= BATCH_BYTES.min(limit / 2);
            let left = BATCH_TIME.saturating_sub(started.elapsed());
            next = if is_full || !flushed.is_empty() { None } else { receiver.recv_timeout(left).ok() };
        }
        let freed: u64 = actions.iter().map(in_memory).sum();
        check()?;
        store.commit(actions, memo)?;
        *waiting.bytes.lock().expect("no thread panics with it") -= freed;
        waiting.fewer.notify_all();
        for done in flushed {
            // Nobody waits any more where the build has failed meanwhile.
            let _ = done.send(());
        }
    }
    Ok(())
}
