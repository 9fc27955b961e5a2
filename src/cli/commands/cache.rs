//! `lamarck cache`.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::args::{CacheArgs, CacheCommand};
use crate::cli::config::{self, Flags};
use crate::cli::error::CliError;
use crate::cli::ui::{Ui, bytes};
use crate::store::{Store, StoreError, Usage};
use crate::workspace::WorkspaceError;

pub fn run(args: &CacheArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let workspace = config::workspace(None, Flags { cache: args.cache.as_deref(), ..Flags::default() })?;
    let path = workspace.cache.display();
    match args.command {
        CacheCommand::Path if ui.json => ui.print_json(&json!({ "path": workspace.cache }))?,
        CacheCommand::Path => ui.print(&format!("{path}\n"))?,
        CacheCommand::Stat => {
            let usage = || -> Result<Usage, StoreError> {
                Store::open_existing(&workspace.cache)?.map_or(Ok(Usage::default()), |store| store.usage())
            };
            let Usage { blobs, blob_bytes, index_bytes, actions, builds } =
                usage().map_err(WorkspaceError::from)?;
            if ui.json {
                ui.print_json(&json!({
                    "path": workspace.cache,
                    "blobs": blobs,
                    "blob_bytes": blob_bytes,
                    "index_bytes": index_bytes,
                    "actions": actions,
                    "builds": builds,
                }))?;
            } else {
                ui.print(&format!(
                    "{path}\nresults: {blobs} files, {}\nindex: {actions} actions, {builds} builds, {}\n",
                    bytes(blob_bytes),
                    bytes(index_bytes)
                ))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
