//! Whose tokenizer a stage's output gets.

use super::inputs::Segment;
use super::shape::{Shapes, inventory_of, model_id};
use super::{Model, ModelId};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{Recipe, Reference, Stage, TokenizerSource};

/// Chooses the donor of config.json and of the tokenizer, and says what vocabulary the output has.
///
/// # Errors
/// Where the recipe asks for a tokenizer whose vocabulary is not that of every input: token rows
/// would have to be moved, which lamarck does not do yet.
pub fn choose(
    recipe: &Recipe,
    stage: &Stage,
    donor: &Reference,
    segments: &[Segment<'_>],
    models: &[Model],
    shapes: &Shapes<'_>,
    findings: &mut Vec<Diagnostic>,
) -> Result<(ModelId, ModelId, Option<String>), Diagnostic> {
    // A stage hands on the checkpoints that it took these files from itself.
    let donor_model = |reference: &Reference| match reference {
        Reference::Model(model) => model_id(models, model),
        Reference::Stage(stage) => shapes[stage.0].as_ref().expect("stages are shaped in order").donor,
    };
    let tokenizer_model = |reference: &Reference| match reference {
        Reference::Model(model) => model_id(models, model),
        Reference::Stage(stage) => shapes[stage.0].as_ref().expect("stages are shaped in order").tokenizer,
    };
    let vocabulary = |reference: &Reference| inventory_of(models, shapes, reference).vocabulary.as_ref();
    let Some(asked) = &stage.tokenizer else {
        return Ok((donor_model(donor), tokenizer_model(donor), vocabulary(donor).cloned()));
    };
    let not_yet = |what: &str| {
        let message = format!("stage `{}`: {what} is not supported yet", stage.name);
        Err(Diagnostic::error("tokenizer-not-yet", asked.span, message)
            .help("for now a stage's models and its tokenizer must have the same vocabulary"))
    };
    if !asked.value.tokens.is_empty() {
        return not_yet("choosing embeddings of single tokens (`tokens`)");
    }
    if asked.value.pad_to_multiple_of.is_some() {
        return not_yet("padding the vocabulary (`pad_to_multiple_of`)");
    }
    let source = match &asked.value.source {
        TokenizerSource::Model(reference) => reference,
        TokenizerSource::Base => stage.base.as_ref().map_or(donor, |base| &base.value),
        TokenizerSource::Union => donor,
    };
    let Some(wanted) = vocabulary(source) else {
        let message = format!(
            "stage `{}` takes its tokenizer from {}, which has none",
            stage.name,
            recipe.name_of(source)
        );
        return Err(Diagnostic::error("tokenizer-missing", asked.span, message)
            .help("the model's folder needs a tokenizer.json"));
    };
    for source_model in segments.iter().flat_map(|segment| &segment.sources) {
        let name = recipe.name_of(source_model.reference);
        match vocabulary(source_model.reference) {
            Some(found) if found == wanted => {}
            Some(_) => {
                let what = format!("a tokenizer whose vocabulary differs from that of {name}");
                return not_yet(&what);
            }
            None => {
                let message = format!(
                    "stage `{}`: {name} has no tokenizer.json and is taken to have the vocabulary of {}",
                    stage.name,
                    recipe.name_of(source)
                );
                let finding = Diagnostic::note("tokenizer-assumed", source_model.span, message);
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
    }
    Ok((donor_model(donor), tokenizer_model(source), Some(wanted.clone())))
}
