//! Loops over slices that methods share. No names, no I/O, no threads of their own.
//!
//! Every kernel gives the same bits on every machine: plain IEEE arithmetic in a fixed order, no
//! fused multiply-add, transcendental functions from `libm`, reductions in f64 over a fixed tree.

pub mod bracket;
pub mod convert;
pub mod elementwise;
pub mod exponential;
pub mod mask;
pub mod pairs;
pub mod partner;
pub mod philox;
pub mod quantile;
pub mod reduce;
pub mod select;
pub mod simd;
pub mod splitmix;
pub mod stream;
pub mod thin;
