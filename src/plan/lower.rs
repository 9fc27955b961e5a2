//! Lowers output tensors to actions, on demand from the targets.
//!
//! Every method first simplifies its arguments to the least work that gives the same bytes; what it then
//! does not read is never lowered.

use std::collections::{BTreeMap, HashMap};

use petgraph::graph::DiGraph;

use super::fp8;
use super::inputs::Segment;
use super::params::{Site, evaluate};
use super::shape::{OutputTensor, Part, Shapes, StageShape, inventory_of, keeps_bytes, model_id};
use super::{Action, InputLabel, Model, ModelId, Node, NodeId, Origin, Plan, Source, StagePlan, Task};
use crate::kernels::philox::Stream;
use crate::methods::{
    ArgumentError, Arguments, Default, InputArguments, ParamSpec, Scope, Simplified, Values, convert,
};
use crate::recipe::diagnostic::{Diagnostic, Span};
use crate::recipe::{Parameters, Recipe, Reference, StageId};
use crate::tensor::TensorSpec;

/// Lowers everything the targets need. Errors are added to the findings; the plan is then incomplete.
pub fn lower(
    recipe: &Recipe,
    models: &[Model],
    order: &[StageId],
    targets: &[StageId],
    shapes: &Shapes<'_>,
    findings: &mut Vec<Diagnostic>,
) -> Plan {
    let mut lowering = Lowering {
        recipe,
        models,
        shapes,
        graph: DiGraph::new(),
        sources: HashMap::new(),
        outputs: HashMap::new(),
        findings,
    };
    for target in targets {
        for name in shapes[target.0].as_ref().expect("targets are shaped").outputs.keys() {
            lowering.output(*target, name);
        }
    }
    let Lowering { graph, outputs, .. } = lowering;
    let mut stages: Vec<Option<StagePlan>> =
        shapes.iter().map(|shape| shape.as_ref().map(stage_plan)).collect();
    for ((stage, tensor), node) in outputs {
        stages[stage.0].as_mut().expect("only shaped stages are lowered").nodes.insert(tensor, node);
    }
    Plan { graph, stages, targets: targets.to_vec(), order: order.to_vec() }
}

fn stage_plan(shape: &StageShape<'_>) -> StagePlan {
    StagePlan {
        tensors: shape.inventory.tensors.clone(),
        nodes: BTreeMap::new(),
        config: shape.inventory.config.clone(),
        tokenizer: shape.tokenizer,
        donor: shape.donor,
        chat_template: shape.chat_template.clone(),
    }
}

struct Lowering<'a> {
    recipe: &'a Recipe,
    models: &'a [Model],
    shapes: &'a Shapes<'a>,
    graph: DiGraph<Node, usize>,
    /// Tensors of checkpoints, and those joined of several.
    sources: HashMap<(ModelId, String), NodeId>,
    outputs: HashMap<(StageId, String), NodeId>,
    findings: &'a mut Vec<Diagnostic>,
}

/// One output tensor with everything that bears on it.
struct Spot<'a> {
    stage: StageId,
    name: &'a str,
    output: &'a OutputTensor,
    segment: &'a Segment<'a>,
}

/// A method's arguments for one output tensor, and the part that each input is.
struct Resolved<'a> {
    arguments: Arguments,
    parts: Vec<&'a Part>,
    /// Inputs count as the arguments do.
    origins: Vec<Origin>,
}

impl<'a> Lowering<'a> {
    fn output(&mut self, stage: StageId, name: &str) -> NodeId {
        if let Some(node) = self.outputs.get(&(stage, name.to_owned())) {
            return *node;
        }
        let shapes = self.shapes;
        let shape = shapes[stage.0].as_ref().expect("stages are shaped before they are lowered");
        let (name, output) =
            shape.outputs.get_key_value(name).expect("only tensors of the shape are asked for");
        let site = Spot { stage, name, output, segment: &shape.segments[output.segment] };
        let node = self.lower(&site);
        self.outputs.insert((stage, name.clone()), node);
        node
    }

    fn lower(&mut self, site: &Spot<'a>) -> NodeId {
        let parts = &site.output.parts;
        if site.output.copied {
            return self.copy(site, &parts[0]);
        }
        if !site.output.spec.dtype.is_float() {
            return self.identical(site);
        }
        let Resolved { arguments, parts, origins } = match self.arguments(site) {
            Ok(found) => found,
            Err(error) => {
                self.report(error);
                return self.part(site, &parts[0]);
            }
        };
        let stage = self.recipe.stage(site.stage);
        match stage.method.simplify(&arguments) {
            Ok(Simplified::Input(number)) => self.copy(site, parts[number]),
            Ok(Simplified::Operation { operation, inputs }) => {
                let used: Vec<&Part> = inputs.iter().map(|number| parts[*number]).collect();
                let labels = inputs
                    .iter()
                    .zip(&used)
                    .map(|(number, part)| self.label(site, part, arguments.inputs[*number].is_base))
                    .collect();
                let task = Task::Compute {
                    method: stage.method.spec(),
                    operation,
                    compute: stage.dtype.as_ref().map(|dtype| dtype.value),
                    inputs: labels,
                };
                // Origins count inputs as the operation does.
                let origin = |origin: &Origin| match origin.input {
                    None => Some(*origin),
                    Some(input) => inputs
                        .iter()
                        .position(|number| *number == input)
                        .map(|number| Origin { input: Some(number), ..*origin }),
                };
                let origins = origins.iter().filter_map(origin).collect();
                self.action(site, task, &used, origins)
            }
            Err(error) => {
                let finding = self.refused(site, &parts, &error);
                self.report(finding);
                self.part(site, parts[0])
            }
        }
    }

    /// The output is a part's tensor; an action is needed only where the dtype changes.
    fn copy(&mut self, site: &Spot<'a>, part: &Part) -> NodeId {
        let compute = self.recipe.stage(site.stage).dtype.as_ref().map(|dtype| dtype.value);
        let is_float = part.spec.dtype.is_float();
        if !is_float || keeps_bytes(part.spec.dtype, compute, site.output.spec.dtype) {
            return self.part(site, part);
        }
        let labels = vec![self.label(site, part, false)];
        let task = Task::Compute {
            method: &convert::SPEC,
            operation: convert::operation(),
            compute,
            inputs: labels,
        };
        self.action(site, task, &[part], Vec::new())
    }

    fn identical(&mut self, site: &Spot<'a>) -> NodeId {
        let parts: Vec<&Part> = site.output.parts.iter().collect();
        let nodes: Vec<NodeId> = parts.iter().map(|part| self.part(site, part)).collect();
        if nodes.iter().all(|node| *node == nodes[0]) {
            return nodes[0];
        }
        let labels = parts.iter().map(|part| self.label(site, part, false)).collect();
        self.action(site, Task::Identical { inputs: labels }, &parts, Vec::new())
    }

    fn action(&mut self, site: &Spot<'a>, task: Task, parts: &[&Part], origins: Vec<Origin>) -> NodeId {
        if let Some(error) = self.eight_bits(site, parts) {
            self.report(error);
            return self.part(site, parts[0]);
        }
        let inputs: Vec<NodeId> = parts.iter().map(|part| self.part(site, part)).collect();
        let action = Action {
            stage: site.stage,
            tensor: site.name.to_owned(),
            task,
            spec: site.output.spec.clone(),
            origins,
        };
        let node = self.graph.add_node(Node::Action(action));
        for (number, input) in inputs.into_iter().enumerate() {
            self.graph.add_edge(input, node, number);
        }
        node
    }

    /// What forbids an action that reads or writes eight-bit floats.
    fn eight_bits(&self, site: &Spot<'a>, parts: &[&Part]) -> Option<Diagnostic> {
        let stage = self.recipe.stage(site.stage);
        let scaled = parts.iter().filter(|part| part.spec.dtype.is_eight_bits()).find_map(|part| {
            let source = &site.segment.sources[part.source];
            let inventory = inventory_of(self.models, self.shapes, source.reference);
            let model = self.recipe.name_of(source.reference);
            let what = format!("stage `{}`: tensor `{}` of {model}", stage.name, part.tensor);
            fp8::unreadable(inventory, &part.tensor, &what, source.span)
        });
        let result = &site.output.spec;
        let unwritable = || {
            let what = format!("stage `{}`: tensor `{}`", stage.name, site.name);
            fp8::unwritable(result, &what, stage.span)
        };
        scaled.or_else(|| result.dtype.is_eight_bits().then(unwritable))
    }

    /// The node of an input's tensor.
    fn part(&mut self, site: &Spot<'a>, part: &Part) -> NodeId {
        match site.segment.sources[part.source].reference {
            Reference::Stage(stage) => self.output(*stage, &part.tensor),
            Reference::Model(reference) => {
                let model = model_id(self.models, reference);
                match self.models[model.0].inventory.joined.get(&part.tensor) {
                    None => self.source(model, &part.tensor, &part.spec),
                    Some(pieces) => self.join(site.stage, model, part, pieces),
                }
            }
        }
    }

    fn source(&mut self, model: ModelId, tensor: &str, spec: &TensorSpec) -> NodeId {
        *self.sources.entry((model, tensor.to_owned())).or_insert_with(|| {
            self.graph.add_node(Node::Source(Source { model, tensor: tensor.to_owned(), spec: spec.clone() }))
        })
    }

    /// A tensor that its checkpoint stores in pieces, told as work of the first stage that reads it.
    fn join(&mut self, stage: StageId, model: ModelId, part: &Part, pieces: &[String]) -> NodeId {
        let key = (model, part.tensor.clone());
        if let Some(node) = self.sources.get(&key) {
            return *node;
        }
        let Model { reference, inventory, .. } = &self.models[model.0];
        let name = &reference.path;
        if let [only] = pieces {
            // The tensor has but another name.
            return self.source(model, only, &part.spec);
        }
        let labels = vec![InputLabel { name: name.clone(), is_base: false }; pieces.len()];
        let inputs: Vec<NodeId> =
            pieces.iter().map(|piece| self.source(model, piece, &inventory.pieces[piece])).collect();
        let action = Action {
            stage,
            tensor: format!("{} of {name}", part.tensor),
            task: Task::Join { inputs: labels },
            spec: part.spec.clone(),
            origins: Vec::new(),
        };
        let node = self.graph.add_node(Node::Action(action));
        for (number, input) in inputs.into_iter().enumerate() {
            self.graph.add_edge(input, node, number);
        }
        self.sources.insert(key, node);
        node
    }

    fn label(&self, site: &Spot<'a>, part: &Part, is_base: bool) -> InputLabel {
        let reference = site.segment.sources[part.source].reference;
        InputLabel { name: self.recipe.name_of(reference).to_owned(), is_base }
    }

    /// Resolves every parameter of the method.
    fn arguments(&self, site: &Spot<'a>) -> Result<Resolved<'a>, Diagnostic> {
        let stage = self.recipe.stage(site.stage);
        let spec = stage.method.spec();
        let mut shared = Values::new();
        let mut origins = Vec::new();
        for param in spec.params.iter().filter(|param| param.scope == Scope::Shared) {
            let at = Site { tensor: site.name, t: site.output.t };
            let span = resolve(&mut shared, param, &site.segment.levels, at)
                .map_err(|()| self.required(site, param, None))?;
            origins.extend(span.map(|span| Origin { param: param.name, input: None, span }));
        }
        let mut inputs = Vec::new();
        for (number, part) in site.output.parts.iter().enumerate() {
            let source = &site.segment.sources[part.source];
            let is_base = spec.base.is_relative() && site.segment.base == Some(source.reference);
            let levels: Vec<&Parameters> =
                source.parameters.iter().copied().chain(site.segment.levels.iter().copied()).collect();
            let mut values = Values::new();
            for param in spec.params {
                let wanted = match param.scope {
                    Scope::Shared => false,
                    Scope::EachInput => true,
                    Scope::EachModel => !is_base,
                };
                if wanted {
                    let at = Site { tensor: &part.tensor, t: site.output.t };
                    let span = resolve(&mut values, param, &levels, at)
                        .map_err(|()| self.required(site, param, Some(part)))?;
                    origins.extend(span.map(|span| Origin { param: param.name, input: Some(number), span }));
                }
            }
            let stream = Stream::derive(stage.seed, stage.stream_name(), part.source, site.name);
            inputs.push(InputArguments { is_base, stream, values });
        }
        let parts = site.output.parts.iter().collect();
        Ok(Resolved { arguments: Arguments { shared, inputs }, parts, origins })
    }

    fn required(&self, site: &Spot<'a>, param: &ParamSpec, part: Option<&Part>) -> Diagnostic {
        let stage = self.recipe.stage(site.stage);
        let of = part.map_or(String::new(), |part| {
            format!(" for {}", self.recipe.name_of(site.segment.sources[part.source].reference))
        });
        let message = format!(
            "stage `{}`: method `{}` needs a `{}`{of}, and nothing gives one to tensor `{}`",
            stage.name,
            stage.method.spec().name,
            param.name,
            site.name
        );
        let span = part.map_or(stage.span, |part| site.segment.sources[part.source].span);
        Diagnostic::error("missing-parameter", span, message)
    }

    fn refused(&self, site: &Spot<'a>, parts: &[&Part], error: &ArgumentError) -> Diagnostic {
        let stage = self.recipe.stage(site.stage);
        let part = error.input.map(|number| parts[number]);
        let model = part.map_or(String::new(), |part| {
            format!(" for {}", self.recipe.name_of(site.segment.sources[part.source].reference))
        });
        let span = self.origin(site, part, error.param).unwrap_or(stage.span);
        let message = format!("stage `{}`, tensor `{}`{model}: {}", stage.name, site.name, error.message);
        Diagnostic::error("parameter-value", span, message)
    }

    /// Where in the recipe a parameter's value came from.
    fn origin(&self, site: &Spot<'a>, part: Option<&Part>, param: &str) -> Option<Span> {
        let own = part.and_then(|part| site.segment.sources[part.source].parameters);
        let levels: Vec<&Parameters> = own.into_iter().chain(site.segment.levels.iter().copied()).collect();
        let tensor = part.map_or(site.name, |part| part.tensor.as_str());
        evaluate(param, &levels, Site { tensor, t: site.output.t }).map(|(_, span)| span)
    }

    /// Adds an error unless the same place already has one of the kind: one message is enough for the
    /// hundreds of tensors that a setting governs.
    fn report(&mut self, finding: Diagnostic) {
        let known = |other: &Diagnostic| other.code == finding.code && other.span == finding.span;
        if !self.findings.iter().any(known) {
            self.findings.push(finding);
        }
    }
}

/// Resolves one parameter. Returns the place that gave the value, unless it is the default.
fn resolve(
    values: &mut Values,
    param: &ParamSpec,
    levels: &[&Parameters],
    site: Site<'_>,
) -> Result<Option<Span>, ()> {
    match (evaluate(param.name, levels, site), param.default) {
        (Some((value, span)), _) => {
            values.insert(param.name, value);
            Ok(Some(span))
        }
        (None, Default::Is(value)) => {
            values.insert(param.name, value);
            Ok(None)
        }
        (None, Default::Absent) => Ok(None),
        (None, Default::Required) => Err(()),
    }
}
