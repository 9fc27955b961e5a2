//! Statistics of a stage as more actions of a plan: one for every tensor that is merged.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::graph::{Input, Node, NodeId, Owner, Plan};
use crate::op::{Access, Role, Statistics, statistics};
use crate::recipe::StageId;

/// Adds the statistics of a stage's tensors, each of the merge that gives it, which may be another stage's. What is
/// compared with is that merge's base, or its first model where the method has no base. Tensors that are a
/// model's own have none.
pub fn add_statistics(plan: &mut Plan, stage: StageId) -> BTreeMap<String, NodeId> {
    let own: Vec<(String, NodeId)> =
        plan.stage(stage).nodes.iter().map(|(tensor, node)| (tensor.clone(), *node)).collect();
    let mut added = BTreeMap::new();
    for (tensor, node) in own {
        // A tensor that is written in pieces is told of as a whole, once.
        let (tensor, node) = of_pieces(plan, tensor, node);
        let Node::Action(action) = &plan[node] else { continue };
        if added.contains_key(&tensor) {
            continue;
        }
        // What an adapter changes is compared with the tensor beneath it alone.
        let n_compared = match action.op.access() {
            Access::Streaming(_) => action.inputs.len(),
            Access::Beside(_) => 1,
            Access::Rows(_) | Access::Whole(_) | Access::Digests => continue,
        };
        let mut inputs = vec![Input { node, label: tensor.clone(), role: statistics::RESULT }];
        let base = action.inputs.iter().position(|input| input.role == Role::BASE).unwrap_or(0);
        inputs.push(Input { role: Role::BASE, ..action.inputs[base].clone() });
        let others = action.inputs[..n_compared].iter().enumerate().filter(|(i, _)| *i != base);
        inputs.extend(others.map(|(_, input)| input.clone()));
        let op = Arc::new(Statistics { models: inputs.len() - 2 });
        let owner = Owner { stage: action.owner.stage, tensor: format!("{tensor}: statistics") };
        // Inputs of a merge have one shape and are floating-point.
        let Ok(statistics) = plan.act(owner, op, inputs, Vec::new()) else { continue };
        added.insert(tensor, statistics);
    }
    added
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
