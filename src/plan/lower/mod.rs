//! Lowers output tensors to actions, on demand from the targets.
//!
//! Every method first simplifies its arguments to the least work that gives the same bytes; what it then
//! does not read is never lowered.

mod adapter;
mod pieces;
mod remap;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::arguments::{Resolved, Site};
use super::catalog::{Inventory, Model, ModelId, model_id};
use super::fp8;
use super::graph::{Input, Node, NodeId, Origin, Owner, Plan, Source, StagePlan};
use super::stage_shape::{Part, Shapes, StageShape, keeps_bytes};
use crate::methods::{Arguments, Operation, Simplified};
use crate::model::view::View;
use crate::op::{Convert, Identical, Merge, Op, Role};
use crate::recipe::{Finding, Recipe, Reference, Span, StageId};
use crate::tensor::{Dtype, TensorSpec};

/// Lowers everything the targets need. Errors are added to the findings; the plan is then incomplete.
pub fn lower(
    recipe: &Recipe,
    models: &[Model],
    order: &[StageId],
    targets: &[StageId],
    shapes: Shapes<'_>,
    findings: &mut Vec<Finding>,
) -> Plan {
    let room = |n_tensors: usize| HashMap::with_capacity(n_tensors);
    let mut lowering = Lowering {
        recipe,
        models,
        shapes: &shapes,
        plan: Plan::new(targets, order, expected(models, &shapes)),
        sources: models.iter().map(|model| room(model.inventory.tensors.len())).collect(),
        views: vec![HashMap::new(); models.len()],
        adapted: HashMap::new(),
        outputs: (shapes.stages.iter())
            .map(|shape| room(shape.as_ref().map_or(0, |shape| shape.outputs.len())))
            .collect(),
        remapped: HashMap::new(),
        pieces: HashMap::new(),
        stored: HashMap::new(),
        rows: HashMap::new(),
        by_piece: HashMap::new(),
        origins: vec![Arc::default(); recipe.stages.len()],
        findings,
    };
    let written: Vec<Written> = targets.iter().map(|target| lowering.written(*target)).collect();
    let Lowering { mut plan, outputs, .. } = lowering;
    let nodes = outputs.into_iter().map(|outputs| {
        outputs.into_iter().map(|(name, node)| (name.to_owned(), node)).collect::<BTreeMap<_, _>>()
    });
    let nodes: Vec<_> = nodes.collect();
    let stages = shapes.stages.into_iter().zip(nodes);
    plan.stages = stages.map(|(shape, nodes)| Some(stage_plan(shape?, nodes, models))).collect();
    for (target, Written { tensors, nodes }) in targets.iter().zip(written) {
        let stage = plan.stages[target.0].as_mut().expect("targets are shaped");
        (stage.tensors, stage.nodes) = (tensors, nodes);
    }
    plan
}

/// About how many nodes there will be if all tensors are needed, and how many inputs they have together.
fn expected(models: &[Model], shapes: &Shapes<'_>) -> (usize, usize) {
    let outputs = || shapes.stages.iter().flatten().flat_map(|shape| shape.outputs.values());
    let n_sources: usize = models.iter().map(|model| model.inventory.tensors.len()).sum();
    (n_sources + outputs().count(), outputs().map(|output| output.parts.len()).sum())
}

fn stage_plan(shape: StageShape<'_>, nodes: BTreeMap<String, NodeId>, models: &[Model]) -> StagePlan {
    let of_donor = &models[shape.donor.0].inventory.generation;
    let Inventory { tensors, config, generation, .. } = shape.inventory;
    StagePlan {
        tensors,
        nodes,
        config,
        tokenizer: shape.tokenizer,
        donor: shape.donor,
        tokens: shape.remade,
        rows: shape.rows,
        generation: generation.filter(|config| Some(config) != of_donor.as_ref()),
        chat_template: shape.chat_template,
    }
}

/// What a target's files hold.
struct Written {
    tensors: BTreeMap<String, TensorSpec>,
    nodes: BTreeMap<String, NodeId>,
}

struct Lowering<'a> {
    recipe: &'a Recipe,
    models: &'a [Model],
    shapes: &'a Shapes<'a>,
    plan: Plan,
    /// Tensors of checkpoints as they are stored, by the model's number and the name there.
    sources: Vec<HashMap<&'a str, NodeId>>,
    /// Those that are made of what is stored, by the model's number and the name that recipes know them by.
    views: Vec<HashMap<String, NodeId>>,
    /// Tensors that an adapter changes, by what they are rounded to.
    adapted: HashMap<(&'a Reference, String, Dtype), NodeId>,
    /// Tensors of stages that were lowered, by the stage's number.
    outputs: Vec<HashMap<&'a str, NodeId>>,
    /// Rows that were gathered, and what they are made of, by what they are called among a stage's work.
    remapped: HashMap<(StageId, String), NodeId>,
    /// Pieces of stages' tensors, by their numbers.
    pieces: HashMap<(StageId, String, usize), NodeId>,
    /// What the pieces of stages' tensors are called.
    stored: HashMap<(StageId, String), Vec<String>>,
    /// Pieces of other tensors that are rows of the whole.
    rows: HashMap<(NodeId, usize), NodeId>,
    /// Nodes seen as pieces of one shape, by the node.
    by_piece: HashMap<NodeId, NodeId>,
    /// Where values came from for the last action of each stage.
    origins: Vec<Arc<[Origin]>>,
    findings: &'a mut Vec<Finding>,
}

impl<'a> Lowering<'a> {
    fn output(&mut self, stage: StageId, name: &str) -> NodeId {
        if let Some(node) = self.outputs[stage.0].get(name) {
            return *node;
        }
        let site = self.site(stage, name);
        let node = self.lower(&site);
        self.outputs[stage.0].insert(site.name, node);
        node
    }

    fn site(&self, stage: StageId, name: &str) -> Site<'a> {
        let shapes = self.shapes;
        let shape = shapes[stage.0].as_ref().expect("stages are shaped before they are lowered");
        let (name, output) =
            shape.outputs.get_key_value(name).expect("only tensors of the shape are asked for");
        let segment = &shape.segments[output.segment];
        Site { recipe: self.recipe, id: stage, name, output, segment }
    }

    fn lower(&mut self, site: &Site<'a>) -> NodeId {
        let parts = &site.output.parts;
        if site.output.copied {
            return self.copy(site, &parts[0]);
        }
        if !site.output.spec.dtype.is_float() {
            return self.identical(site);
        }
        let Resolved { arguments, origins } = match site.arguments() {
            Ok(found) => found,
            Err(error) => return self.give_up(site, error),
        };
        let stage = site.stage();
        match stage.method.simplify(&arguments) {
            Ok(Simplified::Input(number)) => self.copy(site, &parts[number]),
            Ok(Simplified::Operation { operation, inputs }) => {
                let op = merge(site, operation);
                let (read, origins) = (read(&arguments, &inputs, parts), counted(&origins, &inputs));
                self.action(site, Arc::new(op), read, origins)
            }
            Err(error) => self.give_up(site, site.refused(&error)),
        }
    }

    /// Notes an error. Something stands for the tensor, so that more errors can be found.
    fn give_up(&mut self, site: &Site<'a>, error: Finding) -> NodeId {
        self.report(error);
        self.part(site, &site.output.parts[0])
    }

    /// The output is a part's tensor; an action is needed only where the dtype changes.
    fn copy(&mut self, site: &Site<'a>, part: &'a Part) -> NodeId {
        let compute = site.stage().dtype.as_ref().map(|dtype| dtype.value);
        let dtype = site.output.spec.dtype;
        if !part.spec.dtype.is_float() || keeps_bytes(part.spec.dtype, compute, dtype) {
            return self.part(site, part);
        }
        self.action(site, Arc::new(Convert { compute, dtype }), vec![(part, Role::MODEL)], Vec::new())
    }

    fn identical(&mut self, site: &Site<'a>) -> NodeId {
        let parts: Vec<(&'a Part, Role)> = site.output.parts.iter().map(|part| (part, Role::MODEL)).collect();
        let nodes: Vec<NodeId> = parts.iter().map(|(part, _)| self.part(site, part)).collect();
        if nodes.iter().all(|node| *node == nodes[0]) {
            return nodes[0];
        }
        self.action(site, Arc::new(Identical), parts, Vec::new())
    }

    fn action(
        &mut self,
        site: &Site<'a>,
        op: Arc<dyn Op>,
        parts: Vec<(&'a Part, Role)>,
        origins: Vec<Origin>,
    ) -> NodeId {
        let result = &site.output.spec;
        if result.dtype.is_eight_bits() {
            let what = format!("stage `{}`: tensor `{}`", site.stage().name, site.name);
            return self.give_up(site, fp8::unwritable(result, &what, site.stage().span));
        }
        let input = |(part, role): (&'a Part, Role)| Input {
            node: self.part(site, part),
            label: site.label(part).to_owned(),
            role,
        };
        let inputs = parts.into_iter().map(input).collect();
        let owner = Owner { stage: site.id, tensor: site.name.to_owned() };
        let origins = self.shared(site.id, origins);
        match self.plan.act(owner, op, inputs, origins) {
            Ok(node) => node,
            Err(problem) => {
                let stage = site.stage();
                let message = format!("stage `{}`, tensor `{}` {problem}", stage.name, site.name);
                self.give_up(site, Finding::error("inputs", stage.span, message))
            }
        }
    }

    /// The node of an input's tensor, its rows where the output has them.
    fn part(&mut self, site: &Site<'a>, part: &'a Part) -> NodeId {
        let alignment = site.output.alignment.as_ref();
        let number = site.output.parts.iter().position(|other| other.source == part.source);
        match alignment.zip(number) {
            Some((alignment, number)) => self.remapped(site, alignment, number),
            None => self.tensor(site, site.segment.sources[part.source].reference, &part.tensor, &part.spec),
        }
    }

    /// The node of a tensor of a model or stage; `spec` is what it reads as.
    fn tensor(
        &mut self,
        site: &Site<'a>,
        reference: &'a Reference,
        tensor: &'a str,
        spec: &TensorSpec,
    ) -> NodeId {
        match reference {
            Reference::Stage(stage) => self.output(*stage, tensor),
            Reference::Model(name) => self.of_model(site.id, model_id(self.models, name), tensor, spec),
            Reference::Adapted(adapted) => {
                let shapes = self.shapes;
                match shapes.adapted[reference].changes.get(tensor) {
                    None => self.tensor(site, &adapted.of, tensor, spec),
                    Some(changed) => {
                        self.changed(site, (reference, adapted), (tensor, &changed.change), spec)
                    }
                }
            }
        }
    }

    /// The node of a tensor of a model or an adapter.
    fn of_model(&mut self, stage: StageId, model: ModelId, tensor: &'a str, spec: &TensorSpec) -> NodeId {
        let models = self.models;
        match models[model.0].inventory.views.get(tensor) {
            None => self.source(model, tensor, spec),
            Some(view) => self.view(stage, model, tensor, spec, view),
        }
    }

    fn source(&mut self, model: ModelId, tensor: &'a str, spec: &TensorSpec) -> NodeId {
        if let Some(node) = self.sources[model.0].get(tensor) {
            return *node;
        }
        let source = Source { model, tensor: tensor.to_owned(), spec: spec.clone() };
        let node = self.plan.add(Node::Source(source));
        self.sources[model.0].insert(tensor, node);
        node
    }

    /// A tensor that its checkpoint does not store as it is, told as work of the first stage that reads it.
    fn view(
        &mut self,
        stage: StageId,
        model: ModelId,
        tensor: &str,
        spec: &TensorSpec,
        view: &'a View,
    ) -> NodeId {
        let (op, inputs) = match view {
            View::Stored(name) => return self.source(model, name, spec),
            View::Made { op, inputs } => (op, inputs),
        };
        if let Some(node) = self.views[model.0].get(tensor) {
            return *node;
        }
        let models = self.models;
        let name = &models[model.0].reference.path;
        let read = inputs
            .iter()
            .enumerate()
            .map(|(i, (role, input))| {
                let node = self.view(stage, model, &part_name(tensor, i), &input.spec, &input.view);
                Input { node, label: name.clone(), role: *role }
            })
            .collect();
        let owner = Owner { stage, tensor: format!("{tensor} of {name}") };
        let node = self
            .plan
            .act(owner, Arc::clone(op), read, Arc::default())
            .unwrap_or_else(|problem| panic!("the view of `{tensor}` {problem}"));
        self.views[model.0].insert(tensor.to_owned(), node);
        node
    }

    /// Where values came from: mostly the same for all actions of a stage, which then share it.
    fn shared(&mut self, stage: StageId, origins: Vec<Origin>) -> Arc<[Origin]> {
        let last = &mut self.origins[stage.0];
        if **last != *origins {
            *last = origins.into();
        }
        Arc::clone(last)
    }

    /// Adds an error unless the same place already has one of the kind: one message is enough for the
    /// hundreds of tensors that a setting governs.
    fn report(&mut self, finding: Finding) {
        let known = |other: &Finding| other.code == finding.code && other.span == finding.span;
        if !self.findings.iter().any(known) {
            self.findings.push(finding);
        }
    }
}

/// A method's arithmetic for one output tensor.
fn merge(site: &Site<'_>, operation: Box<dyn Operation>) -> Merge {
    let stage = site.stage();
    let compute = stage.dtype.as_ref().map(|dtype| dtype.value);
    Merge { method: stage.method.spec(), operation, compute, dtype: site.output.spec.dtype }
}

/// The parts that an operation reads, in the order in which it counts them.
fn read<'a>(arguments: &Arguments, inputs: &[usize], parts: &'a [Part]) -> Vec<(&'a Part, Role)> {
    let role = |number: usize| if arguments.inputs[number].is_base { Role::BASE } else { Role::MODEL };
    inputs.iter().map(|number| (&parts[*number], role(*number))).collect()
}

/// Origins of values, which count inputs as the operation does.
fn counted(origins: &[(&'static str, Option<usize>, Span)], inputs: &[usize]) -> Vec<Origin> {
    let origin = |(param, input, span): &(&'static str, Option<usize>, Span)| {
        let input = match input {
            None => None,
            Some(input) => Some(inputs.iter().position(|number| number == input)?),
        };
        Some(Origin { param, input, span: *span })
    };
    origins.iter().filter_map(origin).collect()
}

/// What a part of a tensor is called that its checkpoint does not store as it is.
fn part_name(tensor: &str, number: usize) -> String {
    format!("{tensor}[{number}]")
}
