//! Stored elements to f32 and back, rounding to nearest even.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::simd::vectorized;
use crate::tensor::Dtype;

/// Halves that the half crate converts in one go.
const HALVES: usize = 64;

/// Decodes little-endian elements of a float type; f64 is rounded to f32.
///
/// # Panics
/// If the type is not a float type, or the lengths do not agree.
pub fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), out.len() * dtype.size());
    match dtype {
        Dtype::Bf16 => decode_bf16(bytes.as_chunks().0, out),
        Dtype::F16 => decode_f16(bytes.as_chunks().0, out),
        Dtype::F32 => decode_f32(bytes.as_chunks().0, out),
        Dtype::F64 => decode_f64(bytes.as_chunks().0, out),
        Dtype::F8_E4M3 => decode_e4m3(bytes, out),
        Dtype::F8_E5M2 => decode_e5m2(bytes, out),
        _ => panic!("{dtype} is not a float type"),
    }
}

/// Encodes f32 values as little-endian elements of a float type, and tells whether all are finite there.
/// If not, what is written means nothing.
///
/// # Panics
/// If the type is not a float type, or the lengths do not agree.
#[must_use]
pub fn encode(dtype: Dtype, values: &[f32], out: &mut [u8]) -> bool {
    assert_eq!(out.len(), values.len() * dtype.size());
    match dtype {
        Dtype::Bf16 => encode_bf16(values, out.as_chunks_mut().0),
        Dtype::F16 => encode_f16(values, out.as_chunks_mut().0),
        Dtype::F32 => encode_f32(values, out.as_chunks_mut().0),
        Dtype::F64 => encode_f64(values, out.as_chunks_mut().0),
        _ => panic!("{dtype} is not a float type"),
    }
}

/// Rounds values to a float type, keeping them as f32. Values beyond the type's range become infinite.
pub fn round(dtype: Dtype, values: &mut [f32]) {
    match dtype {
        Dtype::Bf16 => round_bf16(values),
        Dtype::F16 => {
            let mut halves = [f16::ZERO; HALVES];
            for values in values.chunks_mut(HALVES) {
                let halves = &mut halves[..values.len()];
                halves.convert_from_f32_slice(values);
                halves.convert_to_f32_slice(values);
            }
        }
        _ => {}
    }
}

/// Whether no element is NaN or infinite, or would be as f32.
///
/// # Panics
/// If the type is not a float type.
pub fn is_finite(dtype: Dtype, bytes: &[u8]) -> bool {
    match dtype {
        Dtype::Bf16 => largest_u16(bytes.as_chunks().0) < 0x7f80,
        Dtype::F16 => largest_u16(bytes.as_chunks().0) < 0x7c00,
        Dtype::F32 => largest_u32(bytes.as_chunks().0) < 0x7f80_0000,
        Dtype::F64 => {
            let is_finite = |bytes: &[u8; 8]| (f64::from_le_bytes(*bytes) as f32).is_finite();
            bytes.as_chunks().0.iter().all(is_finite)
        }
        Dtype::F8_E4M3 => largest_u8(bytes) < 0x7f,
        Dtype::F8_E5M2 => largest_u8(bytes) < 0x7c,
        _ => panic!("{dtype} is not a float type"),
    }
}

fn decode_f16(bytes: &[[u8; 2]], out: &mut [f32]) {
    let mut halves = [f16::ZERO; HALVES];
    for (bytes, out) in bytes.chunks(HALVES).zip(out.chunks_mut(HALVES)) {
        let halves = &mut halves[..bytes.len()];
        halves.iter_mut().zip(bytes).for_each(|(half, bytes)| *half = f16::from_le_bytes(*bytes));
        halves.convert_to_f32_slice(out);
    }
}

/// The upper half of an f16.
fn decode_e5m2(bytes: &[u8], out: &mut [f32]) {
    for (value, byte) in out.iter_mut().zip(bytes) {
        *value = f16::from_le_bytes([0, *byte]).to_f32();
    }
}

fn encode_f16(values: &[f32], out: &mut [[u8; 2]]) -> bool {
    let mut halves = [f16::ZERO; HALVES];
    let mut largest = 0;
    for (values, out) in values.chunks(HALVES).zip(out.chunks_mut(HALVES)) {
        let halves = &mut halves[..values.len()];
        halves.convert_from_f32_slice(values);
        for (half, bytes) in halves.iter().zip(out) {
            *bytes = half.to_le_bytes();
            largest = largest.max(half.to_bits() & 0x7fff);
        }
    }
    largest < 0x7c00
}

vectorized! {
    fn decode_bf16(bytes: &[[u8; 2]], out: &mut [f32]) {
        for (value, bytes) in out.iter_mut().zip(bytes) {
            *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
        }
    }

    fn decode_f32(bytes: &[[u8; 4]], out: &mut [f32]) {
        for (value, bytes) in out.iter_mut().zip(bytes) {
            *value = f32::from_le_bytes(*bytes);
        }
    }

    fn decode_f64(bytes: &[[u8; 8]], out: &mut [f32]) {
        for (value, bytes) in out.iter_mut().zip(bytes) {
            *value = f64::from_le_bytes(*bytes) as f32;
        }
    }

    /// Four bits of exponent and three of mantissa; no infinity, and NaN where all bits are set.
    fn decode_e4m3(bytes: &[u8], out: &mut [f32]) {
        // The bias of f32's exponent, 127, less that of this one, 7.
        let rebias = f32::from_bits((127 + 120) << 23);
        for (value, byte) in out.iter_mut().zip(bytes) {
            let magnitude = u32::from(*byte & 0x7f);
            let sign = u32::from(*byte & 0x80) << 24;
            let scaled = f32::from_bits(magnitude << 20 | sign) * rebias;
            *value = if magnitude == 0x7f { f32::NAN } else { scaled };
        }
    }

    fn encode_bf16(values: &[f32], out: &mut [[u8; 2]]) -> bool {
        let mut unfit = 0;
        for (bytes, value) in out.iter_mut().zip(values) {
            *bytes = finite_bf16_bits(*value).to_le_bytes();
            unfit |= unfit_for_bf16(*value);
        }
        unfit >> 31 == 0
    }

    fn encode_f32(values: &[f32], out: &mut [[u8; 4]]) -> bool {
        let mut largest = 0;
        for (bytes, value) in out.iter_mut().zip(values) {
            *bytes = value.to_le_bytes();
            largest = largest.max(value.to_bits() & 0x7fff_ffff);
        }
        largest < 0x7f80_0000
    }

    fn encode_f64(values: &[f32], out: &mut [[u8; 8]]) -> bool {
        let mut largest = 0;
        for (bytes, value) in out.iter_mut().zip(values) {
            *bytes = f64::from(*value).to_le_bytes();
            largest = largest.max(value.to_bits() & 0x7fff_ffff);
        }
        largest < 0x7f80_0000
    }

    fn round_bf16(values: &mut [f32]) {
        for value in values {
            *value = f32::from_bits(u32::from(bf16_bits(*value)) << 16);
        }
    }

    // A maximum instead of an early exit lets the loops run on vectors.

    /// The largest of all elements without their signs.
    fn largest_u8(bytes: &[u8]) -> u8 {
        let mut largest = 0;
        for byte in bytes {
            largest = largest.max(byte & 0x7f);
        }
        largest
    }

    /// The largest of all elements without their signs.
    fn largest_u16(bytes: &[[u8; 2]]) -> u16 {
        let mut largest = 0;
        for bytes in bytes {
            largest = largest.max(u16::from_le_bytes(*bytes) & 0x7fff);
        }
        largest
    }

    /// The largest of all elements without their signs.
    fn largest_u32(bytes: &[[u8; 4]]) -> u32 {
        let mut largest = 0;
        for bytes in bytes {
            largest = largest.max(u32::from_le_bytes(*bytes) & 0x7fff_ffff);
        }
        largest
    }
}

/// A value's bits with those of its bf16 on top, if that is finite.
#[inline(always)]
pub(super) fn rounded_to_bf16(value: f32) -> u32 {
    let bits = value.to_bits();
    bits.wrapping_add(0x7fff + (bits >> 16 & 1))
}

#[inline(always)]
fn finite_bf16_bits(value: f32) -> u16 {
    (rounded_to_bf16(value) >> 16) as u16
}

/// Has its uppermost bit set if a value is no finite bf16: not from 0x7f7f_8000 on, which is half way between the
/// largest bf16 and the next power of two. So those of many values need only be joined.
#[inline(always)]
pub(super) fn unfit_for_bf16(value: f32) -> u32 {
    (value.to_bits() & 0x7fff_ffff) + (0x8000_0000 - 0x7f7f_8000)
}

#[inline(always)]
fn bf16_bits(value: f32) -> u16 {
    // Rounding could carry a NaN's bits into infinity; it stays a quiet NaN instead.
    if value.is_nan() { (value.to_bits() >> 16) as u16 | 0x40 } else { finite_bf16_bits(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::at_every_level;
    use half::bf16;
    use proptest::prelude::*;

    #[test]
    fn every_half_pattern_decodes_and_encodes_as_the_half_crate_does() {
        for bits in 0..=u16::MAX {
            let mut value = [0.0];
            let mut bytes = [0; 2];
            for (dtype, expected) in
                [(Dtype::Bf16, bf16::from_bits(bits).to_f32()), (Dtype::F16, f16::from_bits(bits).to_f32())]
            {
                decode(dtype, &bits.to_le_bytes(), &mut value);
                assert!(value[0].to_bits() == expected.to_bits() || expected.is_nan() && value[0].is_nan());
                assert_eq!(encode(dtype, &value, &mut bytes), expected.is_finite());
                assert!(u16::from_le_bytes(bytes) == bits || !expected.is_finite());
                assert_eq!(is_finite(dtype, &bits.to_le_bytes()), expected.is_finite());
            }
        }
    }

    #[test]
    fn every_eight_bit_pattern_decodes_by_its_definition() {
        for (dtype, mantissa_bits, bias, largest) in
            [(Dtype::F8_E4M3, 3, 7, 448.0), (Dtype::F8_E5M2, 2, 15, 57_344.0)]
        {
            let all: Vec<u8> = (0..=u8::MAX).collect();
            at_every_level(|_| {
                let mut values = vec![0.0; all.len()];
                decode(dtype, &all, &mut values);
                for (byte, value) in all.iter().zip(&values) {
                    let exponent = i32::from(byte & 0x7f) >> mantissa_bits;
                    let fraction =
                        f64::from(byte & ((1 << mantissa_bits) - 1)) / f64::from(1 << mantissa_bits);
                    let magnitude = match exponent {
                        0 => fraction * 2f64.powi(1 - bias),
                        _ => (1.0 + fraction) * 2f64.powi(exponent - bias),
                    };
                    assert_eq!(is_finite(dtype, &[*byte]), value.is_finite(), "{byte:#x}");
                    if value.is_finite() {
                        assert!(f64::from(value.abs()) == magnitude && magnitude <= largest, "{byte:#x}");
                        assert_eq!(value.is_sign_negative(), byte & 0x80 != 0);
                        let mut rounded = [*value];
                        round(Dtype::Bf16, &mut rounded);
                        assert_eq!(rounded[0], *value, "bf16 holds it");
                    } else {
                        assert!(magnitude > largest, "{byte:#x}");
                    }
                }
            });
        }
    }

    proptest! {
        #[test]
        fn rounding_to_bf16_is_the_half_crates(bits: u32) {
            let value = f32::from_bits(bits);
            let expected = bf16::from_f32(value);
            prop_assert!(bf16_bits(value) == expected.to_bits() || value.is_nan() && bf16::from_bits(bf16_bits(value)).is_nan());
            let mut rounded = [value];
            round(Dtype::Bf16, &mut rounded);
            prop_assert!(rounded[0].to_bits() == expected.to_f32().to_bits() || value.is_nan());
        }
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        let values: Vec<f32> = (0..1000u32).map(|i| f32::from_bits(i.wrapping_mul(0x0101_9E3B))).collect();
        let finite: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
        for dtype in [Dtype::Bf16, Dtype::F16, Dtype::F32, Dtype::F64] {
            let mut seen = Vec::new();
            at_every_level(|_| {
                let mut bytes = vec![0; finite.len() * dtype.size()];
                let fits = encode(dtype, &finite, &mut bytes);
                assert_eq!(fits, is_finite(dtype, &bytes), "{dtype}");
                let mut back = vec![0.0; finite.len()];
                decode(dtype, &bytes, &mut back);
                let mut rounded = finite.clone();
                round(dtype, &mut rounded);
                assert_eq!(back, rounded);
                seen.push((bytes, fits));
            });
            assert!(seen.iter().all(|one| *one == seen[0]), "{dtype}");
        }
        assert!(!is_finite(Dtype::F64, &1e300f64.to_le_bytes()));
        assert!(!is_finite(Dtype::F32, &f32::NAN.to_le_bytes()));
        assert!(is_finite(Dtype::F32, &f32::MAX.to_le_bytes()));
    }

    #[test]
    fn one_value_that_is_not_finite_where_it_is_stored_is_noticed() {
        let largest = [(Dtype::Bf16, 0x7f7f_7fff), (Dtype::F16, 0x477f_efff), (Dtype::F32, 0x7f7f_ffff)];
        for (dtype, largest) in largest.into_iter().chain([(Dtype::F64, 0x7f7f_ffff)]) {
            for (bits, is_sound) in [
                (largest, true),
                (largest + 1, false),
                (0x7f80_0000, false),
                (0x7f80_0001, false),
                (0x7fff_ffff, false),
            ] {
                for (at, sign) in [(0, 0), (17, 1 << 31), (66, 1 << 31), (70, 0)] {
                    let mut values = [-0.0; 71];
                    values[at] = f32::from_bits(bits | sign);
                    let mut bytes = vec![0; values.len() * dtype.size()];
                    at_every_level(|level| {
                        assert_eq!(
                            encode(dtype, &values, &mut bytes),
                            is_sound,
                            "{dtype} {bits:#x} {at} {level:?}"
                        );
                        assert!(!is_sound || is_finite(dtype, &bytes));
                    });
                }
            }
        }
    }

    #[test]
    fn ties_round_to_even() {
        // Halfway between two bf16 neighbours, below an odd and below an even one.
        assert_eq!(bf16_bits(f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(bf16_bits(f32::from_bits(0x3f81_8000)), 0x3f82);
    }
}
