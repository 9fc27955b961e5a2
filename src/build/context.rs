//! What a build works with, and what becomes of a node.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::ThreadPool;

use super::error::BuildError;
use super::measured::Measured;
use super::sink::OutputSink;
use super::storing::Storing;
use crate::digest::{ActionKey, Digest};
use crate::event::Events;
use crate::model::checkpoint::Checkpoint;
use crate::plan::{Action, Model, ModelId, Plan};
use crate::recipe::Recipe;
use crate::store::Store;
use crate::store::tiered::Tiered;

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
    /// Which results are stored.
    pub storing: &'a Storing,
    /// Where final results go.
    pub sink: &'a dyn OutputSink,
    /// The most bytes of memory that the build may take for tensors.
    pub memory: u64,
    /// Whether sources are read even where the store remembers what they held.
    pub rehash: bool,
    /// Digests that source tensors must have; empty to take them as they are.
    pub locked: HashMap<(ModelId, &'a str), Option<Digest>>,
    /// The threads that share the work on a large tensor; as many small ones are worked on at a time.
    pub threads: &'a ThreadPool,
    /// Where it is noted how long things took.
    pub measured: &'a Measured,
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
pub struct Resolved {
    pub digest: Digest,
    /// `None` for sources.
    pub key: Option<ActionKey>,
    pub outcome: Outcome,
}

impl Context<'_> {
    /// As much as keeps a disk busy, however much memory there is. A longer queue takes more memory, which the kernel
    /// clears first, at the cost of copying as much.
    const MOST_WAITING: u64 = 64 << 20;

    /// # Errors
    /// If the build was asked to stop.
    pub fn check_interrupted(&self) -> Result<(), BuildError> {
        if self.interrupted.load(Ordering::Relaxed) { Err(BuildError::Interrupted) } else { Ok(()) }
    }

    /// The bytes that tensors may take in memory while they are worked on, and until the last that reads them has
    /// run. The rest is for what waits to be written, for the buffers of threads, and for what the allocator holds
    /// back.
    pub fn budget(&self) -> u64 {
        const REST: u64 = 1 << 30;
        (self.memory / 2).max(self.memory.saturating_sub(REST))
    }

    /// The bytes of results that may wait to be written. One more may come on top of them.
    pub fn waiting(&self) -> u64 {
        (self.memory / 4).min(Self::MOST_WAITING)
    }

    /// Results up to this size are made in memory if they are to be written, too; larger ones in the file that is to
    /// hold them.
    pub fn written_from_memory(&self) -> u64 {
        (self.memory / 16).min(Self::MOST_WAITING / 4)
    }

    /// What a node may take at most to be worked on by one thread, in memory: beside it others run, and what
    /// they all read and make stays for those that read it next.
    pub fn narrow(&self) -> u64 {
        const MOST: u64 = 64 << 20;
        (self.budget() / (4 * self.threads.current_num_threads() as u64)).min(MOST)
    }

    /// The name of an action's stage.
    pub fn stage_name(&self, action: &Action) -> &str {
        &self.recipe.stage(action.owner.stage).name
    }
}
