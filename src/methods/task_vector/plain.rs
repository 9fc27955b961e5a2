//! Whole differences, weighted and added up: `task_arithmetic`, and the others where they keep everything.

use super::vectors::{Divisor, TaskVectors};
use crate::kernels::pairs::Elementwise;

/// The arithmetic on the elements of a base and N - 1 models.
pub(super) struct Plain<const N: usize> {
    /// Of all inputs; that of the base is not used.
    weights: [f32; N],
    divisor: f32,
    lambda: f32,
}

impl<const N: usize> Plain<N> {
    pub fn new(operation: &TaskVectors) -> Self {
        let mut weights = [0.0; N];
        for (weight, vector) in weights[1..].iter_mut().zip(&operation.vectors) {
            *weight = vector.weight as f32;
        }
        let divisor = match operation.divisor {
            Divisor::Fixed(total) => total as f32,
            Divisor::One | Divisor::Elected => 1.0,
        };
        Self { weights, divisor, lambda: operation.lambda as f32 }
    }
}

impl<const N: usize> Elementwise<N> for Plain<N> {
    #[inline(always)]
    fn of(&self, x: [f32; N]) -> f32 {
        let mut sum = 0.0;
        for k in 1..N {
            sum += (x[k] - x[0]) * self.weights[k];
        }
        // Dividing by 1 changes nothing.
        x[0] + sum / self.divisor * self.lambda
    }
}
