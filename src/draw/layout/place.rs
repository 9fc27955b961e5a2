//! Coordinates: every vertex as near to the middle of its neighbours as the order in its layer allows.

use super::layers::{Layered, Part};
use super::shapes::Size;

/// Where vertices and layers are.
pub struct Places {
    /// The middle of every vertex.
    pub x: Vec<f64>,
    /// Upper and lower ends of the layers.
    pub top: Vec<f64>,
    pub bottom: Vec<f64>,
    pub size: Size,
}

/// Around everything.
const MARGIN: f64 = 16.0;
/// Between layers, at least and at most; the wider lines reach, the more, so that they are not too flat.
const GAP: (f64, f64) = (16.0, 64.0);
const GAP_BY_REACH: f64 = 0.09;
/// Rounds of moving everything towards its neighbours.
const ROUNDS: usize = 160;
/// How much more two bends of a line draw one another than a box draws a line.
const STIFFNESS: f64 = 30.0;
const STRAIGHTENINGS: usize = 12;

/// Places all vertices.
pub fn place(graph: &Layered) -> Places {
    let mut x = vec![0.0; graph.vertices.len()];
    for layer in &graph.layers {
        fit(graph, layer, &mut x, &vec![(0.0, 1.0); layer.len()]);
    }
    for round in 0..ROUNDS {
        // First from one side, then between both, so that early guesses do not hold what hangs on them.
        let sides = match round {
            0..8 if round % 2 == 0 => (true, false),
            0..8 => (false, true),
            _ => (true, true),
        };
        let n = graph.layers.len();
        for step in 0..n {
            let layer = &graph.layers[if round % 2 == 0 { step } else { n - 1 - step }];
            let wishes: Vec<(f64, f64)> =
                layer.iter().map(|vertex| wish(graph, *vertex, &x, sides)).collect();
            fit(graph, layer, &mut x, &wishes);
        }
    }
    for _ in 0..STRAIGHTENINGS {
        straighten(graph, &mut x);
    }
    let left = (0..x.len())
        .map(|vertex| x[vertex] - graph.vertices[vertex].size.width / 2.0)
        .fold(f64::INFINITY, f64::min);
    let shift = if left.is_finite() { MARGIN - left } else { 0.0 };
    x.iter_mut().for_each(|x| *x = (*x + shift).round());
    let right =
        (0..x.len()).map(|vertex| x[vertex] + graph.vertices[vertex].size.width / 2.0).fold(0.0, f64::max);
    let (mut top, mut bottom, mut y) = (Vec::new(), Vec::new(), MARGIN);
    for (number, layer) in graph.layers.iter().enumerate() {
        if number > 0 {
            let reach = layer
                .iter()
                .flat_map(|vertex| graph.above[*vertex].iter().map(|above| (x[*vertex] - x[*above]).abs()))
                .fold(0.0, f64::max);
            y += (GAP.0 + GAP_BY_REACH * reach).min(GAP.1).round();
        }
        top.push(y);
        y += layer.iter().map(|vertex| graph.vertices[*vertex].size.height).fold(0.0, f64::max);
        bottom.push(y);
    }
    Places { x, top, bottom, size: Size { width: right + MARGIN, height: y + MARGIN } }
}

/// The room between the middles of two neighbours.
fn apart(graph: &Layered, left: usize, right: usize) -> f64 {
    let (left, right) = (graph.vertices[left], graph.vertices[right]);
    let room = match (left.part, right.part) {
        (Part::Box, Part::Box) => 26.0,
        (Part::Box, Part::Bend) | (Part::Bend, Part::Box) => 18.0,
        (Part::Bend, Part::Bend) => 12.0,
    };
    (left.size.width + right.size.width) / 2.0 + room
}

/// Where a vertex wants to be for its neighbours above and below, and how much.
fn wish(graph: &Layered, vertex: usize, x: &[f64], (up, down): (bool, bool)) -> (f64, f64) {
    let is_bend = |vertex: usize| graph.vertices[vertex].part == Part::Bend;
    let links = [(up, &graph.above), (down, &graph.below)];
    let neighbours = links.iter().filter(|(is_asked, _)| *is_asked).flat_map(|(_, links)| &links[vertex]);
    let (mut sum, mut total) = (0.0, 0.0);
    for other in neighbours {
        // What bends nowhere else is to be straight.
        let weight = if is_bend(vertex) && is_bend(*other) { STIFFNESS } else { 1.0 };
        sum += weight * x[*other];
        total += weight;
    }
    if total > 0.0 { (sum / total, total) } else { (x[vertex], 0.01) }
}

/// Places a layer so that the squares of the distances from what is wished come out smallest: pooled neighbours that
/// want to pass one another share their mean.
fn fit(graph: &Layered, layer: &[usize], x: &mut [f64], wishes: &[(f64, f64)]) {
    struct Pool {
        mean: f64,
        weight: f64,
        n: usize,
    }
    let mut offsets = Vec::with_capacity(layer.len());
    let mut pools: Vec<Pool> = Vec::new();
    let mut offset = 0.0;
    for (at, vertex) in layer.iter().enumerate() {
        if at > 0 {
            offset += apart(graph, layer[at - 1], *vertex);
        }
        offsets.push(offset);
        let (place, weight) = wishes[at];
        let mut pool = Pool { mean: place - offset, weight, n: 1 };
        while let Some(last) = pools.pop_if(|last| last.mean > pool.mean) {
            let weight = last.weight + pool.weight;
            let mean = (last.mean * last.weight + pool.mean * pool.weight) / weight;
            pool = Pool { mean, weight, n: last.n + pool.n };
        }
        pools.push(pool);
    }
    let means = pools.iter().flat_map(|pool| std::iter::repeat_n(pool.mean, pool.n));
    for ((vertex, offset), mean) in layer.iter().zip(offsets).zip(means) {
        x[*vertex] = mean + offset;
    }
}

/// Puts each line's bends one below the other where there is room.
fn straighten(graph: &Layered, x: &mut [f64]) {
    let mut neighbours = vec![(None, None); graph.vertices.len()];
    for layer in &graph.layers {
        for pair in layer.windows(2) {
            neighbours[pair[0]].1 = Some(pair[1]);
            neighbours[pair[1]].0 = Some(pair[0]);
        }
    }
    for chain in &graph.chains {
        let mut rest = chain.as_slice();
        while !rest.is_empty() {
            let (mut low, mut high, mut n) = (f64::NEG_INFINITY, f64::INFINITY, 0);
            for vertex in rest {
                let (left, right) = neighbours[*vertex];
                let from = left.map_or(low, |left| low.max(x[left] + apart(graph, left, *vertex)));
                let to = right.map_or(high, |right| high.min(x[right] - apart(graph, *vertex, right)));
                if from > to {
                    break;
                }
                (low, high, n) = (from, to, n + 1);
            }
            let (run, behind) = rest.split_at(n.max(1));
            if n > 0 {
                let mean = run.iter().map(|vertex| x[*vertex]).sum::<f64>() / run.len() as f64;
                run.iter().for_each(|vertex| x[*vertex] = mean.clamp(low, high));
            }
            rest = behind;
        }
    }
}
