//! One file a command.

pub mod build;
pub mod cache;
pub mod check;
pub mod completions;
pub mod diff;
pub mod explain;
pub mod fetch;
pub mod graph;
pub mod inspect;
pub mod log;
pub mod man;
pub mod mergekit;
pub mod methods;
pub mod new;
pub mod plan;
pub mod report;
pub mod schema;
pub mod show;
mod statistics;
pub mod tag;
pub mod verify;
pub mod watch;

use std::path::PathBuf;

use super::args::RecipeArgs;
use super::config::{self, Flags};
use super::error::CliError;
use super::fetching::Fetching;
use super::findings::{Source, grouped};
use super::ui::{Show, Ui};
use super::words::plural;
use crate::output::lockfile::reading::Lockfile;
use crate::project::{Planned, Project, ProjectError, Reach, RecordedBuild};
use crate::recipe::allow::{self, Allowed};
use crate::recipe::{Finding, Loaded, Recipe, Severity, StageId, did_you_mean};

/// A recipe that was read and planned without an error.
struct Ready {
    project: Project,
    recipe: Recipe,
    planned: Planned,
    /// What was found in it, as far as it is told of.
    findings: Vec<Finding>,
}

/// A recipe's text, with the settings that hold for it.
struct Unread {
    project: Project,
    path: PathBuf,
    text: String,
}

/// How far a recipe could be read.
struct Read {
    project: Project,
    path: PathBuf,
    text: String,
    recipe: Option<Recipe>,
    findings: Vec<Finding>,
    allowed: Vec<Allowed>,
}

/// Finds a recipe and what holds for it.
fn unread(args: &RecipeArgs, flags: Flags<'_>) -> Result<Unread, CliError> {
    let path = config::recipe_path(args.recipe.as_deref())?;
    let project = config::project(Some(&path), flags)?;
    let text = std::fs::read_to_string(&path)
        .map_err(|source| ProjectError::Recipe { path: path.clone(), source })?;
    Ok(Unread { project, path, text })
}

impl Unread {
    /// Reads the recipe; errors in it are findings.
    fn read(self, sets: &[(String, String)], seed: Option<u64>) -> Read {
        let Self { project, path, text } = self;
        let Loaded { recipe, findings, allowed } = project.load(&path, &text, sets, seed);
        Read { project, path, text, recipe, findings, allowed }
    }
}

/// Finds and reads a recipe; errors in it are findings.
fn read(args: &RecipeArgs, flags: Flags<'_>) -> Result<Read, CliError> {
    Ok(unread(args, flags)?.read(&args.sets, flags.seed))
}

/// What an output was built from, by its lockfile: its stage of a recipe, with what the command line set.
fn as_locked(recipe: PathBuf, locked: &Lockfile) -> RecipeArgs {
    RecipeArgs {
        recipe: Some(recipe),
        stages: vec![locked.stage.clone()],
        sets: locked.set.clone().into_iter().collect(),
        deny_warnings: false,
    }
}

/// Reads the recipe of an earlier build, which was found in a cache, as it was then.
fn read_again(build: &RecordedBuild, cache: PathBuf, flags: Flags<'_>) -> Result<Read, CliError> {
    let (record, text) = (&build.record, build.recipe_text.clone());
    let path = PathBuf::from(&record.variant.recipe);
    let mut project = Project { cache, ..config::project(Some(&path), flags)? };
    // Behind those of the command line and the configuration, which may know where the models are now.
    for folder in record.account.models.iter().map(PathBuf::from) {
        if !project.places.models.contains(&folder) {
            project.places.models.push(folder);
        }
    }
    Ok(Unread { project, path, text }.read(&record.variant.sets, record.variant.seed))
}

/// The build of a number or a tag, or the newest.
fn build_named(project: &Project, name: Option<&str>) -> Result<RecordedBuild, CliError> {
    project.build_named(name)?.ok_or_else(|| {
        let cache = project.cache.display();
        CliError::Usage(match name {
            Some(name) if name.parse::<u64>().is_ok() => {
                format!("there is no build {name} in {cache}; `lamarck log` lists the builds")
            }
            Some(name) => format!("no build in {cache} is tagged `{name}`; `lamarck tag` lists the tags"),
            None => format!("nothing has been built with the cache {cache} yet"),
        })
    })
}

/// Opens the models that the targets need and plans them.
fn open_and_plan(
    project: &Project,
    recipe: &Recipe,
    targets: &[StageId],
    (reach, ui): (Reach, &Ui),
    findings: &mut Vec<Finding>,
) -> Result<Option<Planned>, ProjectError> {
    let fetching = Fetching::new(ui, None);
    let catalog = project.catalog_told(recipe, targets, reach, &fetching);
    fetching.finish();
    let (catalog, found) = catalog?;
    findings.extend(found);
    let Some(catalog) = catalog else { return Ok(None) };
    let (planned, found) = catalog.plan(recipe, targets);
    findings.extend(found);
    Ok(planned)
}

/// The stages named by `--stage`.
fn targets(recipe: &Recipe, names: &[String]) -> Result<Vec<StageId>, CliError> {
    names
        .iter()
        .map(|name| {
            let found = recipe.stages.iter().position(|stage| stage.name == *name);
            found.map(StageId).ok_or_else(|| {
                let known: Vec<&str> = recipe.stages.iter().map(|stage| stage.name.as_str()).collect();
                let help = match did_you_mean(name, known.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("it has {}", known.join(", ")),
                };
                CliError::Usage(format!("the recipe has no stage `{name}`; {help}"))
            })
        })
        .collect()
}

/// Reads and plans a recipe, tells of what was found, and fails on errors.
fn prepare(args: &RecipeArgs, flags: Flags<'_>, show: Show, ui: &Ui) -> Result<Ready, CliError> {
    ready(read(args, flags)?, args, (show, Reach::Headers), ui)
}

/// Plans a recipe, tells of what was found, and fails on errors.
fn ready(read: Read, args: &RecipeArgs, (show, reach): (Show, Reach), ui: &Ui) -> Result<Ready, CliError> {
    let Read { project, path, text, recipe, mut findings, allowed } = read;
    let planned = match &recipe {
        Some(recipe) => {
            open_and_plan(&project, recipe, &targets(recipe, &args.stages)?, (reach, ui), &mut findings)?
        }
        None => None,
    };
    let source = Source { name: path.to_string_lossy().into_owned(), text };
    let findings = allow::apply(findings, &allowed, &project.allow, false);
    tell(&source, &findings, args.deny_warnings, show, ui)?;
    match (recipe, planned) {
        (Some(recipe), Some(planned)) => Ok(Ready { project, recipe, planned, findings }),
        _ => unreachable!("without an error there is a recipe and a plan"),
    }
}

/// Tells of what was found, and fails if there are errors, or warnings where those are denied.
fn tell(
    source: &Source,
    findings: &[Finding],
    deny_warnings: bool,
    show: Show,
    ui: &Ui,
) -> Result<(), CliError> {
    let name = &source.name;
    let groups = grouped(findings);
    let count = |severity| groups.iter().filter(|group| group.severity() == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let is_denied = deny_warnings && warnings > 0;
    ui.findings(source, findings, if is_denied && show != Show::All { Show::Warnings } else { show })?;
    if errors > 0 {
        Err(CliError::Findings(format!("{name} has {errors} error{}; nothing was built", plural(errors))))
    } else if is_denied {
        Err(CliError::Findings(format!(
            "{name} has {warnings} warning{}, and --deny-warnings treats warnings as errors",
            plural(warnings)
        )))
    } else {
        Ok(())
    }
}
