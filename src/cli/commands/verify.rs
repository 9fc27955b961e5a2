//! `lamarck verify`.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::{Ready, as_locked, fetch, prepare};
use crate::cli::args::VerifyOutputArgs;
use crate::cli::config::Flags;
use crate::cli::error::{CliError, DAMAGED};
use crate::cli::progress::Progress;
use crate::cli::signals::Signals;
use crate::cli::ui::{Show, Ui};
use crate::cli::words::plural;
use crate::event::{Event, Events};
use crate::output::lockfile::reading::Lockfile;
use crate::output::workbench::Workbench;
use crate::output::{RECIPE_FILE, is_half_published};
use crate::project::{Builder, ProjectError, damage};

pub fn run(args: &VerifyOutputArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    if is_half_published(&args.dir) {
        let problem =
            "an update was interrupted, so its files are from two versions; build it again".to_owned();
        return tell(args, &[problem], None, ui);
    }
    let locked = Lockfile::read(&args.dir).map_err(ProjectError::from)?;
    let mut problems = damage(&args.dir, &locked)?;
    if problems.is_empty() && args.rebuild {
        problems = rebuild(args, &locked, ui)?;
    }
    tell(args, &problems, Some(&locked), ui)
}

/// Prints what was found; `locked` is the lock that the directory was held to.
fn tell(
    args: &VerifyOutputArgs,
    problems: &[String],
    locked: Option<&Lockfile>,
    ui: &Ui,
) -> Result<ExitCode, CliError> {
    let is_proven = problems.is_empty();
    let n_tensors = locked.map_or(0, |locked| locked.tensors.len());
    if ui.json {
        ui.print_json(json!({
            "path": args.dir.to_string_lossy(),
            "stage": locked.map(|locked| &locked.stage),
            "tensors": n_tensors,
            "rebuilt": args.rebuild,
            "problems": problems,
        }))?;
    } else if is_proven {
        let how =
            if args.rebuild { "and come out the same when rebuilt" } else { "according to the lockfile" };
        ui.print(&format!("{}: all {n_tensors} tensors match, {how}\n", args.dir.display()))?;
    } else {
        let mut text =
            format!("{}: {} problem{}\n", args.dir.display(), problems.len(), plural(problems.len()));
        for problem in problems {
            text.push_str(&format!("  {problem}\n"));
        }
        ui.print_problems(&text)?;
    }
    Ok(if is_proven { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
}

/// Builds the model again from its own recipe, in a folder of its own and with nothing from the cache,
/// and compares.
fn rebuild(args: &VerifyOutputArgs, locked: &Lockfile, ui: &Ui) -> Result<Vec<String>, CliError> {
    let recipe = args.recipe.clone().unwrap_or_else(|| args.dir.join(RECIPE_FILE));
    let recipe_args = as_locked(recipe, locked);
    let flags = Flags { models: &args.models, seed: locked.seed, ..Flags::default() };
    let ready = prepare(&recipe_args, flags, Show::ErrorsAlone, ui)?;
    let signals = Signals::listen(&ready.project, ui);
    let Ready { mut project, recipe, planned, .. } = fetch::all(ready, &recipe_args, &signals, ui)?;
    // On the disk that the model is on, which has room for one.
    let parent = args.dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let scratch = Workbench::scratch(parent)
        .map_err(|source| CliError::Config { path: parent.display().to_string(), source })?;
    project.cache = scratch.path().join("cache");
    project.cache_limit = None;
    let out = scratch.path().join("out");
    let progress = Progress::new(ui, project.forecast(&recipe, &planned));
    let silence = |_: Event<'_>| ();
    let events: &dyn Events = if ui.json { &silence } else { &progress };
    let report = Builder::new(&project, &recipe, &planned)
        .outs(&[(locked.stage.clone(), out.clone())])
        .rehash(true)
        .follow(events, &signals.interrupted)
        .build();
    progress.finish();
    let again = report
        .map_err(|error| signals.explain(error))
        .and_then(|_| Ok(Lockfile::read(&out).map_err(ProjectError::from)?));
    // Whatever stays is removed by the next one.
    let _ = scratch.throw_away();
    let again = again?;
    let names =
        locked.tensors.keys().chain(again.tensors.keys().filter(|name| !locked.tensors.contains_key(*name)));
    Ok(names
        .filter(|name| locked.tensors.get(*name) != again.tensors.get(*name))
        .map(|name| format!("tensor `{name}` comes out different when it is rebuilt"))
        .collect())
}
