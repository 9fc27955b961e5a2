//! The mean of all rows of a tensor, along its first axis: what rows without a token are filled with.
//!
//! The result is a table of f64, one number a column. Rows are too many for a sum of each leaf to be kept, so columns
//! are added up in integers, which give one result in any order: values are counted in units of 2^-e with e so
//! large that no sum of all rows can overflow, and rounded to a unit, at most 2^-45 of the largest magnitude for a
//! quarter of a million rows.

use super::contract::{Access, Op, Streaming};
use crate::kernels::simd::vectorized;
use crate::manifest::Sink;
use crate::methods::{Cut, Extent, Kernel, Leaf, Operation, Pass, Scratch};
use crate::tensor::{Dtype, Shape, TensorSpec};

/// Bits of a sum.
const BITS: i32 = 63;

/// The exponent of the smallest f32, of which every other is a multiple.
const SMALLEST: i32 = -149;

#[derive(Debug)]
pub struct MeanRow {
    /// How many rows the input has.
    pub rows: usize,
    /// How many elements each has.
    pub columns: usize,
}

impl Op for MeanRow {
    fn name(&self) -> &'static str {
        "mean_row"
    }

    fn version(&self) -> u32 {
        1
    }

    fn write_fields(&self, _sink: &mut dyn Sink) {
        // Both show in the input's shape.
        let Self { rows: _, columns: _ } = self;
    }

    fn output(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let [input] = inputs else { return Err("takes the mean row of one tensor".to_owned()) };
        let n_rows = input.shape.0.first().copied().unwrap_or(0);
        if n_rows != self.rows || n_rows == 0 || n_rows * self.columns != input.shape.elements() {
            return Err(format!("takes the mean of {} rows of a tensor of shape {}", self.rows, input.shape));
        }
        if !input.dtype.is_float() {
            return Err(format!("computes with {}, which is not a floating-point type", input.dtype));
        }
        Ok(TensorSpec { dtype: Dtype::F64, shape: Shape(vec![self.columns]) })
    }

    fn access(&self) -> Access<'_> {
        Access::Streaming(Streaming { operation: self, compute: None })
    }
}

impl Operation for MeanRow {
    fn write_manifest(&self, _sink: &mut dyn Sink) {}

    fn cut(&self) -> Cut {
        Cut::Elements
    }

    fn kernel(&self, _extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(Adding { rows: self.rows, columns: self.columns, exponent: None, means: None })
    }
}

/// The sums in the making: first the largest magnitude is found, then columns are added up.
struct Adding {
    rows: usize,
    columns: usize,
    /// Two to this power units make 1, once the largest magnitude is known.
    exponent: Option<i32>,
    means: Option<Vec<f64>>,
}

impl Kernel for Adding {
    fn next_pass(&self) -> Option<Pass> {
        match (self.exponent, &self.means) {
            (None, _) => Some(Pass { sums: 1, counts: 0 }),
            // What is above and what is below zero apart, since counts have no sign.
            (Some(_), None) => Some(Pass { sums: 0, counts: 2 * self.columns }),
            (Some(_), Some(_)) => None,
        }
    }

    fn takes_pieces(&self) -> bool {
        true
    }

    fn gather(&self, leaf: &Leaf<'_>, sums: &mut [f64], counts: &mut [u64], _scratch: &mut Scratch) {
        let [values] = leaf.inputs else { unreachable!("inputs were counted") };
        let Some(exponent) = self.exponent else {
            let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            sums[0] = sums[0].max(f64::from(largest));
            return;
        };
        let (above, below) = counts.split_at_mut(self.columns);
        let mut column = (leaf.start % self.columns as u64) as usize;
        let mut rest = *values;
        while !rest.is_empty() {
            let (row, more) = rest.split_at(rest.len().min(self.columns - column));
            let own = column..column + row.len();
            add_units(row, exponent, &mut above[own.clone()], &mut below[own]);
            (rest, column) = (more, 0);
        }
    }

    fn absorb(&mut self, sums: &[f64], counts: &[u64]) -> Result<(), String> {
        match self.exponent {
            None => {
                let largest = sums.iter().copied().fold(0.0, f64::max);
                // The power of two above the largest magnitude, by its exponent.
                let (_, exponent) = libm::frexp(largest);
                let rows = usize::BITS - self.rows.leading_zeros();
                self.exponent = Some(BITS - exponent - rows as i32);
            }
            Some(exponent) => {
                let unit = libm::ldexp(1.0, exponent);
                let (above, below) = counts.split_at(self.columns);
                let mean = |(above, below): (&u64, &u64)| {
                    let units = i128::from(*above) - i128::from(*below);
                    units as f64 / unit / self.rows as f64
                };
                self.means = Some(above.iter().zip(below).map(mean).collect());
            }
        }
        Ok(())
    }

    fn table(&self) -> Option<&[f64]> {
        self.means.as_deref()
    }

    fn emit(&self, _leaf: &Leaf<'_>, _out: &mut [f32], _scratch: &mut Scratch) {
        unreachable!("the result is a table");
    }
}

vectorized! {
    /// Adds magnitudes in units, of which 2^`exponent` make 1, each rounded to the nearest, away from zero where two are
    /// as near.
    fn add_units(values: &[f32], exponent: i32, above: &mut [u64], below: &mut [u64]) {
        let n = values.len();
        let (above, below) = (&mut above[..n], &mut below[..n]);
        for i in 0..n {
            let bits = values[i].to_bits();
            let stored = (bits >> 23) & 0xff;
            // A value is so many times the smallest one, shifted. Subnormals have no leading one, and are not shifted.
            let multiple = u64::from((bits & 0x007f_ffff) | (u32::from(stored > 0) << 23));
            let shift = stored.max(1) as i32 - 1 + SMALLEST + exponent;
            let (up, down) = (shift.clamp(0, 63), (-shift).clamp(0, 63));
            let units = ((multiple << up) + ((1 << down) >> 1)) >> down;
            let is_below = values[i] < 0.0;
            above[i] += if is_below { 0 } else { units };
            below[i] += if is_below { units } else { 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::at_every_level;

    fn mean_row(rows: usize, columns: usize, values: &[f32], leaf: usize) -> Vec<f64> {
        let op = MeanRow { rows, columns };
        let mut kernel = op.kernel(Extent { n_elements: values.len(), rows: 1 });
        while let Some(pass) = kernel.next_pass() {
            let mut counts = vec![0; pass.counts];
            let mut sums = Vec::new();
            for (index, values) in values.chunks(leaf).enumerate() {
                let mut own = vec![0.0; pass.sums];
                let inputs = [values];
                let leaf = Leaf {
                    index,
                    inputs: &inputs,
                    masks: &[],
                    rows: 1,
                    row_len: values.len(),
                    start: (index * leaf) as u64,
                    row_step: 0,
                    col_step: 1,
                };
                kernel.gather(&leaf, &mut own, &mut counts, &mut Scratch::default());
                sums.extend(own);
            }
            kernel.absorb(&sums, &counts).unwrap();
        }
        kernel.table().unwrap().to_vec()
    }

    #[test]
    fn means_are_those_of_their_columns() {
        for scale in [1.0_f32, 1e-30, 1e30, 0.0] {
            let values: Vec<f32> =
                (0..700 * 3).map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0) * scale).collect();
            let found = mean_row(700, 3, &values, 64);
            assert_eq!(found, mean_row(700, 3, &values, 1000), "any cut gives the same");
            for (column, mean) in found.iter().enumerate() {
                let sum: f64 = values.iter().skip(column).step_by(3).map(|value| f64::from(*value)).sum();
                let tolerance = 1e-12 * f64::from(scale);
                assert!((mean - sum / 700.0).abs() <= tolerance, "{mean} {}", sum / 700.0);
            }
        }
    }

    #[test]
    fn units_are_rounded_as_f64_rounds() {
        let bits =
            [0, 1, 0x1234, 0x007f_ffff, 0x0080_0000, 0x3f00_0000, 0x3f80_0001, 0x3fc0_0000, 0x42f7_0001];
        let values: Vec<f32> =
            bits.iter().flat_map(|bits| [1, -1].map(|sign| sign as f32 * f32::from_bits(*bits))).collect();
        let many = (0..1000).map(|i: u32| f32::from_bits(i.wrapping_mul(0x9E37_79B9) >> (i % 8)));
        let values: Vec<f32> = values.into_iter().chain(many).collect();
        for exponent in [-20, -1, 0, 1, 24, 150] {
            let unit = libm::ldexp(1.0, exponent);
            // More than the largest exponents that are ever taken for such values would overflow.
            let values: Vec<f32> =
                values.iter().copied().filter(|value| f64::from(value.abs()) * unit < 9e18).collect();
            let units = |value: f32| (f64::from(value.abs()) * unit).round() as u64;
            let side = |is_below| {
                values.iter().map(move |value| if (*value < 0.0) == is_below { units(*value) } else { 0 })
            };
            let expected: [Vec<u64>; 2] = [side(false).collect(), side(true).collect()];
            at_every_level(|_| {
                let mut found = [vec![0; values.len()], vec![0; values.len()]];
                let [above, below] = &mut found;
                add_units(&values, exponent, above, below);
                assert_eq!(found, expected, "{exponent}");
            });
        }
    }
}
