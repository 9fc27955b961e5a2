//! Keeps finished actions in the background: one thread writes results, another commits them.
//!
//! Computing goes on meanwhile. The writer hands bytes to the operating system as soon as they are there,
//! so that the disk is never idle; the committer makes many results durable at a time. Nothing in a build
//! waits for a commit but its end: consumers read results from memory or from the temporary file.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::bytes::Bytes;
use super::error::BuildError;
use super::sink::FileSlice;
use crate::disk::DirectWriter;
use crate::event::{Events, spanned};
use crate::plan::NodeId;
use crate::store::blob::{Content, SealedBlob};
use crate::store::range::{ChecksumsRow, ExternalRange, ExternalRow, MemoRow};
use crate::store::tier::{ActionRow, BesideRow, NewBlob};
use crate::store::tiered::Tiered;
use crate::store::{ActionCache, Cas, Store, StoreError};

/// A commit is not made larger once it holds this many bytes.
const BATCH_BYTES: u64 = 256 << 20;

/// How long a commit waits for company. Every commit copies the paths of the index that it touches, and
/// the build's own view of the index keeps the old copies alive, so that many small ones make it swell.
const BATCH_TIME: Duration = Duration::from_millis(30);

/// Results that wait to be written, and results that were and wait to be committed, however small they
/// are. The writer, and at last the build, wait while there are more.
const WRITTEN: usize = 1024;

/// Something to be kept.
enum Job {
    /// A finished action; its result in full where the store is to hold it.
    Action(ActionRow, Option<Content>, Option<ExternalRange>),
    /// A finished action whose result goes to a file outside the store.
    Delivery(NodeId, Bytes, Delivered),
    Memo(MemoRow),
    Checksums(ChecksumsRow),
    Beside(BesideRow),
    /// Answered once everything sent before is committed.
    Flush(Sender<()>),
}

/// A result that is where the output will have it. Its action is committed when the output is.
#[derive(Debug)]
pub struct Delivered {
    pub row: ActionRow,
    pub slice: FileSlice,
}

/// Everything delivered so far.
pub type Deliveries = Arc<Mutex<HashMap<NodeId, Delivered>>>;

/// A job after its bytes were written.
enum Written {
    Action(Kept),
    Memo(MemoRow),
    Checksums(ChecksumsRow),
    Beside(BesideRow),
    Flush(Sender<()>),
}

/// A finished action: its result in a file of the store's, or in one outside of it, or nowhere.
struct Kept {
    row: ActionRow,
    blob: Option<SealedBlob>,
    external: Option<ExternalRange>,
}

/// What one commit takes.
#[derive(Default)]
struct Batch {
    rows: Vec<ActionRow>,
    blobs: Vec<NewBlob>,
    memo: Vec<MemoRow>,
    external: Vec<ExternalRow>,
    checksums: Vec<ChecksumsRow>,
    beside: Vec<BesideRow>,
}

impl Batch {
    fn add(&mut self, Kept { row, blob, external }: Kept) {
        let ActionRow { digest, n_bytes, .. } = row;
        self.blobs.extend(blob.map(|blob| NewBlob { digest, n_bytes, content: Content::File(blob) }));
        self.external.extend(external.map(|external| (digest, external)));
        self.rows.push(row);
    }

    /// Keeps bytes, then what files outside hold, then the keys that stand for both: in that order.
    fn commit(self, store: &Store, tiers: &Tiered<'_>) -> Result<(), StoreError> {
        Cas::put(tiers, self.blobs)?;
        store.note(&self.memo, &self.external, &self.checksums, &self.beside)?;
        ActionCache::put(tiers, &self.rows)
    }
}

/// The sending side. When it is dropped, the workers keep what is left and end.
pub struct Committer {
    sender: SyncSender<Job>,
    waiting: Arc<Waiting>,
    limit: u64,
    deliveries: Deliveries,
}

/// Bytes in memory that wait for the writer; `None` once it has ended.
struct Waiting {
    bytes: Mutex<Option<u64>>,
    fewer: Condvar,
}

impl Waiting {
    fn free(&self, n_bytes: u64) {
        if let Some(bytes) = &mut *self.bytes.lock().expect("no thread panics with it") {
            *bytes -= n_bytes;
        }
        self.fewer.notify_all();
    }
}

/// Held by the writer. Whoever waits for room must not wait for ever, however the writer ends.
struct Writing(Arc<Waiting>);

impl Drop for Writing {
    fn drop(&mut self) {
        *self.0.bytes.lock().expect("no thread panics with it") = None;
        self.0.fewer.notify_all();
    }
}

type Check<'a> = &'a (dyn Fn() -> Result<(), BuildError> + Sync);

/// The threads behind a committer.
pub struct Workers<'scope> {
    writer: ScopedJoinHandle<'scope, Result<(), BuildError>>,
    committer: ScopedJoinHandle<'scope, Result<(), BuildError>>,
}

impl Workers<'_> {
    /// Waits for both to end.
    ///
    /// # Errors
    /// Says why something could not be kept.
    pub fn join(self) -> Result<(), BuildError> {
        let panicked = |_| Err(BuildError::Panicked);
        let committed = self.committer.join().unwrap_or_else(panicked);
        let written = self.writer.join().unwrap_or_else(panicked);
        committed?;
        written
    }
}

impl Committer {
    /// Starts the workers. `check` is asked before every commit; if it fails, nothing more is kept.
    pub fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        (store, tiers): (&'scope Store, &'scope Tiered<'scope>),
        limit: u64,
        check: Check<'scope>,
        events: &'scope dyn Events,
    ) -> (Self, Workers<'scope>) {
        let (sender, receiver) = sync_channel(WRITTEN);
        let (written, to_commit) = sync_channel(WRITTEN);
        let waiting = Arc::new(Waiting { bytes: Mutex::new(Some(0)), fewer: Condvar::new() });
        let deliveries = Deliveries::default();
        let (writing, delivered) = (Writing(Arc::clone(&waiting)), Arc::clone(&deliveries));
        let writer =
            spawn(scope, "writer", move || write(receiver, &written, store, &writing.0, &delivered, events));
        let committer = spawn(scope, "committer", move || commit(&to_commit, (store, tiers), check, events));
        (Self { sender, waiting, limit, deliveries }, Workers { writer, committer })
    }

    /// Hands over a finished action, with its result if the store is to hold it, and perhaps a range
    /// of a file that holds it already; waits while too many bytes are on their way.
    ///
    /// # Errors
    /// If a worker has stopped; its own result says why.
    pub fn keep(
        &self,
        row: ActionRow,
        content: Option<Content>,
        external: Option<ExternalRange>,
    ) -> Result<(), BuildError> {
        self.wait_for_room(content.as_ref().map_or(0, in_memory))?;
        self.send(Job::Action(row, content, external))
    }

    /// Hands over a finished action whose result belongs into a slice; what is not in memory is in its
    /// slice already.
    ///
    /// # Errors
    /// If a worker has stopped; its own result says why.
    pub fn deliver(&self, node: NodeId, bytes: Bytes, delivered: Delivered) -> Result<(), BuildError> {
        self.wait_for_room(bytes.in_memory())?;
        self.send(Job::Delivery(node, bytes, delivered))
    }

    /// What was delivered so far; complete after a flush.
    pub fn delivered(&self) -> MutexGuard<'_, HashMap<NodeId, Delivered>> {
        self.deliveries.lock().expect("no thread panics with it")
    }

    /// The same, to be looked at when the committer is gone.
    pub fn everything_delivered(&self) -> Deliveries {
        Arc::clone(&self.deliveries)
    }

    fn wait_for_room(&self, n_bytes: u64) -> Result<(), BuildError> {
        let mut waiting = self.waiting.bytes.lock().expect("no thread panics with it");
        loop {
            match &mut *waiting {
                None => return Err(BuildError::Interrupted),
                Some(bytes) if *bytes <= self.limit => {
                    *bytes += n_bytes;
                    return Ok(());
                }
                Some(_) => waiting = self.waiting.fewer.wait(waiting).expect("no thread panics with it"),
            }
        }
    }

    /// Hands over what a range of a source held.
    pub fn remember(&self, row: MemoRow) -> Result<(), BuildError> {
        self.send(Job::Memo(row))
    }

    /// Hands over the checksums of bytes that were hashed.
    pub fn note_checksums(&self, row: ChecksumsRow) -> Result<(), BuildError> {
        self.send(Job::Checksums(row))
    }

    /// Hands over the keys of what was made beside a result.
    pub fn note_beside(&self, row: BesideRow) -> Result<(), BuildError> {
        self.send(Job::Beside(row))
    }

    /// Waits until everything handed over so far is committed.
    ///
    /// # Errors
    /// If a worker has stopped; its own result says why.
    pub fn flush(&self) -> Result<(), BuildError> {
        let (done, wait) = channel();
        self.send(Job::Flush(done))?;
        wait.recv().map_err(|_| BuildError::Interrupted)
    }

    fn send(&self, job: Job) -> Result<(), BuildError> {
        self.sender.send(job).map_err(|_| BuildError::Interrupted)
    }
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn_scoped(scope, work).expect("the system has room for two more threads")
}

fn in_memory(content: &Content) -> u64 {
    match content {
        Content::Bytes(bytes) => bytes.len() as u64,
        Content::File(_) => 0,
    }
}

/// Writes results to temporary files of the store, or to where they belong.
fn write(
    receiver: Receiver<Job>,
    written: &SyncSender<Written>,
    store: &Store,
    waiting: &Waiting,
    deliveries: &Deliveries,
    events: &dyn Events,
) -> Result<(), BuildError> {
    let mut writer = DirectWriter::default();
    for job in receiver {
        let next = match job {
            Job::Memo(row) => Written::Memo(row),
            Job::Checksums(row) => Written::Checksums(row),
            Job::Beside(row) => Written::Beside(row),
            Job::Flush(done) => Written::Flush(done),
            Job::Delivery(node, bytes, delivered) => {
                if let Bytes::Memory(bytes) = &bytes {
                    spanned(events, "write to shard", "", || delivered.slice.write_all(bytes, &mut writer))?;
                }
                deliveries.lock().expect("no thread panics with it").insert(node, delivered);
                waiting.free(bytes.in_memory());
                continue;
            }
            Job::Action(row, content, external) => {
                let freed = content.as_ref().map_or(0, in_memory);
                let blob = match content {
                    Some(content) if external.is_none() && !store.holds(&row.digest, row.n_bytes)? => {
                        Some(spanned(events, "write blob", "", || store.seal(content, &mut writer))?)
                    }
                    _ => None,
                };
                waiting.free(freed);
                Written::Action(Kept { row, blob, external })
            }
        };
        if written.send(next).is_err() {
            // The committer has stopped, and says why.
            break;
        }
    }
    Ok(())
}

/// Commits what was written, many results at a time.
fn commit(
    receiver: &Receiver<Written>,
    (store, tiers): (&Store, &Tiered<'_>),
    check: Check<'_>,
    events: &dyn Events,
) -> Result<(), BuildError> {
    while let Ok(first) = receiver.recv() {
        let mut batch = Batch::default();
        let mut flushed = Vec::new();
        let started = Instant::now();
        let mut total = 0;
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Written::Action(kept) => {
                    total += kept.row.n_bytes;
                    batch.add(kept);
                }
                Written::Memo(row) => batch.memo.push(row),
                Written::Checksums(row) => batch.checksums.push(row),
                Written::Beside(row) => batch.beside.push(row),
                Written::Flush(done) => flushed.push(done),
            }
            // Nobody may wait for a batch that waits for them.
            let is_full = batch.rows.len() >= WRITTEN || total >= BATCH_BYTES;
            let left = BATCH_TIME.saturating_sub(started.elapsed());
            next = if is_full || !flushed.is_empty() { None } else { receiver.recv_timeout(left).ok() };
        }
        check()?;
        spanned(events, "sync and commit", "", || batch.commit(store, tiers))?;
        for done in flushed {
            // Nobody waits any more where the build has failed meanwhile.
            let _ = done.send(());
        }
    }
    Ok(())
}

/// Of a build that failed, so many bytes of final results are taken into the store; it should end soon.
const GIVEN_BACK: u64 = 1 << 30;

/// Of a build that was asked to stop, as many as can be taken in this time.
const LAST_MOMENTS: Duration = Duration::from_millis(300);

/// Commits delivered results that will not be published, with their bytes; in a hurry only some of them.
pub fn give_back(
    deliveries: &Deliveries,
    store: &Store,
    tiers: &Tiered<'_>,
    in_a_hurry: bool,
) -> Result<(), BuildError> {
    let started = Instant::now();
    let deliveries = deliveries.lock().expect("no thread panics with it");
    let (mut batch, mut total) = (Batch::default(), 0);
    for Delivered { row, slice } in deliveries.values() {
        total += row.n_bytes;
        if total > GIVEN_BACK || in_a_hurry && started.elapsed() > LAST_MOMENTS {
            break;
        }
        if let Some(blob) = slice.rescue(row.digest, store)? {
            batch.add(Kept { row: *row, blob: Some(blob), external: None });
        }
    }
    Ok(batch.commit(store, tiers)?)
}
