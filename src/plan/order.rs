//! Which stages are needed, and in which order.

use petgraph::algo::toposort;
use petgraph::graph::DiGraph;
use petgraph::visit::{Dfs, Reversed};

use crate::recipe::{Recipe, StageId};

/// The stage graph: an edge leads from a stage to one that reads it. Stages have their own numbers.
fn graph(recipe: &Recipe) -> DiGraph<(), ()> {
    let mut graph = DiGraph::new();
    for _ in &recipe.stages {
        graph.add_node(());
    }
    for (number, stage) in recipe.stages.iter().enumerate() {
        for read in stage.stages_read() {
            graph.update_edge((read.0 as u32).into(), (number as u32).into(), ());
        }
    }
    graph
}

/// The stages that no stage reads, in the order of the recipe.
pub fn final_stages(recipe: &Recipe) -> Vec<StageId> {
    let graph = graph(recipe);
    graph.externals(petgraph::Direction::Outgoing).map(|node| StageId(node.index())).collect()
}

/// The targets and all they need, each stage behind those it reads.
pub fn needed(recipe: &Recipe, targets: &[StageId]) -> Vec<StageId> {
    let graph = graph(recipe);
    let reversed = Reversed(&graph);
    let mut search = Dfs::empty(reversed);
    for target in targets {
        search.move_to((target.0 as u32).into());
        while search.next(reversed).is_some() {}
    }
    let order = toposort(&graph, None).expect("cycles were refused when the recipe was resolved");
    order
        .into_iter()
        .filter(|node| search.discovered.contains(node.index()))
        .map(|node| StageId(node.index()))
        .collect()
}
