//! `lamarck build`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::json;

use super::{Read, Ready, Unread, build_named, fetch, read_again, ready, targets, tell, unread};
use crate::cli::args::{BuildArgs, RecipeArgs};
use crate::cli::config::{self, Flags};
use crate::cli::error::CliError;
use crate::cli::findings::Source;
use crate::cli::palette::{self, GOOD, MAYBE, RUN, SUBJECT, paint};
use crate::cli::progress::Progress;
use crate::cli::signals::Signals;
use crate::cli::trace::Trace;
use crate::cli::ui::{Show, Ui, print_event};
use crate::cli::version;
use crate::cli::words::{bytes, plural};
use crate::event::{Events, Span};
use crate::history::Record;
use crate::project::{
    Asked, Builder, LeftOut, OutputReport, Planned, Project, Reach, Report, Request, Sighting,
};

/// Changes named in the last line.
const REASONS_SHOWN: usize = 3;

/// A build that was asked for.
pub(super) struct Work<'a> {
    pub args: &'a BuildArgs,
    pub started: Instant,
    pub read: Read,
    /// What it is known by when it has succeeded.
    pub asked: Option<Asked>,
    /// An earlier build that it repeats, with its number.
    pub repeats: Option<(u64, Record)>,
    /// Stages that go elsewhere than into the folder of all outputs.
    pub outs: Vec<(String, PathBuf)>,
    pub left_out: LeftOut,
}

impl<'a> Work<'a> {
    pub fn new(read: Read, args: &'a BuildArgs) -> Self {
        let (outs, left_out) = (Vec::new(), LeftOut::default());
        Self { args, started: Instant::now(), read, asked: None, repeats: None, outs, left_out }
    }
}

pub fn run(args: &BuildArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let started = Instant::now();
    let flags = Flags::from(args);
    if let Some(name) = &args.from {
        let project = config::project(None, flags)?;
        let build = build_named(&project, Some(name))?;
        let read = read_again(&build, project.cache, flags)?;
        let repeats = Some((build.number, build.record));
        return carry_out(Work { started, repeats, ..Work::new(read, args) }, ui);
    }
    let unread = unread(&args.recipe, flags)?;
    let asked = asked(&unread, args);
    // Whoever wants to know of every tensor, or doubts what is known of files, takes the long way.
    let is_short = !ui.json && args.trace.is_none() && !args.rehash;
    if let Some(asked) = asked.as_ref().filter(|_| is_short)
        && let Some((report, findings)) = unread.project.unchanged(asked)
    {
        let source = Source { name: unread.path.to_string_lossy().into_owned(), text: unread.text };
        tell(&source, &findings, args.recipe.deny_warnings, Show::Warnings, ui)?;
        tell_of(&report, ui);
        return Ok(ExitCode::SUCCESS);
    }
    let read = unread.read(&args.recipe.sets, flags.seed);
    carry_out(Work { started, asked, ..Work::new(read, args) }, ui)
}

/// What a build is known by when it has succeeded; `None` for one that is held to more than its files.
fn asked(unread: &Unread, args: &BuildArgs) -> Option<Asked> {
    let Unread { project, path, text } = unread;
    let BuildArgs { recipe, seed, out, locked, .. } = args;
    let RecipeArgs { stages, sets, deny_warnings, .. } = recipe;
    if *locked || project.streams {
        return None;
    }
    Some(project.asked(Request {
        program: &version::identity()?,
        recipe: (path, text),
        sets,
        seed: *seed,
        stages,
        out: out.as_deref(),
        deny_warnings: *deny_warnings,
    }))
}

/// Builds, and says how it went.
pub(super) fn carry_out(work: Work<'_>, ui: &Ui) -> Result<ExitCode, CliError> {
    let Work { args, started, mut read, asked, repeats, mut outs, left_out } = work;
    let mut recipe_args = args.recipe.clone();
    if let Some((_, record)) = repeats.as_ref().filter(|_| args.recipe.stages.is_empty()) {
        recipe_args.stages = record.outputs.iter().map(|output| output.stage.clone()).collect();
    }
    if let (true, Some(recipe)) = (args.locked, &read.recipe) {
        read.project.pin(recipe, &targets(recipe, &recipe_args.stages)?, args.out.as_deref())?;
    }
    let sources = match (&asked, &read.recipe) {
        (Some(_), Some(recipe)) => read.project.sources_seen(recipe, &targets(recipe, &recipe_args.stages)?),
        _ => None,
    };
    let streams = read.project.streams;
    let reach = if streams { Reach::Headers } else { Reach::Files };
    let mut ready = ready(read, &recipe_args, (Show::Warnings, reach), ui)?;
    let signals = Signals::listen(&ready.project, ui);
    if !streams {
        ready = fetch::all(ready, &recipe_args, &signals, ui)?;
    }
    let Ready { project, recipe, planned, findings } = ready;
    let sighting = asked.map(|asked| Sighting { asked, sources, findings });
    let streaming = Streaming::new(&project, &planned);
    let targets = &planned.plan.targets;
    if args.out.is_some() && targets.len() != 1 {
        let message =
            format!("--out takes one stage, but {} are to be built; choose with --stage", targets.len());
        return Err(CliError::Usage(message));
    }
    outs.extend(args.out.iter().map(|dir| (recipe.stage(targets[0]).name.clone(), dir.clone())));
    let progress = Progress::new(ui, project.forecast(&recipe, &planned));
    let trace = match &args.trace {
        Some(path) => Some((path, Trace::create(path, started, &progress).map_err(CliError::trace(path))?)),
        None => None,
    };
    if let Some((_, trace)) = &trace {
        drop(Span::since(started, trace, "read recipe and headers", ""));
    }
    let events = trace.as_ref().map_or(&progress as &dyn Events, |(_, trace)| trace);
    let result = Builder::new(&project, &recipe, &planned)
        .outs(&outs)
        .leave_out(left_out)
        .locked(args.locked)
        .repeats(repeats.as_ref())
        .known_by(sighting.as_ref())
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
            "warning: {rows} row{} of the cache's index {} damaged; what they referred to was rebuilt",
            plural(rows),
            if rows == 1 { "was" } else { "were" }
        ));
    }
    if let Some(trimmed) = report.trimmed.filter(|trimmed| trimmed.removed > 0)
        && !ui.json
    {
        let (n, freed) = (trimmed.removed, bytes(trimmed.removed_bytes));
        ui.status(&format!(
            "removed {n} old result{} from the cache to stay within its limit, {freed}",
            plural(n)
        ));
    }
    progress.printed()?;
    if let Some(streaming) = streaming.as_ref().filter(|_| !ui.json) {
        ui.status(&streaming.summary(&project));
    }
    if !ui.json {
        tell_of(&report, ui);
        return Ok(ExitCode::SUCCESS);
    }
    for output in &report.outputs {
        let mut event = finished(&report, output);
        if let Some(streaming) = &streaming {
            event["bytes_streamed"] = streaming.received(&project).into();
        }
        print_event(event)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a build did, in a line for each output.
fn tell_of(report: &Report, ui: &Ui) {
    for (i, output) in report.outputs.iter().enumerate() {
        let is_last = i + 1 == report.outputs.len();
        ui.status(&summary(report, output, is_last));
    }
}

/// What a build reads of models that stay on the hub.
struct Streaming {
    /// Bytes of all their files of tensors.
    total: u64,
    received_before: u64,
}

impl Streaming {
    fn new(project: &Project, planned: &Planned) -> Option<Self> {
        let total: u64 = planned.catalog.absent().iter().map(|want| want.file.size).sum();
        let received_before = project.hub.as_ref()?.received();
        (total > 0).then_some(Self { total, received_before })
    }

    fn received(&self, project: &Project) -> u64 {
        project.hub.as_ref().map_or(0, |hub| hub.received() - self.received_before)
    }

    fn summary(&self, project: &Project) -> String {
        let received = self.received(project);
        let spared = self.total.saturating_sub(received);
        format!("streamed {} of the models; {} were not needed", bytes(received), bytes(spared))
    }
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
    let OutputReport { stage, dir, tensors, bytes: _, reused, cut_off, rebuilt, written } = output;
    let (built, s) = (paint(GOOD, "built"), plural(*tensors));
    let mut text = format!(
        "{built} {}: {tensors} tensor{s}, {}",
        paint(SUBJECT, stage),
        paint(GOOD, format!("{reused} reused"))
    );
    if *cut_off > 0 {
        text.push_str(&format!(", {}", paint(MAYBE, format!("{cut_off} cut off"))));
    }
    text.push_str(&format!(", {}", paint(RUN, format!("{rebuilt} rebuilt"))));
    if !report.reasons.is_empty() {
        let shown: Vec<String> =
            report.reasons.iter().take(REASONS_SHOWN).map(|(text, _)| palette::change(text)).collect();
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
