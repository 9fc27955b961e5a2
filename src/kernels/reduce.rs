//! Sums in f64 over a fixed tree.
