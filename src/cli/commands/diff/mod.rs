//! `lamarck diff`.

mod json;
mod page;
mod report;
mod side;
mod sums;
mod text;
mod words;

use std::process::ExitCode;

use self::report::Report;
use self::side::Opened;
use self::sums::Sums;
use self::text::Shown;
use crate::cli::args::DiffArgs;
use crate::cli::config::{self, Flags};
use crate::cli::error::{CliError, WORK};
use crate::cli::progress::Progress;
use crate::cli::signals::Signals;
use crate::cli::terminal;
use crate::cli::ui::Ui;
use crate::event::{Event, Events};
use crate::project::{Edits, Project};
use crate::recipe::changes::FieldChange;
use crate::recipe::{Recipe, StageId};

pub fn run(args: &DiffArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let here = config::project(None, Flags::from(args))?;
    let signals = Signals::listen(&here, ui);
    let a = Opened::new(&args.a, args, &signals, ui)?;
    let b = Opened::new(&args.b, args, &signals, ui)?;
    let edits = match (a.recipe(), b.recipe()) {
        (Some(a), Some(b)) => Some(edits(a, b)),
        _ => None,
    };
    let Opened { side: side_a, project: project_a, what: what_a, kind: kind_a, .. } = a;
    let Opened { side: side_b, project: project_b, what: what_b, kind: kind_b, .. } = b;
    let project = one_project(project_a, project_b, here)?;
    let n_tensors = side_a.planned.plan.stage(side_a.planned.plan.targets[0]).tensors.len();
    let progress = Progress::new(ui, project.forecast_alike(n_tensors));
    let silence = |_: Event<'_>| ();
    let events: &dyn Events = if ui.json { &silence } else { &progress };
    let comparison = project.diff([side_a, side_b], (events, &signals.interrupted));
    progress.finish();
    let comparison = comparison.map_err(|error| signals.explain(error))?;
    let report = Report {
        names: [&args.a, &args.b],
        what: [&what_a, &what_b],
        kinds: [kind_a, kind_b],
        sums: Sums::new(&comparison),
        comparison: &comparison,
        edits,
    };
    if let Some(path) = &args.html {
        std::fs::write(path, page::page(&report)).map_err(CliError::write(path))?;
    }
    if ui.json {
        ui.print_json(json::document(&report))?;
    } else {
        let width = terminal::width_of_stdout();
        ui.print(&text::text(&report, &Shown { top: args.top, all: ui.verbose, width }))?;
    }
    Ok(ExitCode::from(if args.exit_code && report.differ() { WORK } else { 0 }))
}

/// The project whose store has what is compared.
fn one_project(a: Option<Project>, b: Option<Project>, here: Project) -> Result<Project, CliError> {
    match (a, b) {
        (Some(a), Some(b)) => {
            let full = |project: &Project| std::fs::canonicalize(&project.cache).ok();
            if a.cache != b.cache && full(&a) != full(&b) {
                return Err(CliError::Usage(format!(
                    "the two were built with different caches, {} and {}; compare their output folders",
                    a.cache.display(),
                    b.cache.display()
                )));
            }
            Ok(a)
        }
        (Some(one), None) | (None, Some(one)) => Ok(one),
        (None, None) => Ok(here),
    }
}

/// What leads from one recipe to another, of the stages that the second model needs.
fn edits((old, _): (&Recipe, Vec<StageId>), (new, needed): (&Recipe, Vec<StageId>)) -> Edits {
    let is_needed = |change: &FieldChange| {
        let is_of = |name: &String| needed.iter().any(|stage| new.stage(*stage).name == *name);
        change.stage.as_ref().is_none_or(is_of)
    };
    let mut edits = Edits::between(old, new);
    edits.fields.retain(is_needed);
    edits
}
