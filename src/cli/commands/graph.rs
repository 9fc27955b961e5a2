//! `lamarck graph`.

use std::process::ExitCode;

use petgraph::dot::{Config, Dot};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use serde_json::json;

use super::{Read, read, targets, tell};
use crate::cli::args::{GraphArgs, GraphFormat};
use crate::cli::config::Flags;
use crate::cli::error::CliError;
use crate::cli::findings::Source;
use crate::cli::ui::{Show, Ui};
use crate::plan::{needed, stages_in_order};
use crate::recipe::{Recipe, Reference, StageId, allow};

/// A stage or a model.
struct Box {
    name: String,
    /// The method of a stage.
    method: Option<&'static str>,
}

type Boxes = DiGraph<Box, &'static str>;

pub fn run(args: &GraphArgs, ui: &Ui) -> Result<ExitCode, CliError> {
    let Read { project, path, text, recipe, findings, allowed } = read(&args.recipe, Flags::default())?;
    let source = Source { name: path.to_string_lossy().into_owned(), text };
    let findings = allow::apply(findings, &allowed, &project.allow, false);
    tell(&source, &findings, args.recipe.deny_warnings, Show::Errors, ui)?;
    let recipe = recipe.expect("without an error there is a recipe");
    let chosen = targets(&recipe, &args.recipe.stages)?;
    let order = if chosen.is_empty() { stages_in_order(&recipe) } else { needed(&recipe, &chosen) };
    let graph = boxes(&recipe, &order);
    if ui.json {
        ui.print_json(as_json(&graph))?;
    } else {
        match args.format {
            GraphFormat::Text => ui.print(&as_text(&graph))?,
            GraphFormat::Dot => ui.print_as_it_is(&as_dot(&graph))?,
            GraphFormat::Mermaid => ui.print_as_it_is(&as_mermaid(&graph))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The stages, each behind those it reads, and the models they read.
fn boxes(recipe: &Recipe, order: &[StageId]) -> Boxes {
    let mut graph = Boxes::new();
    let mut known: Vec<(Reference, NodeIndex)> = Vec::new();
    for id in order {
        let stage = recipe.stage(*id);
        let mut edges: Vec<(NodeIndex, &'static str)> = Vec::new();
        for located in stage.references() {
            let reference = &located.value;
            let node = match known.iter().find(|(other, _)| other == reference) {
                Some((_, node)) => *node,
                None => {
                    let node =
                        graph.add_node(Box { name: recipe.name_of(reference).to_owned(), method: None });
                    known.push((reference.clone(), node));
                    node
                }
            };
            let is_base = stage.base.as_ref().is_some_and(|base| base.value == *reference);
            if edges.iter().all(|(other, _)| *other != node) {
                edges.push((node, if is_base { "base" } else { "" }));
            }
        }
        let node = graph.add_node(Box { name: stage.name.clone(), method: Some(stage.method.spec().name) });
        known.push((Reference::Stage(*id), node));
        for (from, label) in edges {
            graph.add_edge(from, node, label);
        }
    }
    graph
}

fn reads(graph: &Boxes, node: NodeIndex) -> Vec<(&str, &'static str)> {
    let mut edges: Vec<_> = graph.edges_directed(node, petgraph::Direction::Incoming).collect();
    edges.sort_by_key(|edge| edge.id());
    edges.into_iter().map(|edge| (graph[edge.source()].name.as_str(), *edge.weight())).collect()
}

fn stages(graph: &Boxes) -> impl Iterator<Item = (NodeIndex, &Box, &'static str)> {
    graph.node_indices().filter_map(|node| Some((node, &graph[node], graph[node].method?)))
}

fn as_text(graph: &Boxes) -> String {
    let mut text = String::new();
    for (node, stage, method) in stages(graph) {
        text.push_str(&format!("{} ({method})\n", stage.name));
        for (name, label) in reads(graph, node) {
            let label = if label.is_empty() { String::new() } else { format!(" ({label})") };
            text.push_str(&format!("  <- {name}{label}\n"));
        }
    }
    text
}

fn as_dot(graph: &Boxes) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let edge = |_: &Boxes, edge: petgraph::graph::EdgeReference<'_, &'static str>| match *edge.weight() {
        "" => String::new(),
        label => format!("label = {}", quoted(label)),
    };
    let node = |_: &Boxes, (_, node): (NodeIndex, &Box)| match node.method {
        Some(method) => format!("shape = box label = {}", quoted(&format!("{} ({method})", node.name))),
        None => format!("shape = ellipse label = {}", quoted(&node.name)),
    };
    let config = [Config::EdgeNoLabel, Config::NodeNoLabel];
    let labels = graph.map(|_, _| "", |_, _| "");
    let edge_of = |_: &DiGraph<&str, &str>, reference: petgraph::graph::EdgeReference<'_, &str>| {
        let id = reference.id();
        edge(graph, graph.edge_references().find(|other| other.id() == id).expect("the graphs are alike"))
    };
    let node_of =
        |_: &DiGraph<&str, &str>, (index, _): (NodeIndex, &&str)| node(graph, (index, &graph[index]));
    format!("{:?}", Dot::with_attr_getters(&labels, &config, &edge_of, &node_of))
}

fn as_mermaid(graph: &Boxes) -> String {
    let escaped = |text: &str| text.replace('"', "#quot;");
    let mut text = String::from("graph TD\n");
    for node in graph.node_indices() {
        let Box { name, method } = &graph[node];
        text.push_str(&match method {
            Some(method) => format!("  n{}[\"{} ({method})\"]\n", node.index(), escaped(name)),
            None => format!("  n{}([\"{}\"])\n", node.index(), escaped(name)),
        });
    }
    for edge in graph.edge_references() {
        let arrow =
            if edge.weight().is_empty() { "-->".to_owned() } else { format!("-->|{}|", edge.weight()) };
        text.push_str(&format!("  n{} {arrow} n{}\n", edge.source().index(), edge.target().index()));
    }
    text
}

fn as_json(graph: &Boxes) -> serde_json::Value {
    let stages: Vec<_> = stages(graph)
        .map(|(node, stage, method)| {
            let reads = reads(graph, node);
            let base = reads.iter().find(|(_, label)| *label == "base").map(|(name, _)| *name);
            let names: Vec<&str> = reads.iter().map(|(name, _)| *name).collect();
            json!({ "stage": stage.name, "method": method, "base": base, "reads": names })
        })
        .collect();
    json!({ "stages": stages })
}
