//! Tells the disk what will be read soon, while something else is computed.

use std::collections::VecDeque;

use super::bytes::Bytes;
use super::resolve::{Resolution, State};
use super::shared::Shared;
use crate::disk;
use crate::plan::{Node, NodeId};
use crate::store::Cas;
use crate::store::blob::{InFile, Lookup};

/// What the disk was told of runs ahead of the node that is worked on by no more than so many bytes.
const AHEAD: u64 = 64 << 20;

/// How far the disk has been told what comes.
#[derive(Default)]
pub struct Prefetch {
    /// Nodes before this one have been looked at.
    next: usize,
    /// Those that the disk was told of and that were not reached yet, with their bytes.
    told: VecDeque<(usize, u64)>,
    ahead: u64,
}

impl Prefetch {
    /// The nodes of which the disk is to be told, now that this one is worked on.
    pub fn advance(&mut self, node: usize, resolution: &Resolution<'_>, shared: &Shared<'_>) -> Vec<NodeId> {
        while self.told.front().is_some_and(|(told, _)| *told <= node) {
            self.ahead -= self.told.pop_front().map_or(0, |(_, n_bytes)| n_bytes);
        }
        self.next = self.next.max(node + 1);
        let plan = shared.context.plan;
        let mut nodes = Vec::new();
        while self.next < plan.len() && self.ahead < AHEAD.min(shared.context.budget()) {
            let node = NodeId::new(self.next);
            if will_be_read(node, resolution, shared) {
                let n_bytes = plan[node].spec().n_bytes() as u64;
                self.told.push_back((self.next, n_bytes));
                self.ahead += n_bytes;
                nodes.push(node);
            }
            self.next += 1;
        }
        nodes
    }
}

/// Whether something reads a node's bytes from the disk, as far as is known.
fn will_be_read(node: NodeId, resolution: &Resolution<'_>, shared: &Shared<'_>) -> bool {
    let plan = shared.context.plan;
    match resolution.state(node) {
        State::Missing { .. } => matches!(plan[node], Node::Source(_)),
        State::Known { .. } => {
            plan.readers(node).any(|reader| matches!(resolution.state(reader), State::Missing { .. }))
        }
        State::Unknown => false,
    }
}

/// Has the disk begin to read a node's bytes. Where it cannot, reading them will say why.
pub fn tell(shared: &Shared<'_>, node: NodeId) {
    match &shared.context.plan[node] {
        Node::Source(source) => {
            // What is elsewhere is fetched by this, and not where something of the same bytes is here.
            let digest = shared.resolved[node.index()].get().map(|resolved| resolved.digest);
            let n_bytes = source.spec.n_bytes() as u64;
            let is_here = || digest.is_some_and(|digest| shared.is_kept(&digest, n_bytes).unwrap_or(true));
            if let Bytes::Source { shard, offset, n_bytes } = shared.source_bytes(source)
                && (shard.is_local() || !is_here())
            {
                shard.will_read(offset, n_bytes as u64);
            }
        }
        Node::Action(action) => {
            let digest = shared.resolved[node.index()].get().map(|resolved| resolved.digest);
            let n_bytes = action.output.n_bytes() as u64;
            let found = digest.map(|digest| Cas::open(shared.context.store, &digest, n_bytes));
            if let Some(Ok(Lookup::Found(InFile { file, offset, .. }))) = found {
                disk::will_read(&file, offset, n_bytes);
            }
        }
    }
}
