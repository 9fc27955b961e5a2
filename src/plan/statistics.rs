//! Statistics of a stage as more actions of a plan: one for every tensor that is merged.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::graph::{Input, Node, NodeId, Owner, Plan};
use crate::op::{Access, Conflicts, Role, Statistics, statistics};
use crate::recipe::StageId;

/// Adds the statistics of a stage's tensors, each of the merge that gives it, which may be another stage's. What is
/// compared with is that merge's base, or its first model where the method has no base. Tensors that are a
/// model's own have none.
pub fn add_statistics(plan: &mut Plan, stage: StageId) -> BTreeMap<String, NodeId> {
    let merges = merges(plan, stage);
    add_to(plan, merges)
}

/// The same, of the merges alone that are the stage's own work.
pub fn add_changes(plan: &mut Plan, stage: StageId) -> BTreeMap<String, NodeId> {
    let merges = own_merges(plan, stage);
    add_to(plan, merges)
}

fn add_to(plan: &mut Plan, merges: BTreeMap<String, NodeId>) -> BTreeMap<String, NodeId> {
    let added = merges.into_iter().filter_map(|(tensor, node)| {
        let statistics = add_change(plan, &tensor, node)?;
        Some((tensor, statistics))
    });
    added.collect()
}

fn add_change(plan: &mut Plan, tensor: &str, node: NodeId) -> Option<NodeId> {
    let action = plan.action(node);
    // What an adapter changes is compared with the tensor beneath it alone.
    let n_compared = match action.op.access() {
        Access::Streaming(_) => action.inputs.len(),
        Access::Beside(_) => 1,
        Access::Rows(_) | Access::Whole(_) | Access::Digests => return None,
    };
    let mut inputs = vec![Input { node, label: tensor.to_owned(), role: statistics::RESULT }];
    let base = action.inputs.iter().position(|input| input.role == Role::BASE).unwrap_or(0);
    inputs.push(Input { role: Role::BASE, ..action.inputs[base].clone() });
    let others = action.inputs[..n_compared].iter().enumerate().filter(|(i, _)| *i != base);
    inputs.extend(others.map(|(_, input)| input.clone()));
    let op = Arc::new(Statistics { models: inputs.len() - 2 });
    let owner = Owner { stage: action.owner.stage, tensor: format!("{tensor}: statistics") };
    // Inputs of a merge have one shape and are floating-point.
    plan.act(owner, op, inputs, Arc::default()).ok()
}

/// Adds, for every tensor that a stage merges from task vectors of two models or more, where these are at odds.
pub fn add_conflicts(plan: &mut Plan, stage: StageId) -> BTreeMap<String, NodeId> {
    let mut added = BTreeMap::new();
    for (tensor, node) in own_merges(plan, stage) {
        let inputs = plan.action(node).inputs.clone();
        let is_based = inputs.first().is_some_and(|input| input.role == Role::BASE);
        if !is_based || inputs.len() < 3 {
            continue;
        }
        let owner = Owner { stage, tensor: format!("{tensor}: conflicts") };
        if let Ok(conflicts) = plan.act(owner, Arc::new(Conflicts), inputs, Arc::default()) {
            added.insert(tensor, conflicts);
        }
    }
    added
}

/// Adds, for every tensor of a stage, how much of what became of it goes back to each model that the recipe began
/// with. What is compared with is the model that the stage's base goes back to, or its first input where a method
/// has no base.
pub fn add_ancestry(plan: &mut Plan, stage: StageId) -> BTreeMap<String, NodeId> {
    let mut added = BTreeMap::new();
    for (tensor, node) in merges(plan, stage) {
        let base = root(plan, node);
        let shape = &plan[node].spec().shape;
        let is_like = |of: &NodeId| matches!(plan[*of], Node::Source(_)) && plan[*of].spec().shape == *shape;
        let sources: Vec<NodeId> = plan.reached([node].into_iter()).into_iter().filter(is_like).collect();
        if !sources.contains(&base) || sources.len() < 2 {
            continue;
        }
        let label = |node: &NodeId| match &plan[*node] {
            Node::Source(source) => source.model.0.to_string(),
            Node::Action(_) => unreachable!("sources are no actions"),
        };
        let mut inputs = vec![Input { node, label: tensor.clone(), role: statistics::RESULT }];
        inputs.push(Input { node: base, label: label(&base), role: Role::BASE });
        let others = sources.iter().filter(|source| **source != base);
        inputs.extend(others.map(|source| Input { node: *source, label: label(source), role: Role::MODEL }));
        let op = Arc::new(Statistics { models: inputs.len() - 2 });
        let owner = Owner { stage, tensor: format!("{tensor}: ancestry") };
        if let Ok(ancestry) = plan.act(owner, op, inputs, Arc::default()) {
            added.insert(tensor, ancestry);
        }
    }
    added
}

/// What a node's base goes back to.
fn root(plan: &Plan, node: NodeId) -> NodeId {
    let inputs = plan[node].inputs();
    match inputs.iter().find(|input| input.role == Role::BASE).or(inputs.first()) {
        Some(input) => root(plan, input.node),
        None => node,
    }
}

/// The actions that give a stage's tensors. A tensor that is written in pieces is told of as a whole, once.
fn merges(plan: &Plan, stage: StageId) -> BTreeMap<String, NodeId> {
    let nodes = plan.stage(stage).nodes.iter().map(|(tensor, node)| of_pieces(plan, tensor.clone(), *node));
    nodes.filter(|(_, node)| matches!(plan[*node], Node::Action(_))).collect()
}

/// Those among them that are the stage's own work.
fn own_merges(plan: &Plan, stage: StageId) -> BTreeMap<String, NodeId> {
    let mut merges = merges(plan, stage);
    merges.retain(|_, node| plan.action(*node).owner.stage == stage);
    merges
}

/// The merged tensor, with its name, that a tensor is rows of and nothing else.
fn of_pieces(plan: &Plan, tensor: String, node: NodeId) -> (String, NodeId) {
    let Node::Action(action) = &plan[node] else { return (tensor, node) };
    match (action.op.access(), action.inputs.as_slice()) {
        (Access::Rows(_), [input]) if let Node::Action(beneath) = &plan[input.node] => {
            of_pieces(plan, beneath.owner.tensor.clone(), input.node)
        }
        _ => (tensor, node),
    }
}
