//! Whose tokenizer a stage's output gets, and which tokens that has.

use std::sync::Arc;

use super::catalog::{Model, ModelId, model_id};
use super::stage_shape::{Shapes, inventory_of};
use super::token_plan::{TokenPlan, output_tokens};
use crate::model::layout::is_vocabulary;
use crate::model::tokenizer::{Tokens, Vocabulary};
use crate::recipe::chat_template::ChatTemplate;
use crate::recipe::{Finding, Recipe, Reference, Spanned, Stage, Tokenizer, TokenizerSource};

/// Where the files beside a stage's weights come from.
pub struct Choice<'r> {
    pub donor: ModelId,
    /// What the recipe takes the tokenizer from.
    pub source: &'r Reference,
    /// Whose tokenizer files the output gets.
    pub tokenizer: ModelId,
    pub vocabulary: Option<Vocabulary>,
    /// The output's tokens, where those files must be rewritten for them.
    pub remade: Option<Arc<Tokens>>,
    /// How embeddings are remapped, where they must be.
    pub plan: Option<TokenPlan<'r>>,
    /// A chat template that replaces that of the tokenizer's model.
    pub chat_template: Option<String>,
}

/// Chooses for one stage.
pub struct Chooser<'r, 'a> {
    pub recipe: &'r Recipe,
    pub stage: &'r Stage,
    pub donor: &'r Reference,
    pub models: &'r [Model],
    pub shapes: &'a Shapes<'r>,
}

impl<'r> Chooser<'r, '_> {
    /// Chooses the donor of config.json and of the tokenizer, and says what vocabulary the output has.
    ///
    /// # Errors
    /// Where the recipe asks for a tokenizer that cannot be had, or that does not fit the models.
    pub fn choose(&self, findings: &mut Vec<Finding>) -> Result<Choice<'r>, Finding> {
        let Self { stage, donor, .. } = *self;
        if let Some(Spanned { value: ChatTemplate::File(path), span }) = &stage.chat_template {
            let message = format!("stage `{}`: the chat template {path} was not read", stage.name);
            return Err(Finding::error("missing-chat-template", *span, message));
        }
        let Some(asked) = &stage.tokenizer else { return Ok(self.of(donor)) };
        let source = match &asked.value.source {
            TokenizerSource::Model(reference) => reference,
            TokenizerSource::Base | TokenizerSource::Union => donor,
        };
        let Some(wanted) = self.vocabulary(source) else {
            let message = format!(
                "stage `{}` takes its tokenizer from {}, which has none",
                stage.name,
                self.name(source)
            );
            return Err(Finding::error("tokenizer-missing", asked.span, message)
                .help("add a tokenizer.json to the model's folder"));
        };
        let inputs = self.inputs();
        for input in &inputs {
            if self.vocabulary(&input.value).is_none() {
                let message = format!(
                    "stage `{}`: {} has no tokenizer and is assumed to have the vocabulary of {}",
                    stage.name,
                    self.name(&input.value),
                    self.name(source)
                );
                findings.push(Finding::note("tokenizer-assumed", input.span, message));
            }
        }
        let choice = self.of(source);
        let choice = Choice { donor: self.of(donor).donor, ..choice };
        if self.is_plain(&asked.value, wanted, &inputs) {
            self.tell_of_padding(asked, wanted, &inputs, findings);
            return Ok(choice);
        }
        self.remap(asked, source, wanted, &inputs, choice, findings)
    }

    /// What a reference gives: its own files, and the tokens that it has been given.
    fn of(&self, reference: &'r Reference) -> Choice<'r> {
        let vocabulary = self.vocabulary(reference).cloned();
        let chat_template = chat_template(self.stage, reference, self.models, self.shapes);
        let (donor, tokenizer, remade) = match reference.plain() {
            Reference::Model(model) => {
                let model = model_id(self.models, model);
                (model, model, None)
            }
            // A stage hands on the checkpoints that it took these files from itself.
            Reference::Stage(stage) => {
                let shape = self.shapes[stage.0].as_ref().expect("stages are shaped in order");
                (shape.donor, shape.tokenizer, shape.remade.clone())
            }
            Reference::Adapted(_) => unreachable!("what is plain has no adapter"),
        };
        Choice { donor, source: reference, tokenizer, vocabulary, remade, plan: None, chat_template }
    }

    fn vocabulary(&self, reference: &Reference) -> Option<&Vocabulary> {
        inventory_of(self.models, self.shapes, reference).vocabulary.as_ref()
    }

    fn name(&self, reference: &'r Reference) -> &'r str {
        self.recipe.name_of(reference)
    }

    /// The stage's models, each once, in the order of the recipe, the base first.
    fn inputs(&self) -> Vec<&'r Spanned<Reference>> {
        let mut inputs: Vec<&Spanned<Reference>> = Vec::new();
        for input in self.stage.references() {
            if inputs.iter().all(|known| known.value != input.value) {
                inputs.push(input);
            }
        }
        inputs
    }

    /// How many rows the embeddings and heads of a model have, each size once.
    fn rows(&self, reference: &Reference) -> Vec<usize> {
        let tensors = &inventory_of(self.models, self.shapes, reference).tensors;
        let vocabulary = tensors.iter().filter(|(name, _)| is_vocabulary(name));
        let mut rows: Vec<usize> = vocabulary.filter_map(|(_, spec)| spec.shape.0.first().copied()).collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    /// Whether every row can stay where it is.
    fn is_plain(&self, asked: &Tokenizer, wanted: &Vocabulary, inputs: &[&Spanned<Reference>]) -> bool {
        let Tokenizer { source: _, tokens, pad_to_multiple_of, trim_vocab } = asked;
        let is_equal =
            |input: &Reference| self.vocabulary(input).is_none_or(|found| found.name == wanted.name);
        let mut rows = inputs.iter().map(|input| self.rows(&input.value));
        let first = rows.next();
        tokens.is_empty()
            && pad_to_multiple_of.is_none()
            && !trim_vocab
            && inputs.iter().all(|input| is_equal(&input.value))
            && rows.all(|other| Some(&other) == first.as_ref())
    }

    /// Notes that rows without a token stay, which mergekit cuts off.
    fn tell_of_padding(
        &self,
        asked: &Spanned<Tokenizer>,
        wanted: &Vocabulary,
        inputs: &[&Spanned<Reference>],
        findings: &mut Vec<Finding>,
    ) {
        let rows = inputs.first().and_then(|input| self.rows(&input.value).last().copied());
        let (Some(rows), Some(needed)) = (rows, wanted.rows) else { return };
        if rows > needed {
            let message = format!(
                "stage `{}`: the vocabularies are equal, so {} padding row{} of the embeddings {} kept",
                self.stage.name,
                rows - needed,
                if rows - needed == 1 { "" } else { "s" },
                if rows - needed == 1 { "is" } else { "are" },
            );
            let help = "`trim_vocab: true` inside `tokenizer:` removes them";
            findings.push(Finding::note("padding-kept", asked.span, message).help(help));
        }
    }

    fn remap(
        &self,
        asked: &'r Spanned<Tokenizer>,
        source: &'r Reference,
        wanted: &Vocabulary,
        inputs: &[&'r Spanned<Reference>],
        choice: Choice<'r>,
        findings: &mut Vec<Finding>,
    ) -> Result<Choice<'r>, Finding> {
        let source_tokens = self.tokens(source, wanted, asked, findings)?;
        let mut of: Vec<(&'r Reference, Arc<Tokens>)> = Vec::new();
        let named = self.stage.tokenizer_models();
        for reference in inputs.iter().map(|input| &input.value).chain(named) {
            let tokens = match self.vocabulary(reference) {
                Some(vocabulary) => self.tokens(reference, vocabulary, asked, findings)?,
                None => Arc::clone(&source_tokens),
            };
            if tokens.shared(&source_tokens) == 0 {
                let message = format!(
                    "stage `{}`: the vocabularies of {} and {} share no tokens",
                    self.stage.name,
                    self.name(reference),
                    self.name(source)
                );
                return Err(Finding::error("vocabularies-apart", asked.span, message)
                    .help("models whose tokenizers have nothing in common cannot be merged"));
            }
            if of.iter().all(|(known, _)| *known != reference) {
                of.push((reference, tokens));
            }
        }
        let is_union = asked.value.source == TokenizerSource::Union;
        let others = of.iter().filter(|_| is_union).map(|(_, tokens)| &**tokens);
        let made = output_tokens(&asked.value, &source_tokens, others).map(Arc::new);
        // What was left out of the source's tokens has to leave its files as well.
        let special = wanted.special.iter().filter(|(_, id)| !source_tokens.is_cut(*id)).copied().collect();
        let is_made = made.is_some() || wanted.rows.is_some_and(|rows| rows > source_tokens.rows());
        let tokens = made.unwrap_or(source_tokens);
        let multiple = asked.value.pad_to_multiple_of.unwrap_or(1);
        let rows = tokens.rows().next_multiple_of(multiple);
        let vocabulary = Vocabulary {
            name: tokens.fingerprint(),
            rows: Some(tokens.rows()),
            tokens: Some(Arc::clone(&tokens)),
            special,
            ..wanted.clone()
        };
        let plan = TokenPlan {
            tokens: Arc::clone(&tokens),
            rows,
            inputs: inputs.iter().map(|input| &input.value).collect(),
            base: self.stage.base.as_ref().map(|base| &base.value),
            entries: asked.value.tokens.iter().map(|entry| (entry.token.value.as_str(), entry)).collect(),
            of,
            span: asked.span,
        };
        let remade = if is_made { Some(tokens) } else { choice.remade };
        Ok(Choice { vocabulary: Some(vocabulary), remade, plan: Some(plan), ..choice })
    }

    /// A vocabulary's tokens. Those that the model has no row for are left out, as mergekit does.
    fn tokens(
        &self,
        reference: &'r Reference,
        vocabulary: &Vocabulary,
        asked: &Spanned<Tokenizer>,
        findings: &mut Vec<Finding>,
    ) -> Result<Arc<Tokens>, Finding> {
        let Some(tokens) = &vocabulary.tokens else {
            let message = format!(
                "stage `{}`: the vocabularies differ, and {} has its tokenizer only in {}, in which tokens cannot be looked up",
                self.stage.name,
                self.name(reference),
                vocabulary.file
            );
            return Err(Finding::error("tokenizer-unread", asked.span, message).help(
                "put a tokenizer.json beside it; `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)` from transformers writes one",
            ));
        };
        let Some(rows) = self.rows(reference).first().copied().filter(|rows| *rows < tokens.rows()) else {
            return Ok(Arc::clone(tokens));
        };
        let within = tokens.within(rows);
        let (_, first) = tokens.iter().find(|(id, _)| *id as usize >= rows).expect("the last id is one");
        let n = tokens.len() - within.len();
        let message = format!(
            "stage `{}`: the tokenizer of {} has {n} token{} beyond its {rows} rows ({first:?} is the first), left out here",
            self.stage.name,
            self.name(reference),
            if n == 1 { "" } else { "s" }
        );
        let finding = Finding::warning("token-without-row", asked.span, message)
            .help("this is not the tokenizer that the model was trained with");
        if !findings.contains(&finding) {
            findings.push(finding);
        }
        Ok(Arc::new(within))
    }
}

/// The template that the stage sets, or that the stage whose tokenizer it takes has set.
fn chat_template(
    stage: &Stage,
    tokenizer: &Reference,
    models: &[Model],
    shapes: &Shapes<'_>,
) -> Option<String> {
    let inherited = match tokenizer.plain() {
        Reference::Stage(stage) => {
            shapes[stage.0].as_ref().expect("stages are shaped in order").chat_template.clone()
        }
        Reference::Model(_) | Reference::Adapted(_) => None,
    };
    match stage.chat_template.as_ref().map(|template| &template.value) {
        None | Some(ChatTemplate::File(_)) => inherited,
        Some(ChatTemplate::Jinja(text)) => Some(text.clone()),
        Some(ChatTemplate::Auto) => {
            let references = stage.references().into_iter().map(|spanned| &spanned.value);
            let mut seen: Vec<&Reference> = Vec::new();
            let mut votes: Vec<(&str, usize)> = Vec::new();
            for reference in references {
                if seen.contains(&reference) {
                    continue;
                }
                seen.push(reference);
                let Some(text) = &inventory_of(models, shapes, reference).chat_template else { continue };
                match votes.iter_mut().find(|(known, _)| *known == text.trim()) {
                    Some((_, count)) => *count += 1,
                    None => votes.push((text.trim(), 1)),
                }
            }
            let most = votes.iter().map(|(_, count)| *count).max();
            // Among equals the first in the recipe wins, so that the choice does not depend on chance.
            let winner = votes.iter().find(|(_, count)| Some(*count) == most);
            winner.map(|(text, _)| (*text).to_owned()).or(inherited)
        }
    }
}
