//! What all threads of a build share.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock};

use super::bytes::{Bytes, FilePart};
use super::committer::Committer;
use super::context::{Context, Resolved};
use super::outside::Outside;
use super::schedule::Cost;
use super::warm::Warm;
use crate::digest::Digest;
use crate::kernels::mask;
use crate::model::ModelError;
use crate::op::{Access, Streaming};
use crate::plan::{Input, Node, NodeId, Source};
use crate::store::StoreError;
use crate::store::range::{FileRange, RangeContent};
use crate::store::snapshot::Snapshot;

pub struct Shared<'a> {
    pub context: Context<'a>,
    pub snapshot: Snapshot<'a>,
    pub committer: Committer,
    /// By node number.
    pub resolved: Vec<OnceLock<Resolved>>,
    pub warm: Warm,
    pub outside: Outside,
    /// Results of targets that the recipe keeps out of the store, until they are written out.
    pub held: Mutex<HashMap<NodeId, Bytes>>,
    /// Actions run so far, those whose results the store had lost included.
    pub executed: AtomicUsize,
    /// The actions among them whose results were known, but wanted and kept nowhere any more.
    pub made_again: Mutex<HashSet<NodeId>>,
}

impl Shared<'_> {
    /// How a node was resolved.
    ///
    /// # Panics
    /// If it was not.
    pub fn resolved(&self, node: NodeId) -> Resolved {
        *self.resolved[node.index()].get().expect("the node is resolved")
    }

    pub fn set_resolved(&self, node: NodeId, resolved: Resolved) {
        self.resolved[node.index()].set(resolved).expect("a node is resolved once");
    }

    /// The digests of what a node reads, all of which is resolved.
    pub fn inputs(&self, node: NodeId) -> Vec<Digest> {
        self.context.plan[node].inputs().iter().map(|input| self.resolved(input.node).digest).collect()
    }

    /// Whether some target's output holds a node's bytes.
    pub fn is_output(&self, node: NodeId) -> bool {
        self.context.plan.outputs().any(|output| output == node)
    }

    /// What a node takes to be worked on.
    pub fn cost(&self, node: NodeId) -> Cost {
        let n_bytes = |node: NodeId| {
            let plan = self.context.plan;
            let read: usize = plan[node].inputs().iter().map(|input| plan[input.node].spec().n_bytes()).sum();
            (read + plan[node].spec().n_bytes()) as u64
        };
        let readers = self.context.plan.readers(node).map(n_bytes);
        let largest = readers.chain([n_bytes(node)]).max().unwrap_or(0);
        let wide = largest > self.context.narrow();
        // What a wide node reads and makes is in memory only where there is room for it beside what is kept.
        let must_hold = if wide && !self.is_whole(node) { 0 } else { n_bytes(node) };
        Cost { n_bytes: must_hold + self.beside(node), wide }
    }

    /// Whether a node's arithmetic takes all that it reads at once.
    fn is_whole(&self, node: NodeId) -> bool {
        match &self.context.plan[node] {
            Node::Action(action) => matches!(action.op.access(), Access::Whole(_)),
            Node::Source(_) => false,
        }
    }

    /// Whether rows of a node become parts of others, which hold all of it as long as they are there themselves.
    pub fn is_gathered_from(&self, node: NodeId) -> bool {
        let plan = self.context.plan;
        plan.readers(node).any(|reader| match &plan[reader] {
            Node::Action(action) => matches!(action.op.access(), Access::Rows(_)),
            Node::Source(_) => false,
        })
    }

    /// What arithmetic holds beside inputs and result: inputs that it is made from, and masks.
    fn beside(&self, node: NodeId) -> u64 {
        let plan = self.context.plan;
        let Node::Action(action) = &plan[node] else { return 0 };
        let n_elements = |input: &Input| plan[input.node].spec().shape.elements();
        let n_bytes: usize = match action.op.access() {
            Access::Beside(_) => {
                action.inputs.iter().skip(1).map(|input| n_elements(input) * size_of::<f32>()).sum()
            }
            Access::Streaming(Streaming { operation, .. }) => {
                operation.masks().len() * mask::n_bytes(1, action.output.shape.elements())
            }
            _ => 0,
        };
        n_bytes as u64
    }

    pub fn source_bytes(&self, source: &Source) -> Bytes {
        let shard = self.context.checkpoints[source.model.0].shard_of(&source.tensor);
        Bytes::source(Arc::clone(shard.expect("the plan was made from these checkpoints")), &source.tensor)
    }

    /// A source's bytes, brought to this machine if they are elsewhere.
    pub fn bring(&self, source: &Source) -> Result<Bytes, ModelError> {
        let bytes = self.source_bytes(source);
        let Bytes::Source { shard, offset, n_bytes } = &bytes else { return Ok(bytes) };
        let Some(file) = shard.bring(*offset, *n_bytes as u64)? else { return Ok(bytes) };
        let (path, n_bytes) = (shard.path().to_owned(), *n_bytes);
        Ok(Bytes::File(Arc::new(FilePart { path, file, offset: 0, n_bytes, is_own: false })))
    }

    /// Whether a source is on this machine.
    pub fn is_local(&self, source: &Source) -> bool {
        self.context.checkpoints[source.model.0].shard_of(&source.tensor).is_none_or(|shard| shard.is_local())
    }

    /// Whether a digest's bytes are kept on this machine, by the store or in an output.
    pub fn is_kept(&self, digest: &Digest, n_bytes: u64) -> Result<bool, StoreError> {
        Ok(self.context.store.holds(digest, n_bytes)? || self.snapshot.external(digest)?.is_some())
    }

    /// What the store remembers of a source, unless it is to be read whatever that is.
    pub fn remembered(&self, range: &FileRange) -> Result<Option<RangeContent>, StoreError> {
        if self.context.rehash { Ok(None) } else { self.snapshot.remembered(range) }
    }
}
