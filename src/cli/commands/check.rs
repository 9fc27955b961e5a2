//! `lamarck check`.

use std::process::ExitCode;

use serde_json::json;

use super::{Read, read, targets, tell};
use crate::cli::args::CheckArgs;
use crate::cli::config::Flags;
use crate::cli::error::CliError;
use crate::cli::findings::Source;
use crate::cli::palette::{GOOD, paint};
use crate::cli::ui::{Show, Ui};
use crate::cli::words::plural;
use crate::project::Reach;
use crate::recipe::{StageId, allow};

pub fn run(CheckArgs { recipe: args, places }: &CheckArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let Read { project, path, text, recipe, mut findings, allowed } = read(args, Flags::from(places))?;
    let mut stages = 0;
    let mut tensors = 0;
    if let Some(recipe) = &recipe {
        // Without a choice every stage is checked to the last tensor, also what no final stage needs.
        let chosen = targets(recipe, &args.stages)?;
        let all = (0..recipe.stages.len()).map(StageId).collect();
        let targets = if chosen.is_empty() { all } else { chosen };
        if let Some(planned) =
            super::open_and_plan(&project, recipe, &targets, (Reach::Headers, ui), &mut findings)?
        {
            stages = planned.plan.order.len();
            tensors = planned.plan.order.iter().map(|id| planned.plan.stage(*id).tensors.len()).sum();
        }
    }
    let source = Source { name: path.to_string_lossy().into_owned(), text };
    let is_complete = stages > 0 && args.stages.is_empty();
    let findings = allow::apply(findings, &allowed, &project.allow, is_complete);
    tell(&source, &findings, args.deny_warnings, Show::All, ui)?;
    let name = source.name;
    if ui.json {
        ui.print_json(json!({ "recipe": name, "stages": stages, "tensors": tensors }))?;
    } else {
        let none = paint(GOOD, "no errors");
        ui.print(&format!("{name}: {stages} stage{}, {tensors} tensors, {none}\n", plural(stages)))?;
    }
    Ok(ExitCode::SUCCESS)
}
