//! Tells of models that were found nowhere: what stands in their place, what may have been meant, how to get them.

use std::path::PathBuf;

use super::settings::Project;
use crate::hub::HubError;
use crate::model::locate::Places;
use crate::model::nearby;
use crate::recipe::{Finding, Recipe, Span, did_you_mean};
use crate::reference::ModelRef;

/// A model that was found nowhere.
pub struct Missing<'a> {
    pub reference: &'a ModelRef,
    /// Whether it was to be an adapter of a model.
    pub is_adapter: bool,
    pub span: Span,
    /// Where it could have been.
    pub tried: Vec<PathBuf>,
    /// What the hub said, if it was asked.
    pub answer: Option<HubError>,
}

/// A finding for each model, all with the same advice on how to get them.
pub fn findings(project: &Project, recipe: &Recipe, missing: &[Missing<'_>]) -> Vec<Finding> {
    let places = &project.places;
    let advice = advice(project, missing);
    missing
        .iter()
        .map(|model| {
            let mut finding = Finding::error("missing-model", model.span, message(model));
            let meant = (!model.is_adapter).then(|| meant(places, recipe, &model.reference.path)).flatten();
            finding.help.extend(meant.map(|meant| match missing {
                [_] => format!("did you mean {meant}?"),
                _ => format!("did you mean {meant} by `{}`?", model.reference.path),
            }));
            finding.help.extend(advice.iter().cloned());
            finding
        })
        .collect()
}

/// What is wrong, by what stands where the model should.
fn message(model: &Missing<'_>) -> String {
    let path = &model.reference.path;
    if model.is_adapter {
        return format!("adapter `{path}` was not found");
    }
    let there = model.tried.iter().find(|dir| dir.exists());
    match there {
        Some(file) if file.is_file() => {
            format!("`{path}` is a file, but not in a format that lamarck reads models from")
        }
        Some(_) => {
            format!("the folder `{path}` does not hold a model: it has no config.json and no weights")
        }
        None => format!("model `{path}` was not found"),
    }
}

/// What was most likely meant by a name.
fn meant(places: &Places, recipe: &Recipe, path: &str) -> Option<String> {
    let last = path.rsplit('/').next().unwrap_or(path);
    let stages = recipe.stages.iter().filter(|stage| !stage.name_from_file).map(|stage| stage.name.as_str());
    let stage = || did_you_mean(last, stages).map(|stage| format!("the stage `{stage}`"));
    let names = nearby::names(places, path);
    let model = || did_you_mean(path, names.iter().map(String::as_str)).map(|name| format!("`{name}`"));
    if is_of_owner(path) { model().or_else(stage) } else { stage().or_else(model) }
}

/// Whether a name is `org/name`, and not the folder that a stage's output goes to.
fn is_of_owner(path: &str) -> bool {
    path.contains('/') && !path.starts_with("merges/")
}

/// Where they were looked for, and how they get there.
fn advice(project: &Project, missing: &[Missing<'_>]) -> Vec<String> {
    let places = &project.places;
    let mut advice = Vec::new();
    let tried: Vec<String> = match missing {
        [one] => one.tried.iter().map(|dir| dir.display().to_string()).collect(),
        _ => {
            let roots = places.roots.iter().map(|root| match root.as_os_str().is_empty() {
                true => "the working directory".to_owned(),
                false => root.display().to_string(),
            });
            roots
                .chain(places.models.iter().chain(&places.hub).map(|dir| dir.display().to_string()))
                .collect()
        }
    };
    advice.push(match tried.as_slice() {
        [] => "there is nowhere to look for this name".to_owned(),
        tried => {
            format!("looked in:{}", tried.iter().map(|place| format!("\n  {place}")).collect::<String>())
        }
    });
    let absent = places.models.iter().filter(|folder| !folder.is_dir());
    advice
        .extend(absent.map(|folder| {
            format!("the models folder {} from lamarck.toml does not exist", folder.display())
        }));
    let folder =
        "give the folder that holds org/name with --models DIR, or in lamarck.toml with `models = [\"DIR\"]`";
    let answers = missing.iter().filter_map(|model| model.answer.as_ref());
    let answers = answers.flat_map(|answer| [Some(answer.to_string()), answer.help()]).flatten();
    for answer in answers {
        if !advice.contains(&answer) {
            advice.push(answer);
        }
    }
    if missing.iter().any(|model| model.reference.is_on_hub()) {
        let offline = project.hub.as_ref().and_then(|hub| hub.offline());
        advice.extend(offline.map(|because| format!("the hub was not contacted, because of {because}")));
        advice.push(folder.to_owned());
    }
    advice
}
