//! `lamarck inspect OUTPUT --stats`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::{Ready, as_locked, fetch, prepare};
use crate::cli::args::InspectArgs;
use crate::cli::config::Flags;
use crate::cli::error::CliError;
use crate::cli::progress::Progress;
use crate::cli::signals::Signals;
use crate::cli::ui::{Show, Ui};
use crate::cli::words::plural;
use crate::event::{Event, Events};
use crate::op::statistics::Change;
use crate::output::RECIPE_FILE;
use crate::output::lockfile::reading::Lockfile;
use crate::project::{OutputStatistics, ProjectError, TensorChange};

pub fn run(args: &InspectArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let dir = Path::new(&args.model);
    let locked = Lockfile::read(dir).map_err(ProjectError::from)?;
    let recipe_args = as_locked(dir.join(RECIPE_FILE), &locked);
    let InspectArgs { models, cache, offline, .. } = args;
    let (cache, seed) = (cache.as_deref(), locked.seed);
    let flags = Flags { models, cache, offline: *offline, seed, ..Flags::default() };
    let ready = prepare(&recipe_args, flags, Show::ErrorsAlone, ui)?;
    let signals = Signals::listen(&ready.project, ui);
    let Ready { project, recipe, planned, .. } = fetch::all(ready, &recipe_args, &signals, ui)?;
    let progress = Progress::new(ui, project.forecast(&recipe, &planned));
    let silence = |_: Event<'_>| ();
    let events: &dyn Events = if ui.json { &silence } else { &progress };
    let statistics = project.statistics(&recipe, planned, (dir, &locked), (events, &signals.interrupted));
    progress.finish();
    let statistics = statistics.map_err(|error| signals.explain(error))?;
    if ui.json {
        ui.print_json(as_json(&locked.stage, &statistics))?;
    } else {
        ui.print(&text(&locked.stage, &statistics))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Tensors that one stage makes of the same models, added up.
fn totals(tensors: &[TensorChange]) -> Vec<(TensorChange, usize)> {
    let mut totals: BTreeMap<(&String, &String, &Vec<String>), (TensorChange, usize)> = BTreeMap::new();
    for tensor in tensors {
        totals
            .entry((&tensor.stage, &tensor.base, &tensor.models))
            .and_modify(|(total, n)| {
                total.change.add(&tensor.change);
                *n += 1;
            })
            .or_insert((tensor.clone(), 1));
    }
    totals.into_values().collect()
}

fn text(stage: &str, statistics: &OutputStatistics) -> String {
    let OutputStatistics { tensors, copied, .. } = statistics;
    let n = tensors.len();
    let mut text =
        format!("{stage}: {n} tensor{} merged, {copied} taken from a model as they are\n", plural(n));
    for (total, n) in totals(tensors) {
        text.push_str(&format!("\n{}: {n} tensor{} against {}\n", total.stage, plural(n), total.base));
        text.push_str(&format!("  {}\n", numbers(&total.change)));
        for (model, share) in total.models.iter().zip(total.change.shares()) {
            text.push_str(&format!("  {:>6.1} %  {model}\n", share * 100.0));
        }
    }
    let width = tensors.iter().map(|tensor| tensor.tensor.len()).max().unwrap_or(0);
    for (i, TensorChange { tensor, change, .. }) in tensors.iter().enumerate() {
        let shares: Vec<String> =
            change.shares().iter().map(|share| format!("{:.1} %", share * 100.0)).collect();
        let before = if i == 0 { "\n" } else { "" };
        text.push_str(&format!("{before}{tensor:width$}  {}  {}\n", numbers(change), shares.join("  ")));
    }
    text
}

fn numbers(change: &Change) -> String {
    format!(
        "moved {:.3e} ({:.3} %), cosine {:.6}, signs flipped {:.3} %",
        change.norm(),
        change.relative() * 100.0,
        change.cosine(),
        change.flipped() * 100.0
    )
}

fn as_json(stage: &str, statistics: &OutputStatistics) -> serde_json::Value {
    let entry = |TensorChange { stage, base, models, change, .. }: &TensorChange| {
        let shares: Vec<_> = models
            .iter()
            .zip(change.shares())
            .map(|(model, share)| json!({ "model": model, "share": share }))
            .collect();
        json!({
            "stage": stage,
            "base": base,
            "elements": change.elements,
            "norm": change.norm(),
            "relative": change.relative(),
            "cosine": change.cosine(),
            "flipped": change.flipped(),
            "shares": shares,
        })
    };
    let tensors: Vec<_> = statistics
        .tensors
        .iter()
        .map(|tensor| {
            let mut value = entry(tensor);
            value["tensor"] = json!(tensor.tensor);
            value
        })
        .collect();
    let totals: Vec<_> = totals(&statistics.tensors)
        .iter()
        .map(|(total, n)| {
            let mut value = entry(total);
            value["tensors"] = json!(n);
            value
        })
        .collect();
    json!({
        "stage": stage,
        "copied": statistics.copied,
        "ran": statistics.ran,
        "totals": totals,
        "tensors": tensors,
    })
}
