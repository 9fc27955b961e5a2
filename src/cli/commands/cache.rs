//! `lamarck cache`.

use std::cell::Cell;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::cli::args::{CacheArgs, CacheCommand, GcArgs, VerifyArgs};
use crate::cli::config::{self, Flags};
use crate::cli::error::{CliError, DAMAGED};
use crate::cli::palette::{ERROR, GOOD, paint};
use crate::cli::ui::Ui;
use crate::cli::words::{bytes, plural};
use crate::gc::{Limits, Removed};
use crate::project::{Project, Watch};
use crate::store::listing::{Checked, Usage};

/// Nothing here listens for signals, so that each ends the process at once, also while it waits.
static NEVER: AtomicBool = AtomicBool::new(false);

pub fn run(args: &CacheArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let no_wait = matches!(args.command, CacheCommand::Gc(GcArgs { no_wait: true, .. }));
    let flags = Flags { cache: args.cache.as_deref(), no_wait, ..Flags::default() };
    let project = config::project(None, flags)?;
    match &args.command {
        CacheCommand::Path if ui.json => ui.print_json(json!({ "path": project.cache.to_string_lossy() }))?,
        CacheCommand::Path => ui.print_as_it_is(&format!("{}\n", project.cache.display()))?,
        CacheCommand::Stat => stat(&project, ui)?,
        CacheCommand::Gc(args) => collect(args, &project, ui)?,
        CacheCommand::Verify(args) => return verify(args, &project, ui),
    }
    Ok(ExitCode::SUCCESS)
}

fn stat(project: &Project, ui: &Ui) -> Result<(), CliError> {
    let older = project.older_stores()?;
    let (total, usage) = project.usage()?;
    let Usage { blobs, blob_bytes, dead_bytes, index_bytes, actions, builds } = total;
    if ui.json {
        let stages: Vec<_> = usage
            .stages
            .iter()
            .map(|(stage, of)| {
                json!({ "stage": stage, "results": of.results, "bytes": of.bytes, "shared_bytes": of.shared_bytes })
            })
            .collect();
        return ui.print_json(json!({
            "path": project.cache.to_string_lossy(),
            "blobs": blobs,
            "blob_bytes": blob_bytes,
            "dead_bytes": dead_bytes,
            "index_bytes": index_bytes,
            "actions": actions,
            "builds": builds,
            "stages": stages,
            "old": usage.old,
            "old_bytes": usage.old_bytes,
            "older_versions": older.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
        }));
    }
    let mut text = format!(
        "{}\nresults: {blobs}, {}\nindex: {actions} actions, {builds} builds, {}\n",
        project.cache.display(),
        bytes(blob_bytes),
        bytes(index_bytes)
    );
    if dead_bytes > 0 {
        text.push_str(&format!(
            "in files kept for some of their results: {} that nothing needs\n",
            bytes(dead_bytes)
        ));
    }
    for (stage, of) in &usage.stages {
        let shared = match of.shared_bytes {
            0 => String::new(),
            shared => format!(", {} of it shared with other stages", bytes(shared)),
        };
        text.push_str(&format!("  {stage}: {} results, {}{shared}\n", of.results, bytes(of.bytes)));
    }
    if usage.old > 0 {
        let (n, size) = (usage.old, bytes(usage.old_bytes));
        text.push_str(&format!(
            "  stale, of no recipe's last build: {n} result{}, {size}; `lamarck cache gc --stale` removes them\n",
            plural(n)
        ));
    }
    for path in older {
        let path = path.display();
        text.push_str(&format!("{path} was left by an earlier version of lamarck and can be deleted\n"));
    }
    ui.print(&text)
}

fn collect(args: &GcArgs, project: &Project, ui: &Ui) -> Result<(), CliError> {
    let GcArgs { max_size, max_age, keep_builds, stale, dry_run, no_wait: _ } = *args;
    let says_what = stale || keep_builds.is_some() || max_size.or(max_age).or(project.cache_limit).is_some();
    let keep_builds = keep_builds.unwrap_or(Limits::UNLIMITED.keep_builds);
    // Without a word of what should go, nothing does.
    let dry_run = dry_run || !says_what;
    let limits = Limits { max_bytes: max_size.or(project.cache_limit), max_age, keep_builds };
    let tell = || ui.status("waiting for running builds");
    let watch = Watch { waiting: &tell, interrupted: &NEVER };
    let Removed { removed, removed_bytes, kept, kept_bytes, removed_builds, kept_builds, index_bytes } =
        project.gc(&limits, dry_run, &watch)?;
    if ui.json {
        return ui.print_json(json!({
            "dry_run": dry_run,
            "removed": removed,
            "removed_bytes": removed_bytes,
            "kept": kept,
            "kept_bytes": kept_bytes,
            "removed_builds": removed_builds,
            "kept_builds": kept_builds,
            "index_bytes": index_bytes,
        }));
    }
    if !says_what {
        return ui.print(&what_could_go(project, removed, (removed_bytes, kept_bytes), removed_builds)?);
    }
    let did = if dry_run { "would remove" } else { "removed" };
    let mut text = format!(
        "{did} {removed} result{}, {}; {kept} stay, {}\n",
        plural(removed),
        bytes(removed_bytes),
        bytes(kept_bytes)
    );
    if removed_builds > 0 {
        let s = plural(removed_builds);
        text.push_str(&format!("{did} the record{s} of {removed_builds} build{s}; {kept_builds} stay\n"));
    }
    if index_bytes > 0 {
        text.push_str(&format!("the index is {} smaller\n", bytes(index_bytes)));
    }
    ui.print(&text)
}

/// What each way to make room would free.
fn what_could_go(
    project: &Project,
    n_stale: usize,
    (stale_bytes, kept_bytes): (u64, u64),
    n_builds: usize,
) -> Result<String, CliError> {
    const DAYS: u64 = 30;
    let limits = Limits { max_age: Some(DAYS * 86_400), ..Limits::UNLIMITED };
    let watch = Watch { waiting: &|| {}, interrupted: &NEVER };
    let old = project.gc(&limits, true, &watch)?;
    let builds = match n_builds {
        0 => String::new(),
        n => format!(", and the records of {n} build{}", plural(n)),
    };
    Ok(format!(
        "nothing removed: the results take {}. What could go:\n  \
         --stale          {n_stale} result{}, {}, of no recipe's last build and no tagged build{builds}\n  \
         --max-age {DAYS}d    {} result{}, {}, not used for {DAYS} days\n  \
         --max-size SIZE  the least recently used, until the rest takes no more than this\n\
         the newest build always keeps its results (--keep-builds N)\n",
        bytes(stale_bytes + kept_bytes),
        plural(n_stale),
        bytes(stale_bytes),
        old.removed,
        plural(old.removed),
        bytes(old.removed_bytes),
    ))
}

fn verify(args: &VerifyArgs, project: &Project, ui: &Ui) -> Result<ExitCode, CliError> {
    let bar = if ui.quiet || ui.json { ProgressBar::hidden() } else { ProgressBar::no_length() };
    let style = ProgressStyle::with_template("{bar:24} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left");
    bar.set_style(style.expect("the template is valid"));
    let done = Cell::new(0);
    let tell = || ui.status("waiting for running builds");
    let watch = Watch { waiting: &tell, interrupted: &NEVER };
    let checked = project.verify(args.repair, &watch, &|n_bytes, total| {
        done.set(done.get() + n_bytes);
        bar.set_length(total);
        bar.set_position(done.get());
    });
    bar.finish_and_clear();
    let Checked { blobs, bytes: n_bytes, damaged, damaged_rows } = checked?;
    let is_sound = damaged.is_empty() && damaged_rows == 0;
    if ui.json {
        ui.print_json(json!({
            "blobs": blobs,
            "bytes": n_bytes,
            "damaged": damaged,
            "damaged_rows": damaged_rows,
            "repaired": args.repair && !is_sound,
        }))?;
    } else {
        let mut text = format!("{blobs} results, {}: ", bytes(n_bytes));
        if is_sound {
            text.push_str(&format!("{}\n", paint(GOOD, "all sound")));
            ui.print(&text)?;
        } else {
            let rows = plural(damaged_rows);
            let n = damaged.len();
            let damaged_files = paint(ERROR, format!("{n} damaged"));
            text.push_str(&format!("{damaged_files}, and {damaged_rows} row{rows} of the index\n"));
            for name in &damaged {
                text.push_str(&format!("  {name}\n"));
            }
            text.push_str(if args.repair {
                "removed; the next build rebuilds what it needs\n"
            } else {
                "`lamarck cache verify --repair` removes it; builds rebuild it in any case\n"
            });
            ui.print_problems(&text)?;
        }
    }
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
}
