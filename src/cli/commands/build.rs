//! `lamarck build`.

use std::process::ExitCode;
use std::time::Instant;

use serde_json::json;

use super::{Ready, Signals, read, read_again, ready};
use crate::cli::args::BuildArgs;
use crate::cli::config::Flags;
use crate::cli::error::CliError;
use crate::cli::progress::Progress;
use crate::cli::trace::Trace;
use crate::cli::ui::{Ui, bytes, plural};
use crate::event::{Events, Span};
use crate::project::{Builder, OutputReport, Report};

/// Changes named in the last line.
const REASONS_SHOWN: usize = 3;

pub fn run(args: &BuildArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let started = Instant::now();
    let flags = Flags {
        jobs: args.jobs,
        memory: args.memory,
        shard_size: args.shard_size,
        no_wait: args.no_wait,
        ..Flags::from(&args.recipe)
    };
    let (read, repeats) = match args.from {
        Some(number) => {
            let (read, record) = read_again(number, flags)?;
            (read, Some((number, record)))
        }
        None => (read(&args.recipe, flags)?, None),
    };
    let mut recipe_args = args.recipe.clone();
    if let Some((_, record)) = repeats.as_ref().filter(|_| args.recipe.stages.is_empty()) {
        recipe_args.stages = record.outputs.iter().map(|output| output.stage.clone()).collect();
    }
    let Ready { project, recipe, planned, .. } = ready(read, &recipe_args, ui)?;
    let targets = &planned.plan.targets;
    if args.out.is_some() && targets.len() != 1 {
        let message =
            format!("--out takes one stage, but {} are to be built; choose with --stage", targets.len());
        return Err(CliError::Usage(message));
    }
    let signals = Signals::listen();
    let progress = Progress::new(ui, planned.plan.actions().count() as u64);
    let trace = match &args.trace {
        Some(path) => Some((path, Trace::create(path, started, &progress).map_err(CliError::trace(path))?)),
        None => None,
    };
    if let Some((_, trace)) = &trace {
        drop(Span::since(started, trace, "read recipe and headers", ""));
    }
    let events = trace.as_ref().map_or(&progress as &dyn Events, |(_, trace)| trace);
    let result = Builder::new(&project, &recipe, &planned)
        .out(args.out.as_deref())
        .locked(args.locked)
        .repeats(repeats.as_ref())
        .rehash(args.rehash)
        .follow(events, &signals.interrupted)
        .build();
    progress.finish();
    if let Some((path, trace)) = trace {
        trace.finish().map_err(CliError::trace(path))?;
    }
    let report = result.map_err(|error| signals.explain(error))?;
    if report.damaged_rows > 0 && !ui.json {
        let rows = report.damaged_rows;
        ui.status(&format!(
            "warning: {rows} row{} of the cache's index {} damaged; what they told of was made again",
            plural(rows),
            if rows == 1 { "was" } else { "were" }
        ));
    }
    if let Some(trimmed) = report.trimmed.filter(|trimmed| trimmed.removed > 0)
        && !ui.json
    {
        let (n, freed) = (trimmed.removed, bytes(trimmed.removed_bytes));
        ui.status(&format!("removed {n} old result{} from the cache, {freed}, to keep its limit", plural(n)));
    }
    progress.printed()?;
    for (i, output) in report.outputs.iter().enumerate() {
        if ui.json {
            ui.print(&format!("{}\n", finished(&report, output)))?;
        } else {
            let is_last = i + 1 == report.outputs.len();
            ui.status(&summary(&report, output, is_last));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn finished(report: &Report, output: &OutputReport) -> serde_json::Value {
    let kept_aside: Vec<_> = output.written.kept_aside.iter().map(|path| path.to_string_lossy()).collect();
    let reasons: Vec<&str> = report.reasons.iter().map(|(text, _)| text.as_str()).collect();
    json!({
        "event": "finished",
        "stage": output.stage,
        "out": output.dir.to_string_lossy(),
        "tensors": output.tensors,
        "ran": report.ran,
        "reused": output.reused,
        "cut_off": output.cut_off,
        "rebuilt": output.rebuilt,
        "shards": output.written.shards,
        "shards_written": output.written.shards_written,
        "bytes_written": output.written.bytes_written,
        "kept_aside": kept_aside,
        "build": report.number,
        "damaged_rows": report.damaged_rows,
        "reasons": reasons,
        "seconds": report.seconds,
    })
}

fn summary(report: &Report, output: &OutputReport, with_total: bool) -> String {
    let OutputReport { stage, dir, tensors, reused, cut_off, rebuilt, written } = output;
    let mut text = format!("built {stage}: {tensors} tensor{}, {reused} reused", plural(*tensors));
    if *cut_off > 0 {
        text.push_str(&format!(", {cut_off} cut off"));
    }
    text.push_str(&format!(", {rebuilt} rebuilt"));
    if !report.reasons.is_empty() {
        let shown: Vec<&str> =
            report.reasons.iter().take(REASONS_SHOWN).map(|(text, _)| text.as_str()).collect();
        let more = report.reasons.len().saturating_sub(REASONS_SHOWN);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        text.push_str(&format!(" ({}{more})", shown.join("; ")));
    }
    if with_total {
        let digits = if report.seconds < 1.0 { 2 } else { 1 };
        text.push_str(&format!(" in {:.digits$} s", report.seconds));
    }
    if written.shards_written > 0 {
        let shards = written.shards_written;
        let wrote = format!(
            "\n{}: wrote {shards} of {} shard{}, {}",
            dir.display(),
            written.shards,
            plural(written.shards),
            bytes(written.bytes_written)
        );
        return format!("{}\n{text}", wrote.trim_start());
    }
    text
}
