//! `lamarck log`.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use similar::{ChangeTag, TextDiff};

use crate::cli::args::LogArgs;
use crate::cli::config::{self, Flags};
use crate::cli::error::CliError;
use crate::cli::ui::Ui;
use crate::history::Record;
use crate::project::RecordedBuild;

/// A build, and how its recipe differs from the one before.
struct Entry {
    number: u64,
    record: Record,
    change: Vec<String>,
}

/// Changed lines of a recipe that are shown.
const LINES_SHOWN: usize = 20;

pub fn run(args: &LogArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let project = config::project(None, Flags { cache: args.cache.as_deref(), ..Flags::default() })?;
    let (builds, n_older) = project.builds(args.limit)?;
    let entries: Vec<Entry> = builds.into_iter().map(entry).collect();
    if ui.json {
        let list: Vec<_> = entries.iter().map(as_json).collect();
        ui.print_json(json!({ "builds": list, "older": n_older }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for Entry { number, record, change } in &entries {
        let ago = ago(record.time);
        text.push_str(&format!("build {number}  {ago}  {}\n", record.variant.recipe));
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
        for line in change.iter().take(LINES_SHOWN) {
            text.push_str(&format!("    {line}\n"));
        }
        if change.len() > LINES_SHOWN {
            text.push_str(&format!("    and {} more changed lines\n", change.len() - LINES_SHOWN));
        }
    }
    if n_older > 0 {
        text.push_str(&format!("and {n_older} older; `lamarck log -n N` lists more\n"));
    }
    if entries.is_empty() {
        ui.status(&format!("no builds in {} yet", project.cache.display()));
    }
    ui.print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// A build with the lines by which its recipe differs from that of the build before it of the same file, marked
/// with `-` and `+`.
fn entry(build: RecordedBuild) -> Entry {
    let RecordedBuild { number, record, recipe_text, before } = build;
    let change =
        before.map_or_else(Vec::new, |(before, old)| change((&before, &old), (&record, &recipe_text)));
    Entry { number, record, change }
}

fn change((before, old): (&Record, &str), (record, new): (&Record, &str)) -> Vec<String> {
    let mut lines: Vec<String> = TextDiff::from_lines(old, new)
        .iter_all_changes()
        .filter(|change| change.tag() != ChangeTag::Equal)
        .map(|change| format!("{} {}", change.tag(), change.value().trim_end()))
        .collect();
    let set = |record: &Record| {
        let sets = record.variant.sets.iter().map(|(name, value)| format!("--set {name}={value}"));
        sets.chain(record.variant.seed.map(|seed| format!("--seed {seed}"))).collect::<Vec<_>>()
    };
    let (old, new) = (set(before), set(record));
    lines.extend(old.iter().filter(|flag| !new.contains(flag)).map(|flag| format!("- {flag}")));
    lines.extend(new.iter().filter(|flag| !old.contains(flag)).map(|flag| format!("+ {flag}")));
    lines
}

fn as_json(Entry { number, record, change }: &Entry) -> serde_json::Value {
    let outputs: Vec<_> = record
        .outputs
        .iter()
        .map(|output| json!({ "stage": output.stage, "dir": output.dir, "tensors": output.tensors, "rebuilt": output.rebuilt }))
        .collect();
    json!({
        "build": number,
        "time": record.time,
        "recipe": record.variant.recipe,
        "outputs": outputs,
        "ran": record.ran,
        "reasons": record.reasons,
        "seconds": record.seconds,
        "change": change,
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
