//! Tensors of two plans and how they differ: a plan of just what that takes.

use std::collections::HashMap;
use std::sync::Arc;

use super::catalog::ModelId;
use super::graph::{Action, Input, Node, NodeId, Owner, Plan};
use crate::op::{Difference, difference};
use crate::recipe::StageId;

/// What a plan is seen from: how its models and stages are counted among those of two.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offset {
    /// Models before its own.
    pub models: usize,
    /// Stages before its own.
    pub stages: usize,
}

/// A tensor of each plan.
#[derive(Clone, Debug)]
pub struct Pair {
    /// What it is called, by the first plan.
    pub tensor: String,
    /// The node of each plan that gives its bytes.
    pub nodes: [NodeId; 2],
}

/// A plan with parts of two others. It has no targets and no stages: its nodes are told as work of the others'.
#[derive(Debug)]
pub struct Compared {
    pub plan: Plan,
    /// Of each pair, its tensors' nodes.
    pub sides: Vec<[NodeId; 2]>,
    /// Of each pair, the node that gives the difference; `None` where there is none between such tensors.
    pub differences: Vec<Option<NodeId>>,
}

/// Takes what pairs of tensors are made of out of two plans, and adds their differences as work of a stage.
pub fn compare(plans: [(&Plan, Offset); 2], pairs: &[Pair], stage: StageId) -> Compared {
    let mut plan = Plan::new(&[], &[], (0, 0));
    let [first, second] = [0, 1].map(|side| {
        let (of, offset) = plans[side];
        let mut taken = HashMap::new();
        for node in of.reached(pairs.iter().map(|pair| pair.nodes[side])) {
            let copy = moved(&of[node], offset, &taken);
            taken.insert(node, plan.add(copy));
        }
        taken
    });
    let sides: Vec<[NodeId; 2]> =
        pairs.iter().map(|Pair { nodes: [a, b], .. }| [first[a], second[b]]).collect();
    let differences = pairs.iter().zip(&sides).map(|(Pair { tensor, .. }, [before, after])| {
        let input = |node: &NodeId, role| Input { node: *node, label: tensor.clone(), role };
        let inputs = vec![input(before, difference::BEFORE), input(after, difference::AFTER)];
        plan.act(Owner { stage, tensor: tensor.clone() }, Arc::new(Difference), inputs, Arc::default()).ok()
    });
    let differences = differences.collect();
    Compared { plan, sides, differences }
}

/// A node of another plan, whose inputs were taken before.
fn moved(node: &Node, offset: Offset, taken: &HashMap<NodeId, NodeId>) -> Node {
    match node {
        Node::Source(source) => {
            let mut source = source.clone();
            source.model = ModelId(source.model.0 + offset.models);
            Node::Source(source)
        }
        Node::Action(Action { owner, op, inputs, output, origins: _ }) => Node::Action(Action {
            owner: Owner { stage: StageId(owner.stage.0 + offset.stages), tensor: owner.tensor.clone() },
            op: Arc::clone(op),
            inputs: inputs.iter().map(|input| Input { node: taken[&input.node], ..input.clone() }).collect(),
            output: output.clone(),
            origins: Arc::default(),
        }),
    }
}
