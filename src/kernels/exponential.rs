//! e to a power, and the natural logarithm, of many numbers: the bits of `libm`, on vectors.
//!
//! Both follow FreeBSD's msun, as `libm` does, operation by operation, with its branches made selections. Numbers
//! that msun treats apart (of either, what is not normal or makes results that are not) are left to `libm`.
//!
//! Copyright (C) 1993, 2004 by Sun Microsystems, Inc. All rights reserved. Developed at SunPro and SunSoft, Sun
//! Microsystems, Inc. businesses. Permission to use, copy, modify, and distribute this software is freely granted,
//! provided that this notice is preserved.

use super::simd::vectorized;

const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
const PER_LN2: f64 = std::f64::consts::LOG2_E;

/// Powers whose results are normal numbers.
const LEAST_POWER: f64 = -708.0;
const LARGEST_POWER: f64 = 709.0;

/// Replaces powers by e to each of them.
pub fn exp(values: &mut [f64]) {
    for values in values.chunks_mut(RUN) {
        if are_ordinary_powers(values) {
            ordinary_exp(values);
        } else {
            values.iter_mut().for_each(|value| *value = libm::exp(*value));
        }
    }
}

/// Replaces numbers by their natural logarithms.
pub fn ln(values: &mut [f64]) {
    for values in values.chunks_mut(RUN) {
        if are_normal(values) {
            ordinary_ln(values);
        } else {
            values.iter_mut().for_each(|value| *value = libm::log(*value));
        }
    }
}

/// Numbers that are looked at together.
const RUN: usize = 512;

vectorized! {
    fn are_ordinary_powers(values: &[f64]) -> bool {
        let mut all = true;
        for value in values {
            all &= (*value >= LEAST_POWER) & (*value <= LARGEST_POWER);
        }
        all
    }

    fn are_normal(values: &[f64]) -> bool {
        let mut all = true;
        for value in values {
            all &= (*value >= f64::MIN_POSITIVE) & (*value <= f64::MAX);
        }
        all
    }

    fn ordinary_exp(values: &mut [f64]) {
        for value in values {
            *value = exp_of(*value);
        }
    }

    fn ordinary_ln(values: &mut [f64]) {
        for value in values {
            *value = ln_of(*value);
        }
    }
}

/// A number by its upper 32 bits, as msun compares.
#[inline(always)]
fn upper(bits: u32) -> f64 {
    f64::from_bits(u64::from(bits) << 32)
}

#[inline(always)]
fn exp_of(power: f64) -> f64 {
    let size = power.abs();
    let sign = 1f64.copysign(power);
    // The whole number of ln 2 that is nearest. A sum with so large a number has no digits after the point left.
    let nearest = {
        let scaled = PER_LN2 * size + 0.5;
        let rounded = (scaled + 4_503_599_627_370_496.0) - 4_503_599_627_370_496.0;
        rounded - if rounded > scaled { 1.0 } else { 0.0 }
    };
    // Above half of ln 2, and above one and a half.
    let k =
        if size >= upper(0x3fd6_2e43) { if size >= upper(0x3ff0_a2b2) { nearest } else { 1.0 } } else { 0.0 };
    let k = k * sign;
    let (high, low) = (power - k * LN2_HIGH, k * LN2_LOW);
    let x = high - low;
    let xx = x * x;
    let c = x - xx
        * (0.166_666_666_666_666_02
            + xx * (-0.002_777_777_777_701_559_3
                + xx * (6.613_756_321_437_934e-5
                    + xx * (-1.653_390_220_546_525_2e-6 + xx * 4.138_136_797_057_238_5e-8))));
    let y = 1.0 + (x * c / (2.0 - c) - low + high);
    // 2^k: k is put into the lowest bits of a number's fraction, and from there into an exponent.
    let exponent = (k + 1023.0 + 4_503_599_627_370_496.0).to_bits() << 52;
    let result = y * f64::from_bits(exponent);
    if size < upper(0x3e30_0001) { 1.0 + power } else { result }
}

#[inline(always)]
fn ln_of(x: f64) -> f64 {
    let bits = x.to_bits();
    // What 1 is above half of the root of 2, in the upper half.
    let moved = bits + (u64::from(0x3ff0_0000u32 - 0x3fe6_a09e) << 32);
    let exponent = moved >> 52;
    let x = f64::from_bits((moved & 0x000f_ffff_ffff_ffff) + (0x3fe6_a09e << 32));
    // 2^52 and the exponent, less 2^52 and the bias.
    let k = f64::from_bits(0x4330_0000_0000_0000 | exponent) - (4_503_599_627_370_496.0 + 1023.0);
    let f = x - 1.0;
    let half_square = 0.5 * f * f;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even = w * (0.399_999_999_994_094_2 + w * (0.222_221_984_321_497_84 + w * 0.153_138_376_992_093_73));
    let odd = z
        * (0.666_666_666_666_673_5
            + w * (0.285_714_287_436_623_9 + w * (0.181_835_721_616_180_5 + w * 0.147_981_986_051_165_86)));
    let r = odd + even;
    s * (half_square + r) + k * LN2_LOW - half_square + f + k * LN2_HIGH
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::at_every_level;

    #[track_caller]
    fn agree(values: &[f64]) {
        let same = |found: &[f64], expected: fn(f64) -> f64| {
            for (value, found) in values.iter().zip(found) {
                let expected = expected(*value);
                assert!(
                    found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
                    "{value:e}: {found:e}, {expected:e}"
                );
            }
        };
        at_every_level(|_| {
            let [mut powers, mut logarithms] = [values.to_vec(), values.to_vec()];
            exp(&mut powers);
            same(&powers, libm::exp);
            ln(&mut logarithms);
            same(&logarithms, libm::log);
        });
    }

    #[test]
    fn bits_are_those_of_libm() {
        let draw =
            |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ i << 31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        // Of every sign and exponent, alone and among ordinary ones.
        let any: Vec<f64> = (0..20_000).map(|i| f64::from_bits(draw(i))).collect();
        agree(&any);
        for scale in [1e-18, 1e-9, 1e-3, 0.1, 0.3466, 0.35, 1.0, 1.04, 2.0, 30.0, 700.0] {
            let unit = |i: u64| (draw(i) >> 11) as f64 / (1u64 << 53) as f64;
            let near: Vec<f64> = (0..20_000).map(|i| scale * (2.0 * unit(i) - 1.0)).collect();
            agree(&near);
            agree(&near.iter().map(|value| value.abs() + f64::MIN_POSITIVE).collect::<Vec<_>>());
        }
        // Both sides of where msun's ways part.
        for bits in
            [0x3fd6_2e42u32, 0x3ff0_a2b2, 0x3e30_0000, 0x3fe6_a09e, 0x3ff0_0000, 0x3ff6_a09e, 0x3fe0_0000]
        {
            let edge = u64::from(bits) << 32;
            let around = (edge - 50..edge + 50).chain((edge | 0xffff_ffff) - 50..(edge | 0xffff_ffff) + 50);
            let around: Vec<f64> = around.map(f64::from_bits).flat_map(|value| [value, -value]).collect();
            agree(&around);
            agree(&around.iter().map(|value| value.abs()).collect::<Vec<_>>());
        }
        // Whole and half numbers of ln 2.
        let halves =
            (-2040..2040).map(|i| f64::from(i) / 2.0 * std::f64::consts::LN_2).filter(|v| v.abs() < 708.0);
        agree(&halves.flat_map(|value| [value.next_down(), value, value.next_up()]).collect::<Vec<_>>());
        agree(&[
            0.0,
            -0.0,
            1.0,
            f64::NAN,
            f64::INFINITY,
            -f64::INFINITY,
            -745.0,
            -746.0,
            710.0,
            5e-324,
            f64::MAX,
        ]);
    }
}
