//! What a comparison adds up to: by layer, by kind of module, and in all.

use crate::draw::heat::end_of_scale;
use crate::model::kinds::Columns;
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
        let columns = Columns::new(places.iter().map(|(_, position)| *position));
        let mut sums = Self {
            total: Group::new("all"),
            kinds: kinds.names.iter().map(|name| Group::new(name)).collect(),
            layers: columns.names.iter().map(|name| Group::new(name)).collect(),
            cells: vec![vec![None; columns.names.len()]; kinds.names.len()],
        };
        for (tensor, (kind, position)) in tensors.iter().zip(places) {
            let column = columns.place(position).expect("every position has a column");
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

    /// The end of a scale for a number of all cells, and whether some are beyond it.
    pub fn end_of_scale(&self, number: &dyn Fn(&Distance) -> f64) -> (f64, bool) {
        end_of_scale(self.cells.iter().flatten().flatten().map(|cell| number(&cell.distance)))
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
