//! Places boxes in layers, what is read above what reads it, and leads lines between them past all other boxes.
//!
//! The way of Sugiyama: layers by the longest path (`layers`), an order in each by sweeps that count crossings
//! (`order`), coordinates that pull what belongs together into line (`place`). The same input gives the same picture.
//!
//! Between two layers of boxes lies one of labels, so that a label has a place of its own as a box has.

mod layers;
mod order;
mod place;
mod shapes;

use layers::Layered;
use place::Places;
pub use shapes::{Item, Layout, Line, Point, Size};

/// The room between two lines that end at one box.
const PORT: f64 = 16.0;

/// Places boxes, of which each line's `from` comes before its `to`.
pub fn lay_out(items: &[Item], lines: &[Line]) -> Layout {
    let mut layered = Layered::of(items, lines);
    order::arrange(&mut layered);
    let Places { x, top, bottom, size } = place::place(&layered);
    let corner = |vertex: usize| {
        let of = layered.vertices[vertex].size;
        let row = layered.layer_of(vertex);
        // Boxes of a layer share their middle.
        Point { x: x[vertex] - of.width / 2.0, y: f64::midpoint(top[row], bottom[row]) - of.height / 2.0 }
    };
    let corners: Vec<Point> = (0..items.len()).map(corner).collect();
    let ends = |part: End| ports(&layered, &x, items, lines, part);
    let (leaves, enters) = (ends(End::From), ends(End::To));
    let route = |(number, line): (usize, &Line)| {
        let stretch = |x, from, to| [from, to].map(|y| Point { x, y });
        let (from, to) = (layered.layer_of(line.from), layered.layer_of(line.to));
        // A box may be lower than its layer, and its neighbours are not to be touched.
        let lower_edge = corners[line.from].y + items[line.from].size.height;
        let mut stretches = vec![stretch(leaves[number], lower_edge, bottom[from])];
        for vertex in &layered.chains[number] {
            let row = layered.layer_of(*vertex);
            stretches.push(stretch(x[*vertex], top[row], bottom[row]));
        }
        stretches.push(stretch(enters[number], top[to], corners[line.to].y));
        without_detours(stretches, &layered, &layered.chains[number], &x)
    };
    let label = |chain: &Vec<usize>| {
        let last = *chain.last().expect("there is a layer of labels between any two boxes");
        let row = layered.layer_of(last);
        Point { x: x[last], y: f64::midpoint(top[row], bottom[row]) }
    };
    Layout {
        size,
        routes: lines.iter().enumerate().map(route).collect(),
        labels: layered.chains.iter().map(label).collect(),
        corners,
    }
}

/// A line that bends once instead of twice where it has no label and passes nothing that has one.
fn without_detours(
    stretches: Vec<[Point; 2]>,
    layered: &Layered,
    chain: &[usize],
    x: &[f64],
) -> Vec<[Point; 2]> {
    const ROOM: f64 = 8.0;
    let is_detour = |at: usize| {
        let vertex = chain[at];
        let (before, behind) = (stretches[at][1].x, stretches[at + 2][0].x);
        let (left, right) =
            (before.min(behind).min(x[vertex]) - ROOM, before.max(behind).max(x[vertex]) + ROOM);
        let is_free = |other: &usize| {
            let half = layered.vertices[*other].size.width / 2.0;
            *other == vertex || x[*other] + half < left || x[*other] - half > right
        };
        let layer = layered.layer_of(vertex);
        // Layers of odd numbers are those of labels.
        layer % 2 == 1
            && layered.vertices[vertex].size.width == 0.0
            && layered.layers[layer].iter().all(is_free)
    };
    let detours: Vec<bool> = (0..chain.len()).map(is_detour).collect();
    let is_kept = |at: usize| at == 0 || !detours.get(at - 1).copied().unwrap_or(false);
    stretches.iter().enumerate().filter(|(at, _)| is_kept(*at)).map(|(_, stretch)| *stretch).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    From,
    To,
}

/// Where along its box's edge each line ends: side by side, in the order in which lines come in.
fn ports(layered: &Layered, x: &[f64], items: &[Item], lines: &[Line], end: End) -> Vec<f64> {
    let mut at = vec![0.0; lines.len()];
    for (item, Item { size, .. }) in items.iter().enumerate() {
        let mut here: Vec<usize> = (0..lines.len())
            .filter(|line| item == if end == End::From { lines[*line].from } else { lines[*line].to })
            .collect();
        let other = |line: usize| {
            let chain = &layered.chains[line];
            x[*(if end == End::From { chain.first() } else { chain.last() }).expect("no chain is empty")]
        };
        here.sort_by(|a, b| other(*a).total_cmp(&other(*b)).then(a.cmp(b)));
        let room = (size.width - 2.0 * PORT).max(0.0);
        let step = PORT.min(room / (here.len().max(2) - 1) as f64);
        let half = step * (here.len().saturating_sub(1)) as f64 / 2.0;
        for (n, line) in here.into_iter().enumerate() {
            at[line] = x[item] - half + step * n as f64;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(width: f64, height: f64) -> Item {
        Item { size: Size { width, height }, may_rise: false }
    }

    fn line(from: usize, to: usize, width: f64) -> Line {
        Line { from, to, label: Size { width, height: if width > 0.0 { 26.0 } else { 0.0 } } }
    }

    /// A graph with `n` boxes: each reads some before it, as a counter says.
    fn graph(n: usize) -> (Vec<Item>, Vec<Line>) {
        let mut state = 7u64;
        let mut draw = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let items = (0..n).map(|_| item(60.0 + draw(120) as f64, 30.0 + draw(60) as f64)).collect();
        let mut lines: Vec<Line> = Vec::new();
        for to in n / 3..n {
            for _ in 0..1 + draw(4) {
                let from = to.saturating_sub(1 + draw(12));
                if from < to && lines.iter().all(|other| (other.from, other.to) != (from, to)) {
                    lines.push(line(from, to, [0.0, 34.0, 70.0][draw(3)]));
                }
            }
        }
        (items, lines)
    }

    fn is_apart(a: (Point, Size), b: (Point, Size)) -> bool {
        a.0.x + a.1.width <= b.0.x
            || b.0.x + b.1.width <= a.0.x
            || a.0.y + a.1.height <= b.0.y
            || b.0.y + b.1.height <= a.0.y
    }

    #[test]
    fn nothing_overlaps_and_lines_go_down() {
        for n in [2, 5, 14, 40, 80] {
            let (items, lines) = graph(n);
            let layout = lay_out(&items, &lines);
            let mut rects: Vec<(Point, Size)> =
                layout.corners.iter().copied().zip(items.iter().map(|item| item.size)).collect();
            for (line, centre) in lines.iter().zip(&layout.labels) {
                let Size { width, height } = line.label;
                if width > 0.0 {
                    rects.push((Point { x: centre.x - width / 2.0, y: centre.y - height / 2.0 }, line.label));
                }
            }
            for (i, a) in rects.iter().enumerate() {
                assert!(a.0.x >= 0.0 && a.0.x + a.1.width <= layout.size.width, "{n}: {a:?} is inside");
                assert!(a.0.y >= 0.0 && a.0.y + a.1.height <= layout.size.height, "{n}: {a:?} is inside");
                for b in &rects[i + 1..] {
                    assert!(is_apart(*a, *b), "{n}: {a:?} {b:?}");
                }
            }
            for (line, route) in lines.iter().zip(&layout.routes) {
                let ends: Vec<Point> = route.concat();
                assert!(ends.windows(2).all(|pair| pair[0].y <= pair[1].y), "{route:?}");
                // Lines run straight through layers, and bend between them.
                for [from, to] in route {
                    let shaft = (*from, Size { width: 0.0, height: to.y - from.y });
                    let others = (0..items.len()).filter(|other| ![line.from, line.to].contains(other));
                    for other in others {
                        assert!(is_apart(shaft, rects[other]), "{n}: {line:?} through {other}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_same_graph_gives_the_same_picture() {
        let (items, lines) = graph(40);
        let (one, two) = (lay_out(&items, &lines), lay_out(&items, &lines));
        assert_eq!((one.corners, one.routes, one.labels), (two.corners, two.routes, two.labels));
    }

    #[test]
    fn a_row_that_is_too_wide_becomes_several() {
        let mut items = vec![Item { may_rise: true, ..item(160.0, 40.0) }; 30];
        items.push(item(160.0, 40.0));
        let lines: Vec<Line> = (0..30).map(|from| line(from, 30, 60.0)).collect();
        let layout = lay_out(&items, &lines);
        let rows: std::collections::BTreeSet<u64> =
            layout.corners[..30].iter().map(|corner| corner.y.to_bits()).collect();
        assert!(rows.len() > 1 && layout.size.width < 30.0 * 100.0, "{:?}", layout.size);
        assert!(layout.corners[..30].iter().all(|corner| corner.y < layout.corners[30].y));
    }
}
