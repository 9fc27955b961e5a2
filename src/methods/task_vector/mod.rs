//! The task-arithmetic family: a base plus a combination of differences from it.
//!
//! Ilharco et al. 2022, Editing Models with Task Arithmetic, <https://arxiv.org/abs/2212.04089>. Every
//! member is a row of choices: how a difference is made sparse, whether signs are elected, and defaults.
//!
//! With x_i the inputs but the base b, and d_i = w_i * sparse(x_i - b):
//!
//! - without election: D = sum(w_i), replaced by 1 below 1e-8; delta = sum(d_i)
//! - with election, element by element: the sign of sum(d_i), + for an exact zero, is elected; delta sums
//!   the d_i of that sign, D their w_i, replaced by 1 where exactly 0
//! - delta is divided by D if `normalize`, multiplied by lambda, and added to b

mod arithmetic;
mod brackets;
mod election;
mod family;
mod kernel;
pub mod members;
mod params;
mod sparsify;
mod sum;
mod vectors;

#[cfg(test)]
mod tests;
