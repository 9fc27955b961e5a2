//! Shapes a stage: which tensors it has, of which dtype and shape, made of which tensors of its inputs.
//!
//! Nothing is decided here about values: what a tensor comes down to is `lower`'s.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::inputs::{Segment, segments};
use super::tokenizer::Choice;
use super::{Inventory, Model, ModelId, config, tokenizer};
use crate::methods::MissingRule;
use crate::model::layout::{Module, Position, is_head, is_optional, is_token_embedding, unwrapped};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{Recipe, Reference, Stage, StageId};
use crate::tensor::{Dtype, TensorSpec};

/// A stage with its tensors named and typed.
#[derive(Debug)]
pub struct StageShape<'r> {
    pub segments: Vec<Segment<'r>>,
    pub outputs: BTreeMap<String, OutputTensor>,
    /// What the stage looks like to a stage that reads it.
    pub inventory: Inventory,
    pub donor: ModelId,
    pub tokenizer: ModelId,
    /// Replaces the tokenizer's own chat template.
    pub chat_template: Option<String>,
}

/// One output tensor and where it comes from.
#[derive(Clone, Debug)]
pub struct OutputTensor {
    pub spec: TensorSpec,
    /// The number of the segment that governs it.
    pub segment: usize,
    /// Position in the segment's layers, from 0 to 1.
    pub t: f64,
    pub parts: Vec<Part>,
    /// Copied from its single part, because the other inputs lack it.
    pub copied: bool,
}

/// An input's tensor that an output tensor is made of.
#[derive(Clone, Debug)]
pub struct Part {
    /// The source's number in its segment, which is its position in the recipe.
    pub source: usize,
    pub tensor: String,
    pub spec: TensorSpec,
}

/// Shapes by stage number; stages that are not needed have none.
pub type Shapes<'r> = Vec<Option<StageShape<'r>>>;

/// Shapes all stages of `order`, each behind those it reads. `None` if any has an error.
pub fn shape_all<'r>(
    recipe: &'r Recipe,
    models: &'r [Model],
    order: &[StageId],
    findings: &mut Vec<Diagnostic>,
) -> Option<Shapes<'r>> {
    let mut shapes: Shapes<'r> = recipe.stages.iter().map(|_| None).collect();
    for id in order {
        let shaped = Shaper { recipe, models, shapes: &shapes, stage: recipe.stage(*id) }.shape(findings);
        shapes[id.0] = Some(shaped.map_err(|errors| findings.extend(errors)).ok()?);
    }
    Some(shapes)
}

/// The number of a model in the list that the plan is made from.
///
/// # Panics
/// If the caller did not list every model of the recipe.
pub fn model_id(models: &[Model], reference: &crate::reference::ModelRef) -> ModelId {
    ModelId(models.iter().position(|model| model.reference == *reference).expect("every model is listed"))
}

/// What is known of a reference's tensors.
pub fn inventory_of<'a>(models: &'a [Model], shapes: &'a Shapes<'_>, reference: &Reference) -> &'a Inventory {
    match reference {
        Reference::Model(model) => &models[model_id(models, model).0].inventory,
        Reference::Stage(stage) => {
            &shapes[stage.0].as_ref().expect("stages are shaped behind those they read").inventory
        }
    }
}

struct Shaper<'r, 'a> {
    recipe: &'r Recipe,
    models: &'r [Model],
    shapes: &'a Shapes<'r>,
    stage: &'r Stage,
}

/// A tensor slot of the output, before its parts are looked up.
struct Slot {
    segment: usize,
    t: f64,
    /// How many of the segment's sources take part, the first ones.
    n_sources: usize,
    /// The tensor's name in each source of the segment, where the source has such a layer.
    names: Vec<(usize, String)>,
}

/// The layer tensors of an input's module by layer, each with what follows the layer's number.
type Layers<'a> = BTreeMap<usize, Vec<(&'a str, &'a str)>>;

impl<'r> Shaper<'r, '_> {
    fn shape(&self, findings: &mut Vec<Diagnostic>) -> Result<StageShape<'r>, Vec<Diagnostic>> {
        let donor_reference = self.donor();
        let donor_inventory = inventory_of(self.models, self.shapes, donor_reference);
        // Segments borrow from the recipe alone; inventories are looked up again where needed.
        let lookup = |reference: &Reference| inventory_of(self.models, self.shapes, reference);
        let segments = segments(self.stage, donor_inventory, &lookup)?;
        let Choice { donor, tokenizer, vocabulary, chat_template } = tokenizer::choose(
            self.recipe,
            self.stage,
            donor_reference,
            &segments,
            self.models,
            self.shapes,
            findings,
        )
        .map_err(|error| vec![error])?;
        let mut outputs = BTreeMap::new();
        let mut errors = Vec::new();
        for (name, slot) in self.slots(donor_inventory, &segments) {
            match self.output(&name, slot, &segments, findings) {
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
        let config = config::output_config(self.stage, donor_inventory, &segments, &outputs, &lookup);
        let tensors: BTreeMap<String, TensorSpec> =
            outputs.iter().map(|(name, output)| (name.clone(), output.spec.clone())).collect();
        let layout = crate::model::layout::Layout::infer(tensors.keys().map(String::as_str), &config);
        let inventory = Inventory {
            tensors,
            joined: BTreeMap::new(),
            pieces: BTreeMap::new(),
            layout,
            config,
            vocabulary,
            chat_template: chat_template
                .clone()
                .or_else(|| self.models[tokenizer.0].inventory.chat_template.clone()),
        };
        Ok(StageShape { segments, outputs, inventory, donor, tokenizer, chat_template })
    }

    /// The model that config.json and, unless the recipe says otherwise, the tokenizer come from: the
    /// base, else the first model that the recipe lists.
    fn donor(&self) -> &'r Reference {
        &self.stage.references().first().expect("a stage has inputs").value
    }

    /// Names every output tensor that any source could give.
    fn slots(&self, reference: &Inventory, segments: &[Segment<'r>]) -> BTreeMap<String, Slot> {
        let mut slots = BTreeMap::new();
        for (module, layout) in reference.layout.modules.iter().enumerate() {
            let own: Vec<usize> = (0..segments.len()).filter(|i| segments[*i].module == module).collect();
            let (Some(&first), Some(&last)) = (own.first(), own.last()) else { continue };
            // Sorted once an input, however many slices are cut from it.
            let mut layers: BTreeMap<&Reference, Layers<'_>> = BTreeMap::new();
            for &number in &own {
                for source in &segments[number].sources {
                    layers.entry(source.reference).or_insert_with(|| self.layers(source.reference, module));
                }
                layer_slots(number, &segments[number], layout, &layers, &mut slots);
            }
            self.other_slots(module, first, last, segments, &mut slots);
        }
        slots
    }

    fn layers(&self, reference: &Reference, module: usize) -> Layers<'_> {
        let inventory = inventory_of(self.models, self.shapes, reference);
        let mut layers = Layers::new();
        for name in inventory.tensors.keys() {
            let (of, Position::Layer(layer)) = inventory.layout.place(name) else { continue };
            if of == module {
                let behind = &name[inventory.layout.modules[of].prefix.len() + 1..];
                let suffix = behind.trim_start_matches(|c: char| c.is_ascii_digit());
                layers.entry(layer).or_default().push((name, suffix));
            }
        }
        layers
    }

    /// Tensors outside the layers: those before them follow the first segment, those behind the last.
    fn other_slots(
        &self,
        module: usize,
        first: usize,
        last: usize,
        segments: &[Segment<'r>],
        slots: &mut BTreeMap<String, Slot>,
    ) {
        for number in BTreeSet::from([first, last]) {
            // As in mergekit, the tensors behind the layers have no more sources than the first slice.
            let n_sources = segments[number].sources.len().min(segments[first].sources.len());
            // Sources may differ in a leading word; the first to name a tensor decides.
            let mut known: HashMap<&str, &str> = HashMap::new();
            for (source_number, source) in segments[number].sources[..n_sources].iter().enumerate() {
                let inventory = inventory_of(self.models, self.shapes, source.reference);
                for name in inventory.tensors.keys() {
                    let governed = match inventory.layout.place(name) {
                        (of, Position::Before) => of == module && number == first,
                        (of, Position::After) => of == module && number == last,
                        (_, Position::Layer(_)) => false,
                    };
                    if governed {
                        let output = *known.entry(unwrapped(name)).or_insert(name);
                        let slot = slots.entry(output.to_owned()).or_insert_with(|| Slot {
                            segment: number,
                            t: 0.0,
                            n_sources,
                            names: Vec::new(),
                        });
                        slot.names.push((source_number, name.clone()));
                    }
                }
            }
            // A head that some source stores is made from the embedding of those that tie theirs.
            let heads: Vec<String> = slots
                .iter()
                .filter(|(name, slot)| slot.segment == number && is_head(name))
                .map(|(name, _)| name.clone())
                .collect();
            for head in heads {
                let slot = slots.get_mut(&head).expect("the name was just listed");
                for (source_number, source) in segments[number].sources[..n_sources].iter().enumerate() {
                    if slot.names.iter().all(|(have, _)| *have != source_number) {
                        let inventory = inventory_of(self.models, self.shapes, source.reference);
                        if let Some(tied) = inventory.tensors.keys().find(|name| is_token_embedding(name)) {
                            slot.names.push((source_number, tied.clone()));
                        }
                    }
                }
            }
        }
    }

    /// Checks that an output tensor's parts agree and types it. `None` if it is left out.
    fn output(
        &self,
        name: &str,
        mut slot: Slot,
        segments: &[Segment<'r>],
        findings: &mut Vec<Diagnostic>,
    ) -> Result<Option<OutputTensor>, Diagnostic> {
        let segment = &segments[slot.segment];
        slot.names.sort_unstable();
        if let Some([(source, one), (_, other)]) = slot.names.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let model = self.recipe.name_of(segment.sources[*source].reference);
            let message = format!(
                "stage `{}`: tensors `{one}` and `{other}` of {model} would both become `{name}`",
                self.stage.name
            );
            let help = "rename one of them in the model, or leave it out";
            return Err(Diagnostic::error("one-name", segment.sources[*source].span, message).help(help));
        }
        let parts: Vec<Part> = slot
            .names
            .into_iter()
            .map(|(source, tensor)| {
                let inventory = inventory_of(self.models, self.shapes, segment.sources[source].reference);
                let spec = inventory.tensors[&tensor].clone();
                Part { source, tensor, spec }
            })
            .collect();
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
                        "stage `{}` leaves out tensor `{name}`: too few of its models have it",
                        self.stage.name
                    );
                    findings.push(Diagnostic::warning("tensor-left-out", segment.span, message));
                    return Ok(None);
                }
            }
            let names: Vec<&str> =
                missing.iter().map(|i| self.recipe.name_of(segment.sources[*i].reference)).collect();
            let message = format!(
                "stage `{}` makes tensor `{name}` without {}, which lacks it",
                self.stage.name,
                names.join(", ")
            );
            findings.push(Diagnostic::warning("tensor-missing", segment.span, message));
        }
        Ok(Some(OutputTensor { spec, segment: slot.segment, t: slot.t, parts, copied }))
    }

    /// Tells of the last slice's sources that take no part in the tensors behind the layers, of which the
    /// base must not be one.
    fn cut_off(
        &self,
        n_sources: usize,
        segment: &Segment<'r>,
        findings: &mut Vec<Diagnostic>,
    ) -> Result<(), Diagnostic> {
        let stage = &self.stage.name;
        let (taken, left) = segment.sources.split_at(n_sources);
        let has_base = self.stage.method.spec().base.is_relative() && segment.base.is_some();
        if has_base && taken.iter().all(|source| Some(source.reference) != segment.base) {
            let message = format!(
                "stage `{stage}`: the tensors behind the layers are made from the last slice's first {n_sources} \
                 sources, as many as the first slice has, and the base is not one of them"
            );
            return Err(Diagnostic::error("missing-base", segment.span, message)
                .help("put the base first among the sources of the last slice"));
        }
        let names: Vec<&str> = left.iter().map(|source| self.recipe.name_of(source.reference)).collect();
        let message = format!(
            "stage `{stage}`: the tensors behind the layers are made without {}, for they have no more sources \
             than the first slice",
            names.join(", ")
        );
        let finding = Diagnostic::warning("sources-cut-off", segment.span, message);
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
    ) -> Result<TensorSpec, Diagnostic> {
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
                let error = Diagnostic::error("shape-mismatch", self.stage.span, message);
                return Err(if is_head(name) || is_token_embedding(name) {
                    error.help(
                        "the models have vocabularies of different size; they cannot be merged as they are",
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
                return Err(Diagnostic::error("dtype-mismatch", self.stage.span, message));
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
    ) -> Result<Without, Diagnostic> {
        let spec = self.stage.method.spec();
        let lacking = self.recipe.name_of(segment.sources[missing[0]].reference);
        let having = self.recipe.name_of(segment.sources[parts[0].source].reference);
        let error = |why: &str| {
            let message = format!(
                "stage `{}`: `{lacking}` has no tensor `{}`, which `{having}` has{why}",
                self.stage.name, parts[0].tensor
            );
            Err(Diagnostic::error("tensor-missing", segment.sources[missing[0]].span, message)
                .help("all models of a stage must have the same tensors"))
        };
        if !is_optional(name) {
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

/// Names the layer tensors of a segment as the donor would, with as many digits.
fn layer_slots(
    number: usize,
    segment: &Segment<'_>,
    Module { prefix, digits, .. }: &Module,
    layers: &BTreeMap<&Reference, Layers<'_>>,
    slots: &mut BTreeMap<String, Slot>,
) {
    for (source_number, source) in segment.sources.iter().enumerate() {
        for (layer, tensors) in layers[source.reference].range(source.start..source.start + segment.layers) {
            let offset = layer - source.start;
            let t = if segment.layers == 1 { 1.0 } else { offset as f64 / (segment.layers - 1) as f64 };
            for (name, suffix) in tensors {
                let output = format!("{prefix}.{:0digits$}{suffix}", segment.first_layer + offset);
                let n_sources = segment.sources.len();
                let slot = slots.entry(output).or_insert_with(|| Slot {
                    segment: number,
                    t,
                    n_sources,
                    names: Vec::new(),
                });
                slot.names.push((source_number, (*name).to_owned()));
            }
        }
    }
}

enum Without {
    Merge,
    Copy,
    Skip,
}

/// Keeps the first error of each kind, saying how many tensors are alike; 500 copies help nobody.
fn summarise(errors: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut kept: Vec<(Diagnostic, usize)> = Vec::new();
    for error in errors {
        match kept.iter_mut().find(|(first, _)| first.code == error.code && first.span == error.span) {
            Some((_, more)) => *more += 1,
            None => kept.push((error, 0)),
        }
    }
    kept.into_iter()
        .map(|(mut error, more)| {
            if more > 0 {
                error.message.push_str(&format!(" (and {more} more tensors)"));
            }
            error
        })
        .collect()
}

/// Whether reading a tensor as `compute` and writing it as `output` keeps its bytes.
pub fn keeps_bytes(stored: Dtype, compute: Option<Dtype>, output: Dtype) -> bool {
    output == stored && compute.is_none_or(|compute| stored.fits_in(compute))
}
