//! Shapes stages: looks up the parts of every output tensor, checks that they agree, and types the result.
//!
//! Nothing is decided here about values: what a tensor comes down to is `lower`'s.

use std::collections::{BTreeMap, HashMap};
use std::iter;

use super::adapted::AdaptedInventory;
use super::catalog::{Inventory, Model, model_id};
use super::rows::{Aligner, Alignment, Donor, RowCount};
use super::segments::{Segment, segments};
use super::slots::{Inputs, Slot};
use super::stage_shape::{OutputTensor, Part, Shapes, StageShape, inventory_of};
use super::token_plan::TokenPlan;
use super::vocabulary::{Choice, Chooser};
use super::{bare, config, layer_rules, token_ids};
use crate::methods::MissingRule;
use crate::model::adapter::in_short;
use crate::model::layout::{Layout, is_optional, is_vocabulary};
use crate::model::naming::Naming;
use crate::recipe::{Finding, Recipe, Reference, Stage, StageId};
use crate::tensor::TensorSpec;

/// Shapes all stages of `order`, each behind those it reads. `None` if any has an error.
pub fn shape_all<'r>(
    recipe: &'r Recipe,
    models: &'r [Model],
    order: &[StageId],
    findings: &mut Vec<Finding>,
) -> Option<Shapes<'r>> {
    let stages = recipe.stages.iter().map(|_| None).collect();
    let mut shapes = Shapes { stages, adapted: HashMap::new() };
    for id in order {
        adapt(recipe.stage(*id), models, &mut shapes, findings)?;
        let shaped = Shaper { recipe, models, shapes: &shapes, stage: recipe.stage(*id) }.shape(findings);
        shapes.stages[id.0] = Some(shaped.map_err(|errors| findings.extend(errors)).ok()?);
    }
    Some(shapes)
}

/// Applies the adapters that a stage asks for and none before it did. `None` if one cannot be.
fn adapt<'r>(
    stage: &'r Stage,
    models: &[Model],
    shapes: &mut Shapes<'r>,
    findings: &mut Vec<Finding>,
) -> Option<()> {
    let mut is_right = true;
    let references = stage.references().into_iter().map(|spanned| (&spanned.value, spanned.span));
    let tokenizer = stage.tokenizer.as_ref().map_or(stage.span, |tokenizer| tokenizer.span);
    for (reference, span) in references.chain(stage.tokenizer_models().map(|model| (model, tokenizer))) {
        let Reference::Adapted(adapted) = reference else { continue };
        if shapes.adapted.contains_key(reference) {
            continue;
        }
        let adapter = &models[model_id(models, &adapted.adapter).0].inventory;
        match AdaptedInventory::new(inventory_of(models, shapes, &adapted.of), adapter) {
            Ok(found) => drop(shapes.adapted.insert(reference, found)),
            Err(problems) => {
                let path = &adapted.adapter.path;
                let message = format!("the adapter {path} cannot be applied: {}", in_short(&problems));
                findings.push(Finding::error("adapter", span, message));
                is_right = false;
            }
        }
    }
    is_right.then_some(())
}

struct Shaper<'r, 'a> {
    recipe: &'r Recipe,
    models: &'r [Model],
    shapes: &'a Shapes<'r>,
    stage: &'r Stage,
}

impl<'r> Shaper<'r, '_> {
    fn shape(&self, findings: &mut Vec<Finding>) -> Result<StageShape<'r>, Vec<Finding>> {
        let donor_reference = self.donor();
        let donor_inventory = inventory_of(self.models, self.shapes, donor_reference);
        // Segments borrow from the recipe alone; inventories are looked up again where needed.
        let lookup = |reference: &Reference| inventory_of(self.models, self.shapes, reference);
        bare::check(self.recipe, self.stage, &lookup, findings).map_err(|error| vec![error])?;
        let namings = self.namings(findings);
        let layers = |reference: &Reference, module: usize| {
            let modules = &lookup(reference).layout.modules;
            namings[reference].module(module).map_or(0, |module| modules[module].layers)
        };
        let segments = segments(self.stage, donor_inventory, &layers)?;
        self.tell_of_left_out(donor_inventory, &segments, findings);
        let chooser = Chooser {
            recipe: self.recipe,
            stage: self.stage,
            donor: donor_reference,
            models: self.models,
            shapes: self.shapes,
        };
        let Choice { donor, source, tokenizer, vocabulary, remade, plan, chat_template } =
            chooser.choose(findings).map_err(|error| vec![error])?;
        let mut outputs = BTreeMap::new();
        let mut errors = Vec::new();
        let inputs =
            Inputs { models: self.models, shapes: self.shapes, donor: donor_inventory, namings: &namings };
        for (name, slot) in inputs.slots(&segments) {
            match self.output(&name, slot, &segments, plan.as_ref(), findings) {
                Ok(Some(output)) => {
                    outputs.insert(name, output);
                }
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(summarise(errors));
        }
        findings.extend(layer_rules::check(self.stage, donor_inventory, &outputs));
        let mut config = config::output_config(self.stage, donor_inventory, &segments, &outputs, &lookup);
        let mut generation = donor_inventory.generation.clone();
        if let Some(plan) = &plan {
            token_ids::set_rows(&mut config, plan.rows);
            let from =
                donor_inventory.vocabulary.as_ref().and_then(|vocabulary| vocabulary.tokens.as_deref());
            let special = vocabulary.as_ref().map_or(&[][..], |vocabulary| &vocabulary.special);
            for config in iter::once(&mut config).chain(&mut generation) {
                token_ids::follow(config, from, &plan.tokens, special);
            }
        } else {
            let own = lookup(source);
            token_ids::take_over(&mut config, &own.config);
            if let Some(generation) = &mut generation {
                token_ids::take_over(generation, own.generation.as_ref().unwrap_or(&own.config));
            }
        }
        let counts = |(name, output): (&String, &OutputTensor<'r>)| {
            output.alignment.as_ref().map(|alignment| (name.clone(), alignment.counts.clone()))
        };
        let rows: BTreeMap<String, Vec<RowCount>> = outputs.iter().filter_map(counts).collect();
        if let Some(plan) = &plan {
            self.tell_of_zeros(plan, &rows, findings);
        }
        let tensors: BTreeMap<String, TensorSpec> =
            outputs.iter().map(|(name, output)| (name.clone(), output.spec.clone())).collect();
        let layout = if donor_inventory.is_bare() {
            Layout::bare()
        } else {
            Layout::infer(tensors.keys().map(String::as_str), &config)
        };
        let inventory = Inventory {
            tensors,
            views: BTreeMap::new(),
            layout,
            apart: donor_inventory.apart,
            config,
            vocabulary,
            generation,
            chat_template: chat_template
                .clone()
                .or_else(|| self.models[tokenizer.0].inventory.chat_template.clone()),
        };
        Ok(StageShape { segments, outputs, inventory, donor, tokenizer, remade, rows, chat_template })
    }

    /// The model that config.json and, unless the recipe says otherwise, the tokenizer come from: the
    /// base, else the first model that the recipe lists.
    fn donor(&self) -> &'r Reference {
        &self.stage.references().first().expect("a stage has inputs").value
    }

    /// What the donor calls the tensors of each input, with a note where that is not what they call them themselves.
    fn namings(&self, findings: &mut Vec<Finding>) -> HashMap<&'r Reference, Naming> {
        let donor = inventory_of(self.models, self.shapes, self.donor());
        fn names(inventory: &Inventory) -> impl Iterator<Item = &str> {
            inventory.tensors.keys().map(String::as_str)
        }
        let mut namings = HashMap::new();
        for input in self.stage.references() {
            let inventory = inventory_of(self.models, self.shapes, &input.value);
            if namings.contains_key(&input.value) {
                continue;
            }
            let is_alike = || inventory.layout == donor.layout && names(inventory).eq(names(donor));
            let naming = if donor.is_bare() || input.value == *self.donor() || is_alike() {
                Naming::own(&inventory.layout)
            } else {
                Naming::new((&donor.layout, names(donor)), (&inventory.layout, names(inventory)))
            };
            if let Some((own, their)) = naming.moved.first() {
                let shown = |start: &str| if start.is_empty() { String::new() } else { format!("{start}.") };
                let message = format!(
                    "stage `{}`: {}'s tensors `{}*` are named `{}*` in the result, as in {}",
                    self.stage.name,
                    self.recipe.name_of(&input.value),
                    shown(own),
                    shown(their),
                    self.recipe.name_of(self.donor()),
                );
                findings.push(Finding::note("other-names", input.span, message));
            }
            namings.insert(&input.value, naming);
        }
        namings
    }

    /// Checks that an output tensor's parts agree and types it. `None` if it is left out.
    fn output(
        &self,
        name: &str,
        mut slot: Slot,
        segments: &[Segment<'r>],
        plan: Option<&TokenPlan<'r>>,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<OutputTensor<'r>>, Finding> {
        let segment = &segments[slot.segment];
        slot.names.sort_unstable();
        if let Some([(source, one), (_, other)]) = slot.names.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let model = self.recipe.name_of(segment.sources[*source].reference);
            let message = format!(
                "stage `{}`: tensors `{one}` and `{other}` of {model} would both become `{name}`",
                self.stage.name
            );
            let help = "rename one of them in the model, or remove it";
            return Err(Finding::error("one-name", segment.sources[*source].span, message).help(help));
        }
        let mut parts: Vec<Part> = slot
            .names
            .into_iter()
            .map(|(source, tensor)| {
                let spec = self.spec(segment.sources[source].reference, &tensor);
                Part { source, tensor, spec }
            })
            .collect();
        // Rows of other sizes cannot be laid side by side, which is told of below.
        let row =
            |part: &Part| (part.spec.dtype.is_float(), part.spec.shape.0.get(1..).map(<[usize]>::to_vec));
        let has_rows =
            is_vocabulary(name) && parts.iter().all(|part| row(part) == row(&parts[0]) && row(part).0);
        let alignment = match plan.filter(|_| has_rows) {
            Some(plan) => Some(self.align(name, &mut parts, segment, plan)?),
            None => None,
        };
        let label = |part: &Part| self.recipe.name_of(segment.sources[part.source].reference);
        let spec = self.common_spec(name, &parts, label)?;
        if slot.n_sources < segment.sources.len() {
            self.cut_off(slot.n_sources, segment, findings)?;
        }
        let missing: Vec<usize> =
            (0..slot.n_sources).filter(|i| parts.iter().all(|part| part.source != *i)).collect();
        let mut copied = false;
        if !missing.is_empty() {
            match self.without(name, segment, &parts, &missing)? {
                Without::Merge => {}
                Without::Copy => copied = true,
                Without::Skip => {
                    let message = format!(
                        "stage `{}` leaves out tensor `{name}`, because too few of its models have it",
                        self.stage.name
                    );
                    findings.push(Finding::warning("tensor-left-out", segment.span, message));
                    return Ok(None);
                }
            }
            let names: Vec<&str> =
                missing.iter().map(|i| self.recipe.name_of(segment.sources[*i].reference)).collect();
            let message = format!(
                "stage `{}` makes tensor `{name}` without {}, which {} it",
                self.stage.name,
                names.join(", "),
                if names.len() == 1 { "lacks" } else { "lack" }
            );
            findings.push(Finding::warning("tensor-missing", segment.span, message));
        }
        Ok(Some(OutputTensor { spec, segment: slot.segment, t: slot.t, parts, copied, alignment }))
    }

    /// What a tensor of a model or stage reads as.
    fn spec(&self, reference: &Reference, tensor: &str) -> TensorSpec {
        match self.shapes.adapted.get(reference) {
            Some(adapted) => adapted.spec(tensor, self.stage.dtype.as_ref().map(|dtype| dtype.value)),
            None => inventory_of(self.models, self.shapes, reference).tensors[tensor].clone(),
        }
    }

    /// Finds the rows of the parts of an embedding or head, whose specs become those of the remapped tensors.
    fn align(
        &self,
        name: &str,
        parts: &mut [Part],
        segment: &Segment<'r>,
        plan: &TokenPlan<'r>,
    ) -> Result<Alignment<'r>, Finding> {
        let donor = |part: &Part| Donor {
            reference: segment.sources[part.source].reference,
            tensor: part.tensor.clone(),
            spec: part.spec.clone(),
        };
        let aligner = Aligner {
            plan,
            name,
            lookup: &|reference| inventory_of(self.models, self.shapes, reference),
            spec: &|reference, tensor| self.spec(reference, tensor),
            label: &|reference| self.recipe.name_of(reference).to_owned(),
            compute: self.stage.dtype.as_ref().map(|dtype| dtype.value),
        };
        let alignment = aligner.align(parts.iter().map(donor).collect())?;
        for (part, spec) in parts.iter_mut().zip(&alignment.specs) {
            part.spec = spec.clone();
        }
        Ok(alignment)
    }

    /// Warns of tokens whose rows no model has.
    fn tell_of_zeros(
        &self,
        plan: &TokenPlan<'r>,
        rows: &BTreeMap<String, Vec<RowCount>>,
        findings: &mut Vec<Finding>,
    ) {
        let unknown: Vec<&str> = plan.unknown().collect();
        let (Some(first), false) = (unknown.first(), rows.is_empty()) else { return };
        let more = match unknown.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let message = format!(
            "stage `{}`: none of its models has token {first:?}{more}, so the rows become zeros",
            self.stage.name
        );
        findings.push(
            Finding::warning("zero-rows", plan.span, message)
                .help("use `tokens:` inside `tokenizer:` to say where such rows come from"),
        );
    }

    /// Tells of the donor's modules that the recipe does not list.
    fn tell_of_left_out(&self, donor: &Inventory, segments: &[Segment<'r>], findings: &mut Vec<Finding>) {
        let is_left_out = |module: &usize| segments.iter().all(|segment| segment.module != *module);
        let left_out = (0..donor.layout.modules.len()).filter(is_left_out);
        let names: Vec<&str> = left_out.map(|module| donor.layout.modules[module].name.as_str()).collect();
        if !names.is_empty() {
            let message = format!(
                "stage `{}` leaves out {}, which `modules` does not list",
                self.stage.name,
                names.join(", ")
            );
            findings.push(Finding::note("modules-left-out", self.stage.span, message));
        }
    }

    /// Tells of the last slice's sources that take no part in the tensors behind the layers, of which the
    /// base must not be one.
    fn cut_off(
        &self,
        n_sources: usize,
        segment: &Segment<'r>,
        findings: &mut Vec<Finding>,
    ) -> Result<(), Finding> {
        let stage = &self.stage.name;
        let (taken, left) = segment.sources.split_at(n_sources);
        let has_base = self.stage.method.spec().base.is_relative() && segment.base.is_some();
        if has_base && taken.iter().all(|source| Some(source.reference) != segment.base) {
            let message = format!(
                "stage `{stage}`: for tensors after the layers, only as many sources of the last slice count as the first slice has ({n_sources}), and the base is not among them"
            );
            return Err(Finding::error("missing-base", segment.span, message)
                .help("list the base first among the sources of the last slice"));
        }
        let names: Vec<&str> = left.iter().map(|source| self.recipe.name_of(source.reference)).collect();
        let message = format!(
            "stage `{stage}`: the tensors after the layers are made without {}, because only as many sources count as the first slice has",
            names.join(", ")
        );
        let finding = Finding::warning("sources-cut-off", segment.span, message);
        if !findings.contains(&finding) {
            findings.push(finding);
        }
        Ok(())
    }

    fn common_spec<'a>(
        &self,
        name: &str,
        parts: &'a [Part],
        label: impl Fn(&'a Part) -> &'a str,
    ) -> Result<TensorSpec, Finding> {
        let first = &parts[0];
        for part in &parts[1..] {
            if part.spec.shape != first.spec.shape {
                let message = format!(
                    "stage `{}`, tensor `{name}`: {} has shape {}, {} has {}",
                    self.stage.name,
                    label(first),
                    first.spec.shape,
                    label(part),
                    part.spec.shape
                );
                let error = Finding::error("shape-mismatch", self.stage.span, message);
                return Err(if is_vocabulary(name) {
                    error.help(
                        "the models have vocabularies of different sizes; `tokenizer_source: base` or `tokenizer_source: union` matches rows token by token",
                    )
                } else {
                    error.help("all models of a stage must have the same architecture and sizes")
                });
            }
            if part.spec.dtype.is_float() != first.spec.dtype.is_float() {
                let message = format!(
                    "stage `{}`, tensor `{name}`: {} stores {}, {} stores {}",
                    self.stage.name,
                    label(first),
                    first.spec.dtype,
                    label(part),
                    part.spec.dtype
                );
                return Err(Finding::error("dtype-mismatch", self.stage.span, message));
            }
        }
        let asked = self.stage.out_dtype.as_ref().or(self.stage.dtype.as_ref()).map(|dtype| dtype.value);
        let common = parts[1..].iter().fold(first.spec.dtype, |dtype, part| dtype.promote(part.spec.dtype));
        let dtype = match asked {
            Some(asked) if first.spec.dtype.is_float() => asked,
            _ if first.spec.dtype.is_float() => common,
            _ => first.spec.dtype,
        };
        Ok(TensorSpec { dtype, shape: first.spec.shape.clone() })
    }

    /// Decides what becomes of a tensor that some sources lack.
    fn without(
        &self,
        name: &str,
        segment: &Segment<'r>,
        parts: &[Part],
        missing: &[usize],
    ) -> Result<Without, Finding> {
        let spec = self.stage.method.spec();
        let lacking = self.recipe.name_of(segment.sources[missing[0]].reference);
        let having = self.recipe.name_of(segment.sources[parts[0].source].reference);
        let error = |why: &str| {
            let message = format!(
                "stage `{}`: `{lacking}` has no tensor `{}`, which `{having}` has{why}",
                self.stage.name, parts[0].tensor
            );
            Err(Finding::error("tensor-missing", segment.sources[missing[0]].span, message)
                .help("all models of a stage must have the same tensors"))
        };
        let is_bare = inventory_of(self.models, self.shapes, self.donor()).is_bare();
        if is_bare || !is_optional(name) {
            return error("");
        }
        let base = segment.base.filter(|_| spec.base.is_relative());
        let is_base = |part: &Part| base == Some(segment.sources[part.source].reference);
        let has_base = parts.iter().any(is_base);
        let rest = parts.iter().filter(|part| !is_base(part)).count();
        match spec.missing {
            MissingRule::CopySingle if parts.len() == 1 => Ok(Without::Copy),
            MissingRule::CopyBaseOrSkip if rest < spec.inputs.min => {
                Ok(if rest == 0 && has_base { Without::Copy } else { Without::Skip })
            }
            _ if base.is_some() && !has_base => error("; a base must have every tensor"),
            _ if base.is_some() && rest == 0 => Ok(Without::Copy),
            _ if rest < spec.inputs.min => error("; too few models are left to merge"),
            _ => Ok(Without::Merge),
        }
    }
}

enum Without {
    Merge,
    Copy,
    Skip,
}

/// Keeps the first error of each kind, saying how many tensors are alike; 500 copies help nobody.
fn summarise(errors: Vec<Finding>) -> Vec<Finding> {
    let mut kept: Vec<(Finding, usize)> = Vec::new();
    for error in errors {
        match kept.iter_mut().find(|(first, _)| first.code == error.code && first.span == error.span) {
            Some((_, more)) => *more += 1,
            None => kept.push((error, 0)),
        }
    }
    kept.into_iter()
        .map(|(mut error, more)| {
            if more > 0 {
                let tensors = if more == 1 { "tensor" } else { "tensors" };
                error.message.push_str(&format!(" (and for {more} more {tensors})"));
            }
            error
        })
        .collect()
}
