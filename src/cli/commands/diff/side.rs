//! What the two sides of a comparison can be called, and what that means.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cli::args::{DiffArgs, RecipeArgs};
use crate::cli::commands::{Read, Ready, build_named, fetch, read, read_again, ready, targets};
use crate::cli::config::{self, Flags};
use crate::cli::error::CliError;
use crate::cli::signals::Signals;
use crate::cli::ui::{Show, Ui};
use crate::output::RECIPE_FILE;
use crate::output::lockfile::reading::Lockfile;
use crate::plan::{final_stages, needed};
use crate::project::{Origin, Planned, Project, Reach, Side};
use crate::recipe::{Recipe, StageId};
use crate::reference::ModelRef;

/// A side, read and planned.
pub struct Opened {
    pub side: Side,
    /// `None` for a checkpoint, which can be compared in any project.
    pub project: Option<Project>,
    /// What it is, in a few words.
    pub what: String,
    /// In one word, for programs.
    pub kind: &'static str,
    /// The recipe that a checkpoint was made from, if it tells.
    pub made_from: Option<Made>,
}

/// A recipe, and the stages of it that count.
pub struct Made {
    pub recipe: Recipe,
    pub stages: Vec<StageId>,
}

/// What a name means.
#[derive(Debug, PartialEq, Eq)]
enum Meaning<'t> {
    Model(ModelRef, Option<ModelRef>),
    Recipe(&'t Path, Option<&'t str>),
    Build(&'t str, Option<&'t str>),
}

impl Opened {
    pub fn new(text: &str, args: &DiffArgs, signals: &Signals, ui: &Ui) -> Result<Self, CliError> {
        let here = config::project(None, Flags::from(args))?;
        match meaning(text, &|name| Ok(here.build_named(Some(name))?.is_some()), &|text| ui.status(text))? {
            Meaning::Model(model, adapter) => of_model(text, (model, adapter), here, signals, ui),
            Meaning::Recipe(path, stage) => {
                let recipe_args = RecipeArgs { recipe: Some(path.to_owned()), ..RecipeArgs::default() };
                let read = read(&recipe_args, Flags::from(args))?;
                of_recipe(text, (read, None), stage, (signals, ui))
            }
            Meaning::Build(name, stage) => {
                let build = build_named(&here, Some(name))?;
                let read = read_again(&build, here.cache, Flags::from(args))?;
                of_recipe(text, (read, Some((build.number, build.record))), stage, (signals, ui))
            }
        }
    }

    /// The recipe that it was made from, if there is one.
    pub fn recipe(&self) -> Option<(&Recipe, Vec<StageId>)> {
        match (&self.side.origin, &self.made_from) {
            (Origin::Built { .. }, _) => {
                let Side { recipe, planned, .. } = &self.side;
                Some((recipe, planned.plan.order.clone()))
            }
            (Origin::Checkpoint, made) => {
                made.as_ref().map(|Made { recipe, stages }| (recipe, stages.clone()))
            }
        }
    }
}

/// What a name means. Anything that is there is a folder or a file, whatever else it could be.
fn meaning<'t>(
    text: &'t str,
    is_build: &dyn Fn(&str) -> Result<bool, CliError>,
    note: &dyn Fn(&str),
) -> Result<Meaning<'t>, CliError> {
    let is_number = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    let is_recipe = |path: &str| [".yaml", ".yml"].iter().any(|ending| path.ends_with(ending));
    let with_stage = |text: &'t str| match text.rsplit_once('#') {
        Some((of, stage)) => (of, Some(stage)),
        None => (text, None),
    };
    let path = Path::new(text);
    if path.is_file() && is_recipe(text) {
        return Ok(Meaning::Recipe(path, None));
    }
    if path.exists() {
        if is_number(text) {
            note(&format!("`{text}` is a folder here; the build of that number is `build:{text}`"));
        }
        return Ok(Meaning::Model(ModelRef { path: text.to_owned(), revision: None, hub_only: false }, None));
    }
    if let Some(name) = text.strip_prefix("build:").or_else(|| text.strip_prefix('@')) {
        let (name, stage) = with_stage(name);
        return Ok(Meaning::Build(name, stage));
    }
    let (of, stage) = with_stage(text);
    if is_recipe(of) {
        return Ok(Meaning::Recipe(Path::new(of), stage));
    }
    if is_number(of) || is_build(of)? {
        return Ok(Meaning::Build(of, stage));
    }
    let (model, adapter) =
        ModelRef::parse_pair(text).map_err(|problem| CliError::Usage(format!("`{text}`: {problem}")))?;
    Ok(Meaning::Model(model, adapter))
}

fn of_model(
    text: &str,
    (model, adapter): (ModelRef, Option<ModelRef>),
    project: Project,
    signals: &Signals,
    ui: &Ui,
) -> Result<Opened, CliError> {
    // Whatever is wrong with it is told of it, and not of a recipe.
    let checkpoint = project.model(&model)?;
    if let Some(adapter) = &adapter {
        project.adapted(&checkpoint, adapter)?;
    }
    let made_from = if adapter.is_none() { made_from(&project, &checkpoint.dir) } else { None };
    let recipe = Side::of_model(text, model, adapter);
    let read = Read {
        project,
        path: PathBuf::from(text),
        text: text.to_owned(),
        recipe: Some(recipe),
        findings: Vec::new(),
        allowed: Vec::new(),
    };
    let recipe_args = RecipeArgs::default();
    let ready = ready(read, &recipe_args, (Show::ErrorsAlone, Reach::Headers), ui)?;
    let Ready { recipe, planned, .. } = fetch::all(ready, &recipe_args, signals, ui)?;
    let dir = checkpoint.dir.display().to_string();
    let place = (dir != text).then_some(dir);
    let stage = made_from.as_ref().map(|(stage, _)| format!("stage {stage}"));
    let what = place.into_iter().chain(stage).collect::<Vec<_>>().join(", ");
    let side = Side { name: text.to_owned(), recipe, planned, origin: Origin::Checkpoint };
    let made_from = made_from.map(|(_, made)| made);
    Ok(Opened { side, project: None, what, kind: "checkpoint", made_from })
}

/// The recipe that a folder was built from, with the name of its stage, if it tells.
fn made_from(project: &Project, dir: &Path) -> Option<(String, Made)> {
    let locked = Lockfile::read(dir).ok()?;
    let path = dir.join(RECIPE_FILE);
    let text = std::fs::read_to_string(&path).ok()?;
    let sets: Vec<(String, String)> = locked.set.into_iter().collect();
    let recipe = project.load(&path, &text, &sets, locked.seed).recipe?;
    let stage = StageId(recipe.stages.iter().position(|stage| stage.name == locked.stage)?);
    let stages = needed(&recipe, &[stage]);
    Some((locked.stage, Made { recipe, stages }))
}

fn of_recipe(
    text: &str,
    (read, build): (Read, Option<(u64, crate::history::Record)>),
    stage: Option<&str>,
    (signals, ui): (&Signals, &Ui),
) -> Result<Opened, CliError> {
    let name = |build: &Option<(u64, _)>| match build {
        Some((number, _)) => format!("build {number}"),
        None => read.path.display().to_string(),
    };
    let (name, path) = (name(&build), read.path.clone());
    let targets_of_build = build.iter().flat_map(|(_, record)| record.variant.targets.clone());
    let whole = RecipeArgs { stages: targets_of_build.collect(), ..RecipeArgs::default() };
    let ready = ready(read, &whole, (Show::ErrorsAlone, Reach::Headers), ui)?;
    let Ready { project, recipe, planned, .. } = fetch::all(ready, &whole, signals, ui)?;
    let finals = targets(&recipe, &whole.stages)?;
    let finals = if finals.is_empty() { final_stages(&recipe) } else { finals };
    let target = match (stage, finals.as_slice()) {
        (Some(stage), _) => targets(&recipe, &[stage.to_owned()])?[0],
        (None, [only]) => *only,
        (None, several) => {
            let names: Vec<String> =
                several.iter().map(|id| format!("  {text}#{}", recipe.stage(*id).name)).collect();
            let message = format!("{name} has several final stages; name one:\n{}", names.join("\n"));
            return Err(CliError::Usage(message));
        }
    };
    let stage = recipe.stage(target).name.clone();
    let Planned { plan, catalog } = planned;
    // What no final stage needs of a stage was never made.
    let is_needed = |tensor: &String| {
        plan.stages[target.0].as_ref().is_some_and(|stage| stage.nodes.contains_key(tensor))
    };
    let (planned, _) = catalog.plan(&recipe, &[target]);
    let Some(planned) = planned else {
        let message = format!("stage `{stage}` of {name} cannot be planned by itself");
        return Err(CliError::Usage(message));
    };
    let tensors = planned.plan.stage(target).tensors.keys();
    let unneeded: BTreeSet<String> = tensors.filter(|tensor| !is_needed(tensor)).cloned().collect();
    let command = match &build {
        Some((number, _)) => format!("lamarck build --from {number}"),
        None if finals == [target] => format!("lamarck build {}", path.display()),
        None => format!("lamarck build {} --stage {stage}", path.display()),
    };
    let kind = if build.is_some() { "build" } else { "recipe" };
    let what = match &build {
        Some((number, record)) => format!("build {number}, stage {stage} of {}", record.variant.recipe),
        None => format!("stage {stage} of {}", path.display()),
    };
    let origin = Origin::Built { by: build.map(Box::new), unneeded, command };
    let side = Side { name: format!("stage `{stage}` of {name}"), recipe, planned, origin };
    Ok(Opened { side, project: Some(project), what, kind, made_from: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_is_there_and_then_builds_and_then_models() {
        let is_build = |name: &str| Ok(name == "good");
        let model = |path: &str| {
            Meaning::Model(ModelRef { path: path.to_owned(), revision: None, hub_only: false }, None)
        };
        let note = |_: &str| ();
        for (text, expected) in [
            ("src", model("src")),
            ("12", Meaning::Build("12", None)),
            ("build:src", Meaning::Build("src", None)),
            ("@12#a", Meaning::Build("12", Some("a"))),
            ("good#x-y", Meaning::Build("good", Some("x-y"))),
            ("r.yaml#a", Meaning::Recipe(Path::new("r.yaml"), Some("a"))),
            (
                "recipes/lamarck-14b-v0.3.yaml",
                Meaning::Recipe(Path::new("recipes/lamarck-14b-v0.3.yaml"), None),
            ),
            ("org/name", model("org/name")),
        ] {
            assert_eq!(meaning(text, &is_build, &note).unwrap(), expected, "{text}");
        }
        assert!(matches!(meaning("org/a+org/b", &is_build, &note).unwrap(), Meaning::Model(_, Some(_))));
    }
}
