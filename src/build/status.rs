//! Tells, without running anything, what a build would do with every node of a plan.

use std::ops::Index;

use rayon::prelude::*;

use super::resolve::{Resolution, State};
use crate::digest::Digest;
use crate::history::Past;
use crate::plan::{Node, NodeId, Plan};
use crate::recipe::Recipe;
use crate::store::StoreError;

/// A build's verdict on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its digest is known: a source that was read before, or an action found in the store.
    Reuse,
    /// A source that no build has read in its present state.
    Read,
    /// An action that the store does not know, or that the last build did not have.
    Run,
    /// An action of the last build that must run if something it reads comes out with other bytes.
    RunIfChanged,
}

/// The verdict on every node of a plan.
#[derive(Clone, Debug)]
pub struct Verdicts(Vec<Verdict>);

impl Index<NodeId> for Verdicts {
    type Output = Verdict;

    fn index(&self, node: NodeId) -> &Verdict {
        &self.0[node.index()]
    }
}

/// Finds the verdict on every node, given the last build to compare with.
pub fn verdicts(
    plan: &Plan,
    recipe: &Recipe,
    resolution: &Resolution<'_>,
    last: Option<&Past<'_>>,
) -> Result<Verdicts, StoreError> {
    let verdict = |node: NodeId| -> Result<Verdict, StoreError> {
        Ok(match (resolution.state(node), &plan[node]) {
            (State::Known { .. }, _) => Verdict::Reuse,
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
    Ok(Verdicts(plan.nodes().map(verdict).collect::<Result<_, _>>()?))
}

/// Marks what must run although its result is known: it is wanted, by an output or by something that runs, and
/// its bytes are kept nowhere any more. Gives the nodes that it marks.
///
/// # Errors
/// Those of `is_kept`, which is asked of results that are wanted, of many at once.
pub fn mark_removed<E: Send>(
    plan: &Plan,
    resolution: &Resolution<'_>,
    verdicts: &mut Verdicts,
    is_kept: impl Fn(NodeId, &Digest) -> Result<bool, E> + Sync,
) -> Result<Vec<NodeId>, E> {
    let mut kept = vec![None; plan.len()];
    loop {
        let Marked { unknown, removed, verdicts: marked } = mark(plan, resolution, verdicts, &kept);
        if unknown.is_empty() {
            *verdicts = marked;
            return Ok(removed);
        }
        let asked = unknown.into_par_iter().map(|(node, digest)| Ok((node, is_kept(node, &digest)?)));
        for (node, is_kept) in asked.collect::<Result<Vec<_>, E>>()? {
            kept[node.index()] = Some(is_kept);
        }
    }
}

/// What is marked by what is known of results so far.
struct Marked {
    verdicts: Verdicts,
    removed: Vec<NodeId>,
    /// Results that are wanted, and of which it is not known yet whether they are kept.
    unknown: Vec<(NodeId, Digest)>,
}

/// Marks what is not kept; of what is not known to be or not to be, the best is assumed.
fn mark(plan: &Plan, resolution: &Resolution<'_>, verdicts: &Verdicts, kept: &[Option<bool>]) -> Marked {
    let mut marked = Marked { verdicts: verdicts.clone(), removed: Vec::new(), unknown: Vec::new() };
    // Of everything that is wanted, whether it is for sure.
    let mut wanted: Vec<Option<bool>> = vec![None; plan.len()];
    plan.outputs().for_each(|node| wanted[node.index()] = Some(true));
    for node in plan.nodes().rev() {
        let for_sure = match (verdicts[node], wanted[node.index()]) {
            (Verdict::Run, _) => true,
            (Verdict::RunIfChanged, _) => false,
            (Verdict::Reuse, Some(for_sure)) => match (resolution.state(node), kept[node.index()]) {
                (State::Known { key: Some(_), .. }, Some(false)) => {
                    let verdict = if for_sure { Verdict::Run } else { Verdict::RunIfChanged };
                    marked.verdicts.0[node.index()] = verdict;
                    marked.removed.push(node);
                    for_sure
                }
                (State::Known { key: Some(_), digest }, None) => {
                    marked.unknown.push((node, digest));
                    continue;
                }
                // Sources are where they are.
                _ => continue,
            },
            (Verdict::Read | Verdict::Reuse, _) => continue,
        };
        for input in plan[node].inputs() {
            let wanted = &mut wanted[input.node.index()];
            *wanted = Some(wanted.unwrap_or(false) || for_sure);
        }
    }
    marked
}
