//! Factors of single tensors: linear layers, convolutions and embeddings.

use super::change::BaseTensor;
use super::gathering::{A, B, Gathering, MAGNITUDE, Product};
use crate::op::{Block, Factor, Vectors};

/// How a tensor is seen, with the factors that give its vectors and their elements.
struct Seen {
    vectors: Vectors,
    left: Factor,
    right: Factor,
    rank: usize,
}

impl<'a> Gathering<'a> {
    /// A matrix, or a convolution, whose later dimensions count as one. `target` is what the result is called, and
    /// what of the model it is made of.
    pub fn matrix(&mut self, module: &str, target: (&str, &'a str), product: Product<'a>) {
        let Product { a, b, magnitude, .. } = product;
        let whole = self.names.tensors[target.1].shape.0.as_slice();
        let (&[rank, ref inputs @ ..], &[outputs, rank_of_b, ref ones @ ..]) = (self.shape(a), self.shape(b))
        else {
            return self.misfit(a, target.1);
        };
        if !self.check_rank(module, product, [rank, rank_of_b]) {
            return;
        }
        let is_straight = whole.len() > 1 && whole[0] == outputs && whole[1..] == *inputs;
        let is_turned = inputs.len() == 1
            && *whole == [inputs[0], outputs]
            // A square one does not tell by itself.
            && (self.names.is_transposed || !is_straight && self.config.fan_in_fan_out);
        if ones.iter().any(|n| *n != 1) || !(is_straight || is_turned) {
            return self.misfit(if whole.first() == Some(&outputs) { a } else { b }, target.1);
        }
        let inputs = inputs.iter().product();
        let by_output = Factor { input: 2, first: 0, step: rank, rank_step: 1 };
        let by_input = Factor { input: 1, first: 0, step: 1, rank_step: inputs };
        let (vectors, left, right) = match (is_turned, magnitude) {
            (false, _) => (Vectors::Rows { count: outputs, len: inputs }, by_output, by_input),
            (true, None) => (Vectors::Rows { count: inputs, len: outputs }, by_input, by_output),
            (true, Some(_)) => (Vectors::Columns { count: outputs, len: inputs }, by_output, by_input),
        };
        self.update(module, target, Seen { vectors, left, right, rank }, product);
    }

    /// The factors of an embedding, whose rows are inputs.
    pub fn embedding(&mut self, module: &str, product: Product<'a>) {
        let Product { a, b, magnitude, .. } = product;
        let Some(target) = self.names.find(&format!("{module}.weight")) else {
            return self.unmatched.push(a);
        };
        if !self.config.targets(module) {
            return self.not_targeted.push(a);
        }
        let (&[rows, columns], &[rank, n_rows], &[n_columns, rank_of_b]) =
            (self.names.tensors[target].shape.0.as_slice(), self.shape(a), self.shape(b))
        else {
            return self.misfit(a, target);
        };
        if !self.check_rank(module, product, [rank, rank_of_b]) {
            return;
        }
        if n_rows != rows || n_columns != columns {
            return self.misfit(if n_rows == rows { b } else { a }, target);
        }
        let by_row = Factor { input: 1, first: 0, step: 1, rank_step: rows };
        let by_column = Factor { input: 2, first: 0, step: rank, rank_step: 1 };
        let (vectors, left, right) = match magnitude {
            None => (Vectors::Rows { count: rows, len: columns }, by_row, by_column),
            Some(_) => (Vectors::Columns { count: columns, len: rows }, by_column, by_row),
        };
        self.update(module, (target, target), Seen { vectors, left, right, rank }, product);
    }

    /// Notes the update of a whole tensor.
    fn update(&mut self, module: &str, (target, like): (&str, &'a str), seen: Seen, product: Product<'a>) {
        let Product { a, b, magnitude, beneath } = product;
        let spec = self.names.tensors[like].clone();
        let (Vectors::Rows { count, .. } | Vectors::Columns { count, .. }) = seen.vectors;
        let of_magnitude = magnitude.filter(|key| self.elements(key) != count);
        let of_beneath = beneath.filter(|key| self.shape(key) != spec.shape.0);
        if let Some(key) = of_magnitude.or(of_beneath) {
            return self.misfit(key, like);
        }
        let scale = self.config.scale(module);
        let Seen { vectors, left, right, rank } = seen;
        let Some(pending) = self.pending(target, &spec, beneath, vectors) else { return };
        if beneath.is_none() {
            pending.base = BaseTensor::OfModel(like.to_owned());
        }
        // The factors count on these numbers.
        pending.input(A, a);
        pending.input(B, b);
        let magnitude = magnitude.map(|key| pending.input(MAGNITUDE, key));
        pending.blocks.push(Block { vectors: 0..count, left: Some(left), right, rank, scale, magnitude });
    }
}
