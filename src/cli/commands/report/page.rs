//! The page of a build.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::charts::charts;
use super::grid::Grid;
use super::maps::{ancestry, changes, conflicts, percent};
use super::sums::{Distance, Shares};
use crate::cli::commands::log::changes as edits;
use crate::cli::words::{bytes, plural};
use crate::draw::filter::filter_box;
use crate::draw::graph::Work;
use crate::draw::page::Page;
use crate::draw::timeline::{Row, Timeline};
use crate::draw::{filter, graph_svg, heat, lines, shares, timeline};
use crate::history::{Account, Effort, StageAccount};
use crate::op::conflicts::Conflict;
use crate::project::{BuildStatistics, Moved, RecordedBuild, StageStatistics, TargetStatistics};
use crate::recipe::{Recipe, StageId, picture};

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// Everything that a page tells of.
pub struct Report<'a> {
    pub build: &'a RecordedBuild,
    pub recipe: &'a Recipe,
    pub statistics: &'a BuildStatistics,
    /// Of each stage in the order of the statistics.
    pub grids: Vec<Grid>,
}

/// Ancestors that are named for a tensor.
const NAMED: usize = 2;

pub fn page(report: &Report<'_>) -> String {
    let record = &report.build.record;
    let recipe = record.variant.recipe.rsplit('/').next().unwrap_or_default();
    let title = format!("Build {} of {recipe}", report.build.number);
    let outputs = record.outputs.iter();
    let summary = outputs.map(|output| {
        let size = if output.bytes > 0 { format!(", {}", bytes(output.bytes)) } else { String::new() };
        format!("{}: {} of {} tensors rebuilt{size}", output.stage, output.rebuilt, output.tensors)
    });
    let summary = summary.collect::<Vec<_>>().join("; ");
    let body = html! {
        nav aria-label="Sections" {
            ul {
                li { a href="#stages" { "Stages" } }
                li { a href="#change" { "Change" } }
                li { a href="#by-stage" { "By stage" } }
                li { a href="#rebuilt" { "What was rebuilt" } }
                li { a href="#time" { "Time" } }
                li { a href="#tensors-of" { "Tensors" } }
                li { a href="#recipe" { "Recipe" } }
            }
        }
        (facts(report))
        (picture(report))
        (stages(report))
        h2 id="change" { "Change against the base" }
        @for target in &report.statistics.targets { (of_target(report, target)) }
        h2 id="by-stage" { "By stage" }
        p.muted {
            "Change is the L2 norm of the difference from the stage's base, as a part of the base's own. Conflicts are measured "
            "between the models of a stage, before trimming and weights: an element is contested if some of the models that "
            "change it raise it and others lower it."
        }
        @for (stage, grid) in report.statistics.stages.iter().zip(&report.grids) { (of_stage(report, stage, grid)) }
        (rebuilt(report))
        (time(&record.account, record.seconds))
        (tensors(report))
        h2 id="recipe" { "Recipe" }
        div.scroll { pre { (report.build.recipe_text.trim_end()) } }
    };
    let style = [STYLE, graph_svg::STYLE, heat::STYLE, lines::STYLE, shares::STYLE, timeline::STYLE].concat();
    let summary = html! { (summary) "." };
    Page { title: &title, summary, body, style: &style, scripts: &[heat::SCRIPT, filter::SCRIPT, SCRIPT] }
        .html()
}

/// What is recorded of the build beside what it did.
fn facts(report: &Report<'_>) -> Markup {
    let record = &report.build.record;
    let Account { version, threads, .. } = &record.account;
    html! {
        dl.facts {
            @for tag in &report.build.tags {
                dt { "Tag" }
                dd { strong { (tag.name) } @if !tag.note.is_empty() { ": " (tag.note) } }
            }
            @for (name, value) in &record.variant.sets { dt { "Set" } dd { code { (name) "=" (value) } } }
            @if let Some(seed) = record.variant.seed { dt { "Seed" } dd { (seed) } }
            dt { "Ran" }
            dd {
                (record.ran) " action" (plural(record.ran)) " in " (format!("{:.2} s", record.seconds))
                @if *threads > 0 { " on " (threads) " thread" (plural(*threads as usize)) }
            }
            @if !version.is_empty() { dt { "lamarck" } dd { (version) } }
        }
    }
}

/// An id that can be linked to.
fn anchor(stage: StageId) -> String {
    format!("stage-{}", stage.0)
}

fn account_of<'a>(report: &'a Report<'_>, stage: StageId) -> Option<&'a StageAccount> {
    let name = &report.recipe.stage(stage).name;
    report.build.record.account.stages.iter().find(|account| account.name == *name)
}

fn total<'m>(moved: impl Iterator<Item = &'m Moved>) -> Distance {
    moved.fold(Distance::default(), |mut sum, moved| {
        sum.add(&Distance::of(moved));
        sum
    })
}

fn conflict_of(stage: &StageStatistics) -> Option<Conflict> {
    let mut all = stage.conflicts.values().copied();
    let first = all.next()?;
    Some(all.fold(first, |mut sum, more| {
        sum.add(&more);
        sum
    }))
}

/// The graph of the stages, with what the build did with each.
fn picture(report: &Report<'_>) -> Markup {
    let recipe = report.recipe;
    let order: Vec<StageId> = report.statistics.stages.iter().map(|stage| stage.stage).collect();
    let name = |reference| recipe.name_of(reference).to_owned();
    let label = |reference| recipe.label_of(reference);
    let mut graph = picture::picture(recipe, &order, &name, &label);
    let drawn = graph.nodes.iter_mut().filter_map(|node| node.stage.as_mut());
    for (id, stage) in order.iter().zip(drawn) {
        // A stage that comes down to others has nothing of its own to be coloured by.
        let account = account_of(report, *id).filter(|account| account.actions > 0);
        stage.work = account.map(|account| Work {
            is_done: true,
            tensors: account.actions as usize,
            bytes: account.bytes,
            run: account.ran.count as usize,
            if_changed: 0,
            reuse: (account.reused + account.cut_off) as usize,
        });
    }
    let link = |name: &str| {
        let stage = order.iter().find(|id| recipe.stage(**id).name == name)?;
        Some(format!("#{}", anchor(*stage)))
    };
    html! { figure.graph.scroll { (graph_svg::inline(&graph, "The stages of the build", &link)) } }
}

fn stages(report: &Report<'_>) -> Markup {
    html! {
        h2 id="stages" { "Stages" }
        div.scroll {
            table {
                thead {
                    tr {
                        th scope="col" { "Stage" } th scope="col" { "Method" } th scope="col" { "Base" }
                        th.n scope="col" { "Actions" } th.n scope="col" { "Reused" } th.n scope="col" { "Cut off" }
                        th.n scope="col" { "Ran" } th.n scope="col" { "Made" } th.n scope="col" { "Thread time" }
                        th.n scope="col" { "Change" } th.n scope="col" { "Contested" }
                    }
                }
                tbody {
                    @for stage in &report.statistics.stages {
                        @let of = report.recipe.stage(stage.stage);
                        tr {
                            th scope="row" { a href={ "#" (anchor(stage.stage)) } { (of.name) } }
                            td { (of.method.spec().name) }
                            td { (of.base.as_ref().map_or("", |base| report.recipe.name_of(&base.value))) }
                            @match account_of(report, stage.stage) {
                                Some(account) => {
                                    td.n { (account.actions) } td.n { (account.reused) } td.n { (account.cut_off) }
                                    td.n { (account.ran.count) }
                                    td.n { @if account.ran.count > 0 { (bytes(account.ran.bytes)) } }
                                    td.n { @if account.ran.count > 0 { (format!("{:.2} s", account.ran.seconds)) } }
                                }
                                None => { td colspan="6" {} }
                            }
                            td.n {
                                @if !stage.changes.is_empty() { (percent(total(stage.changes.values()).relative())) }
                            }
                            td.n { @if let Some(conflict) = conflict_of(stage) { (percent(conflict.contested())) } }
                        }
                    }
                }
            }
        }
    }
}

/// What became of a model on the whole.
fn of_target(report: &Report<'_>, target: &TargetStatistics) -> Markup {
    let TargetStatistics { stage, moved, copied } = target;
    let mut stages = report.statistics.stages.iter().zip(&report.grids);
    let Some((_, grid)) = stages.find(|(of, _)| of.stage == *stage) else { return html! {} };
    let mut bases: Vec<&str> = moved.values().map(|moved| moved.base.as_str()).collect();
    bases.sort_unstable();
    bases.dedup();
    html! {
        @if report.statistics.targets.len() > 1 { h3 { (report.recipe.stage(*stage).name) } }
        @if !moved.is_empty() {
            p {
                "All merged tensors together moved " strong { (percent(total(moved.values()).relative())) }
                " from " (bases.join(", ")) "."
            }
            (changes("Size of the change, relative to the base", grid, moved))
            p.muted.no-print {
                "Cells without colour are tensors that are taken from a model as they are. A click on a cell, or "
                kbd { "Enter" } ", shows its tensors below."
            }
            (ancestry(grid, moved))
        }
        @if !copied.is_empty() {
            p { "Taken from a model as they are:" }
            ul { @for (model, what) in origins(grid, copied) { li { (model) ": " (what) } } }
        }
    }
}

/// What is taken from each model: runs of layers, and kinds of modules outside them.
fn origins(grid: &Grid, copied: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut layers: BTreeMap<&String, BTreeSet<usize>> = BTreeMap::new();
    let mut others: BTreeMap<&String, BTreeSet<&str>> = BTreeMap::new();
    for (tensor, model) in copied {
        match (grid.layer(tensor), grid.place(tensor)) {
            (Some(layer), _) => drop(layers.entry(model).or_default().insert(layer)),
            (None, Some((row, _))) => drop(others.entry(model).or_default().insert(&grid.rows()[row])),
            (None, None) => {}
        }
    }
    let models: BTreeSet<&String> = copied.values().collect();
    let told = models.into_iter().map(|model| {
        let runs = layers.get(model).map(|layers| format!("tensors of layers {}", runs(layers)));
        let others = others.get(model).into_iter().flatten().map(|kind| (*kind).to_owned());
        (model.clone(), runs.into_iter().chain(others).collect::<Vec<_>>().join(", "))
    });
    told.collect()
}

/// `0-3, 7`.
fn runs(numbers: &BTreeSet<usize>) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for number in numbers.iter().copied() {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let run = |(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.iter().map(run).collect::<Vec<_>>().join(", ")
}

fn of_stage(report: &Report<'_>, stage: &StageStatistics, grid: &Grid) -> Markup {
    let of = report.recipe.stage(stage.stage);
    html! {
        section.stage id=(anchor(stage.stage)) data-name=(of.name) {
            h3 { (of.name) " " span.muted { (of.method.spec().name) } }
            @if stage.changes.is_empty() {
                p.muted { "Nothing of it is its own work: every tensor that is needed is another stage's or a model's." }
            }
            div.stage-figures {
                div { (changes("Change against the stage's base", grid, &stage.changes)) }
                @if !stage.conflicts.is_empty() {
                    div { (conflicts("Contested elements, of those that any model moves", grid, &stage.conflicts, Conflict::contested)) }
                    div { (conflicts("Movement that cancels out", grid, &stage.conflicts, Conflict::cancelled)) }
                }
            }
            @if !stage.parameters.is_empty() {
                details open { summary { "Parameters as resolved" } (charts(grid, &stage.parameters)) }
            }
        }
    }
}

fn rebuilt(report: &Report<'_>) -> Markup {
    let edits = edits(report.build);
    let reasons = &report.build.record.reasons;
    html! {
        h2 id="rebuilt" { "What was rebuilt, and why" }
        @if edits.is_empty() && reasons.is_empty() {
            p {
                @if report.build.before.is_none() { "This is the first build of its recipe." }
                @else { "Nothing ran: every result was known." }
            }
        }
        @if !reasons.is_empty() {
            p { "Actions ran because of:" }
            ul { @for reason in reasons { li { (reason) } } }
        }
        @if !edits.is_empty() {
            p { "The recipe changed since its build before:" }
            ul { @for edit in &edits { li { (edit) } } }
        }
    }
}

fn time(account: &Account, seconds: f64) -> Markup {
    let told = |effort: &Effort| match effort.count {
        0 => "nothing ran".to_owned(),
        n => format!("{n} in {:.2} thread seconds, {}", effort.seconds, bytes(effort.bytes)),
    };
    let row = |name: &str, effort: &Effort| Row {
        name: name.to_owned(),
        activity: effort.activity.clone(),
        told: told(effort),
    };
    let hashed = (account.hashed.count > 0).then(|| row("reading sources", &account.hashed));
    let stages = account.stages.iter().map(|stage| row(&stage.name, &stage.ran));
    let rows: Vec<Row> = hashed.into_iter().chain(stages).collect();
    html! {
        h2 id="time" { "Time" }
        @if rows.is_empty() {
            p { "The version of lamarck that made this build did not record times by stage." }
        } @else {
            (Timeline { rows: &rows, seconds }.draw())
        }
    }
}

fn tensors(report: &Report<'_>) -> Markup {
    html! {
        h2 id="tensors-of" { "Tensors" }
        (filter_box())
        div.scroll {
            table id="tensors" {
                thead {
                    tr {
                        th scope="col" { "Tensor" } th.n scope="col" { "Change" } th.n scope="col" { "Cosine" }
                        th.n scope="col" { "Signs flipped" } th scope="col" { "Went most towards" }
                    }
                }
                tbody {
                    @for (tensor, moved) in report.statistics.targets.iter().flat_map(|target| &target.moved) {
                        tr {
                            td { code { (tensor) } }
                            td.n { (percent(moved.change.relative())) }
                            td.n { (format!("{:.6}", moved.change.cosine())) }
                            td.n { (percent(moved.change.flipped())) }
                            td { (winners(moved)) }
                        }
                    }
                }
            }
        }
    }
}

/// The ancestors with the largest shares.
fn winners(moved: &Moved) -> String {
    let mut models = moved.models.clone();
    models.dedup();
    let Some(parts) = Shares::of(moved, &models).parts() else { return String::new() };
    let mut ranked: Vec<(f64, &String)> = parts.into_iter().zip(&models).collect();
    ranked.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let named = ranked.iter().take(NAMED).filter(|(part, _)| *part > 0.0);
    named.map(|(part, model)| format!("{model} {}", percent(*part))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_are_runs() {
        assert_eq!(runs(&BTreeSet::from([0, 1, 2, 3, 7, 9, 10])), "0-3, 7, 9-10");
        assert_eq!(runs(&BTreeSet::new()), "");
    }
}
