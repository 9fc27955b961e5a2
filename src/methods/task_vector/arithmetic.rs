//! The loops of the family.

use crate::kernels::simd::vectorized;

/// Elements for which signs are elected at a time.
const RUN: usize = 512;

vectorized! {
    pub fn subtract(x: &[f32], base: &[f32], out: &mut [f32]) {
        for (d, (x, b)) in out.iter_mut().zip(x.iter().zip(base)) {
            *d = x - b;
        }
    }

    pub fn add_difference(x: &[f32], base: &[f32], weight: f32, out: &mut [f32]) {
        for (sum, (x, b)) in out.iter_mut().zip(x.iter().zip(base)) {
            *sum += (x - b) * weight;
        }
    }

    pub fn scale(values: &mut [f32], factor: f32, weight: f32) {
        for value in values {
            *value = *value * factor * weight;
        }
    }

    pub fn add(out: &mut [f32], values: &[f32]) {
        for (sum, d) in out.iter_mut().zip(values) {
            *sum += d;
        }
    }

    pub fn divide(out: &mut [f32], total: f32) {
        for delta in out {
            *delta /= total;
        }
    }

    pub fn add_to_base(base: &[f32], lambda: f32, out: &mut [f32]) {
        for (r, b) in out.iter_mut().zip(base) {
            *r = b + *r * lambda;
        }
    }

    /// The sum of those weighted differences that have the elected sign, divided by their weights' sum
    /// if asked for.
    pub fn elected(weighted: &[Vec<f32>], weights: &[f32], is_mean: bool, out: &mut [f32]) {
        for (run, out) in out.chunks_mut(RUN).enumerate() {
            let (start, n) = (run * RUN, out.len());
            let (mut sums, mut divisors) = ([0.0; RUN], [0.0; RUN]);
            for values in weighted {
                for (sum, d) in sums.iter_mut().zip(&values[start..start + n]) {
                    *sum += d;
                }
            }
            out.fill(0.0);
            for (values, weight) in weighted.iter().zip(weights.iter().copied()) {
                let values = &values[start..start + n];
                for (((delta, divisor), sum), d) in out.iter_mut().zip(&mut divisors).zip(&sums).zip(values) {
                    let agrees = if *sum >= 0.0 { *d > 0.0 } else { *d < 0.0 };
                    *delta += if agrees { *d } else { 0.0 };
                    *divisor += if agrees { weight } else { 0.0 };
                }
            }
            if is_mean {
                for (delta, divisor) in out.iter_mut().zip(&divisors) {
                    *delta /= if *divisor == 0.0 { 1.0 } else { *divisor };
                }
            }
        }
    }
}
