//! Tensors as a table: kinds of modules down, layers across.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::kinds::{Columns, Kinds};
use crate::model::layout::{Layout, Position};

/// Where the tensors of a model stand in the table.
pub struct Grid {
    kinds: Kinds,
    columns: Columns,
    n_layers: usize,
}

impl Grid {
    /// The table of a model's tensors.
    pub fn new<'n>(names: impl Iterator<Item = &'n str> + Clone, config: &Value) -> Self {
        let layout = Layout::infer(names.clone(), config);
        let kinds = Kinds::new(names.clone(), &layout);
        let positions = || names.clone().filter_map(|name| Some(kinds.place(name)?.1));
        let columns = Columns::new(positions());
        let n_layers = positions().filter_map(layer_of).map(|layer| layer + 1).max().unwrap_or(0);
        Self { columns, n_layers, kinds }
    }

    /// Kinds of modules.
    pub fn rows(&self) -> &[String] {
        &self.kinds.names
    }

    /// Layers, what stands ahead of them and behind them.
    pub fn columns(&self) -> &[String] {
        &self.columns.names
    }

    /// One more than the last layer's number.
    pub fn n_layers(&self) -> usize {
        self.n_layers
    }

    /// Row and column of a tensor.
    pub fn place(&self, tensor: &str) -> Option<(usize, usize)> {
        let (row, position) = self.kinds.place(tensor)?;
        Some((row, self.columns.place(position)?))
    }

    /// The layer of a tensor, if it is in one.
    pub fn layer(&self, tensor: &str) -> Option<usize> {
        layer_of(self.kinds.place(tensor)?.1)
    }

    /// Puts what is known of tensors into the table; `add` brings together those of one cell.
    pub fn cells<T: Clone>(
        &self,
        tensors: &BTreeMap<String, T>,
        add: impl Fn(&mut T, &T),
    ) -> Vec<Vec<Option<T>>> {
        let mut cells = vec![vec![None; self.columns().len()]; self.rows().len()];
        for (tensor, value) in tensors {
            let Some((row, column)) = self.place(tensor) else { continue };
            match &mut cells[row][column] {
                Some(sum) => add(sum, value),
                empty => *empty = Some(value.clone()),
            }
        }
        cells
    }
}

fn layer_of(position: Position) -> Option<usize> {
    match position {
        Position::Layer(layer) => Some(layer),
        Position::Before | Position::After => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn experts_of_a_layer_share_a_cell() {
        let names = [
            "model.embed_tokens.weight",
            "model.layers.0.mlp.experts.0.w1.weight",
            "model.layers.0.mlp.experts.1.w1.weight",
            "model.layers.1.mlp.experts.0.w1.weight",
            "model.norm.weight",
        ];
        let grid = Grid::new(names.into_iter(), &json!({}));
        assert_eq!(grid.columns(), ["in", "0", "1", "out"]);
        assert_eq!((grid.n_layers(), grid.layer(names[3]), grid.layer(names[4])), (2, Some(1), None));
        let tensors = names.iter().map(|name| ((*name).to_owned(), 1)).collect();
        let cells = grid.cells(&tensors, |sum, more| *sum += more);
        let (row, column) = grid.place(names[1]).unwrap();
        assert_eq!((cells[row][column], cells[row][column + 1], cells[row][0]), (Some(2), Some(1), None));
    }
}
