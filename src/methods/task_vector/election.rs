//! The election of signs.

use super::vectors::Combination;
use crate::kernels::elementwise::Elementwise;
use crate::kernels::simd::vectorized;

/// Elements for which the signs of many vectors are elected at a time.
const RUN: usize = 512;

/// The arithmetic on the elements of a base and N - 1 models, or of their differences from the base.
///
/// With d_k a sparse difference times its factor and its weight, a result is b + lambda * (the sum of the d_k that have
/// the sign of the sum of all), that sum divided by their weights for a mean.
pub(super) struct Elected<const N: usize, const ARE_MODELS: bool, const IS_MEAN: bool>(pub Combination<N>);

impl<const N: usize, const ARE_MODELS: bool, const IS_MEAN: bool> Elementwise<N>
    for Elected<N, ARE_MODELS, IS_MEAN>
{
    #[inline(always)]
    fn of(&self, x: [f32; N]) -> f32 {
        const SIGN: u32 = 1 << 31;
        let Self(combination) = self;
        let weighted = combination.weighted::<ARE_MODELS>(x);
        let mut sum = 0.0;
        for number in weighted {
            sum += number;
        }
        let flip = if sum >= 0.0 { 0 } else { SIGN };
        let [mut delta, mut divisor] = [0.0; 2];
        for k in 1..N {
            let agrees = f32::from_bits(weighted[k].to_bits() ^ flip) > 0.0;
            delta += if agrees { weighted[k] } else { 0.0 };
            divisor += if agrees { combination.weights[k] } else { 0.0 };
        }
        if IS_MEAN {
            delta /= if divisor == 0.0 { 1.0 } else { divisor };
        }
        x[0] + delta * combination.lambda
    }
}

vectorized! {
    /// The same among any number of weighted sparse differences.
    pub(super) fn elect_many(
        weighted: &[Vec<f32>],
        weights: &[f32],
        base: &[f32],
        is_mean: bool,
        lambda: f32,
        out: &mut [f32],
    ) {
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
            for (r, b) in out.iter_mut().zip(&base[start..start + n]) {
                *r = b + *r * lambda;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::elementwise::{Element, MOST_INPUTS, counted};
    use crate::kernels::mask::{KEPT, Mask};
    use crate::kernels::simd::at_every_level;

    const N: usize = 1037;

    /// The definition, for one element: (difference, factor, weight) of each vector.
    fn by_definition(differences: &[(f32, f32, f32)], base: f32, is_mean: bool, lambda: f32) -> f32 {
        let weighted: Vec<(f32, f32)> = differences.iter().map(|(d, f, w)| (d * f * w, *w)).collect();
        let is_positive = weighted.iter().fold(0.0, |sum, (d, _)| sum + d) >= 0.0;
        let (mut delta, mut divisor) = (0.0, 0.0);
        for (d, weight) in weighted {
            if d > 0.0 && is_positive || d < 0.0 && !is_positive {
                delta += d;
                divisor += weight;
            }
        }
        if is_mean && divisor != 0.0 {
            delta /= divisor;
        }
        base + delta * lambda
    }

    /// What values of vectors are.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Form {
        Models,
        MaskedModels,
        Differences,
    }

    #[test]
    fn every_form_and_number_of_vectors_gives_the_bits_of_the_definition() {
        // Exact ties of signs, zeros of either sign, and numbers of many sizes.
        let value = |k: usize, i: usize| match (i * 7 + k) % 11 {
            0 => 0.0,
            1 => -0.0,
            2 => 1.5,
            3 => -1.5,
            _ => ((i * 37 + k * 101) % 257) as f32 / 128.0 * 2f32.powi((i % 40) as i32 - 30) - 0.01,
        };
        let values: Vec<Vec<f32>> = (0..7).map(|k| (0..N).map(|i| value(k, i)).collect()).collect();
        let masks: Vec<Vec<Mask>> = (0..7)
            .map(|k| (0..N).map(|i| if (i * 13 + k * 5) % 3 > 0 { KEPT } else { 0 }).collect())
            .collect();
        let factors = [1.0, 1.25, 0.7, 1.0, 3.0, 1.1];
        let weights = [0.6, -0.6, 0.5, 0.5, 1.0, -0.25];
        let (base, vectors) = values.split_first().unwrap();
        at_every_level(|level| {
            for n in 1..=vectors.len() {
                for form in [Form::Models, Form::MaskedModels, Form::Differences] {
                    for (is_mean, lambda) in [(true, 1.0), (false, 0.9)] {
                        let difference = |k: usize, i: usize| match form {
                            Form::Models => vectors[k][i] - base[i],
                            Form::MaskedModels if masks[k + 1][i] == 0 => 0.0,
                            Form::MaskedModels => vectors[k][i] - base[i],
                            Form::Differences => vectors[k][i],
                        };
                        let mut out = vec![f32::NAN; N];
                        if n < MOST_INPUTS {
                            let inputs: Vec<&[f32]> = values[..=n].iter().map(Vec::as_slice).collect();
                            let masks: Vec<&[Mask]> = masks.iter().map(Vec::as_slice).collect();
                            let masks = (form == Form::MaskedModels).then_some(masks);
                            counted!(inputs[..], inputs: C => {
                                let masks = masks.as_ref().and_then(|masks| masks.first_chunk());
                                let mut combination =
                                    Combination { factors: [0.0; C], weights: [0.0; C], lambda };
                                combination.factors[1..].copy_from_slice(&factors[..n]);
                                combination.weights[1..].copy_from_slice(&weights[..n]);
                                let out = &mut out[..];
                                match (form, is_mean) {
                                    (Form::Differences, true) => {
                                        f32::emit(&Elected::<C, false, true>(combination), inputs, masks, out)
                                    }
                                    (Form::Differences, false) => {
                                        f32::emit(&Elected::<C, false, false>(combination), inputs, masks, out)
                                    }
                                    (_, true) => f32::emit(&Elected::<C, true, true>(combination), inputs, masks, out),
                                    (_, false) => f32::emit(&Elected::<C, true, false>(combination), inputs, masks, out),
                                }
                            });
                        } else {
                            let weighted = |k: usize| {
                                (0..N).map(|i| difference(k, i) * factors[k] * weights[k]).collect()
                            };
                            let weighted: Vec<Vec<f32>> = (0..n).map(weighted).collect();
                            elect_many(&weighted, &weights[..n], base, is_mean, lambda, &mut out);
                        }
                        for (i, out) in out.iter().enumerate() {
                            let differences: Vec<(f32, f32, f32)> =
                                (0..n).map(|k| (difference(k, i), factors[k], weights[k])).collect();
                            let expected = by_definition(&differences, base[i], is_mean, lambda);
                            let what = format!("element {i}, {n} of {form:?}, {is_mean}, {level:?}");
                            assert_eq!(out.to_bits(), expected.to_bits(), "{what}");
                        }
                    }
                }
            }
        });
    }
}
