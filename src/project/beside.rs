//! What is known of models beside their weights, as far as a recipe asks for it: tokens, chat templates, and how texts
//! are generated.

use std::path::Path;

use serde_json::Value;

use crate::model::checkpoint::Checkpoint;
use crate::model::layout::is_vocabulary;
use crate::model::tokenizer::{GENERATION, Vocabulary, chat_template, vocabularies};
use crate::model::{ModelError, json};
use crate::recipe::chat_template::ChatTemplate;
use crate::recipe::{Recipe, Stage, Tokenizer, TokenizerSource};

/// What is known of one model.
#[derive(Clone, Default)]
pub struct Beside {
    pub vocabulary: Option<Vocabulary>,
    pub generation: Option<Value>,
    pub chat_template: Option<String>,
}

/// Reads what the recipe asks for of each model, and nothing where there is none.
pub fn beside(recipe: &Recipe, models: &[Option<&Checkpoint>]) -> Result<Vec<Beside>, ModelError> {
    let mut found = vec![Beside::default(); models.len()];
    let mut of_models: Vec<(&mut Beside, &Checkpoint)> =
        found.iter_mut().zip(models).filter_map(|(beside, model)| Some((beside, (*model)?))).collect();
    if recipe.stages.iter().any(|stage| stage.tokenizer.is_some()) {
        let in_full = recipe.stages.iter().any(moves_tokens) || differ_in_rows(&of_models);
        let dirs: Vec<&Path> = of_models.iter().map(|(_, model)| model.dir.as_path()).collect();
        let known = vocabularies(&dirs, in_full)?;
        // Where vocabularies are not known in full all are equal, and an id changes only for another model's tokenizer.
        let is_another = |stage: &Stage| {
            let tokenizer = stage.tokenizer.as_ref().map(|tokenizer| &tokenizer.value);
            tokenizer.is_some_and(|tokenizer| matches!(tokenizer.source, TokenizerSource::Model(_)))
        };
        let has_ids = known.iter().flatten().any(|vocabulary| vocabulary.tokens.is_some())
            || recipe.stages.iter().any(is_another);
        for ((beside, model), vocabulary) in of_models.iter_mut().zip(known) {
            beside.vocabulary = vocabulary;
            beside.generation =
                if has_ids { json::read_if_there(&model.dir.join(GENERATION))? } else { None };
        }
    }
    let is_auto = |stage: &Stage| {
        stage.chat_template.as_ref().is_some_and(|template| template.value == ChatTemplate::Auto)
    };
    if recipe.stages.iter().any(is_auto) {
        for (beside, model) in of_models {
            beside.chat_template = chat_template(&model.dir)?;
        }
    }
    Ok(found)
}

/// Whether tokens may get other places even where all vocabularies are equal.
fn moves_tokens(stage: &Stage) -> bool {
    let Some(Tokenizer { source: _, tokens, pad_to_multiple_of, trim_vocab }) =
        stage.tokenizer.as_ref().map(|tokenizer| &tokenizer.value)
    else {
        return false;
    };
    !tokens.is_empty() || pad_to_multiple_of.is_some() || *trim_vocab
}

/// Whether some embeddings have more rows than others.
fn differ_in_rows(models: &[(&mut Beside, &Checkpoint)]) -> bool {
    let rows = |(_, model): &(&mut Beside, &Checkpoint)| {
        let rows = |name: &str| model.spec(name).and_then(|spec| spec.shape.0.first().copied());
        model.names().filter(|name| is_vocabulary(name)).filter_map(rows).max()
    };
    let mut rows = models.iter().map(rows);
    let first = rows.next();
    rows.any(|other| Some(other) != first)
}
