//! What a comparison adds up to: by layer, by kind of module, and in all.

use crate::model::layout::Position;
use crate::op::difference::Distance;
use crate::project::{ComparedTensor, Comparison, Likeness};

/// Tensors that are counted together.
#[derive(Clone, Debug)]
pub struct Group {
    pub name: String,
    pub tensors: usize,
    /// Those of them that are equal, and were not read for that.
    pub equal: usize,
    /// Of those that differ and are numbers.
    pub distance: Distance,
}

/// Everything added up.
pub struct Sums {
    pub total: Group,
    pub kinds: Vec<Group>,
    /// Of every column: what stands ahead of the layers, each layer, what stands behind them.
    pub layers: Vec<Group>,
    /// By kind and column; `None` where no tensors are.
    pub cells: Vec<Vec<Option<Group>>>,
}

/// What a column is called that is no layer.
const BEFORE: &str = "in";
const AFTER: &str = "out";

impl Group {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), tensors: 0, equal: 0, distance: Distance::NOTHING }
    }

    fn add(&mut self, tensor: &ComparedTensor) {
        self.tensors += 1;
        match &tensor.outcome {
            Likeness::Equal => self.equal += 1,
            Likeness::Distance(distance) => self.distance.add(distance),
            Likeness::OtherBytes => {}
        }
    }

    pub fn differ(&self) -> usize {
        self.tensors - self.equal
    }
}

impl Sums {
    pub fn new(comparison: &Comparison) -> Self {
        let Comparison { tensors, kinds, .. } = comparison;
        let place = |tensor: &ComparedTensor| kinds.place(&tensor.name).expect("kinds are of all tensors");
        let places: Vec<(usize, Position)> = tensors.iter().map(place).collect();
        let layers = places.iter().filter_map(|(_, position)| match position {
            Position::Layer(layer) => Some(layer + 1),
            Position::Before | Position::After => None,
        });
        let n_layers = layers.max().unwrap_or(0);
        let has = |what| places.iter().any(|(_, position)| *position == what);
        let mut columns: Vec<(Position, String)> = Vec::new();
        columns.extend(has(Position::Before).then(|| (Position::Before, BEFORE.to_owned())));
        columns.extend((0..n_layers).map(|layer| (Position::Layer(layer), layer.to_string())));
        columns.extend(has(Position::After).then(|| (Position::After, AFTER.to_owned())));
        let mut sums = Self {
            total: Group::new("all"),
            kinds: kinds.names.iter().map(|name| Group::new(name)).collect(),
            layers: columns.iter().map(|(_, name)| Group::new(name)).collect(),
            cells: vec![vec![None; columns.len()]; kinds.names.len()],
        };
        for (tensor, (kind, position)) in tensors.iter().zip(places) {
            let column =
                columns.iter().position(|(of, _)| *of == position).expect("every position has a column");
            let cell = &mut sums.cells[kind][column];
            let cell = cell.get_or_insert_with(|| Group::new(""));
            for group in [cell, &mut sums.total, &mut sums.kinds[kind], &mut sums.layers[column]] {
                group.add(tensor);
            }
        }
        // Kinds that only one model has are no part of it.
        let mut is_met = sums.kinds.iter().map(|kind| kind.tensors > 0).collect::<Vec<_>>().into_iter();
        sums.cells.retain(|_| is_met.next().unwrap_or(false));
        sums.kinds.retain(|kind| kind.tensors > 0);
        sums
    }

    /// The largest of a number over all cells that is no outlier, for the end of a scale: a fiftieth of the cells may
    /// be beyond it. Also says whether some are.
    pub fn end_of_scale(&self, number: &dyn Fn(&Distance) -> f64) -> (f64, bool) {
        let cells = self.cells.iter().flatten().flatten().map(|cell| number(&cell.distance));
        let mut found: Vec<f64> = cells.filter(|number| number.is_finite() && *number > 0.0).collect();
        found.sort_by(f64::total_cmp);
        let Some(last) = found.last() else { return (0.0, false) };
        let end = found[found.len() - 1 - found.len() / 50];
        (end, end < *last)
    }
}

/// The tensors that moved farthest, the farthest first.
pub fn movers(comparison: &Comparison) -> Vec<(&ComparedTensor, &Distance)> {
    let mut movers: Vec<(&ComparedTensor, &Distance)> = comparison
        .tensors
        .iter()
        .filter_map(|tensor| match &tensor.outcome {
            Likeness::Distance(distance) => Some((tensor, distance)),
            Likeness::Equal | Likeness::OtherBytes => None,
        })
        .collect();
    movers.sort_by(|(_, a), (_, b)| b.relative().total_cmp(&a.relative()));
    movers
}
