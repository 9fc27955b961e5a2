//! `lamarck log`.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::cli::args::LogArgs;
use crate::cli::config::{self, Flags};
use crate::cli::error::CliError;
use crate::cli::ui::Ui;
use crate::history::{self, Record};
use crate::store::{Store, StoreError};
use crate::workspace::WorkspaceError;

pub fn run(args: &LogArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let workspace = config::workspace(None, Flags { cache: args.cache.as_deref(), ..Flags::default() })?;
    let builds = || -> Result<Vec<(u64, Record)>, StoreError> {
        match Store::open_existing(&workspace.cache)? {
            Some(store) => history::builds(&store.index().snapshot()?),
            None => Ok(Vec::new()),
        }
    };
    let mut builds = builds().map_err(WorkspaceError::from)?;
    builds.truncate(args.limit.unwrap_or(usize::MAX));
    if ui.json {
        let list: Vec<_> = builds.iter().map(|(number, record)| as_json(*number, record)).collect();
        ui.print_json(&list.into())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for (number, record) in &builds {
        let ago = ago(record.time);
        text.push_str(&format!("build {number}  {ago}  {}\n", record.recipe));
        for output in &record.outputs {
            text.push_str(&format!(
                "  {}: {} tensors, {} rebuilt -> {}\n",
                output.stage, output.tensors, output.rebuilt, output.dir
            ));
        }
        let why = if record.reasons.is_empty() {
            String::new()
        } else {
            format!(": {}", record.reasons.join("; "))
        };
        text.push_str(&format!("  {} actions ran in {:.1} s{why}\n", record.ran, record.seconds));
    }
    if builds.is_empty() {
        ui.status(&format!("no builds in {} yet", workspace.cache.display()));
    }
    ui.print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn as_json(number: u64, record: &Record) -> serde_json::Value {
    let outputs: Vec<_> = record
        .outputs
        .iter()
        .map(|output| json!({ "stage": output.stage, "dir": output.dir, "tensors": output.tensors, "rebuilt": output.rebuilt }))
        .collect();
    json!({
        "build": number,
        "time": record.time,
        "recipe": record.recipe,
        "outputs": outputs,
        "ran": record.ran,
        "reasons": record.reasons,
        "seconds": record.seconds,
    })
}

/// How long ago a moment was, in the largest unit that fits.
fn ago(time: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seconds = now.saturating_sub(time);
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}
