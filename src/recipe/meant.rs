//! A recipe as meant: stages whose every reference and parameter has been checked.

use std::sync::Arc;

use super::chat_template::ChatTemplate;
use super::span::{Span, Spanned};
use crate::methods::{Method, Value};
use crate::reference::ModelRef;
use crate::tensor::Dtype;

/// A recipe as meant: stages in the order of the file.
#[derive(Debug)]
pub struct Recipe {
    /// How the user named the file.
    pub name: String,
    pub text: Arc<str>,
    /// The text with the name of a stage that takes its file's, to be kept elsewhere.
    pub named_text: String,
    /// Variables and a seed that the command line set.
    pub sets: Vec<(String, String)>,
    pub seed: Option<u64>,
    pub stages: Vec<Stage>,
}

/// The number of a stage in [`Recipe::stages`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(pub usize);

/// One merge.
#[derive(Debug)]
pub struct Stage {
    /// The recipe's `name`, or the recipe file's stem for an unnamed stage.
    pub name: String,
    /// Whether the name is the file's, or was when the text was copied from there.
    pub name_from_file: bool,
    /// The stage's name (or its first line, when unnamed).
    pub span: Span,
    pub method: &'static dyn Method,
    pub base: Option<Spanned<Reference>>,
    pub body: Body,
    /// Top-level `parameters`, the lowest precedence.
    pub parameters: Parameters,
    /// Type that inputs are rounded to.
    pub dtype: Option<Spanned<Dtype>>,
    /// Type of the result.
    pub out_dtype: Option<Spanned<Dtype>>,
    pub tokenizer: Option<Spanned<Tokenizer>>,
    pub chat_template: Option<Spanned<ChatTemplate>>,
    pub seed: u64,
    /// Whether results of this stage may be kept in the store.
    pub cache: bool,
}

/// How a stage lists what it merges.
#[derive(Debug)]
pub enum Body {
    /// Whole models: every module, all layers.
    Models(Vec<Input>),
    /// Layer ranges of a model with a single module.
    Slices(Vec<Slice>),
    /// Named modules; those not listed are left out of the output.
    Modules(Vec<Module>),
}

#[derive(Debug)]
pub struct Module {
    pub name: Spanned<String>,
    pub body: ModuleBody,
    pub parameters: Parameters,
}

#[derive(Debug)]
pub enum ModuleBody {
    Models(Vec<Input>),
    Slices(Vec<Slice>),
}

/// A run of output layers.
#[derive(Debug)]
pub struct Slice {
    pub span: Span,
    pub sources: Vec<Input>,
    /// Replaces the stage's base for this slice.
    pub base: Option<Spanned<Reference>>,
    pub parameters: Parameters,
}

/// A model listed under `models` or in a slice's `sources`.
#[derive(Debug)]
pub struct Input {
    pub model: Spanned<Reference>,
    pub parameters: Parameters,
    /// Half-open, 0-based; always given in slices, never under `models`.
    pub layer_range: Option<Spanned<(usize, usize)>>,
}

/// A list of models that are merged with one another: those of a stage, of a module or of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    pub module: Option<&'a Module>,
    pub slice: Option<&'a Slice>,
    pub inputs: &'a [Input],
}

/// What a model reference means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    Stage(StageId),
    Model(ModelRef),
}

/// What the output's tokenizer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokenizer {
    pub source: TokenizerSource,
    /// `tokens:` entries by token; only their presence matters until remapping is built.
    pub tokens: Vec<String>,
    pub pad_to_multiple_of: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerSource {
    Union,
    Base,
    Model(Reference),
}

/// Settings of declared parameters at one level, in the order written.
pub type Parameters = Vec<(&'static str, Spanned<Setting>)>;

/// A parameter's setting, already of the parameter's type.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    Plain(Gradient),
    /// The first clause whose filter matches gives the value; none may match.
    Filtered(Vec<Clause>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Clause {
    /// A plain, case-sensitive substring of a tensor name; `None` (or `*` in the recipe) matches all.
    pub filter: Option<String>,
    pub value: Gradient,
    pub span: Span,
}

/// One value, or several spread evenly over the layers. Empty when the recipe has an empty list,
/// which gives no value, so that the next lower level is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradient(pub Vec<Value>);

impl Module {
    /// What the module merges, list by list, in the order of the recipe.
    pub fn sections(&self) -> Vec<Section<'_>> {
        match &self.body {
            ModuleBody::Models(inputs) => vec![Section { module: Some(self), slice: None, inputs }],
            ModuleBody::Slices(slices) => sliced(Some(self), slices),
        }
    }
}

fn sliced<'a>(module: Option<&'a Module>, slices: &'a [Slice]) -> Vec<Section<'a>> {
    let section = |slice: &'a Slice| Section { module, slice: Some(slice), inputs: &slice.sources };
    slices.iter().map(section).collect()
}

impl Stage {
    /// What the stage's random draws hang on: its own name, and nothing where it has none, so that moving
    /// its file changes no byte.
    pub fn stream_name(&self) -> &str {
        if self.name_from_file { "" } else { &self.name }
    }

    /// What the stage merges, list by list, in the order of the recipe.
    pub fn sections(&self) -> Vec<Section<'_>> {
        match &self.body {
            Body::Models(inputs) => vec![Section { module: None, slice: None, inputs }],
            Body::Slices(slices) => sliced(None, slices),
            Body::Modules(modules) => modules.iter().flat_map(Module::sections).collect(),
        }
    }

    /// Every model reference of the stage, in the order of the recipe, the base first.
    pub fn references(&self) -> Vec<&Spanned<Reference>> {
        let mut references: Vec<&Spanned<Reference>> = self.base.iter().collect();
        for Section { slice, inputs, .. } in self.sections() {
            references.extend(slice.and_then(|slice| slice.base.as_ref()));
            references.extend(inputs.iter().map(|input| &input.model));
        }
        references
    }

    /// The model whose tokenizer the recipe asks for by name.
    pub fn tokenizer_model(&self) -> Option<&Reference> {
        match &self.tokenizer.as_ref()?.value.source {
            TokenizerSource::Model(reference) => Some(reference),
            TokenizerSource::Union | TokenizerSource::Base => None,
        }
    }

    /// Every stage that this one reads, its tokenizer's included; a stage may be named twice.
    pub fn stages_read(&self) -> impl Iterator<Item = StageId> {
        let references = self.references().into_iter().map(|spanned| &spanned.value);
        references.chain(self.tokenizer_model()).filter_map(|reference| match reference {
            Reference::Stage(stage) => Some(*stage),
            Reference::Model(_) => None,
        })
    }
}

impl Recipe {
    pub fn stage(&self, id: StageId) -> &Stage {
        &self.stages[id.0]
    }

    /// How a person would name a reference.
    pub fn name_of<'a>(&'a self, reference: &'a Reference) -> &'a str {
        match reference {
            Reference::Stage(stage) => &self.stage(*stage).name,
            Reference::Model(model) => &model.path,
        }
    }
}
