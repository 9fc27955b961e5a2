//! The loops of the family.

use crate::kernels::mask::{Mask, masked};
use crate::kernels::simd::vectorized;

vectorized! {
    pub fn subtract(x: &[f32], base: &[f32], out: &mut [f32]) {
        for (d, (x, b)) in out.iter_mut().zip(x.iter().zip(base)) {
            *d = x - b;
        }
    }

    /// Zeroes what a mask does not keep.
    pub fn mask_out(mask: &[Mask], values: &mut [f32]) {
        for (value, kept) in values.iter_mut().zip(mask) {
            *value = masked(*value, 0.0, *kept);
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
}
