//! The plan: from a recipe and the checkpoints' headers to a graph of per-tensor actions.
//!
//! A pure function: no I/O, no clock, no environment. Stages are shaped first (which tensors each has,
//! made of what), then lowered on demand from the targets, so that what nothing reaches is not in the
//! graph at all.

use std::collections::BTreeMap;

use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use serde_json::Value;

use crate::methods::{MethodSpec, Operation};
use crate::model::layout::Layout;
use crate::recipe::diagnostic::{Diagnostic, Span};
use crate::recipe::{Recipe, Reference, StageId};
use crate::reference::ModelRef;
use crate::tensor::{Dtype, TensorSpec};

mod config;
mod fp8;
mod inputs;
pub mod key;
mod lint;
mod lower;
mod order;
mod params;
mod shape;
mod tokenizer;

/// The number of a checkpoint in the list that the plan was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(pub usize);

/// A node of the action graph.
pub type NodeId = NodeIndex;

/// What is known of a checkpoint without reading a tensor.
#[derive(Clone, Debug)]
pub struct Inventory {
    pub tensors: BTreeMap<String, TensorSpec>,
    /// Tensors that the checkpoint stores in pieces, or under another name, with the pieces in order.
    pub joined: BTreeMap<String, Vec<String>>,
    /// The pieces as the checkpoint stores them.
    pub pieces: BTreeMap<String, TensorSpec>,
    pub layout: Layout,
    pub config: Value,
    /// Equal for models whose tokenizers have the same tokens at the same places.
    pub vocabulary: Option<String>,
    /// The model's chat template, if any stage asks for the most common one.
    pub chat_template: Option<String>,
}

/// A checkpoint that the recipe refers to.
#[derive(Clone, Debug)]
pub struct Model {
    pub reference: ModelRef,
    /// The commit of a model in a Hugging Face cache.
    pub commit: Option<String>,
    pub inventory: Inventory,
}

/// Everything that a build of the targets may have to do.
#[derive(Debug)]
pub struct Plan {
    /// An edge leads from what is read to what reads it, and holds the input's number.
    pub graph: DiGraph<Node, usize>,
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
    /// Replaces the tokenizer's own chat template.
    pub chat_template: Option<String>,
}

#[derive(Debug)]
pub enum Node {
    Source(Source),
    Action(Action),
}

/// A tensor of a checkpoint.
#[derive(Debug)]
pub struct Source {
    pub model: ModelId,
    pub tensor: String,
    pub spec: TensorSpec,
}

/// One method applied to one output tensor.
#[derive(Debug)]
pub struct Action {
    pub stage: StageId,
    pub tensor: String,
    pub task: Task,
    /// The result's dtype and shape.
    pub spec: TensorSpec,
    /// Where in the recipe its parameters came from.
    pub origins: Vec<Origin>,
}

/// The place in the recipe that gave a parameter its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub param: &'static str,
    /// The operation's input that it belongs to, unless it is shared.
    pub input: Option<usize>,
    pub span: Span,
}

#[derive(Debug)]
pub enum Task {
    /// Arithmetic on floating-point tensors.
    Compute {
        method: &'static MethodSpec,
        operation: Box<dyn Operation>,
        /// What inputs are rounded to before the arithmetic; `None` leaves them as stored.
        compute: Option<Dtype>,
        /// For each input of the operation, what it is in the recipe.
        inputs: Vec<InputLabel>,
    },
    /// A tensor that is not floating-point: all inputs must be equal, and the result is any of them.
    Identical { inputs: Vec<InputLabel> },
    /// Tensors of a checkpoint laid one behind the other, as newer layouts store them; never kept.
    Join { inputs: Vec<InputLabel> },
}

/// What an action's input is in the recipe, for messages only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputLabel {
    /// The reference as a person would name it.
    pub name: String,
    pub is_base: bool,
}

impl Node {
    pub fn spec(&self) -> &TensorSpec {
        match self {
            Self::Source(source) => &source.spec,
            Self::Action(action) => &action.spec,
        }
    }
}

impl Task {
    pub fn labels(&self) -> &[InputLabel] {
        match self {
            Self::Compute { inputs, .. } | Self::Identical { inputs } | Self::Join { inputs } => inputs,
        }
    }
}

impl Plan {
    /// The nodes that a node reads, in the order of its inputs.
    pub fn inputs(&self, node: NodeId) -> Vec<NodeId> {
        let mut inputs: Vec<(usize, NodeId)> = self
            .graph
            .edges_directed(node, petgraph::Direction::Incoming)
            .map(|edge| (*edge.weight(), edge.source()))
            .collect();
        inputs.sort_unstable();
        inputs.into_iter().map(|(_, node)| node).collect()
    }

    /// The nodes that give the targets' tensors.
    pub fn outputs(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.targets.iter().flat_map(|target| self.stage(*target).nodes.values().copied())
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
        self.graph.node_indices().filter_map(|id| match &self.graph[id] {
            Node::Action(action) => Some((id, action)),
            Node::Source(_) => None,
        })
    }
}

pub use order::needed;

/// Every stage, each behind those it reads.
pub fn stages_in_order(recipe: &Recipe) -> Vec<StageId> {
    needed(recipe, &order::final_stages(recipe))
}

/// The models that the targets (or, without any, all final stages) need, in the order of the recipe, each
/// with a place that names it.
pub fn models_needed(recipe: &Recipe, targets: &[StageId]) -> Vec<(ModelRef, Span)> {
    let targets = if targets.is_empty() { order::final_stages(recipe) } else { targets.to_vec() };
    let mut stages = order::needed(recipe, &targets);
    stages.sort_unstable();
    let mut models: Vec<(ModelRef, Span)> = Vec::new();
    for stage in stages.into_iter().map(|id| recipe.stage(id)) {
        let tokenizer = stage.tokenizer.as_ref().map_or(stage.span, |tokenizer| tokenizer.span);
        let named = stage.references().into_iter().map(|located| (&located.value, located.span));
        for (reference, span) in named.chain(stage.tokenizer_model().map(|reference| (reference, tokenizer)))
        {
            if let Reference::Model(model) = reference
                && models.iter().all(|(known, _)| known != model)
            {
                models.push((model.clone(), span));
            }
        }
    }
    models
}

/// Plans what it takes to have the targets, or every final stage if none is given.
///
/// Returns the plan unless there is an error among the findings.
pub fn plan(recipe: &Recipe, models: &[Model], targets: &[StageId]) -> (Option<Plan>, Vec<Diagnostic>) {
    let targets = if targets.is_empty() { order::final_stages(recipe) } else { targets.to_vec() };
    let order = order::needed(recipe, &targets);
    let mut findings = Vec::new();
    let shapes = shape::shape_all(recipe, models, &order, &mut findings);
    let plan = shapes.map(|shapes| {
        lint::check(recipe, &order, &shapes, &mut findings);
        lower::lower(recipe, models, &order, &targets, &shapes, &mut findings)
    });
    let has_error = findings.iter().any(Diagnostic::is_error);
    (plan.filter(|_| !has_error), findings)
}
