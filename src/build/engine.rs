//! A build from its first look-up to its last commit.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use rayon::prelude::*;

use super::bytes::Bytes;
use super::committer::{self, Committer, Delivered};
use super::context::{Context, Outcome, Resolved};
use super::error::BuildError;
use super::outside::{Outside, source_range};
use super::resolve::Resolution;
use super::shared::Shared;
use super::task::Task;
use super::warm::Warm;
use super::workers::{Remembered, resolve_all};
use crate::event::{Events, spanned};
use crate::identity::Identity;
use crate::plan::{Node, NodeId};
use crate::recipe::StageId;
use crate::store::blob::SealedBlob;
use crate::store::tier::ActionRow;
use crate::store::{Store, StoreError};

/// A build in progress.
pub struct Build<'a>(Shared<'a>);

impl<'a> Build<'a> {
    fn new(context: Context<'a>, committer: Committer) -> Result<Self, BuildError> {
        let plan = context.plan;
        Ok(Self(Shared {
            snapshot: context.store.index().snapshot()?,
            committer,
            resolved: plan.nodes().map(|_| OnceLock::new()).collect(),
            warm: Warm::new(plan.nodes().map(|node| plan.readers(node).count()).collect()),
            outside: Outside::default(),
            held: Mutex::new(HashMap::new()),
            executed: AtomicUsize::new(0),
            made_again: Mutex::new(HashSet::new()),
            context,
        }))
    }

    /// Resolves every node of the plan: finds its digest, running what the store does not know.
    pub fn resolve_all(&self) -> Result<(), BuildError> {
        let Shared { context, committer, .. } = &self.0;
        let resolve = || {
            let remembered = self.remembered()?;
            let digest = |node| Ok(remembered.get(&node).map(|(_, content)| content.digest));
            let resolution = Resolution::new(context.plan, Some(context.tiers), digest)?;
            Ok::<_, BuildError>((remembered, resolution))
        };
        let (remembered, resolution) =
            spanned(context.events, "look up", "", || context.threads.install(resolve))?;
        resolve_all(&self.0, remembered, resolution)?;
        // Whoever asks for bytes from here on finds them in the store.
        spanned(context.events, "wait for commits", "", || committer.flush())
    }

    /// What the store remembers of sources.
    fn remembered(&self) -> Result<Remembered, StoreError> {
        let Context { plan, checkpoints, .. } = self.0.context;
        let nodes: Vec<NodeId> = plan.nodes().collect();
        let look = |node: NodeId| {
            let Node::Source(source) = &plan[node] else { return Ok(None) };
            let range = source_range(&checkpoints[source.model.0], &source.tensor);
            Ok(self.0.remembered(&range)?.map(|content| (node, (range, content))))
        };
        nodes.into_par_iter().filter_map(|node| look(node).transpose()).collect()
    }

    /// The bytes of a resolved node, run again if the store has lost them.
    pub fn bytes(&self, node: NodeId) -> Result<Bytes, BuildError> {
        if let Some(bytes) = self.0.held.lock().expect("no thread panics with it").get(&node) {
            return Ok(bytes.clone());
        }
        if let Node::Source(source) = &self.0.context.plan[node]
            && self.0.is_local(source)
        {
            return Ok(self.0.source_bytes(source));
        }
        Task::new(&self.0, self.0.cost(node).wide, 0).bytes(node)
    }

    /// How a node was resolved.
    ///
    /// # Panics
    /// Before [`Self::resolve_all`] has succeeded.
    pub fn resolved(&self, node: NodeId) -> Resolved {
        self.0.resolved(node)
    }

    /// What became of a node: its outcome, but for results that had to be made again.
    pub fn outcome(&self, node: NodeId) -> Outcome {
        let made_again = self.0.made_again.lock().expect("no thread panics with it").contains(&node);
        if made_again { Outcome::Ran } else { self.resolved(node).outcome }
    }

    /// The number of actions run so far, those whose results the store had lost included.
    pub fn executed(&self) -> usize {
        self.0.executed.load(Ordering::Relaxed)
    }

    /// Where its results are kept.
    pub fn store(&self) -> &Store {
        self.0.context.store
    }

    /// The number of threads that share its work.
    pub fn threads(&self) -> usize {
        self.0.context.threads.current_num_threads()
    }

    /// Whoever listens to the build.
    pub fn events(&self) -> &dyn Events {
        self.0.context.events
    }

    /// The row of an action whose result was delivered to the sink. Nothing has been committed of it.
    pub fn delivered(&self, node: NodeId) -> Option<ActionRow> {
        self.0.committer.delivered().get(&node).map(|delivered| delivered.row)
    }

    /// Takes what was delivered into the store after all.
    pub fn rescue(&self, node: NodeId) -> Result<Option<SealedBlob>, BuildError> {
        let delivered = self.0.committer.delivered();
        let Some(Delivered { row, slice }) = delivered.get(&node) else { return Ok(None) };
        slice.rescue(row.digest, self.0.context.store)
    }

    /// Whether what a stage's output alone holds is to be kept when that is replaced.
    pub fn keeps_old(&self, target: StageId) -> bool {
        self.0.context.storing.why_not(target).is_none()
    }

    /// Whether a resolved node's bytes are a result of which the store notes where they are: no source holds them.
    pub fn is_kept_result(&self, node: NodeId) -> bool {
        let Shared { context, outside, .. } = &self.0;
        match &context.plan[node] {
            Node::Action(action) => {
                context.storing.notes(action.owner.stage)
                    && outside.source(&self.resolved(node).digest).is_none()
            }
            Node::Source(_) => false,
        }
    }

    /// Waits until everything that was made is committed, what had to be made again for an output included.
    ///
    /// # Errors
    /// If it could not be.
    pub fn settle(&self) -> Result<(), BuildError> {
        self.0.committer.flush()
    }

    /// # Errors
    /// If the build was asked to stop.
    pub fn check_interrupted(&self) -> Result<(), BuildError> {
        self.0.context.check_interrupted()
    }

    /// Files that were found to hold other bytes than the index remembers of them.
    fn suspects(&self) -> Vec<Identity> {
        let sources = self.0.context.checkpoints.iter().flat_map(|checkpoint| &checkpoint.shards);
        let suspects = sources.filter(|shard| shard.is_suspect()).map(|shard| shard.identity());
        suspects.chain(self.0.outside.suspects()).collect()
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
    let (waiting, events, interrupted) = (context.waiting(), context.events, context.interrupted);
    // Nothing computed from a source that changed meanwhile may be kept under the digest it had.
    let sources_unchanged = || {
        let mut shards = checkpoints.iter().flat_map(|checkpoint| &checkpoint.shards);
        shards.try_for_each(|shard| shard.check_unchanged()).map_err(BuildError::from)
    };
    std::thread::scope(|scope| {
        let (committer, workers) =
            Committer::start(scope, (store, tiers), waiting, &sources_unchanged, events);
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
            let _ = committer::give_back(&delivered, store, tiers, interrupted.load(Ordering::Relaxed));
        }
        // A failure to commit is the cause of what went wrong after it.
        committed.map_err(E::from)?;
        let done = result?;
        forgotten.map_err(E::from)?;
        Ok(done)
    })
}
