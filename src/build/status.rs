//! Tells, without running anything, what a build would do with every node of a plan.

use std::collections::HashMap;
use std::sync::Arc;

use crate::digest::{ActionKey, Digest};
use crate::history::Record;
use crate::model::checkpoint::Checkpoint;
use crate::plan::{Node, NodeId, Plan, key};
use crate::recipe::Recipe;
use crate::store::StoreError;
use crate::store::index::Snapshot;
use crate::store::range::FileRange;

/// A build's verdict on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its digest is known: a source that was read before, or an action found in the store.
    Reuse { digest: Digest, key: Option<ActionKey> },
    /// A source that no build has read in its present state.
    Read,
    /// An action that the store does not know, or that the last build did not have.
    Run,
    /// An action of the last build that must run if something it reads comes out with other bytes.
    RunIfChanged,
}

/// The range of a file that holds a checkpoint's tensor.
///
/// # Panics
/// If the checkpoint has no such tensor.
pub fn source_range(checkpoint: &Checkpoint, tensor: &str) -> FileRange {
    let shard = checkpoint.shard_of(tensor).expect("the tensor is one of the checkpoint's");
    let entry = &shard.tensors[tensor];
    FileRange { identity: shard.identity, offset: entry.offset, n_bytes: entry.spec.n_bytes() as u64 }
}

/// Finds the verdict on every node, given the last build to compare with; `None` as snapshot stands for
/// a store that does not exist yet.
pub fn verdicts(
    plan: &Plan,
    recipe: &Recipe,
    checkpoints: &[Arc<Checkpoint>],
    snapshot: Option<&Snapshot<'_>>,
    last: Option<&Record>,
) -> Result<HashMap<NodeId, Verdict>, StoreError> {
    let mut verdicts = HashMap::new();
    for node in plan.nodes() {
        let verdict = match &plan[node] {
            Node::Source(source) => {
                let range = source_range(&checkpoints[source.model.0], &source.tensor);
                match snapshot.map(|snapshot| snapshot.remembered(&range)).transpose()?.flatten() {
                    Some(content) => Verdict::Reuse { digest: content.digest, key: None },
                    None => Verdict::Read,
                }
            }
            Node::Action(action) => {
                let digests: Option<Vec<Digest>> = action
                    .inputs
                    .iter()
                    .map(|input| match verdicts[&input.node] {
                        Verdict::Reuse { digest, .. } => Some(digest),
                        _ => None,
                    })
                    .collect();
                match digests.map(|digests| key::action_key(plan, node, &digests)) {
                    None => {
                        let stage = &recipe.stage(action.owner.stage).name;
                        let is_known =
                            last.is_some_and(|last| last.key_of(stage, &action.owner.tensor).is_some());
                        if is_known { Verdict::RunIfChanged } else { Verdict::Run }
                    }
                    Some(key) => {
                        match snapshot.map(|snapshot| snapshot.action(&key)).transpose()?.flatten() {
                            Some((digest, _)) => Verdict::Reuse { digest, key: Some(key) },
                            None => Verdict::Run,
                        }
                    }
                }
            }
        };
        verdicts.insert(node, verdict);
    }
    Ok(verdicts)
}

/// Marks what must run although its result is known: it is wanted, by an output or by something that runs, and
/// its bytes are kept nowhere any more. Gives the nodes that it marks.
///
/// # Errors
/// Those of `is_kept`, which is asked of results that are wanted.
pub fn mark_removed<E>(
    plan: &Plan,
    verdicts: &mut HashMap<NodeId, Verdict>,
    is_kept: impl Fn(NodeId, &Digest) -> Result<bool, E>,
) -> Result<Vec<NodeId>, E> {
    let mut removed = Vec::new();
    // Of everything that is wanted, whether it is for sure.
    let targets = plan.targets.iter().flat_map(|target| plan.stage(*target).nodes.values());
    let mut wanted: HashMap<NodeId, bool> = targets.map(|node| (*node, true)).collect();
    for node in plan.nodes().rev() {
        let for_sure = match verdicts[&node] {
            Verdict::Read => continue,
            Verdict::Run => true,
            Verdict::RunIfChanged => false,
            Verdict::Reuse { key: None, .. } => continue,
            Verdict::Reuse { digest, .. } => match wanted.get(&node) {
                Some(for_sure) if !is_kept(node, &digest)? => {
                    let verdict = if *for_sure { Verdict::Run } else { Verdict::RunIfChanged };
                    verdicts.insert(node, verdict);
                    removed.push(node);
                    *for_sure
                }
                _ => continue,
            },
        };
        for input in plan[node].inputs() {
            *wanted.entry(input.node).or_default() |= for_sure;
        }
    }
    Ok(removed)
}
