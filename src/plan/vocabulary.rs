//! Whose tokenizer a stage's output gets.

use super::catalog::{Model, ModelId, model_id};
use super::segments::Segment;
use super::stage_shape::{Shapes, inventory_of};
use crate::recipe::chat_template::ChatTemplate;
use crate::recipe::{Finding, Recipe, Reference, Stage, StageId, TokenizerSource};

/// Where the files beside a stage's weights come from.
pub struct Choice {
    pub donor: ModelId,
    pub tokenizer: ModelId,
    pub vocabulary: Option<String>,
    /// A chat template that replaces that of the tokenizer's model.
    pub chat_template: Option<String>,
}

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
    findings: &mut Vec<Finding>,
) -> Result<Choice, Finding> {
    // A stage hands on the checkpoints that it took these files from itself.
    let shaped = |stage: &StageId| shapes[stage.0].as_ref().expect("stages are shaped in order");
    let donor_model = |reference: &Reference| match reference.plain() {
        Reference::Stage(stage) => shaped(stage).donor,
        Reference::Model(model) => model_id(models, model),
        Reference::Adapted(_) => unreachable!("what is plain has no adapter"),
    };
    let tokenizer_model = |reference: &Reference| match reference.plain() {
        Reference::Stage(stage) => shaped(stage).tokenizer,
        Reference::Model(model) => model_id(models, model),
        Reference::Adapted(_) => unreachable!("what is plain has no adapter"),
    };
    let vocabulary = |reference: &Reference| inventory_of(models, shapes, reference).vocabulary.as_ref();
    let template = |source: &Reference| chat_template(stage, source, models, shapes);
    let Some(asked) = &stage.tokenizer else {
        return Ok(Choice {
            donor: donor_model(donor),
            tokenizer: tokenizer_model(donor),
            vocabulary: vocabulary(donor).cloned(),
            chat_template: template(donor),
        });
    };
    let not_yet = |what: &str| {
        let message = format!("stage `{}`: {what} is not supported yet", stage.name);
        Err(Finding::error("tokenizer-not-yet", asked.span, message)
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
        return Err(Finding::error("tokenizer-missing", asked.span, message)
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
                let finding = Finding::note("tokenizer-assumed", source_model.span, message);
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
    }
    Ok(Choice {
        donor: donor_model(donor),
        tokenizer: tokenizer_model(source),
        vocabulary: Some(wanted.clone()),
        chat_template: template(source),
    })
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
        None => inherited,
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
