//! `lamarck fetch`, and the fetching that a build begins with.

use std::process::ExitCode;

use serde_json::json;

use super::{Ready, open_and_plan, read, ready, targets};
use crate::cli::args::{FetchArgs, RecipeArgs};
use crate::cli::config::Flags;
use crate::cli::error::CliError;
use crate::cli::fetching::Fetching;
use crate::cli::findings::Source;
use crate::cli::signals::Signals;
use crate::cli::ui::{Show, Ui};
use crate::cli::words::{bytes, listed, plural};
use crate::hub::Want;
use crate::project::{Project, Reach};

pub fn run(args: &FetchArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let mut read = read(&args.recipe, Flags::from(&args.places))?;
    if let (true, Some(recipe)) = (args.locked, &read.recipe) {
        read.project.pin(recipe, &targets(recipe, &args.recipe.stages)?, None)?;
    }
    let ready = ready(read, &args.recipe, (Show::Errors, Reach::Files), ui)?;
    let files = ready.planned.catalog.absent().len();
    let signals = Signals::listen(&ready.project, ui);
    let ready = all(ready, &args.recipe, &signals, ui)?;
    let received = ready.project.hub.as_ref().map_or(0, |hub| hub.received());
    let models = ready.planned.catalog.models.len();
    if ui.json {
        ui.print_json(json!({ "models": models, "files": files, "bytes": received }))?;
    } else if received == 0 {
        ui.print(&format!("all {models} models are on this machine\n"))?;
    } else {
        ui.print(&format!("fetched {}; all {models} models are on this machine\n", bytes(received)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Fetches what the models of a plan lack on this machine, and plans anew with all of it here.
pub(super) fn all(ready: Ready, args: &RecipeArgs, signals: &Signals, ui: &Ui) -> Result<Ready, CliError> {
    let Ready { project, recipe, planned, .. } = &ready;
    let wants = planned.catalog.absent();
    if wants.is_empty() {
        return Ok(ready);
    }
    let total = to_download(project, &wants);
    if project.hub.as_ref().is_some_and(|hub| hub.offline().is_none()) {
        ui.status(&format!("fetching {} of {}", bytes(total), models_of(&wants)));
    }
    let fetching = Fetching::new(ui, Some(total));
    let fetched = project.fetch(&wants, &fetching);
    fetching.finish();
    fetched.map_err(|error| signals.explain(error))?;
    let mut findings = Vec::new();
    let targets = targets(recipe, &args.stages)?;
    let planned = open_and_plan(project, recipe, &targets, (Reach::Files, ui), &mut findings)?;
    let Some(planned) = planned else {
        // The files are other than their headers were from afar.
        let source = Source { name: recipe.name.to_string(), text: recipe.text.to_string() };
        super::tell(&source, &findings, false, Show::ErrorsAlone, ui)?;
        unreachable!("without an error there is a plan");
    };
    Ok(Ready { planned, ..ready })
}

/// Bytes that are still to come of files.
pub(super) fn to_download(project: &Project, wants: &[Want<'_>]) -> u64 {
    project.hub.as_ref().map_or(0, |hub| hub.bytes_to_download(wants))
}

/// `a, b and c`, or how many they are.
pub(super) fn models_of(wants: &[Want<'_>]) -> String {
    const NAMED: usize = 3;
    let mut names: Vec<String> = wants.iter().map(|want| want.snapshot.id.clone()).collect();
    names.dedup();
    if names.len() <= NAMED {
        listed(&names)
    } else {
        format!("{} model{}", names.len(), plural(names.len()))
    }
}
