//! Bare state dicts: tensors without a config.json, merged name by name. What needs a model is refused.

use super::catalog::Inventory;
use crate::recipe::{Body, Finding, Recipe, Reference, Span, Stage};

/// Checks what a stage merges: bare state dicts alone, in which case nothing is asked for that they do not have, or
/// models alone.
///
/// # Errors
/// Says what does not go with what.
pub fn check<'i>(
    recipe: &Recipe,
    stage: &Stage,
    inventory: &dyn Fn(&Reference) -> &'i Inventory,
    findings: &mut Vec<Finding>,
) -> Result<(), Finding> {
    let references = stage.references();
    let find = |bare: bool| references.iter().find(|reference| inventory(&reference.value).is_bare() == bare);
    let Some(first) = find(true) else { return Ok(()) };
    let first_name = recipe.name_of(&first.value);
    if let Some(model) = find(false) {
        let model = recipe.name_of(&model.value);
        let message = format!(
            "stage `{}` mixes `{first_name}`, a bare state dict because it has no config.json, with the model `{model}`",
            stage.name
        );
        return Err(Finding::error("state-dict-mixed", first.span, message).help(format!(
            "put a config.json beside `{first_name}`, or name the tensor files of all models (`{model}/model.safetensors`)"
        )));
    }
    let needs_model = |span: Span, what: &str| {
        let message = format!("stage `{}` merges bare state dicts, {what}", stage.name);
        Err(Finding::error("state-dict", span, message)
            .help(format!("`{first_name}` needs a config.json beside its tensors to be a model")))
    };
    match &stage.body {
        Body::Models(_) => {}
        Body::Slices(slices) => {
            let span = slices.first().map_or(stage.span, |slice| slice.span);
            return needs_model(span, "which have no known layers for `slices` to take");
        }
        Body::Modules(modules) => {
            let span = modules.first().map_or(stage.span, |module| module.name.span);
            return needs_model(span, "which have no `modules`");
        }
    }
    if let Some(tokenizer) = &stage.tokenizer {
        return needs_model(tokenizer.span, "which have no tokenizer");
    }
    if let Some(template) = &stage.chat_template {
        return needs_model(template.span, "which have no chat template");
    }
    let message =
        format!("stage `{}` merges bare state dicts, so its result has no config.json either", stage.name);
    findings.push(Finding::note("state-dict", stage.span, message));
    Ok(())
}
