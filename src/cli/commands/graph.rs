//! `lamarck graph`.

use std::process::ExitCode;

use maud::html;
use serde_json::{Value, json};

use super::{Read, open_and_plan, read, targets, tell};
use crate::cli::args::{GraphArgs, GraphFormat};
use crate::cli::config::Flags;
use crate::cli::error::CliError;
use crate::cli::findings::Source;
use crate::cli::ui::{Show, Ui};
use crate::draw::graph::{Extent, Graph, Setting, Stage};
use crate::draw::numbers::counted;
use crate::draw::{graph_page, graph_svg, graph_text};
use crate::plan::{needed, stages_in_order};
use crate::project::{Project, ProjectError, Reach, StageWork};
use crate::recipe::{Recipe, StageId, allow, picture};

pub fn run(args: &GraphArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let GraphArgs { models, cache, seed, .. } = args;
    let flags = Flags { models, cache: cache.as_deref(), seed: *seed, ..Flags::default() };
    let Read { mut project, path, text, recipe, findings, allowed } = read(&args.recipe, flags)?;
    let source = Source { name: path.to_string_lossy().into_owned(), text };
    let findings = allow::apply(findings, &allowed, &project.allow, false);
    tell(&source, &findings, args.recipe.deny_warnings, Show::Errors, ui)?;
    let recipe = recipe.expect("without an error there is a recipe");
    let chosen = targets(&recipe, &args.recipe.stages)?;
    let order = if chosen.is_empty() { stages_in_order(&recipe) } else { needed(&recipe, &chosen) };
    let name = |reference| recipe.name_of(reference).to_owned();
    let label = |reference| recipe.label_of(reference);
    let mut graph = picture::picture(&recipe, &order, &name, &label);
    let shows_work = ui.json || matches!(args.format, GraphFormat::Svg | GraphFormat::Html);
    if shows_work {
        // Nothing is asked of the hub for a picture.
        project.hub = None;
        add_work(&mut graph, &project, &recipe, (&order, &chosen), ui)?;
    }
    let title = title(&graph);
    if ui.json {
        ui.print_json(as_json(&graph))?;
        return Ok(ExitCode::SUCCESS);
    }
    match args.format {
        GraphFormat::Text => ui.print(&graph_text::tree(&graph))?,
        GraphFormat::Dot => ui.print_as_it_is(&graph_text::dot(&graph))?,
        GraphFormat::Mermaid => ui.print_as_it_is(&graph_text::mermaid(&graph))?,
        GraphFormat::Svg => {
            ui.print_as_it_is(&graph_svg::file(&graph, &format!("How {title} is merged")))?;
        }
        GraphFormat::Html => {
            let stages = counted(graph.stages().count(), "stage");
            let summary = html! { (stages) " of " code { (source.name) } "." };
            ui.print_as_it_is(&graph_page::page(&graph, &title, summary))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds what a build would do with each stage, where all models are on this machine.
fn add_work(
    graph: &mut Graph,
    project: &Project,
    recipe: &Recipe,
    (order, chosen): (&[StageId], &[StageId]),
    ui: &Ui,
) -> Result<(), ProjectError> {
    // What is wrong with models is for other commands to tell: the graph is the recipe's.
    let planned = open_and_plan(project, recipe, chosen, (Reach::Headers, ui), &mut Vec::new());
    let Ok(Some(planned)) = planned else { return Ok(()) };
    let status = project.status(recipe, &planned)?;
    let stages = graph.nodes.iter_mut().filter_map(|node| node.stage.as_mut());
    for (id, stage) in order.iter().zip(stages) {
        stage.work = Some(StageWork::of(recipe, &planned, &status, *id).drawn());
    }
    Ok(())
}

/// The final stages.
fn title(graph: &Graph) -> String {
    graph.finals().map(|place| graph.nodes[place].name.as_str()).collect::<Vec<_>>().join(", ")
}

fn as_json(graph: &Graph) -> Value {
    let extent = |extent: &Option<Extent>| extent.map(|Extent { min, max }| json!([min, max]));
    let stages: Vec<Value> = graph
        .stages()
        .map(|(place, node, Stage { method, settings, work })| {
            let name = |place: usize| graph.nodes[place].name.as_str();
            let base = graph.inputs(place).find(|edge| edge.is_base).map(|edge| name(edge.from));
            let names: Vec<&str> = graph.inputs(place).map(|edge| name(edge.from)).collect();
            let inputs: Vec<Value> = graph
                .inputs(place)
                .filter(|edge| edge.is_input)
                .map(|edge| {
                    json!({
                        "name": name(edge.from),
                        "weight": extent(&edge.weight),
                        "density": extent(&edge.density),
                        "layers": edge.layers,
                    })
                })
                .collect();
            let parameter = |Setting { name, extent: Extent { min, max }, is_flag }: &Setting| {
                let value = if *is_flag { json!([*min > 0.0, *max > 0.0]) } else { json!([min, max]) };
                ((*name).to_owned(), value)
            };
            let parameters: serde_json::Map<String, Value> = settings.iter().map(parameter).collect();
            json!({
                "stage": node.name,
                "method": method,
                "base": base,
                "reads": names,
                "inputs": inputs,
                "parameters": parameters,
                "verdict": work.as_ref().map(|work| work.verdict().word()),
                "tensors": work.as_ref().map(|work| work.tensors),
                "bytes": work.as_ref().map(|work| work.bytes),
                "run": work.as_ref().map(|work| work.run),
                "run_if_changed": work.as_ref().map(|work| work.if_changed),
                "reuse": work.as_ref().map(|work| work.reuse),
            })
        })
        .collect();
    json!({ "stages": stages })
}
