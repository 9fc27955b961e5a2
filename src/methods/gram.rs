//! Inner products of all pairs of a tensor's inputs: whatever goes by their lengths and angles needs no more.

use crate::kernels::reduce::{LANES, over_lanes};

/// The least length that a sum of unit vectors can have without being what rounding left of zero: products
/// are known to some 16 digits, lengths to half as many.
pub(super) const CANCELLED: f64 = 1e-7;

/// Inner products of n vectors with one another and with themselves.
#[derive(Clone, Debug)]
pub(super) struct Gram {
    n: usize,
    /// The upper triangle, row by row.
    products: Vec<f64>,
}

impl Gram {
    /// How many products n vectors have, each of which takes [`LANES`] sums.
    pub fn n_products(n: usize) -> usize {
        n * (n + 1) / 2
    }

    /// Adds up the lanes of `kernels::reduce::products`, leaf after leaf.
    pub fn new(n: usize, lanes: &[f64]) -> Self {
        let width = Self::n_products(n);
        debug_assert!(lanes.len().is_multiple_of(width * LANES));
        Self { n, products: (0..width).map(|which| over_lanes(lanes, width, which)).collect() }
    }

    /// The number of vectors.
    pub fn n(&self) -> usize {
        self.n
    }

    pub fn product(&self, i: usize, j: usize) -> f64 {
        let (i, j) = (i.min(j), i.max(j));
        self.products[i * self.n - i * (i + 1) / 2 + j]
    }

    pub fn norm(&self, i: usize) -> f64 {
        self.product(i, i).sqrt()
    }

    /// The cosine between two vectors, lengths below `least` counting as `least`; 0 for a zero vector. Exactly
    /// 1 or -1 where one vector is the other or its opposite.
    pub fn cosine(&self, i: usize, j: usize, least: f64) -> f64 {
        let squared = |i| self.product(i, i).max(least * least);
        // The root of a square is exact, the product of two roots is not.
        let norms = (squared(i) * squared(j)).sqrt();
        if norms == 0.0 { 0.0 } else { (self.product(i, j) / norms).clamp(-1.0, 1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reduce::products;

    fn gram(vectors: &[&[f32]]) -> Gram {
        let mut lanes = vec![0.0; Gram::n_products(vectors.len()) * LANES];
        products(vectors, &mut lanes);
        Gram::new(vectors.len(), &lanes)
    }

    #[test]
    fn lengths_and_angles_are_those_of_the_vectors() {
        let found = gram(&[&[3.0, 4.0], &[-4.0, 3.0], &[1.0, 0.0]]);
        assert_eq!((found.n(), found.norm(0), found.product(2, 1)), (3, 5.0, -4.0));
        assert_eq!([found.cosine(0, 1, 0.0), found.cosine(0, 2, 0.0)], [0.0, 0.6]);
        assert_eq!(found.cosine(0, 2, 10.0), 0.03);
        assert_eq!(gram(&[&[0.0, 0.0], &[1.0, 2.0]]).cosine(0, 1, 0.0), 0.0);
    }

    #[test]
    fn opposites_are_opposite_to_the_last_bit() {
        for scale in [1e-18, 0.1, 1.0, 3e18] {
            let x: Vec<f32> = (1..=7).map(|i| scale * (i as f32).sqrt()).collect();
            let y: Vec<f32> = x.iter().map(|x| -x).collect();
            assert_eq!(gram(&[&x, &y]).cosine(0, 1, 0.0), -1.0, "{scale}");
        }
    }
}
