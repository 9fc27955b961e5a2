//! `lamarck plan`.

use std::mem;
use std::process::ExitCode;

use serde_json::json;

use super::{Ready, fetch, prepare};
use crate::build::reasons::{Reason, roots};
use crate::build::status::Verdict;
use crate::cli::args::PlanArgs;
use crate::cli::config::Flags;
use crate::cli::error::{CliError, WORK};
use crate::cli::palette::{self, ERROR, FAINT, GOOD, MAYBE, RUN, SUBJECT, paint};
use crate::cli::ui::{Show, Ui, print_event};
use crate::cli::words::{bytes, duration, plural};
use crate::plan::{Node, NodeId, Plan, RowCount, StagePlan};
use crate::project::{Estimate, Planned, Project, Room, StageWork, Status, Unstored, Why};
use crate::recipe::{Recipe, StageId};

pub fn run(args: &PlanArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let ready = prepare(
        &args.recipe,
        Flags { stream: args.stream, seed: args.seed, ..Flags::from(&args.places) },
        Show::Errors,
        ui,
    )?;
    let has_work = tell(&ready, ui)?;
    // The process ends with it, and frees it in one go.
    mem::forget(ready);
    Ok(ExitCode::from(if args.exit_code && has_work { WORK } else { 0 }))
}

/// Tells what a build would do, and whether that is anything.
pub(super) fn tell(Ready { project, recipe, planned, .. }: &Ready, ui: &Ui) -> Result<bool, CliError> {
    let status = project.status(recipe, planned)?;
    let plan = &planned.plan;
    let counts: Vec<(StageId, StageWork)> =
        (plan.order.iter()).map(|id| (*id, StageWork::of(recipe, planned, &status, *id))).collect();
    let to_read = plan.nodes().filter(|node| status.verdicts[*node] == Verdict::Read);
    let (reads, read_bytes) =
        to_read.fold((0, 0), |(n, total), node| (n + 1, total + plan[node].spec().n_bytes() as u64));
    let (mut run, mut if_changed, mut written) = (0, 0, 0);
    for (node, action) in plan.actions() {
        match status.verdicts[node] {
            Verdict::Run => run += 1,
            Verdict::RunIfChanged => if_changed += 1,
            Verdict::Reuse | Verdict::Read => continue,
        }
        written += action.output.n_bytes() as u64;
    }
    let rooms: Vec<Room> = project
        .rooms(recipe, planned, &status.verdicts)?
        .into_iter()
        .filter(|room| room.needed > 0)
        .collect();
    let to_publish = rooms.iter().filter(|room| room.folder != project.cache).map(|room| room.needed).sum();
    let estimate = project.estimate(planned, &status, to_publish);
    let unstored = project.unstored(recipe, planned, &status)?;
    let to_fetch = to_fetch(project, planned, &status);
    let work = run + if_changed;
    let reasons = roots(status.reasons.iter().map(|(node, reason)| (stage_of(plan, recipe, *node), reason)));
    if ui.json {
        let stages: Vec<_> =
            counts.iter().map(|(id, count)| stage_json(recipe, *id, count, plan.stage(*id))).collect();
        let reasons: Vec<_> =
            reasons.iter().map(|(text, actions)| json!({ "change": text, "actions": actions })).collect();
        let mut document = json!({
            "stages": stages,
            "sources_to_read": reads,
            "bytes_to_read": read_bytes,
            "run": run,
            "run_if_changed": if_changed,
            "bytes_to_make": written,
            "bytes_to_fetch": to_fetch.as_ref().map_or(0, |(n_bytes, _)| *n_bytes),
            "seconds": estimate.map(|estimate| estimate.least),
            "seconds_at_most": estimate.map(|estimate| estimate.most),
            "not_stored": unstored.iter().map(unstored_json).collect::<Vec<_>>(),
            "disk": rooms.iter().map(room_json).collect::<Vec<_>>(),
            "reasons": reasons,
        });
        if ui.is_by_line() {
            document["event"] = "plan".into();
            print_event(document)?;
        } else {
            ui.print_json(document)?;
        }
    } else {
        let mut text = String::new();
        for (id, count) in &counts {
            text.push_str(&stage_line(recipe, *id, count));
            text.push_str(&rows_lines(plan.stage(*id)));
        }
        text.push('\n');
        if work == 0 && reads == 0 {
            text.push_str(&format!("{}\n", paint(GOOD, "everything is up to date")));
        } else {
            let more = match if_changed {
                0 => String::new(),
                n => format!(", and up to {n} below them where bytes change"),
            };
            let actions = paint(RUN, format!("{run} action{}", plural(run)));
            text.push_str(&format!("to run: {actions}{more}; {} to make\n", bytes(written)));
            if reads > 0 {
                let s = plural(reads);
                text.push_str(&format!("to read first: {reads} source tensor{s}, {}\n", bytes(read_bytes)));
            }
        }
        if let Some((n_bytes, models)) = to_fetch.as_ref().filter(|(n_bytes, _)| *n_bytes > 0) {
            text.push_str(&format!("to fetch: {} of {models}\n", bytes(*n_bytes)));
        }
        if let Some(estimate) = estimate.filter(|_| work > 0 || reads > 0) {
            text.push_str(&time_line(estimate));
        }
        rooms.iter().for_each(|room| text.push_str(&room_line(room)));
        unstored.iter().for_each(|stage| text.push_str(&unstored_line(stage)));
        let mut because = |why: &str, n: usize| {
            if n > 0 {
                text.push_str(&format!("  {why}: {n} action{}\n", plural(n)));
            }
        };
        for (change, actions) in &reasons {
            because(&palette::change(change), *actions);
        }
        let count = |of: Reason| status.reasons.values().filter(|reason| **reason == of).count();
        because("never built before", count(Reason::New));
        because("results no longer in the cache", count(Reason::Forgotten));
        ui.print(&text)?;
    }
    Ok(work > 0 || reads > 0)
}

/// How long a build takes, roughly: as long as like work took before.
fn time_line(Estimate { least, most }: Estimate) -> String {
    let [least, most] = [least, most].map(duration);
    if least == most {
        format!("time: about {most}\n")
    } else {
        format!("time: about {least}, at most about {most}\n")
    }
}

fn room_line(Room { folder, needed, free, .. }: &Room) -> String {
    let (folder, needs, has) = (folder.display(), bytes(*needed), bytes(*free));
    let free = if needed > free { paint(ERROR, format!("only {has} free")) } else { format!("{has} free") };
    format!("disk: {needs} to write to {folder}, {free}\n")
}

fn room_json(Room { folder, needed, free, .. }: &Room) -> serde_json::Value {
    json!({ "folder": folder.to_string_lossy(), "bytes_needed": needed, "bytes_free": free })
}

fn unstored_line(Unstored { stage, bytes: n_bytes, why }: &Unstored) -> String {
    let why = match why {
        Why::Said => "the recipe says `cache: false`",
        Why::Unnamed => "it has no `cache: true`",
        Why::Changing => "the last two builds made it anew",
    };
    format!("not stored: {} of {stage}; {why}\n", bytes(*n_bytes))
}

fn unstored_json(Unstored { stage, bytes, why }: &Unstored) -> serde_json::Value {
    let why = match why {
        Why::Said => "recipe",
        Why::Unnamed => "named",
        Why::Changing => "auto",
    };
    json!({ "stage": stage, "bytes": bytes, "why": why })
}

/// The bytes that a build would fetch from the hub, and of which models.
fn to_fetch(project: &Project, planned: &Planned, status: &Status) -> Option<(u64, String)> {
    let wants = planned.catalog.absent();
    if wants.is_empty() {
        return None;
    }
    let n_bytes = if project.streams {
        planned.to_stream(&status.verdicts)
    } else {
        fetch::to_download(project, &wants)
    };
    Some((n_bytes, fetch::models_of(&wants)))
}

fn stage_of<'a>(plan: &Plan, recipe: &'a Recipe, node: NodeId) -> &'a str {
    match &plan[node] {
        Node::Action(action) => &recipe.stage(action.owner.stage).name,
        Node::Source(_) => unreachable!("only actions have reasons"),
    }
}

fn stage_line(recipe: &Recipe, id: StageId, count: &StageWork) -> String {
    let StageWork { tensors, run, if_changed, reuse, same_as, not_needed, .. } = count;
    let mut parts = Vec::new();
    for (n, what, style) in
        [(run, "run", RUN), (if_changed, "run if their inputs change", MAYBE), (reuse, "reuse", GOOD)]
    {
        if *n > 0 {
            parts.push(paint(style, format!("{n} {what}")));
        }
    }
    for (name, n) in same_as {
        parts.push(format!("{n} taken from {name}"));
    }
    if *not_needed > 0 {
        parts.push(paint(FAINT, format!("{not_needed} not needed")));
    }
    format!("{}: {tensors} tensors: {}\n", paint(SUBJECT, &recipe.stage(id).name), parts.join(", "))
}

/// What becomes of the rows of embeddings and heads, a line a model.
fn rows_lines(stage: &StagePlan) -> String {
    let mut text = String::new();
    let mut told: Vec<&Vec<RowCount>> = Vec::new();
    for counts in stage.rows.values() {
        // Embedding and head are most often alike.
        if told.contains(&counts) {
            continue;
        }
        told.push(counts);
        let names: Vec<&str> =
            stage.rows.iter().filter(|(_, other)| *other == counts).map(|(name, _)| name.as_str()).collect();
        text.push_str(&format!("  rows of {}:\n", names.join(", ")));
        for count in counts {
            let RowCount { model, taken, from_others, averaged, zeroed, padding, dropped } = count;
            let parts = [
                (taken, "its own"),
                (from_others, "another model's"),
                (averaged, "averaged"),
                (zeroed, "zero"),
                (padding, "padding"),
                (dropped, "dropped"),
            ];
            let parts: Vec<String> =
                parts.iter().filter(|(n, _)| **n > 0).map(|(n, what)| format!("{n} {what}")).collect();
            text.push_str(&format!("    {model}: {}\n", parts.join(", ")));
        }
    }
    text
}

fn stage_json(recipe: &Recipe, id: StageId, count: &StageWork, stage: &StagePlan) -> serde_json::Value {
    let row_count = |count: &RowCount| {
        let RowCount { model, taken, from_others, averaged, zeroed, padding, dropped } = count;
        json!({
            "model": model, "taken": taken, "from_others": from_others, "averaged": averaged,
            "zeroed": zeroed, "padding": padding, "dropped": dropped,
        })
    };
    let rows: serde_json::Map<_, _> = stage
        .rows
        .iter()
        .map(|(tensor, counts)| (tensor.clone(), counts.iter().map(row_count).collect()))
        .collect();
    json!({
        "rows": rows,
        "stage": recipe.stage(id).name,
        "tensors": count.tensors,
        "run": count.run,
        "run_if_changed": count.if_changed,
        "reuse": count.reuse,
        "same_as": count.same_as,
        "not_needed": count.not_needed,
    })
}
