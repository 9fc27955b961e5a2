//! `lamarck show`.

use std::process::ExitCode;

use serde_json::json;

use super::build_named;
use super::log::{as_json, changes, painted};
use crate::cli::args::ShowArgs;
use crate::cli::config::{self, Flags};
use crate::cli::error::CliError;
use crate::cli::palette::{self, SUBJECT, paint};
use crate::cli::ui::Ui;
use crate::cli::words::{ago, bytes, plural};
use crate::history::{Account, Effort, OutputRecord, StageAccount};
use crate::project::RecordedBuild;

pub fn run(args: &ShowArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let project = config::project(None, Flags { cache: args.cache.as_deref(), ..Flags::default() })?;
    let build = build_named(&project, args.build.as_deref())?;
    if ui.json {
        ui.print_json(document(&build))?;
    } else if args.recipe {
        ui.print_as_it_is(&build.recipe_text)?;
    } else {
        ui.print(&page(&build))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn page(build: &RecordedBuild) -> String {
    let RecordedBuild { number, record, tags, recipe_text, .. } = build;
    let mut text = format!("{}, {}\n", paint(SUBJECT, format!("build {number}")), ago(record.time));
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<12}{value}\n"));
    for tag in tags {
        let note = if tag.note.is_empty() { String::new() } else { format!(": {}", tag.note) };
        line("tag", format!("{}{note}", tag.name));
    }
    line("recipe", record.variant.recipe.clone());
    for (name, value) in &record.variant.sets {
        line("set", format!("{name}={value}"));
    }
    if let Some(seed) = record.variant.seed {
        line("seed", seed.to_string());
    }
    for OutputRecord { stage, dir, tensors, reused, cut_off, rebuilt, bytes: size, written } in
        &record.outputs
    {
        let size = if *size > 0 { format!(", {}", bytes(*size)) } else { String::new() };
        let written = if *written > 0 { format!("; wrote {}", bytes(*written)) } else { String::new() };
        line("output", format!("{stage} -> {dir}"));
        line(
            "",
            format!(
                "{tensors} tensors{size}: {reused} reused, {cut_off} cut off, {rebuilt} rebuilt{written}"
            ),
        );
    }
    line("ran", format!("{} action{} in {:.2} s", record.ran, plural(record.ran), record.seconds));
    for reason in &record.reasons {
        line("because", palette::change(reason));
    }
    let Account { version, threads, models, hashed, stages } = &record.account;
    if !version.is_empty() {
        line("lamarck", format!("{version}, {threads} thread{}", plural(*threads as usize)));
    }
    for folder in models {
        line("models", folder.clone());
    }
    if hashed.count > 0 {
        let n = hashed.count;
        line("read", format!("{n} source tensor{}, {}", plural(n as usize), bytes(hashed.bytes)));
    }
    if !stages.is_empty() {
        text.push_str("\nstages\n");
        let width = stages.iter().map(|stage| stage.name.chars().count()).max().unwrap_or(0);
        for StageAccount { name, actions, reused, cut_off, bytes: _, ran } in stages {
            let Effort { count, bytes: size, seconds, .. } = ran;
            let made = if *count > 0 {
                format!(" ({}, {seconds:.2} thread seconds)", bytes(*size))
            } else {
                String::new()
            };
            text.push_str(&format!(
                "  {name:width$}  {actions} actions: {reused} reused, {cut_off} cut off, {count} ran{made}\n"
            ));
        }
    }
    let changes = changes(build);
    if !changes.is_empty() {
        text.push_str("\nchanged in the recipe since its build before\n");
        changes.iter().for_each(|line| text.push_str(&format!("  {}\n", painted(line))));
    }
    let recipe = recipe_text.trim_end();
    if !recipe.is_empty() {
        text.push_str(&format!("\n{recipe}\n"));
    }
    text
}

fn document(build: &RecordedBuild) -> serde_json::Value {
    let record = &build.record;
    let Account { version, threads, models, hashed, stages } = &record.account;
    let effort = |effort: &Effort| json!({ "count": effort.count, "bytes": effort.bytes, "thread_seconds": effort.seconds });
    let stages: Vec<_> = stages
        .iter()
        .map(|stage| {
            json!({
                "stage": stage.name, "actions": stage.actions, "reused": stage.reused,
                "cut_off": stage.cut_off, "bytes": stage.bytes, "ran": effort(&stage.ran),
            })
        })
        .collect();
    let mut document = as_json(build);
    document["sets"] = record.variant.sets.iter().map(|(name, value)| format!("{name}={value}")).collect();
    document["seed"] = record.variant.seed.into();
    document["lamarck"] = version.as_str().into();
    document["threads"] = (*threads).into();
    document["models"] = models.clone().into();
    document["hashed"] = effort(hashed);
    document["stages"] = stages.into();
    document["recipe_text"] = build.recipe_text.as_str().into();
    document
}
