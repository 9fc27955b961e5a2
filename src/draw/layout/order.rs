//! The order within layers: sweeps that move each vertex to the middle of its neighbours, as long as fewer lines cross.

use super::layers::{Layered, Part};

/// Sweeps down and up; more of them change nothing at our sizes.
const SWEEPS: usize = 24;

/// So many lines into one box that some come from further up for want of room.
const CROWD: usize = 7;

/// Orders every layer. Sweeps end where they began to lead, so they begin at several orders.
pub fn arrange(graph: &mut Layered) {
    let mut best: Option<(usize, Vec<Vec<usize>>)> = None;
    let is_crowded = graph.above.iter().any(|above| above.len() > CROWD);
    let first = if is_crowded { Start::Centred } else { Start::Forward };
    for (start, takes_turns) in
        [(first, false), (Start::Mirrored, false), (Start::Forward, true), (Start::Mirrored, true)]
    {
        seed(graph, start);
        for sweep in 0..=SWEEPS {
            let fewest = best.as_ref().map_or(usize::MAX, |(fewest, _)| *fewest);
            swap_neighbours(graph);
            let now = crossings(graph);
            if now < fewest {
                best = Some((now, graph.layers.clone()));
            }
            if now == 0 {
                break;
            }
            let (n, is_down) = (graph.layers.len(), sweep % 2 == 0);
            for step in 1..n {
                let layer = if is_down { step } else { n - 1 - step };
                sort(graph, layer, is_down, (sweep % 4 >= 2, takes_turns && sweep % 3 == 0));
            }
        }
    }
    graph.layers = best.expect("there was a first order").1;
}

/// In which order a walk comes to what a box reads.
#[derive(Clone, Copy, PartialEq)]
enum Start {
    Forward,
    Mirrored,
    /// What is far away in the middle, where its lines run between those near by.
    Centred,
}

/// The first order: as a walk up from the last boxes comes to the others.
fn seed(graph: &mut Layered, start: Start) {
    fn visit(vertex: usize, start: Start, graph: &Layered, (seen, layers): (&mut [bool], &mut [Vec<usize>])) {
        if std::mem::replace(&mut seen[vertex], true) {
            return;
        }
        for above in in_order(graph, vertex, start) {
            visit(above, start, graph, (seen, layers));
        }
        layers[graph.layer_of(vertex)].push(vertex);
    }
    let mut layers = vec![Vec::new(); graph.layers.len()];
    let mut seen = vec![false; graph.vertices.len()];
    for vertex in (0..graph.vertices.len()).filter(|vertex| graph.below[*vertex].is_empty()) {
        visit(vertex, start, graph, (&mut seen, &mut layers));
    }
    graph.layers = layers;
}

fn in_order(graph: &Layered, vertex: usize, start: Start) -> Vec<usize> {
    let mut above = graph.above[vertex].clone();
    match start {
        Start::Forward => above,
        Start::Mirrored => {
            above.reverse();
            above
        }
        Start::Centred => {
            let end = |mut vertex: usize| {
                while graph.vertices[vertex].part == Part::Bend {
                    vertex = graph.above[vertex][0];
                }
                graph.layer_of(vertex)
            };
            above.sort_by_key(|vertex| end(*vertex));
            let mut centred = std::collections::VecDeque::new();
            for (number, vertex) in above.into_iter().enumerate() {
                if number % 2 == 0 { centred.push_back(vertex) } else { centred.push_front(vertex) }
            }
            centred.into()
        }
    }
}

/// The place of every vertex in its layer.
fn places(graph: &Layered) -> Vec<usize> {
    let mut places = vec![0; graph.vertices.len()];
    for layer in &graph.layers {
        for (place, vertex) in layer.iter().enumerate() {
            places[*vertex] = place;
        }
    }
    places
}

/// Sorts a layer by the middles of neighbours in the layer before it; what has none keeps its place, and what has the
/// same may change places.
fn sort(graph: &mut Layered, layer: usize, is_down: bool, (by_median, swaps_ties): (bool, bool)) {
    let places = places(graph);
    let neighbours = if is_down { &graph.above } else { &graph.below };
    let middle = |vertex: usize| {
        let mut at: Vec<usize> = neighbours[vertex].iter().map(|other| places[*other]).collect();
        at.sort_unstable();
        match at.len() {
            0 => places[vertex] as f64,
            n if by_median => (at[(n - 1) / 2] + at[n / 2]) as f64 / 2.0,
            n => at.iter().sum::<usize>() as f64 / n as f64,
        }
    };
    let mut sorted = graph.layers[layer].clone();
    if swaps_ties {
        sorted.reverse();
    }
    sorted.sort_by(|a, b| middle(*a).total_cmp(&middle(*b)));
    graph.layers[layer] = sorted;
}

/// Swaps neighbours as long as that takes crossings away.
fn swap_neighbours(graph: &mut Layered) {
    let mut places = places(graph);
    let mut has_changed = true;
    while std::mem::take(&mut has_changed) {
        for layer in 0..graph.layers.len() {
            for at in 1..graph.layers[layer].len() {
                let (left, right) = (graph.layers[layer][at - 1], graph.layers[layer][at]);
                let crossed = |one: usize, other: usize| {
                    [&graph.above, &graph.below]
                        .iter()
                        .map(|links| inversions(&links[one], &links[other], &places))
                        .sum::<usize>()
                };
                if crossed(right, left) < crossed(left, right) {
                    graph.layers[layer].swap(at - 1, at);
                    places.swap(left, right);
                    has_changed = true;
                }
            }
        }
    }
}

/// How many lines of two neighbours cross if `one` stands left of `other`.
fn inversions(one: &[usize], other: &[usize], places: &[usize]) -> usize {
    one.iter().map(|a| other.iter().filter(|b| places[**b] < places[*a]).count()).sum()
}

fn crossings(graph: &Layered) -> usize {
    let places = places(graph);
    let of_layer = |layer: &Vec<usize>| -> usize {
        let pairs = layer
            .iter()
            .enumerate()
            .flat_map(|(at, one)| layer[at + 1..].iter().map(move |other| (*one, *other)));
        pairs.map(|(one, other)| inversions(&graph.below[one], &graph.below[other], &places)).sum()
    };
    graph.layers.iter().map(of_layer).sum()
}

#[cfg(test)]
mod tests {
    use super::super::{Item, Line, Size};
    use super::*;

    #[test]
    fn lines_that_need_not_cross_do_not() {
        let item = Item { size: Size { width: 50.0, height: 20.0 }, may_rise: false };
        let line = |(from, to)| Line { from, to, label: Size::default() };
        // Two pairs, named crosswise, and a box that reads both.
        let lines: Vec<Line> = [(0, 4), (1, 3), (2, 4), (3, 5), (4, 5), (0, 5)].map(line).to_vec();
        let mut graph = Layered::of(&[item; 6], &lines);
        arrange(&mut graph);
        assert_eq!(crossings(&graph), 0, "{:?}", graph.layers);
        assert_eq!(graph.layers.iter().map(Vec::len).sum::<usize>(), graph.vertices.len());
    }
}
