//! `lamarck log`.

use std::process::ExitCode;

use serde_json::json;
use similar::{ChangeTag, TextDiff};

use crate::cli::args::LogArgs;
use crate::cli::config::{self, Flags};
use crate::cli::error::CliError;
use crate::cli::palette::{self, HELP, NEW, OLD, SUBJECT, paint};
use crate::cli::ui::Ui;
use crate::cli::words::{ago, bytes, plural};
use crate::history::Record;
use crate::project::{Edits, RecordedBuild};
use crate::recipe::changes::FieldChange;

/// Changes of a recipe that are shown for a build.
const CHANGES_SHOWN: usize = 12;

pub fn run(args: &LogArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let flags = Flags { cache: args.cache.as_deref(), ..Flags::default() };
    let project = config::project(args.recipe.as_deref(), flags)?;
    let (builds, n_older) = project.builds(args.recipe.as_deref(), args.limit)?;
    if ui.json {
        let list: Vec<_> = builds.iter().map(as_json).collect();
        ui.print_json(json!({ "builds": list, "older": n_older }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if builds.is_empty() {
        let of = args.recipe.as_ref().map_or_else(String::new, |path| format!(" of {}", path.display()));
        ui.status(&format!("no builds{of} in {} yet", project.cache.display()));
    }
    // The recipe that was built last comes first.
    let mut recipes: Vec<&str> = Vec::new();
    for build in &builds {
        let recipe = build.record.variant.recipe.as_str();
        if !recipes.contains(&recipe) {
            recipes.push(recipe);
        }
    }
    let mut text = String::new();
    for recipe in recipes {
        text.push_str(&format!("{}\n", paint(SUBJECT, recipe)));
        for build in builds.iter().filter(|build| build.record.variant.recipe == recipe) {
            text.push_str(&entry(build));
        }
    }
    if n_older > 0 && args.recipe.is_none() {
        let s = plural(n_older as usize);
        text.push_str(&format!("{n_older} older build{s} not shown; `lamarck log -n N` lists more\n"));
    }
    ui.print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn entry(build: &RecordedBuild) -> String {
    let RecordedBuild { number, record, tags, .. } = build;
    let names = match tags.iter().map(|tag| tag.name.as_str()).collect::<Vec<_>>().join(", ") {
        names if names.is_empty() => names,
        names => format!("  {}", paint(HELP, format!("[{names}]"))),
    };
    let mut text = format!(
        "  {}{names}  {}  {} action{} in {:.1} s\n",
        paint(SUBJECT, format!("build {number}")),
        ago(record.time),
        record.ran,
        plural(record.ran),
        record.seconds
    );
    for output in &record.outputs {
        let size = if output.bytes > 0 { format!(", {}", bytes(output.bytes)) } else { String::new() };
        text.push_str(&format!(
            "    {}: {} of {} tensors rebuilt{size} -> {}\n",
            output.stage, output.rebuilt, output.tensors, output.dir
        ));
    }
    let mut lines = changes(build);
    if lines.is_empty() {
        lines.extend(record.reasons.iter().cloned());
    }
    for line in lines.iter().take(CHANGES_SHOWN) {
        text.push_str(&format!("      {}\n", painted(line)));
    }
    if lines.len() > CHANGES_SHOWN {
        text.push_str(&format!("      and {} more changes\n", lines.len() - CHANGES_SHOWN));
    }
    text
}

/// A change with its colours.
pub(super) fn painted(line: &str) -> String {
    match line.get(..2) {
        Some("- ") => paint(OLD, line),
        Some("+ ") => paint(NEW, line),
        _ => palette::change(line),
    }
}

/// What changed in a build's recipe since the one before, in the recipe's own words, or as lines where it cannot be
/// told in these.
pub(super) fn changes(build: &RecordedBuild) -> Vec<String> {
    match build.edits() {
        Some(edits) if !edits.is_empty() => in_words(&edits),
        Some(_) => Vec::new(),
        None => changed_lines(build),
    }
}

/// Each edit as a line.
pub(super) fn in_words(edits: &Edits) -> Vec<String> {
    let Edits { added, removed, fields } = edits;
    let field = |FieldChange { stage, what, old, new, .. }: &FieldChange| {
        let stage = stage.as_ref().map_or_else(String::new, |stage| format!("{stage}: "));
        let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        match (old, new) {
            (None, None) => format!("{stage}{what}"),
            _ => format!("{stage}{what} {} -> {}", side(old), side(new)),
        }
    };
    let added = added.iter().map(|stage| format!("{stage}: new stage"));
    let removed = removed.iter().map(|stage| format!("{stage}: stage removed"));
    added.chain(removed).chain(fields.iter().map(field)).collect()
}

/// The lines by which a build's recipe and what was set for it differ from the build before, marked with `-` and
/// `+`.
pub(super) fn changed_lines(build: &RecordedBuild) -> Vec<String> {
    let Some((before, old)) = &build.before else { return Vec::new() };
    let mut lines: Vec<String> = TextDiff::from_lines(old, &build.recipe_text)
        .iter_all_changes()
        .filter(|change| change.tag() != ChangeTag::Equal)
        .map(|change| format!("{} {}", change.tag(), change.value().trim_end()))
        .collect();
    let set = |record: &Record| {
        let sets = record.variant.sets.iter().map(|(name, value)| format!("--set {name}={value}"));
        sets.chain(record.variant.seed.map(|seed| format!("--seed {seed}"))).collect::<Vec<_>>()
    };
    let (old, new) = (set(before), set(&build.record));
    lines.extend(old.iter().filter(|flag| !new.contains(flag)).map(|flag| format!("- {flag}")));
    lines.extend(new.iter().filter(|flag| !old.contains(flag)).map(|flag| format!("+ {flag}")));
    lines
}

pub(super) fn as_json(build: &RecordedBuild) -> serde_json::Value {
    let RecordedBuild { number, record, tags, .. } = build;
    let outputs: Vec<_> = record
        .outputs
        .iter()
        .map(|output| {
            json!({
                "stage": output.stage, "dir": output.dir, "tensors": output.tensors, "bytes": output.bytes,
                "reused": output.reused, "cut_off": output.cut_off, "rebuilt": output.rebuilt,
                "bytes_written": output.written,
            })
        })
        .collect();
    let tags: Vec<_> =
        tags.iter().map(|tag| json!({ "name": tag.name, "time": tag.time, "note": tag.note })).collect();
    let edits = build.edits().unwrap_or_default();
    json!({
        "build": number,
        "tags": tags,
        "time": record.time,
        "recipe": record.variant.recipe,
        "outputs": outputs,
        "ran": record.ran,
        "reasons": record.reasons,
        "seconds": record.seconds,
        "edits": fields_json(&edits),
        "stages_added": edits.added,
        "stages_removed": edits.removed,
        "change": changed_lines(build),
    })
}

/// Every field that was edited.
pub(super) fn fields_json(edits: &Edits) -> Vec<serde_json::Value> {
    let field = |edit: &FieldChange| json!({ "stage": edit.stage, "what": edit.what, "old": edit.old, "new": edit.new });
    edits.fields.iter().map(field).collect()
}
