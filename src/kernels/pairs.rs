//! Loops over bf16 as it is stored, two neighbours at a time.
//!
//! Two elements are the halves of a word, and an element with sixteen zeros behind it is an f32. So a shift and a
//! mask take a word apart, and one `or` joins two rounded results: no element changes its place in a vector,
//! nothing is stored in between, and whether results are finite is seen on the way. The bits are those of
//! decoding, computing in f32 and encoding.

use super::convert::{rounded_to_bf16, unfit_for_bf16};
use super::elementwise::{Element, Elementwise};
use super::mask::{KEPT, Mask, masked_pair};
use super::simd::vectorized;

/// An element as it is stored.
pub type Bf16 = [u8; 2];

/// A word's two elements, the first in its lower half.
#[inline(always)]
pub fn halves(word: [u8; 4]) -> [f32; 2] {
    let bits = u32::from_le_bytes(word);
    [f32::from_bits(bits << 16), f32::from_bits(bits & 0xffff_0000)]
}

/// Rounds two finite values to the elements of a word.
#[inline(always)]
fn joined(low: f32, high: f32) -> [u8; 4] {
    (rounded_to_bf16(low) >> 16 | rounded_to_bf16(high) & 0xffff_0000).to_le_bytes()
}

impl Element for Bf16 {
    fn emit<F: Elementwise<N>, const N: usize>(
        function: &F,
        inputs: &[&[Self]; N],
        masks: Option<&[&[Mask]; N]>,
        out: &mut [Self],
    ) -> bool {
        emit(function, inputs, masks, out)
    }
}

vectorized! {
    /// Writes the result in every place, as [`Element::emit`] does.
    pub fn emit<F: Elementwise<N>, const N: usize>(
        function: &F,
        inputs: &[&[Bf16]; N],
        masks: Option<&[&[Mask]; N]>,
        out: &mut [Bf16],
    ) -> bool {
        match masks {
            None => run::<F, N, false>(function, inputs, &[&[]; N], out),
            Some(masks) => run::<F, N, true>(function, inputs, masks, out),
        }
    }

    /// x - base.
    pub fn subtract(x: &[Bf16], base: &[Bf16], out: &mut [f32]) {
        for (difference, (x, base)) in out.iter_mut().zip(x.iter().zip(base)) {
            *difference = widened(*x) - widened(*base);
        }
    }
}

#[inline(always)]
fn widened([low, high]: Bf16) -> f32 {
    halves([low, high, 0, 0])[0]
}

#[inline(always)]
fn run<F: Elementwise<N>, const N: usize, const MASKED: bool>(
    function: &F,
    inputs: &[&[Bf16]; N],
    masks: &[&[Mask]; N],
    out: &mut [Bf16],
) -> bool {
    let n = out.len();
    let n_words = n / 2;
    let mut words: [&[[u8; 4]]; N] = [&[]; N];
    let mut kept: [&[[Mask; 2]]; N] = [&[]; N];
    for k in 0..N {
        words[k] = &inputs[k][..n].as_flattened().as_chunks().0[..n_words];
        kept[k] = if MASKED && k > 0 { &masks[k][..n].as_chunks().0[..n_words] } else { &[] };
    }
    let mut unfit = 0;
    let out_words = &mut out.as_flattened_mut().as_chunks_mut().0[..n_words];
    for i in 0..n_words {
        let (mut lows, mut highs) = ([0.0; N], [0.0; N]);
        let base = u32::from_le_bytes(words[0][i]);
        for k in 0..N {
            let word = u32::from_le_bytes(words[k][i]);
            let word = if MASKED && k > 0 { masked_pair(word, base, kept[k][i]) } else { word };
            [lows[k], highs[k]] = halves(word.to_le_bytes());
        }
        let (low, high) = (function.of(lows), function.of(highs));
        unfit |= unfit_for_bf16(low) | unfit_for_bf16(high);
        out_words[i] = joined(low, high);
    }
    if n % 2 == 1 {
        let mut last = [0.0; N];
        for k in 0..N {
            let is_kept = !MASKED || k == 0 || masks[k][n - 1] == KEPT;
            last[k] = widened(inputs[if is_kept { k } else { 0 }][n - 1]);
        }
        let last = function.of(last);
        unfit |= unfit_for_bf16(last);
        let [low, high, ..] = joined(last, 0.0);
        out[n - 1] = [low, high];
    }
    unfit >> 31 == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::convert::{decode, encode};
    use crate::kernels::simd::at_every_level;
    use crate::tensor::Dtype;

    struct WeightedSum<const N: usize>([f32; N]);

    impl<const N: usize> Elementwise<N> for WeightedSum<N> {
        #[inline(always)]
        fn of(&self, x: [f32; N]) -> f32 {
            let mut sum = 0.0;
            for k in 0..N {
                sum += self.0[k] * x[k];
            }
            sum
        }
    }

    fn agrees_with_f32<const N: usize>(weights: [f32; N], inputs: [&[Bf16]; N]) -> bool {
        let n = inputs[0].len();
        let masks: [Vec<Mask>; N] = std::array::from_fn(|k| {
            (0..n).map(|i| if (i * (2 * k + 3)) % 7 < 4 { KEPT } else { 0 }).collect()
        });
        let is_sound = agrees(weights, inputs, None);
        agrees(weights, inputs, Some(&std::array::from_fn(|k| &masks[k][..])));
        is_sound
    }

    fn agrees<const N: usize>(weights: [f32; N], inputs: [&[Bf16]; N], masks: Option<&[&[Mask]; N]>) -> bool {
        let n = inputs[0].len();
        let function = WeightedSum(weights);
        let mut values = [const { Vec::new() }; N];
        for (values, input) in values.iter_mut().zip(inputs) {
            values.resize(n, 0.0);
            decode(Dtype::Bf16, input.as_flattened(), values);
        }
        let is_kept = |k: usize, i: usize| k == 0 || masks.is_none_or(|masks| masks[k][i] == KEPT);
        let of = |i: usize| std::array::from_fn(|k| values[if is_kept(k, i) { k } else { 0 }][i]);
        let results: Vec<f32> = (0..n).map(|i| function.of(of(i))).collect();
        let mut expected = vec![0; 2 * n];
        let expected_sound = encode(Dtype::Bf16, &results, &mut expected);
        at_every_level(|level| {
            let mut out = vec![[0xaa; 2]; n];
            assert_eq!(Bf16::emit(&function, &inputs, masks, &mut out), expected_sound, "{N} {n} {level:?}");
            assert!(!expected_sound || *out.as_flattened() == expected[..], "{N} {n} {level:?}");
            let mut out = vec![f32::NAN; n];
            f32::emit(&function, &values.each_ref().map(|values| &values[..]), masks, &mut out);
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert!(!expected_sound || bits(&out) == bits(&results), "{N} {n} {level:?}");
        });
        expected_sound
    }

    #[test]
    fn bits_are_those_of_decoding_computing_and_encoding() {
        // Every pattern of bits; the second half beginning within the first.
        let all: Vec<Bf16> = (0..=u16::MAX).map(|bits| bits.wrapping_mul(40503).to_le_bytes()).collect();
        let finite: Vec<Bf16> =
            all.iter().copied().filter(|[_, high]| high & 0x7f < 0x7f || high & 0x7f == 0).collect();
        let other: Vec<Bf16> = finite.iter().rev().copied().collect();
        for n in [0, 1, 2, 3, 15, 16, 17, 63, 1000, 1001, finite.len()] {
            let [a, b] = [&finite, &other].map(|values| &values[..n]);
            let weight = f32::from_bits(0x3e99_999a);
            assert!(agrees_with_f32([weight], [a]));
            assert!(agrees_with_f32([weight, -weight], [a, b]));
            assert!(agrees_with_f32([weight, 0.1, -0.0], [a, b, a]));
            assert!(agrees_with_f32([weight, 0.1, 0.25, 1e-3], [a, b, a, b]));
            assert!(agrees_with_f32([weight, 0.1, 0.25, 1e-3, 0.0], [a, b, a, b, a]));
        }
        // From an address that no word begins at.
        assert!(agrees_with_f32([1.0, 0.5], [&finite[1..1000], &other[2..1001]]));
        assert!(!agrees_with_f32([1.0], [&all]));
    }

    #[test]
    fn one_result_that_is_not_finite_is_noticed_wherever_it_is() {
        for bits in [0x7f80u16, 0xff80, 0x7fc0, 0xff81, 0x7fff, 0x7f7f] {
            for at in [0, 1, 31, 32, 66, 70] {
                let mut values = [[0, 0x80]; 71];
                values[at] = bits.to_le_bytes();
                assert_eq!(agrees_with_f32([1.0], [&values]), bits == 0x7f7f);
                // Twice the largest is none.
                assert!(!agrees_with_f32([1.0, 1.0], [&values, &values]));
            }
        }
    }
}
