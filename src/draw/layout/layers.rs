//! Layers: boxes as far down as what reads them allows, and points at which long lines pass through the layers between.

use super::shapes::{Item, Line, Size};

/// What a vertex of the layered graph is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A box.
    Box,
    /// Where a line passes through a layer, or its label.
    Bend,
}

/// Something that takes room in a layer.
#[derive(Clone, Copy, Debug)]
pub struct Vertex {
    pub part: Part,
    pub size: Size,
    layer: usize,
}

/// A graph of which every line leads from a layer to the next one. Even layers are those of boxes, odd ones those of
/// labels.
#[derive(Clone, Debug)]
pub struct Layered {
    /// The boxes first.
    pub vertices: Vec<Vertex>,
    /// From top to bottom, each from left to right.
    pub layers: Vec<Vec<usize>>,
    /// For each line the vertices between its ends; its label is the last one.
    pub chains: Vec<Vec<usize>>,
    /// What is linked to each vertex in the layer above, and in the one below.
    pub above: Vec<Vec<usize>>,
    pub below: Vec<Vec<usize>>,
}

/// The width beyond which boxes that may rise do so.
const MAX_WIDTH: f64 = 1100.0;

/// What a box takes beyond its own width, roughly.
const ROOM: f64 = 30.0;

impl Layered {
    /// Spreads boxes over layers.
    pub fn of(items: &[Item], lines: &[Line]) -> Self {
        let levels = levels(items, lines);
        let n_levels = levels.iter().max().map_or(0, |level| level + 1);
        let mut graph = Self {
            vertices: Vec::new(),
            layers: vec![Vec::new(); (2 * n_levels).saturating_sub(1)],
            chains: Vec::new(),
            above: Vec::new(),
            below: Vec::new(),
        };
        for (item, level) in items.iter().zip(&levels) {
            graph.add(Part::Box, item.size, 2 * level);
        }
        for line in lines {
            let (first, last) = (2 * levels[line.from] + 1, 2 * levels[line.to] - 1);
            let mut previous = line.from;
            let mut chain = Vec::new();
            for layer in first..=last {
                let size = if layer == last { line.label } else { Size::default() };
                let vertex = graph.add(Part::Bend, size, layer);
                graph.link(previous, vertex);
                chain.push(vertex);
                previous = vertex;
            }
            graph.link(previous, line.to);
            graph.chains.push(chain);
        }
        graph
    }

    fn add(&mut self, part: Part, size: Size, layer: usize) -> usize {
        let vertex = self.vertices.len();
        self.vertices.push(Vertex { part, size, layer });
        self.layers[layer].push(vertex);
        self.above.push(Vec::new());
        self.below.push(Vec::new());
        vertex
    }

    fn link(&mut self, upper: usize, lower: usize) {
        self.below[upper].push(lower);
        self.above[lower].push(upper);
    }

    /// The number of the layer that a vertex is in.
    pub fn layer_of(&self, vertex: usize) -> usize {
        self.vertices[vertex].layer
    }
}

/// The level of every box, from the top. What nothing reads comes right below what it reads, and everything else right
/// above what reads it. What may rise leaves a level that is too wide.
fn levels(items: &[Item], lines: &[Line]) -> Vec<usize> {
    let mut depths = vec![0usize; items.len()];
    for to in 0..items.len() {
        let above = lines.iter().filter(|line| line.to == to);
        depths[to] = above.map(|line| depths[line.from] + 1).max().unwrap_or(0);
    }
    for from in (0..items.len()).rev() {
        let below = lines.iter().filter(|line| line.from == from);
        depths[from] = below.map(|line| depths[line.to] - 1).min().unwrap_or(depths[from]);
    }
    let deepest = depths.iter().copied().max().unwrap_or(0);
    let mut heights: Vec<usize> = depths.into_iter().map(|depth| deepest - depth).collect();
    let mut height = 0;
    while heights.iter().any(|other| *other >= height) {
        let mut used = 0.0;
        let of_level = |heights: &[usize], may_rise: bool| -> Vec<usize> {
            (0..items.len()).filter(|i| heights[*i] == height && items[*i].may_rise == may_rise).collect()
        };
        for item in of_level(&heights, false) {
            used += items[item].size.width + ROOM;
        }
        for item in of_level(&heights, true) {
            used += items[item].size.width + ROOM;
            if used > MAX_WIDTH {
                heights[item] += 1;
            }
        }
        height += 1;
    }
    let most = heights.iter().copied().max().unwrap_or(0);
    heights.into_iter().map(|height| most - height).collect()
}
