//! Recipes: from YAML text to stages whose every reference and parameter has been checked.
//!
//! Two forms of a recipe: as typed (`yaml`, nodes with source positions) and as meant (this file, made
//! by `resolve`). Everything after the recipe works on the second. Nothing here reads files.

use std::sync::Arc;

use crate::methods::{Method, Value};
use crate::reference::ModelRef;
use crate::tensor::Dtype;

mod body;
pub mod changes;
pub mod chat_template;
mod cycle;
pub mod diagnostic;
mod fields;
mod naming;
mod reference;
mod resolve;
mod settings;
mod vars;
mod yaml;

pub use fields::did_you_mean;
pub use resolve::load;

use chat_template::ChatTemplate;
use diagnostic::{Diagnostic, Span};

/// What a recipe is read with besides its text.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The file as the user named it; its stem names a stage without a name.
    pub name: String,
    /// Variables set on the command line.
    pub sets: Vec<(String, String)>,
    /// Goes before every seed of the recipe.
    pub seed: Option<u64>,
}

/// A recipe, unless there is an error among the findings.
#[derive(Debug)]
pub struct Loaded {
    pub recipe: Option<Recipe>,
    pub diagnostics: Vec<Diagnostic>,
}

/// A value with the place in the recipe that it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Located<T> {
    pub value: T,
    pub span: Span,
}

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
    pub base: Option<Located<Reference>>,
    pub body: Body,
    /// Top-level `parameters`, the lowest precedence.
    pub parameters: Parameters,
    /// Type that inputs are rounded to.
    pub dtype: Option<Located<Dtype>>,
    /// Type of the result.
    pub out_dtype: Option<Located<Dtype>>,
    pub tokenizer: Option<Located<Tokenizer>>,
    pub chat_template: Option<Located<ChatTemplate>>,
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
    pub name: Located<String>,
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
    pub base: Option<Located<Reference>>,
    pub parameters: Parameters,
}

/// A model listed under `models` or in a slice's `sources`.
#[derive(Debug)]
pub struct Input {
    pub model: Located<Reference>,
    pub parameters: Parameters,
    /// Half-open, 0-based; always given in slices, never under `models`.
    pub layer_range: Option<Located<(usize, usize)>>,
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
pub type Parameters = Vec<(&'static str, Located<Setting>)>;

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

impl Stage {
    /// What the stage's random draws hang on: its own name, and nothing where it has none, so that moving
    /// its file changes no byte.
    pub fn stream_name(&self) -> &str {
        if self.name_from_file { "" } else { &self.name }
    }

    /// Every model reference of the stage, in the order of the recipe, the base first.
    pub fn references(&self) -> Vec<&Located<Reference>> {
        fn of_slice(slice: &Slice) -> impl Iterator<Item = &Located<Reference>> {
            slice.base.iter().chain(slice.sources.iter().map(|input| &input.model))
        }
        let mut references: Vec<&Located<Reference>> = self.base.iter().collect();
        match &self.body {
            Body::Models(inputs) => references.extend(inputs.iter().map(|input| &input.model)),
            Body::Slices(slices) => references.extend(slices.iter().flat_map(of_slice)),
            Body::Modules(modules) => {
                for module in modules {
                    match &module.body {
                        ModuleBody::Models(inputs) => {
                            references.extend(inputs.iter().map(|input| &input.model))
                        }
                        ModuleBody::Slices(slices) => references.extend(slices.iter().flat_map(of_slice)),
                    }
                }
            }
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
        let references = self.references().into_iter().map(|located| &located.value);
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
