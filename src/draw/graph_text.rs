//! The graph of stages as text: a tree for terminals, and the languages of Graphviz and Mermaid.

use std::fmt::Write;

use super::graph::{Edge, Graph, Node};

/// Each final stage with what it is made of as branches; what came before comes without its own, marked `(*)`.
pub fn tree(graph: &Graph) -> String {
    let mut text = String::new();
    let mut seen = vec![false; graph.nodes.len()];
    for root in graph.finals() {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "{}", titled(&graph.nodes[root]));
        seen[root] = true;
        branches(graph, root, "", &mut seen, &mut text);
    }
    text
}

fn branches(graph: &Graph, node: usize, indent: &str, seen: &mut [bool], text: &mut String) {
    let edges: Vec<&Edge> = graph.inputs(node).collect();
    for (number, edge) in edges.iter().enumerate() {
        let is_last = number + 1 == edges.len();
        let (branch, below) = if is_last {
            ("\u{2514}\u{2500}\u{2500}", "    ")
        } else {
            ("\u{251c}\u{2500}\u{2500}", "\u{2502}   ")
        };
        let read = &graph.nodes[edge.from];
        let is_repeated = read.stage.is_some() && std::mem::replace(&mut seen[edge.from], true);
        let lines = edge.lines();
        let settings = if lines.is_empty() { String::new() } else { format!(": {}", lines.join(", ")) };
        let mark = if is_repeated { " (*)" } else { "" };
        let _ = writeln!(text, "{indent}{branch} {}{settings}{mark}", titled(read));
        if !is_repeated {
            branches(graph, edge.from, &format!("{indent}{below}"), seen, text);
        }
    }
}

fn titled(node: &Node) -> String {
    match &node.stage {
        Some(stage) => format!("{} ({})", node.name, stage.method),
        None => node.name.clone(),
    }
}

/// For Graphviz.
pub fn dot(graph: &Graph) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = String::from("digraph {\n");
    for (place, node) in graph.nodes.iter().enumerate() {
        let shape = if node.stage.is_some() { "box" } else { "ellipse" };
        let _ = writeln!(text, "    {place} [ shape = {shape} label = {}]", quoted(&titled(node)));
    }
    for edge in &graph.edges {
        let lines = edge.lines();
        let label = if lines.is_empty() {
            String::new()
        } else {
            format!("label = {}", quoted(&lines.join("\n")).replace('\n', "\\n"))
        };
        let _ = writeln!(text, "    {} -> {} [ {label}]", edge.from, edge.to);
    }
    text + "}\n"
}

/// For Markdown on GitHub and elsewhere.
pub fn mermaid(graph: &Graph) -> String {
    let escaped = |text: &str| text.replace('#', "#35;").replace('"', "#quot;").replace('<', "#lt;");
    let mut text = String::from("graph TD\n");
    for (place, node) in graph.nodes.iter().enumerate() {
        let name = escaped(&titled(node));
        let _ = if node.stage.is_some() {
            writeln!(text, "  n{place}[\"{name}\"]")
        } else {
            writeln!(text, "  n{place}([\"{name}\"])")
        };
    }
    for edge in &graph.edges {
        let lines = edge.lines();
        let arrow =
            if lines.is_empty() { "-->".to_owned() } else { format!("-->|\"{}\"|", lines.join("<br>")) };
        let _ = writeln!(text, "  n{} {arrow} n{}", edge.from, edge.to);
    }
    text
}
