//! Tells, without running anything, what a build would do with every node of a plan.

use std::collections::HashMap;

use super::resolve::{Resolution, State};
use crate::digest::{ActionKey, Digest};
use crate::history::Past;
use crate::plan::{Node, NodeId, Plan};
use crate::recipe::Recipe;
use crate::store::StoreError;

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

/// Finds the verdict on every node, given the last build to compare with.
pub fn verdicts(
    plan: &Plan,
    recipe: &Recipe,
    resolution: &Resolution<'_>,
    last: Option<&Past<'_>>,
) -> Result<HashMap<NodeId, Verdict>, StoreError> {
    let verdict = |node: NodeId| -> Result<Verdict, StoreError> {
        Ok(match (resolution.state(node), &plan[node]) {
            (State::Known { digest, key }, _) => Verdict::Reuse { digest, key },
            (State::Missing { .. }, Node::Source(_)) => Verdict::Read,
            (State::Missing { .. }, Node::Action(_)) => Verdict::Run,
            (State::Unknown, node) => {
                let Node::Action(action) = node else { unreachable!("a source reads nothing") };
                let stage = &recipe.stage(action.owner.stage).name;
                let key = last.map(|last| last.key_of(stage, &action.owner.tensor)).transpose()?.flatten();
                if key.is_some() { Verdict::RunIfChanged } else { Verdict::Run }
            }
        })
    };
    plan.nodes().map(|node| Ok((node, verdict(node)?))).collect()
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
