//! A recipe as meant: stages whose every reference and parameter has been checked.

use std::path::PathBuf;
use std::sync::Arc;

use super::card::CardSettings;
use super::chat_template::ChatTemplate;
use super::portable::Portable;
use super::span::{Span, Spanned};
use crate::methods::{Method, Value};
use crate::reference::ModelRef;
use crate::tensor::Dtype;

/// A recipe as meant: stages in the order of the file.
#[derive(Debug)]
pub struct Recipe {
    /// How the user named the file.
    pub name: String,
    /// As the file has it, with its variables not yet filled in.
    pub text: Arc<str>,
    /// The text as it may be kept elsewhere, and what it calls models there.
    pub portable: Portable,
    /// Variables that the command line set, each with its value.
    pub sets: Vec<(String, String)>,
    /// A seed that the command line set, which goes before all others.
    pub seed: Option<u64>,
    /// What cards say, but for what a stage says of its own.
    pub card: CardSettings,
    /// In the order of the file, whatever reads what; [`StageId`] is the place in here.
    pub stages: Vec<Stage>,
    /// Files that the text names and that were read for it.
    pub files: Vec<PathBuf>,
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
    /// How inputs become one tensor, and which parameters can be set for it.
    pub method: &'static dyn Method,
    /// A model or another stage's result; absent where the recipe names none.
    pub base: Option<Spanned<Reference>>,
    /// What is merged: whole models, layer ranges or named modules.
    pub body: Body,
    /// Top-level `parameters`, the lowest precedence.
    pub parameters: Parameters,
    /// Type that inputs are rounded to.
    pub dtype: Option<Spanned<Dtype>>,
    /// Type of the result.
    pub out_dtype: Option<Spanned<Dtype>>,
    /// Without it the output gets that of whatever its config comes from.
    pub tokenizer: Option<Spanned<Tokenizer>>,
    /// Without it the output keeps the template of its tokenizer.
    pub chat_template: Option<Spanned<ChatTemplate>>,
    /// What random draws start from: the command line's, else the stage's, else the recipe's, else 0.
    pub seed: u64,
    /// Whether results of this stage are kept in the store, if the recipe says.
    pub cache: Option<bool>,
    /// What its card says; it goes before the recipe's.
    pub card: CardSettings,
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

/// One entry of a stage's `modules`.
#[derive(Debug)]
pub struct Module {
    /// The module as models' layouts name it, with the place of its key.
    pub name: Spanned<String>,
    /// What is merged in it.
    pub body: ModuleBody,
    /// For all of the module; they go before the stage's.
    pub parameters: Parameters,
}

/// How a module lists what it merges.
#[derive(Debug)]
pub enum ModuleBody {
    /// Whole modules: all their layers.
    Models(Vec<Input>),
    /// Layer ranges of the module.
    Slices(Vec<Slice>),
}

/// A run of output layers.
#[derive(Debug)]
pub struct Slice {
    /// Its key `sources`.
    pub span: Span,
    /// Merged with one another, and so of equal length; a model is listed once.
    pub sources: Vec<Input>,
    /// Replaces the stage's base for this slice.
    pub base: Option<Spanned<Reference>>,
    /// For all of the slice; they go before the module's and the stage's.
    pub parameters: Parameters,
}

/// A model listed under `models` or in a slice's `sources`.
#[derive(Debug)]
pub struct Input {
    /// What is merged, a model outside the recipe or another stage's result.
    pub model: Spanned<Reference>,
    /// For this model alone, the highest precedence.
    pub parameters: Parameters,
    /// Half-open, 0-based; always given in slices, never under `models`.
    pub layer_range: Option<Spanned<(usize, usize)>>,
}

/// A list of models that are merged with one another: those of a stage, of a module or of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    /// `None` outside `modules`.
    pub module: Option<&'a Module>,
    /// `None` for a list under `models`.
    pub slice: Option<&'a Slice>,
    /// In the order of the recipe, which counts for some methods.
    pub inputs: &'a [Input],
}

/// What a model reference means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// The result of another stage of the same recipe.
    Stage(StageId),
    /// A checkpoint outside the recipe.
    Model(ModelRef),
    /// Either of them with a low-rank adapter applied.
    Adapted(Arc<Adapted>),
}

/// What `model+adapter` means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Adapted {
    /// The model or stage, which has no adapter of its own.
    pub of: Reference,
    /// The adapter's folder.
    pub adapter: ModelRef,
    /// How a person would name the two together.
    pub name: String,
}

impl Reference {
    /// The model or stage beneath an adapter; without one, the reference itself.
    pub fn plain(&self) -> &Self {
        match self {
            Self::Adapted(adapted) => &adapted.of,
            Self::Stage(_) | Self::Model(_) => self,
        }
    }
}

/// What the output's tokenizer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokenizer {
    /// Where the vocabulary comes from.
    pub source: TokenizerSource,
    /// Entries of `tokens:`, in the order of the recipe.
    pub tokens: Vec<TokenEntry>,
    /// What divides the number of rows, which are filled up with the mean of the others.
    pub pad_to_multiple_of: Option<usize>,
    /// Whether rows without a token go even where all vocabularies are equal.
    pub trim_vocab: bool,
}

/// A token that the recipe names: it is in the output, and its row may come from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEntry {
    /// With the place of its key.
    pub token: Spanned<String>,
    /// The row for models that lack the token; without it the usual rules hold.
    pub source: Option<Spanned<TokenRow>>,
    /// Whether models that have the token get that row, too.
    pub force: bool,
}

/// Where a token's row comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenRow {
    /// All zeros.
    Zero,
    /// A model's row for the same token.
    Same(Reference),
    /// A model's row for another token.
    Token(Reference, String),
    /// A model's row of a number.
    Id(Reference, u32),
}

/// Whose vocabulary an output gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerSource {
    /// Every token of any of the models; what a `tokenizer` without a `source` means.
    Union,
    /// That of the stage's base, or of its first model where it has none.
    Base,
    /// That of a model or stage named in the recipe, which need not be merged.
    Model(Reference),
}

/// Settings of declared parameters at one level, in the order written.
pub type Parameters = Vec<(&'static str, Spanned<Setting>)>;

/// A parameter's setting, already of the parameter's type.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// One gradient for all tensors, whatever their names.
    Plain(Gradient),
    /// The first clause whose filter matches gives the value; none may match.
    Filtered(Vec<Clause>),
}

/// One entry of a setting that depends on the tensor's name.
#[derive(Clone, Debug, PartialEq)]
pub struct Clause {
    /// A plain, case-sensitive substring of a tensor name; `None` (or `*` in the recipe) matches all.
    pub filter: Option<String>,
    /// What matching tensors get.
    pub value: Gradient,
    /// Where the value stands.
    pub span: Span,
}

/// One value, or several spread evenly over the layers. Empty when the recipe has an empty list,
/// which gives no value, so that the next lower level is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradient(pub Vec<Value>);

impl TokenizerSource {
    /// The word or model that a recipe names it by.
    pub fn named(&self, name: &dyn Fn(&Reference) -> String) -> String {
        match self {
            Self::Union => "union".to_owned(),
            Self::Base => "base".to_owned(),
            Self::Model(reference) => name(reference),
        }
    }
}

impl TokenRow {
    /// The model whose row it is.
    pub fn model(&self) -> Option<&Reference> {
        match self {
            Self::Zero => None,
            Self::Same(model) | Self::Token(model, _) | Self::Id(model, _) => Some(model),
        }
    }
}

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

    /// The models that the stage's tokenizer takes tokens or rows from by name.
    pub fn tokenizer_models(&self) -> impl Iterator<Item = &Reference> {
        let tokenizer = self.tokenizer.as_ref().map(|tokenizer| &tokenizer.value);
        let source = tokenizer.and_then(|tokenizer| match &tokenizer.source {
            TokenizerSource::Model(reference) => Some(reference),
            TokenizerSource::Union | TokenizerSource::Base => None,
        });
        let entries = tokenizer.into_iter().flat_map(|tokenizer| &tokenizer.tokens);
        let rows = entries.filter_map(|entry| entry.source.as_ref()?.value.model());
        source.into_iter().chain(rows)
    }

    /// Every stage that this one reads, its tokenizer's included; a stage may be named twice.
    pub fn stages_read(&self) -> impl Iterator<Item = StageId> {
        let references = self.references().into_iter().map(|spanned| &spanned.value);
        references.chain(self.tokenizer_models()).filter_map(|reference| match reference.plain() {
            Reference::Stage(stage) => Some(*stage),
            Reference::Model(_) | Reference::Adapted(_) => None,
        })
    }
}

impl Recipe {
    /// The stage of a number, which must come from this recipe.
    pub fn stage(&self, id: StageId) -> &Stage {
        &self.stages[id.0]
    }

    /// How lockfiles name what a reference means: not by an absolute path.
    pub fn portable_name(&self, reference: &Reference) -> String {
        self.named(reference, &|model| self.portable.path_of(model).to_owned())
    }

    /// How pictures and cards name what a reference means: without the folders that it lies in.
    pub fn label_of(&self, reference: &Reference) -> String {
        self.named(reference, &|model| self.portable.label(model).to_owned())
    }

    fn named(&self, reference: &Reference, name: &dyn Fn(&ModelRef) -> String) -> String {
        match reference {
            Reference::Stage(stage) => self.stage(*stage).name.clone(),
            Reference::Model(model) => name(model),
            Reference::Adapted(adapted) => {
                format!("{}+{}", self.named(&adapted.of, name), name(&adapted.adapter))
            }
        }
    }

    /// How a person would name a reference.
    pub fn name_of<'a>(&'a self, reference: &'a Reference) -> &'a str {
        match reference {
            Reference::Stage(stage) => &self.stage(*stage).name,
            Reference::Model(model) => &model.path,
            Reference::Adapted(adapted) => &adapted.name,
        }
    }
}
