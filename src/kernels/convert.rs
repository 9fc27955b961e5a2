//! Stored elements to f32 and back, rounding to nearest even.

use half::f16;

use crate::tensor::Dtype;

/// Decodes little-endian elements of a float type; f64 is rounded to f32.
///
/// # Panics
/// If the type is not a float type, or the lengths do not agree.
pub fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), out.len() * dtype.size());
    match dtype {
        Dtype::Bf16 => each(bytes, out, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)),
        Dtype::F16 => each(bytes, out, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::F32 => each(bytes, out, f32::from_le_bytes),
        Dtype::F64 => each(bytes, out, |bytes| f64::from_le_bytes(bytes) as f32),
        _ => panic!("{dtype} is not a float type"),
    }
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], decode: impl Fn([u8; N]) -> f32) {
    for (value, bytes) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *value = decode(*bytes);
    }
}

/// Encodes f32 values as little-endian elements of a float type.
///
/// # Panics
/// If the type is not a float type, or the lengths do not agree.
pub fn encode(dtype: Dtype, values: &[f32], out: &mut [u8]) {
    assert_eq!(out.len(), values.len() * dtype.size());
    match dtype {
        Dtype::Bf16 => put(values, out, |value| bf16_bits(value).to_le_bytes()),
        Dtype::F16 => put(values, out, |value| f16::from_f32(value).to_le_bytes()),
        Dtype::F32 => put(values, out, f32::to_le_bytes),
        Dtype::F64 => put(values, out, |value| f64::from(value).to_le_bytes()),
        _ => panic!("{dtype} is not a float type"),
    }
}

fn put<const N: usize>(values: &[f32], out: &mut [u8], encode: impl Fn(f32) -> [u8; N]) {
    for (bytes, value) in out.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *bytes = encode(*value);
    }
}

/// Rounds values to a float type, keeping them as f32. Values beyond the type's range become infinite.
pub fn round(dtype: Dtype, values: &mut [f32]) {
    match dtype {
        Dtype::Bf16 => {
            for value in values {
                *value = f32::from_bits(u32::from(bf16_bits(*value)) << 16);
            }
        }
        Dtype::F16 => {
            for value in values {
                *value = f16::from_f32(*value).to_f32();
            }
        }
        _ => {}
    }
}

/// Whether no value is NaN or infinite.
pub fn all_finite(values: &[f32]) -> bool {
    const INFINITY: u32 = 0x7f80_0000;
    // A maximum instead of an early exit lets the loop run on vectors.
    values.iter().fold(0, |largest, value| largest.max(value.to_bits() & 0x7fff_ffff)) < INFINITY
}

fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    // Rounding could carry a NaN's bits into infinity; it stays a quiet NaN instead.
    (if value.is_nan() { bits >> 16 | 0x40 } else { rounded }) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
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
                encode(dtype, &value, &mut bytes);
                assert!(u16::from_le_bytes(bytes) == bits || expected.is_nan());
                assert_eq!(all_finite(&value), expected.is_finite());
            }
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
    fn ties_round_to_even() {
        // Halfway between two bf16 neighbours, below an odd and below an even one.
        assert_eq!(bf16_bits(f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(bf16_bits(f32::from_bits(0x3f81_8000)), 0x3f82);
    }
}
