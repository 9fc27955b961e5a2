//! Masks: which elements of rows are kept. To be kept themselves they take a bit an element.
//!
//! Every row begins at a byte of its own, so that rows can be packed and unpacked alone.

use super::partner;
use super::simd::vectorized;

/// An element of a mask as loops take it: [`KEPT`] or 0.
pub type Mask = u16;

/// An element that is kept.
pub const KEPT: Mask = Mask::MAX;

/// Elements to a byte.
pub const PER_BYTE: usize = 8;

/// Bytes that so many rows take.
pub fn n_bytes(rows: usize, row_len: usize) -> usize {
    rows * row_len.div_ceil(PER_BYTE)
}

/// Packs the rows of a mask that was drawn.
pub fn pack(drawn: &[u8], row_len: usize, bits: &mut Vec<u8>) {
    bits.resize(n_bytes(drawn.len() / row_len, row_len), 0);
    // Rows that fill their bytes are packed as one.
    let run = if row_len.is_multiple_of(PER_BYTE) { drawn.len().max(row_len) } else { row_len };
    for (row, bits) in drawn.chunks(run).zip(bits.chunks_mut(n_bytes(1, run))) {
        let (eights, rest) = row.as_chunks();
        for (eight, byte) in eights.iter().zip(&mut *bits) {
            // The product moves the lowest bit of each byte to its place in the highest byte.
            let lowest = u64::from_le_bytes(*eight) & 0x0101_0101_0101_0101;
            *byte = (lowest.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
        }
        if !rest.is_empty() {
            let last = rest.iter().enumerate().map(|(i, kept)| (kept & 1) << i).sum();
            *bits.last_mut().expect("the rest has a byte") = last;
        }
    }
}

/// Unpacks rows of `row_len` elements.
pub fn unpack(bits: &[u8], row_len: usize, mask: &mut Vec<Mask>) {
    mask.resize(bits.len() / n_bytes(1, row_len) * row_len, 0);
    let run = if row_len.is_multiple_of(PER_BYTE) { mask.len().max(row_len) } else { row_len };
    for (row, bits) in mask.chunks_mut(run).zip(bits.chunks(n_bytes(1, run))) {
        let (eights, rest) = row.as_chunks_mut();
        for (eight, byte) in eights.iter_mut().zip(bits) {
            *eight = UNPACKED[usize::from(*byte)];
        }
        if let Some(last) = bits.last() {
            rest.copy_from_slice(&UNPACKED[usize::from(*last)][..rest.len()]);
        }
    }
}

/// The elements of every byte.
static UNPACKED: [[Mask; PER_BYTE]; 256] = {
    let mut all = [[0; PER_BYTE]; 256];
    let mut byte = 0;
    while byte < all.len() {
        let mut i = 0;
        while i < PER_BYTE {
            all[byte][i] = if byte >> i & 1 == 1 { KEPT } else { 0 };
            i += 1;
        }
        byte += 1;
    }
    all
};

/// Widens a mask that was drawn.
pub fn widen(drawn: &[u8], mask: &mut Vec<Mask>) {
    mask.resize(drawn.len(), 0);
    widen_into(drawn, mask);
}

vectorized! {
    fn widen_into(drawn: &[u8], mask: &mut [Mask]) {
        for (wide, kept) in mask.iter_mut().zip(drawn) {
            *wide = if *kept == partner::KEPT { KEPT } else { 0 };
        }
    }
}

/// `x` where it is kept, and `base` elsewhere.
#[inline(always)]
pub fn masked(x: f32, base: f32, kept: Mask) -> f32 {
    let kept = i32::from(kept.cast_signed()).cast_unsigned();
    f32::from_bits(base.to_bits() ^ (x.to_bits() ^ base.to_bits()) & kept)
}

/// The same for two bf16 in a word.
#[inline(always)]
pub fn masked_pair(x: u32, base: u32, [low, high]: [Mask; 2]) -> u32 {
    base ^ (x ^ base) & (u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(rows in 0usize..5, row_len in 1usize..70, seed: [bool; 97]) {
            let drawn: Vec<u8> = seed.iter().cycle().map(|kept| if *kept { partner::KEPT } else { 0 })
                .take(rows * row_len).collect();
            let (mut bits, mut unpacked, mut widened) = (vec![0xff; 3], vec![7; 2], vec![7; 2]);
            pack(&drawn, row_len, &mut bits);
            prop_assert_eq!(bits.len(), n_bytes(rows, row_len));
            for (row, bits) in drawn.chunks(row_len).zip(bits.chunks(n_bytes(1, row_len))) {
                for (i, kept) in row.iter().enumerate() {
                    prop_assert_eq!(bits[i / 8] >> (i % 8) & 1 == 1, *kept == partner::KEPT);
                }
            }
            unpack(&bits, row_len, &mut unpacked);
            widen(&drawn, &mut widened);
            prop_assert_eq!(unpacked, widened.clone());
            prop_assert!(widened.iter().zip(&drawn).all(|(wide, kept)| (*wide == KEPT) == (*kept == partner::KEPT)));
        }
    }

    #[test]
    fn what_is_not_kept_is_the_base() {
        assert_eq!((masked(1.5, -0.0, KEPT), masked(1.5, -2.0, 0)), (1.5, -2.0));
        assert_eq!(masked_pair(0xaaaa_bbbb, 0x1111_2222, [KEPT, 0]), 0x1111_bbbb);
        assert_eq!(masked_pair(0xaaaa_bbbb, 0x1111_2222, [0, KEPT]), 0xaaaa_2222);
    }
}
