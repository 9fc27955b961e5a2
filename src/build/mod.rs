//! Carries out a plan: looks every action up, runs what is missing, keeps the results.
//!
//! The unit of scheduling is a cone: the actions and sources that one output tensor hangs together
//! with, and that hang together with nothing else. Cones share nothing, so they run side by side;
//! within a cone actions run in order, each while what it reads is still warm.

mod ahead;
mod bytes;
mod committer;
pub mod compute;
mod cone;

mod geometry;
pub mod reasons;
mod sink;
pub mod status;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use petgraph::unionfind::UnionFind;
use rayon::prelude::*;

pub use bytes::Bytes;

pub use sink::{FileSlice, OutputSink};

use crate::digest::{ActionKey, Digest};
use crate::error::ErrorClass;
use crate::event::{Events, spanned};
use crate::identity::Identity;
use crate::model::ModelError;
use crate::model::checkpoint::Checkpoint;
use crate::model::shard::Shard;
use crate::plan::{Model, Node, NodeId, Plan, Source};
use crate::recipe::Recipe;
use crate::store::blob::SealedBlob;
use crate::store::index::Snapshot;
use crate::store::range::{ExternalRange, FileRange};
use crate::store::tier::ActionRow;
use crate::store::tiered::Tiered;
use crate::store::{Store, StoreError};
use committer::{Committer, Delivered};
use cone::Cone;

/// Why a build stopped. What had been finished by then is kept.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("stage `{stage}`, tensor `{tensor}`: {problem}")]
    Arithmetic { stage: String, tensor: String, problem: String },
    #[error("{}: tensor `{tensor}` holds NaN or infinity, which cannot be merged", path.display())]
    NotFinite { path: PathBuf, tensor: String },
    #[error("{}: tensor `{tensor}` is not the one that the lockfile names", path.display())]
    NotLocked { path: PathBuf, tensor: String },
    #[error(
        "stage `{stage}`, tensor `{tensor}`: computed other bytes than an earlier build did of the same inputs; the memory, the processor or the cache is damaged"
    )]
    NotReproducible { stage: String, tensor: String },
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("interrupted; what was finished is kept, build again to go on")]
    Interrupted,
    #[error("a thread that keeps results has panicked; what was finished before is kept")]
    Panicked,
}

impl BuildError {
    /// Whose trouble it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            // What was there when the headers were read is the system's to keep.
            Self::Io { .. } | Self::Model(ModelError::Io { .. }) => ErrorClass::System,
            Self::Model(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Arithmetic { .. } | Self::NotFinite { .. } | Self::NotLocked { .. } => ErrorClass::Data,
            Self::Interrupted => ErrorClass::Interrupt,
            Self::NotReproducible { .. } | Self::Panicked => ErrorClass::Internal,
        }
    }
}

/// What a build works with.
pub struct Context<'a> {
    pub recipe: &'a Recipe,
    pub plan: &'a Plan,
    /// By model number.
    pub models: &'a [Model],
    pub checkpoints: &'a [Arc<Checkpoint>],
    pub store: &'a Store,
    /// Whom results are asked of and handed to: the store, and what lies behind it.
    pub tiers: &'a Tiered<'a>,
    /// Where final results go.
    pub sink: &'a dyn OutputSink,
    /// The most bytes that results waiting to be written may take in memory.
    pub memory: u64,
    /// Whether sources are read even where the store remembers what they held.
    pub rehash: bool,
    /// Digests that source tensors must have, by model reference and tensor; empty to take them as they
    /// are.
    pub locked: HashMap<(&'a str, &'a str), Option<Digest>>,
    pub interrupted: &'a AtomicBool,
    pub events: &'a dyn Events,
}

/// How a node came to its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A source, or an action that was found in the store.
    Reused,
    /// Found in the store although something it reads was computed anew: the bytes came out equal.
    CutOff,
    Ran,
}

/// A node that was dealt with.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    pub digest: Digest,
    /// `None` for sources.
    pub key: Option<ActionKey>,
    pub outcome: Outcome,
}

/// A build in progress.
pub struct Build<'a> {
    context: Context<'a>,
    snapshot: Snapshot<'a>,
    committer: Committer,
    /// By node number.
    settled: Vec<OnceLock<Settled>>,
    /// Results of targets that the recipe keeps out of the store, mapped until they are written out.
    held: Mutex<HashMap<NodeId, Bytes>>,
    /// Source tensors by digest: a result that equals one is not kept a second time.
    sources: Mutex<HashMap<Digest, ExternalRange>>,
    /// Checkpoints outside the store that results are read from, by path.
    opened: Mutex<HashMap<PathBuf, Arc<Shard>>>,
    /// Actions run so far, those whose results the store had lost included.
    executed: AtomicUsize,
    /// The actions among them whose results were known, but wanted and kept nowhere any more.
    made_again: Mutex<HashSet<NodeId>>,
    cones: Vec<Vec<NodeId>>,
    cone_of: HashMap<NodeId, usize>,
}

impl<'a> Build<'a> {
    pub fn new(context: Context<'a>, committer: Committer) -> Result<Self, BuildError> {
        let snapshot = context.store.index().snapshot()?;
        let cones = cones(context.plan);
        let cone_of = cones
            .iter()
            .enumerate()
            .flat_map(|(i, nodes)| nodes.iter().map(move |node| (*node, i)))
            .collect();
        let settled = context.plan.nodes().map(|_| OnceLock::new()).collect();
        Ok(Self {
            sources: Mutex::default(),
            opened: Mutex::default(),
            context,
            snapshot,
            committer,
            settled,
            held: Mutex::default(),
            executed: AtomicUsize::new(0),
            made_again: Mutex::default(),
            cones,
            cone_of,
        })
    }

    /// Settles every node of the plan: finds its digest, running what the store does not know.
    pub fn settle_all(&self) -> Result<(), BuildError> {
        // A cone of large tensors has the machine to itself and splits each tensor over all threads;
        // the others run side by side, each on one thread. So memory is bounded either way.
        let (large, small): (Vec<_>, Vec<_>) = self.cones.iter().partition(|nodes| self.is_large(nodes));
        for nodes in large {
            Cone::new(self, nodes, &[], true).settle()?;
        }
        small.par_iter().enumerate().try_for_each(|(i, nodes)| {
            let next = small.get(i + 1).map_or(&[][..], |next| next);
            Cone::new(self, nodes, next, false).settle()
        })?;
        // Whoever asks for bytes from here on finds them in the store.
        spanned(self.context.events, "wait for commits", "", || self.committer.flush())
    }

    /// The bytes of a settled node, run again if the store has lost them.
    pub fn bytes(&self, node: NodeId) -> Result<Bytes, BuildError> {
        if let Some(bytes) = self.held.lock().expect("no thread panics with it").get(&node) {
            return Ok(bytes.clone());
        }
        if let Node::Source(source) = &self.context.plan[node] {
            return Ok(self.source_bytes(source));
        }
        let nodes = &self.cones[self.cone_of[&node]];
        Cone::new(self, nodes, &[], self.is_large(nodes)).bytes(node)
    }

    /// How a node was settled.
    ///
    /// # Panics
    /// Before [`Self::settle_all`] has succeeded.
    pub fn settled(&self, node: NodeId) -> Settled {
        *self.settled[node.index()].get().expect("every node is settled")
    }

    /// What became of a node: its outcome, but for results that had to be made again.
    pub fn outcome(&self, node: NodeId) -> Outcome {
        let made_again = self.made_again.lock().expect("no thread panics with it").contains(&node);
        if made_again { Outcome::Ran } else { self.settled(node).outcome }
    }

    /// The number of actions run so far, those whose results the store had lost included.
    pub fn executed(&self) -> usize {
        self.executed.load(Ordering::Relaxed)
    }

    /// Whoever listens to the build.
    pub fn events(&self) -> &dyn Events {
        self.context.events
    }

    /// The row of an action whose result was delivered to the sink. Nothing has been committed of it.
    pub fn delivered(&self, node: NodeId) -> Option<ActionRow> {
        self.committer.delivered().get(&node).map(|delivered| delivered.row.clone())
    }

    /// Takes what was delivered into the store after all.
    pub fn rescue(&self, node: NodeId) -> Result<Option<SealedBlob>, BuildError> {
        let delivered = self.committer.delivered();
        let Some(Delivered { row, slice }) = delivered.get(&node) else { return Ok(None) };
        slice.rescue(row.digest, self.context.store)
    }

    /// Whether a settled node's bytes are a result that the store has to keep: no source holds them.
    pub fn is_kept_result(&self, node: NodeId) -> bool {
        match &self.context.plan[node] {
            Node::Action(action) => {
                self.context.recipe.stage(action.owner.stage).cache
                    && self.source_range(&self.settled(node).digest).is_none()
            }
            Node::Source(_) => false,
        }
    }

    fn is_output(&self, node: NodeId) -> bool {
        self.context
            .plan
            .targets
            .iter()
            .any(|target| self.context.plan.stage(*target).nodes.values().any(|output| *output == node))
    }

    fn is_large(&self, nodes: &[NodeId]) -> bool {
        // Several results of a cone may be alive at once, on every thread.
        let bytes: u64 = nodes.iter().map(|node| self.context.plan[*node].spec().n_bytes() as u64).sum();
        bytes * rayon::current_num_threads() as u64 > self.context.memory / 2
    }

    fn source_bytes(&self, source: &Source) -> Bytes {
        let checkpoint = &self.context.checkpoints[source.model.0];
        let shard = checkpoint.shard_of(&source.tensor).expect("the plan was made from these checkpoints");
        Bytes::source(Arc::clone(shard), &source.tensor)
    }

    fn note_source(&self, digest: Digest, source: &Source, range: FileRange) {
        let shard = self.context.checkpoints[source.model.0].shard_of(&source.tensor);
        let path = shard.and_then(|shard| std::path::absolute(&shard.path).ok());
        if let Some(path) = path {
            let mut sources = self.sources.lock().expect("no thread panics with it");
            sources.entry(digest).or_insert(ExternalRange { path, range });
        }
    }

    /// The source that holds a digest's bytes, if there is one whose stamps can be trusted.
    fn source_range(&self, digest: &Digest) -> Option<ExternalRange> {
        self.sources.lock().expect("no thread panics with it").get(digest).cloned()
    }

    /// Where a source or a finished output holds a digest's bytes, if the file is still in the state in which
    /// it did. Whoever reads them must check them.
    fn bytes_outside(&self, digest: &Digest) -> Result<Option<Bytes>, BuildError> {
        let external = match self.source_range(digest) {
            Some(external) => Some(external),
            None => self.snapshot.external(digest)?,
        };
        let Some(ExternalRange { path, range }) = external else { return Ok(None) };
        let Some(shard) = self.open(&path).filter(|shard| shard.identity == range.identity) else {
            return Ok(None);
        };
        Ok(Some(Bytes::Source { shard, offset: range.offset, n_bytes: range.n_bytes as usize }))
    }

    /// Files that were found to hold other bytes than the index remembers of them.
    fn suspects(&self) -> Vec<Identity> {
        let opened = self.opened.lock().expect("no thread panics with it");
        let sources = self.context.checkpoints.iter().flat_map(|checkpoint| &checkpoint.shards);
        let shards = sources.chain(opened.values());
        shards.filter(|shard| shard.is_suspect()).map(|shard| shard.identity).collect()
    }

    /// A shard outside the recipe's models; `None` if it cannot be read.
    fn open(&self, path: &Path) -> Option<Arc<Shard>> {
        let mut opened = self.opened.lock().expect("no thread panics with it");
        if let Some(shard) = opened.get(path) {
            return Some(Arc::clone(shard));
        }
        let shard = Arc::new(Shard::open(path).ok()?);
        opened.insert(path.to_owned(), Arc::clone(&shard));
        Some(shard)
    }

    pub fn check_interrupted(&self) -> Result<(), BuildError> {
        if self.context.interrupted.load(Ordering::Relaxed) { Err(BuildError::Interrupted) } else { Ok(()) }
    }
}

/// Runs `body` with a build whose finished results are committed in the background; returns when all
/// of them are, also when `body` fails.
pub fn with_build<T, E: From<BuildError>>(
    context: Context<'_>,
    body: impl FnOnce(&Build<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let (store, tiers) = (context.store, context.tiers);
    let checkpoints = context.checkpoints;
    let (memory, events) = (context.memory, context.events);
    // Nothing computed from a source that changed meanwhile may be kept under the digest it had.
    let sources_unchanged = || {
        let mut shards = checkpoints.iter().flat_map(|checkpoint| &checkpoint.shards);
        shards.try_for_each(|shard| shard.check_unchanged()).map_err(BuildError::from)
    };
    std::thread::scope(|scope| {
        let (committer, workers) =
            Committer::start(scope, (store, tiers), memory / 4, &sources_unchanged, events);
        let delivered = committer.everything_delivered();
        let mut suspects = Vec::new();
        let result = Build::new(context, committer).map_err(E::from).and_then(|build| {
            let result = body(&build);
            suspects = build.suspects();
            result
        });
        let committed = workers.join();
        // The next build must read these anew. Only now, since what this one remembered of them is in the
        // index by now.
        let forgotten = suspects.iter().try_for_each(|file| store.forget(file)).map_err(BuildError::from);
        if (committed.is_err() || result.is_err()) && sources_unchanged().is_ok() {
            // There is an error to tell of already.
            let _ = committer::give_back(&delivered, store, tiers);
        }
        // A failure to commit is the cause of what went wrong after it.
        committed.map_err(E::from)?;
        let done = result?;
        forgotten.map_err(E::from)?;
        Ok(done)
    })
}

/// The connected parts of the plan's graph, each in an order in which inputs come first.
fn cones(plan: &Plan) -> Vec<Vec<NodeId>> {
    let mut sets = UnionFind::<usize>::new(plan.len());
    for node in plan.nodes() {
        for input in plan[node].inputs() {
            sets.union(node.index(), input.node.index());
        }
    }
    let mut number = HashMap::new();
    let mut cones: Vec<Vec<NodeId>> = Vec::new();
    // Node numbers follow the names of output tensors, so cones come in that order too.
    for node in plan.nodes() {
        number.entry(sets.find(node.index())).or_insert_with(|| {
            cones.push(Vec::new());
            cones.len() - 1
        });
    }
    for node in plan.nodes() {
        cones[number[&sets.find(node.index())]].push(node);
    }
    cones
}
