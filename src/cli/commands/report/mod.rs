//! `lamarck report`.
//!
//! | file | what it is |
//! | --- | --- |
//! | `grid` | tensors as a table of kinds by layers |
//! | `sums` | statistics of several tensors as one |
//! | `maps` | heat maps, and bars of the ancestors' shares |
//! | `charts` | parameters over layers |
//! | `page` | the page |

mod charts;
mod grid;
mod maps;
mod page;
mod sums;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::{Ready, build_named, fetch, read_again, ready};
use crate::cli::args::{RecipeArgs, ReportArgs};
use crate::cli::config::{self, Flags};
use crate::cli::error::CliError;
use crate::cli::progress::Progress;
use crate::cli::signals::Signals;
use crate::cli::ui::{Show, Ui};
use crate::cli::words::bytes;
use crate::event::{Event, Events};
use crate::project::Reach;

pub fn run(args: &ReportArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let flags = Flags::from(args);
    let project = config::project(None, flags)?;
    let build = build_named(&project, args.build.as_deref())?;
    let read = read_again(&build, project.cache, flags)?;
    let (number, record) = (build.number, &build.record);
    let recipe_args = RecipeArgs {
        stages: record.outputs.iter().map(|output| output.stage.clone()).collect(),
        ..RecipeArgs::default()
    };
    let ready = ready(read, &recipe_args, (Show::ErrorsAlone, Reach::Files), ui)?;
    let signals = Signals::listen(&ready.project, ui);
    let Ready { project, recipe, planned, .. } = fetch::all(ready, &recipe_args, &signals, ui)?;
    let grids: Vec<grid::Grid> = (planned.plan.order.iter())
        .map(|id| {
            let stage = planned.plan.stage(*id);
            grid::Grid::new(stage.tensors.keys().map(String::as_str), &stage.config)
        })
        .collect();
    let planned = project.plan_statistics(number, &recipe, planned)?;
    let progress = Progress::new(ui, project.forecast_alike(planned.n_statistics()));
    let silence = |_: Event<'_>| ();
    let events: &dyn Events = if ui.json { &silence } else { &progress };
    let follow = (events, &*signals.interrupted);
    let statistics = project.build_statistics((number, record), &recipe, planned, follow);
    progress.finish();
    let statistics = statistics.map_err(|error| signals.explain(error))?;
    let page = page::page(&page::Report { build: &build, recipe: &recipe, statistics: &statistics, grids });
    let path = match &args.out {
        Some(path) => path.clone(),
        None => PathBuf::from(format!("lamarck-report-{number}.html")),
    };
    write(&path, &page)?;
    if ui.json {
        ui.print_json(json!({
            "build": number,
            "path": path.to_string_lossy(),
            "bytes": page.len(),
            "statistics_ran": statistics.ran,
        }))?;
    } else {
        ui.print(&format!("{}\n", path.display()))?;
        ui.status(&format!("report of build {number}, {}", bytes(page.len() as u64)));
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the page, in one step, over nothing but an earlier page of lamarck's.
fn write(path: &Path, page: &str) -> Result<(), CliError> {
    let failed = |source| CliError::Write { path: path.to_owned(), source };
    match fs::read(path) {
        Ok(there) if !is_ours(&there) => {
            let path = path.display();
            let message =
                format!("{path} is there, and is no report of lamarck's; choose another file with --out");
            return Err(CliError::Usage(message));
        }
        _ => {}
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(page.as_bytes()).map_err(failed)?;
    // Temporary files are their owner's alone; a page may be shown to others.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn is_ours(page: &[u8]) -> bool {
    let start = String::from_utf8_lossy(&page[..page.len().min(2048)]);
    start.contains("<meta name=\"generator\" content=\"lamarck ")
}
