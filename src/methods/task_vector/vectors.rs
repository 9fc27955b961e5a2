//! The resolved arithmetic of one tensor.

use super::sparsify::Sparsifier;

/// What the combined difference is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Divisor {
    One,
    /// The sum of all weights.
    Fixed(f64),
    /// The sum of the weights that won the election, element by element.
    Elected,
}

/// One input but the base.
#[derive(Clone, Debug)]
pub(super) struct Vector {
    pub weight: f64,
    pub sparsifier: Sparsifier,
}

/// The resolved arithmetic of one tensor. Its inputs are the base and then the vectors.
#[derive(Clone, Debug)]
pub(super) struct TaskVectors {
    pub vectors: Vec<Vector>,
    pub election: bool,
    pub divisor: Divisor,
    pub rescale: bool,
    pub lambda: f64,
}

impl TaskVectors {
    /// The vectors of which chance decides what is kept, by their numbers: one for each mask.
    pub fn drawn(&self) -> impl Iterator<Item = (usize, &Vector)> {
        self.vectors.iter().enumerate().filter(|(_, vector)| vector.sparsifier.draws())
    }
}

/// What N - 1 differences are multiplied by, behind a place for the base.
#[derive(Clone, Copy)]
pub(super) struct Combination<const N: usize> {
    /// What a sparse difference is multiplied by first.
    pub factors: [f32; N],
    pub weights: [f32; N],
    /// What their sum is multiplied by.
    pub lambda: f32,
}

impl<const N: usize> Combination<N> {
    pub fn new(operation: &TaskVectors, factors: &[f32]) -> Self {
        let mut own = Self { factors: [0.0; N], weights: [0.0; N], lambda: operation.lambda as f32 };
        for (k, (vector, factor)) in (1..N).zip(operation.vectors.iter().zip(factors)) {
            (own.factors[k], own.weights[k]) = (*factor, vector.weight as f32);
        }
        own
    }

    /// The weighted differences of one place, and 0 for the base. Of models, the base is subtracted first.
    #[inline(always)]
    pub fn weighted<const ARE_MODELS: bool>(&self, x: [f32; N]) -> [f32; N] {
        let mut weighted = [0.0; N];
        for k in 1..N {
            let difference = if ARE_MODELS { x[k] - x[0] } else { x[k] };
            // Multiplying by 1 changes nothing, and there is one rounding each.
            weighted[k] = difference * self.factors[k] * self.weights[k];
        }
        weighted
    }
}
