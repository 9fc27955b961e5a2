//! Loops over bf16 as it is stored, two neighbours at a time.
//!
//! Two elements are the halves of a word, and an element with sixteen zeros behind it is an f32. So a shift and a
//! mask take a word apart, and one `or` joins two rounded results: no element changes its place in a vector,
//! nothing is stored in between, and whether results are finite is seen on the way. The bits are those of
//! decoding, computing in f32 and encoding.

use super::convert::{rounded_to_bf16, unfit_for_bf16};
use super::simd::vectorized;

/// An element as it is stored.
pub type Bf16 = [u8; 2];

/// The most inputs that `counted!` tells apart.
pub const MOST_INPUTS: usize = 5;

/// What becomes of the elements that N inputs have in one place.
pub trait Elementwise<const N: usize> {
    /// The result in that place. Must be `#[inline(always)]`, to be compiled for every level.
    fn of(&self, x: [f32; N]) -> f32;
}

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

vectorized! {
    /// Writes the result in every place, and tells whether all are finite as bf16; if not, what is written means
    /// nothing.
    pub fn emit<F: Elementwise<N>, const N: usize>(function: &F, inputs: &[&[Bf16]; N], out: &mut [Bf16]) -> bool {
        let n = out.len();
        let n_words = n / 2;
        let mut words: [&[[u8; 4]]; N] = [&[]; N];
        for k in 0..N {
            words[k] = &inputs[k][..n].as_flattened().as_chunks().0[..n_words];
        }
        let mut unfit = 0;
        let out_words = &mut out.as_flattened_mut().as_chunks_mut().0[..n_words];
        for i in 0..n_words {
            let (mut lows, mut highs) = ([0.0; N], [0.0; N]);
            for k in 0..N {
                [lows[k], highs[k]] = halves(words[k][i]);
            }
            let (low, high) = (function.of(lows), function.of(highs));
            unfit |= unfit_for_bf16(low) | unfit_for_bf16(high);
            out_words[i] = joined(low, high);
        }
        if n % 2 == 1 {
            let mut last = [0.0; N];
            for k in 0..N {
                let [low, high] = inputs[k][n - 1];
                last[k] = halves([low, high, 0, 0])[0];
            }
            let last = function.of(last);
            unfit |= unfit_for_bf16(last);
            let [low, high, ..] = joined(last, 0.0);
            out[n - 1] = [low, high];
        }
        unfit >> 31 == 0
    }
}

/// Runs code on a slice of 1 to [`MOST_INPUTS`] inputs as an array, with their number as a constant:
/// `counted!(slice, array: N => code)`.
macro_rules! counted {
    ($slice:expr, $array:ident: $count:ident => $code:expr) => {
        $crate::kernels::pairs::counted!(@each $slice, $array: $count => $code, 1 2 3 4 5)
    };
    (@each $slice:expr, $array:ident: $count:ident => $code:expr, $($number:literal)*) => {
        match $slice.len() {
            $($number => {
                const $count: usize = $number;
                let $array: &[_; $count] = $slice.first_chunk().expect("it has just so many");
                $code
            })*
            n => unreachable!("{n} inputs are not worked on in pairs"),
        }
    };
}

pub(crate) use counted;

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
        let function = WeightedSum(weights);
        let mut values = [const { Vec::new() }; N];
        for (values, input) in values.iter_mut().zip(inputs) {
            values.resize(n, 0.0);
            decode(Dtype::Bf16, input.as_flattened(), values);
        }
        let results: Vec<f32> = (0..n).map(|i| function.of(std::array::from_fn(|k| values[k][i]))).collect();
        let mut expected = vec![0; 2 * n];
        let expected_sound = encode(Dtype::Bf16, &results, &mut expected);
        at_every_level(|level| {
            let mut out = vec![[0xaa; 2]; n];
            assert_eq!(emit(&function, &inputs, &mut out), expected_sound, "{N} {n} {level:?}");
            assert!(!expected_sound || *out.as_flattened() == expected[..], "{N} {n} {level:?}");
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

    #[test]
    fn a_number_of_inputs_becomes_a_constant() {
        let all = [1, 2, 3, 4, 5];
        assert_eq!(all.len(), MOST_INPUTS);
        for n in 1..=MOST_INPUTS {
            assert_eq!(
                counted!(all[..n], array: N => array.iter().sum::<usize>() + 100 * N),
                n * (n + 1) / 2 + 100 * n
            );
        }
    }
}
