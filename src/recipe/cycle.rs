//! Refuses recipes whose stages wait for one another.

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::finding::Finding;
use super::meant::{Recipe, StageId};

/// Reports every cycle, once, with all its stages in order.
pub fn check(recipe: &Recipe, findings: &mut Vec<Finding>) {
    let mut graph: DiGraph<(), ()> = DiGraph::new();
    for _ in &recipe.stages {
        graph.add_node(());
    }
    for (number, stage) in recipe.stages.iter().enumerate() {
        for read in stage.stages_read() {
            graph.update_edge(NodeIndex::new(number), NodeIndex::new(read.0), ());
        }
    }
    for group in tarjan_scc(&graph) {
        let start = *group.iter().min().expect("a component is not empty");
        if group.len() == 1 && graph.find_edge(start, start).is_none() {
            continue;
        }
        let name = |node: &NodeIndex| recipe.stages[node.index()].name.as_str();
        let cycle: Vec<&str> = walk(&graph, start, &group).iter().map(name).collect();
        let stage = recipe.stage(StageId(start.index()));
        let message = format!("stages read one another in a cycle: {}", cycle.join(" -> "));
        let help =
            "make one of them read something else; write `hub:` or `./` before a model that is not a stage";
        findings.push(Finding::error("cycle", stage.span, message).help(help));
    }
}

/// A shortest way from a node back to itself within its component.
fn walk(graph: &DiGraph<(), ()>, start: NodeIndex, group: &[NodeIndex]) -> Vec<NodeIndex> {
    let mut ways = std::collections::VecDeque::from([vec![start]]);
    let mut seen = std::collections::HashSet::new();
    while let Some(way) = ways.pop_front() {
        let last = *way.last().expect("a way has a start");
        let mut next: Vec<NodeIndex> = graph.neighbors(last).filter(|node| group.contains(node)).collect();
        next.sort_unstable();
        for node in next {
            let longer = [way.as_slice(), &[node]].concat();
            if node == start {
                return longer;
            }
            if seen.insert(node) {
                ways.push_back(longer);
            }
        }
    }
    unreachable!("every node of a component is on a cycle")
}
