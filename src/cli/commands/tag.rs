//! `lamarck tag`.

use std::process::ExitCode;

use serde_json::json;

use super::build_named;
use crate::cli::args::TagArgs;
use crate::cli::config::{self, Flags};
use crate::cli::error::CliError;
use crate::cli::ui::Ui;
use crate::cli::words::ago;
use crate::history::problem_of_name;
use crate::project::Project;

pub fn run(args: &TagArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let project = config::project(None, Flags { cache: args.cache.as_deref(), ..Flags::default() })?;
    match (&args.delete, &args.build, &args.name) {
        (Some(name), ..) => delete(&project, name, ui)?,
        (None, Some(build), Some(name)) => tag(&project, build, name, args, ui)?,
        _ => list(&project, ui)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn tag(project: &Project, build: &str, name: &str, args: &TagArgs, ui: &Ui) -> Result<(), CliError> {
    if let Some(problem) = problem_of_name(name) {
        return Err(CliError::Usage(format!("`{name}` cannot be a tag: {problem}")));
    }
    let number = build_named(project, Some(build))?.number;
    let before = project.tags()?.into_iter().find(|tag| tag.name == *name);
    if let Some(before) = before.filter(|before| before.build != number && !args.force) {
        let has = before.build;
        return Err(CliError::Usage(format!("build {has} is tagged `{name}`; --force moves the tag")));
    }
    project.set_tag(name, number, &args.note)?;
    if ui.json {
        return ui.print_json(json!({ "tag": name, "build": number, "note": args.note }));
    }
    ui.status(&format!("build {number} is tagged {name}"));
    Ok(())
}

fn delete(project: &Project, name: &str, ui: &Ui) -> Result<(), CliError> {
    let Some(tag) = project.tags()?.into_iter().find(|tag| tag.name == *name) else {
        let cache = project.cache.display();
        return Err(CliError::Usage(format!("no build in {cache} is tagged `{name}`")));
    };
    project.remove_tag(name)?;
    if ui.json {
        return ui.print_json(json!({ "deleted": name, "build": tag.build }));
    }
    ui.status(&format!("deleted tag {name}; it was build {}", tag.build));
    Ok(())
}

fn list(project: &Project, ui: &Ui) -> Result<(), CliError> {
    let tags = project.tags()?;
    if ui.json {
        let tags: Vec<_> = (tags.iter())
            .map(|tag| json!({ "name": tag.name, "build": tag.build, "time": tag.time, "note": tag.note }))
            .collect();
        return ui.print_json(json!({ "tags": tags }));
    }
    if tags.is_empty() {
        ui.status("no tags yet; `lamarck tag BUILD NAME` names a build");
    }
    let width = tags.iter().map(|tag| tag.name.chars().count()).max().unwrap_or(0);
    let line = |tag: &crate::history::Tag| {
        let note = if tag.note.is_empty() { String::new() } else { format!("  {}", tag.note) };
        format!("{:width$}  build {}, tagged {}{note}\n", tag.name, tag.build, ago(tag.time))
    };
    ui.print(&tags.iter().map(line).collect::<String>())
}
