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
    /// Whether nothing is thinned and no signs are elected.
    pub fn is_plain(&self) -> bool {
        !self.election && self.vectors.iter().all(|vector| vector.sparsifier == Sparsifier::Everything)
    }
}
