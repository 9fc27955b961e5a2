//! The graph of stages as a page: the picture, and a table of the stages below it.

use maud::{Markup, html};

use super::graph::{Edge, Graph, Node, Stage};
use super::graph_svg;
use super::numbers::bytes;
use super::page::Page;

const STYLE: &str = "\
.graph { text-align: center; }
td.n, td.status { white-space: nowrap; }
tr:target { background: var(--raised); }
td ul { margin: 0; padding-left: 1.1rem; }
.reuse { color: var(--reuse); } .part { color: var(--part); } .run { color: var(--run); }
";

/// The whole page.
pub fn page(graph: &Graph, title: &str, summary: Markup) -> String {
    let place = |name: &str| graph.stages().find(|(_, node, _)| node.name == name).map(|(place, _, _)| place);
    let picture = graph_svg::inline(graph, title, &|name| Some(format!("#stage-{}", place(name)?)));
    let body = html! {
        figure.graph.scroll { (picture) }
        h2 { "Stages" }
        div.scroll { (table(graph)) }
    };
    let style = format!("{}{STYLE}", graph_svg::STYLE);
    Page { title, summary, body, style: &style, scripts: &[] }.html()
}

fn table(graph: &Graph) -> Markup {
    let has_work = graph.stages().any(|(_, _, stage)| stage.work.is_some());
    html! {
        table {
            thead {
                tr {
                    th { "Stage" } th { "Method" } th { "Reads" }
                    @if has_work { th.n { "Tensors" } th.n { "Size" } th { "Status" } }
                }
            }
            tbody { @for (place, node, stage) in graph.stages() { (row(graph, place, node, stage)) } }
        }
    }
}

fn row(graph: &Graph, place: usize, node: &Node, stage: &Stage) -> Markup {
    let settings: Vec<String> = stage.settings.iter().map(ToString::to_string).collect();
    html! {
        tr id={ "stage-" (place) } {
            th scope="row" { (node.name) }
            td { (stage.method) @if !settings.is_empty() { br; span.muted { (settings.join(", ")) } } }
            td { ul { @for edge in graph.inputs(place) { li { (input(graph, edge)) } } } }
            @if let Some(work) = &stage.work {
                td.n { (work.tensors) }
                td.n { (bytes(work.bytes)) }
                td.status class=(work.verdict().word()) { (work.words()) }
            }
        }
    }
}

fn input(graph: &Graph, edge: &Edge) -> Markup {
    let node = &graph.nodes[edge.from];
    let lines = edge.lines();
    html! {
        @if node.stage.is_some() { a href={ "#stage-" (edge.from) } { (node.name) } } @else { (node.name) }
        @if !lines.is_empty() { ": " span.muted { (lines.join(", ")) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::graph::Work;

    #[test]
    fn every_stage_leads_to_its_row() {
        let stage = |name: &str| Node {
            name: name.into(),
            label: name.into(),
            stage: Some(Stage {
                method: "linear",
                settings: Vec::new(),
                work: Some(Work { is_done: false, tensors: 1, bytes: 2, run: 1, if_changed: 0, reuse: 0 }),
            }),
        };
        let graph = Graph {
            nodes: vec![stage("one"), stage("two & <three>")],
            edges: vec![Edge { from: 0, to: 1, is_input: true, ..Edge::default() }],
        };
        let page = page(&graph, "two & <three>", html! { "" });
        for place in ["stage-0", "stage-1"] {
            assert!(
                page.contains(&format!("id=\"{place}\"")) && page.contains(&format!("href=\"#{place}\"")),
                "{page}"
            );
        }
        assert!(page.contains("must run") && !page.contains("<three>"));
    }
}
