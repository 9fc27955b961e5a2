//! Sparse differences, weighted and added up.

use super::vectors::{Combination, Divisor};
use crate::kernels::elementwise::Elementwise;

/// The arithmetic on the elements of a base and N - 1 models, or of their differences from the base.
pub(super) struct Sum<const N: usize, const ARE_MODELS: bool> {
    combination: Combination<N>,
    divisor: f32,
}

impl<const N: usize, const ARE_MODELS: bool> Sum<N, ARE_MODELS> {
    pub fn new(combination: Combination<N>, divisor: Divisor) -> Self {
        let divisor = match divisor {
            Divisor::Fixed(total) => total as f32,
            Divisor::One | Divisor::Elected => 1.0,
        };
        Self { combination, divisor }
    }
}

impl<const N: usize, const ARE_MODELS: bool> Elementwise<N> for Sum<N, ARE_MODELS> {
    #[inline(always)]
    fn of(&self, x: [f32; N]) -> f32 {
        let Self { combination, divisor } = self;
        let mut sum = 0.0;
        for weighted in combination.weighted::<ARE_MODELS>(x) {
            sum += weighted;
        }
        // Dividing by 1 changes nothing.
        x[0] + sum / divisor * combination.lambda
    }
}
