//! The action graph: what a build of the targets may have to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use petgraph::graph::{DiGraph, NodeIndex};
use serde_json::Value;

use super::catalog::ModelId;
use super::rows::RowCount;
use crate::model::tokenizer::Tokens;
use crate::op::{Op, Role};
use crate::recipe::{Span, StageId};
use crate::tensor::TensorSpec;

/// A node of the action graph. Whatever a node reads has a smaller number.
pub type NodeId = NodeIndex;

/// Everything that a build of the targets may have to do.
#[derive(Debug)]
pub struct Plan {
    /// An edge leads from what is read to what reads it.
    graph: DiGraph<Node, ()>,
    /// By stage number; `None` for stages that no target needs.
    pub stages: Vec<Option<StagePlan>>,
    pub targets: Vec<StageId>,
    /// Needed stages, each behind those it reads.
    pub order: Vec<StageId>,
}

/// One stage of a plan.
#[derive(Debug)]
pub struct StagePlan {
    /// Every tensor that the stage has, needed or not.
    pub tensors: BTreeMap<String, TensorSpec>,
    /// The tensors that a target needs, with the node that gives their bytes: an action of this stage,
    /// or whatever the tensor comes down to.
    pub nodes: BTreeMap<String, NodeId>,
    pub config: Value,
    /// Whose tokenizer files and generation_config.json the output gets.
    pub tokenizer: ModelId,
    pub donor: ModelId,
    /// The output's tokens, where the tokenizer's files must be rewritten for them.
    pub tokens: Option<Arc<Tokens>>,
    /// What becomes of the rows of embeddings and heads that are remapped, model by model.
    pub rows: BTreeMap<String, Vec<RowCount>>,
    /// Replaces the donor's generation_config.json, where ids in it are others now.
    pub generation: Option<Value>,
    /// Replaces the tokenizer's own chat template.
    pub chat_template: Option<String>,
}

#[derive(Debug)]
pub enum Node {
    Source(Source),
    Action(Action),
}

/// A tensor of a checkpoint.
#[derive(Clone, Debug)]
pub struct Source {
    pub model: ModelId,
    pub tensor: String,
    pub spec: TensorSpec,
}

/// One operation on inputs, which gives one result.
#[derive(Debug)]
pub struct Action {
    /// Whose work it is, for messages and records; no part of its key.
    pub owner: Owner,
    pub op: Arc<dyn Op>,
    /// What it reads, in the order in which the operation counts its inputs.
    pub inputs: Vec<Input>,
    /// The result's dtype and shape.
    pub output: TensorSpec,
    /// Where in the recipe its parameters came from.
    pub origins: Arc<[Origin]>,
}

/// The stage and the tensor that an action is counted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub stage: StageId,
    pub tensor: String,
}

/// An input of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    pub node: NodeId,
    /// The reference as a person would name it, for messages only.
    pub label: String,
    pub role: Role,
}

/// The place in the recipe that gave a parameter its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub param: &'static str,
    /// The operation's input that it belongs to, unless it is shared.
    pub input: Option<usize>,
    pub span: Span,
}

impl Node {
    /// The dtype and shape of its bytes.
    pub fn spec(&self) -> &TensorSpec {
        match self {
            Self::Source(source) => &source.spec,
            Self::Action(action) => &action.output,
        }
    }

    /// What it reads.
    pub fn inputs(&self) -> &[Input] {
        match self {
            Self::Source(_) => &[],
            Self::Action(action) => &action.inputs,
        }
    }
}

impl std::ops::Index<NodeId> for Plan {
    type Output = Node;

    fn index(&self, node: NodeId) -> &Node {
        &self.graph[node]
    }
}

impl Plan {
    /// A plan for targets, whose stages and nodes are yet to be added: so many nodes, it is expected, that read so much.
    pub(super) fn new(targets: &[StageId], order: &[StageId], (n_nodes, n_read): (usize, usize)) -> Self {
        let graph = DiGraph::with_capacity(n_nodes, n_read);
        Self { graph, stages: Vec::new(), targets: targets.to_vec(), order: order.to_vec() }
    }

    /// Adds a node; what it reads was added before.
    pub(super) fn add(&mut self, node: Node) -> NodeId {
        let id = self.graph.add_node(node);
        for number in 0..self[id].inputs().len() {
            let read = self[id].inputs()[number].node;
            self.graph.add_edge(read, id, ());
        }
        id
    }

    /// Adds an action; its operation says what the result is.
    ///
    /// # Errors
    /// Says what about the inputs the operation cannot work with.
    pub(super) fn act(
        &mut self,
        owner: Owner,
        op: Arc<dyn Op>,
        inputs: Vec<Input>,
        origins: Arc<[Origin]>,
    ) -> Result<NodeId, String> {
        let specs: Vec<&TensorSpec> = inputs.iter().map(|input| self[input.node].spec()).collect();
        let output = op.output(&specs)?;
        Ok(self.add(Node::Action(Action { owner, op, inputs, output, origins })))
    }

    pub fn len(&self) -> usize {
        self.graph.node_count()
    }

    pub fn is_empty(&self) -> bool {
        self.graph.node_count() == 0
    }

    /// Every node in the order of their numbers, in which inputs come first and the nodes of one output
    /// tensor stand together.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..self.graph.node_count()).map(NodeIndex::new)
    }

    /// The nodes that read a node; one that reads it twice comes twice.
    pub fn readers(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        self.graph.neighbors_directed(node, petgraph::Direction::Outgoing)
    }

    /// The nodes that give the targets' tensors; one that gives several comes as often.
    pub fn outputs(&self) -> impl Iterator<Item = NodeId> {
        self.targets.iter().flat_map(|target| self.stage(*target).nodes.values().copied())
    }

    /// The nodes from which others are made, themselves included, in the order of their numbers.
    pub fn reached(&self, from: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
        let mut is_reached = vec![false; self.len()];
        from.for_each(|node| is_reached[node.index()] = true);
        for node in self.nodes().rev() {
            if is_reached[node.index()] {
                self[node].inputs().iter().for_each(|input| is_reached[input.node.index()] = true);
            }
        }
        self.nodes().filter(|node| is_reached[node.index()]).collect()
    }

    /// A stage that is needed.
    ///
    /// # Panics
    /// If no target needs it.
    pub fn stage(&self, stage: StageId) -> &StagePlan {
        self.stages[stage.0].as_ref().expect("the stage is needed")
    }

    /// Every action with its number.
    pub fn actions(&self) -> impl Iterator<Item = (NodeId, &Action)> {
        self.nodes().filter_map(|id| match &self[id] {
            Node::Action(action) => Some((id, action)),
            Node::Source(_) => None,
        })
    }

    /// An action by its number.
    ///
    /// # Panics
    /// If the node is a source.
    pub fn action(&self, node: NodeId) -> &Action {
        match &self[node] {
            Node::Action(action) => action,
            Node::Source(source) => panic!("`{}` is a source", source.tensor),
        }
    }
}
