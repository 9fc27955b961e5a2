//! The election of signs, in one loop from inputs to results.

use crate::kernels::partner::masked;
use crate::kernels::simd::vectorized;

/// Elements for which the signs of many vectors are elected at a time.
const RUN: usize = 512;

/// Vectors up to which the loop over elements knows how many there are.
pub(super) const FEW: usize = 4;

/// One vector that takes part.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    /// The model's values, or their sparse difference from the base.
    pub values: &'a [f32],
    /// Which elements of the difference are kept, where a mask says so.
    pub mask: &'a [u8],
    /// What a difference is multiplied by first, and its weight.
    pub factor: f32,
    pub weight: f32,
}

/// What the values of all candidates are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Models,
    MaskedModels,
    Differences,
}

/// How results follow from differences.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    /// Whether the sum is divided by the weights of those that won.
    pub is_mean: bool,
    pub lambda: f32,
}

/// Elects signs among up to [`FEW`] candidates. With d_k a candidate's sparse difference times its factor
/// and its weight, a result is b + lambda * (the sum of the d_k that have the sign of the sum of all).
pub(super) fn elect(candidates: &[Candidate<'_>], form: Form, base: &[f32], tally: Tally, out: &mut [f32]) {
    match form {
        Form::Models => elect_models(candidates, base, tally, out),
        Form::MaskedModels => elect_masked_models(candidates, base, tally, out),
        Form::Differences => elect_differences(candidates, base, tally, out),
    }
}

vectorized! {
    fn elect_models(candidates: &[Candidate<'_>], base: &[f32], tally: Tally, out: &mut [f32]) {
        counted::<true, false>(candidates, base, tally, out);
    }

    fn elect_masked_models(candidates: &[Candidate<'_>], base: &[f32], tally: Tally, out: &mut [f32]) {
        counted::<true, true>(candidates, base, tally, out);
    }

    fn elect_differences(candidates: &[Candidate<'_>], base: &[f32], tally: Tally, out: &mut [f32]) {
        counted::<false, false>(candidates, base, tally, out);
    }
}

#[inline(always)]
fn counted<const BASED: bool, const MASKED: bool>(
    candidates: &[Candidate<'_>],
    base: &[f32],
    tally: Tally,
    out: &mut [f32],
) {
    match (candidates.len(), tally.is_mean) {
        (1, false) => flat::<1, BASED, MASKED, false>(candidates, base, tally.lambda, out),
        (1, true) => flat::<1, BASED, MASKED, true>(candidates, base, tally.lambda, out),
        (2, false) => flat::<2, BASED, MASKED, false>(candidates, base, tally.lambda, out),
        (2, true) => flat::<2, BASED, MASKED, true>(candidates, base, tally.lambda, out),
        (3, false) => flat::<3, BASED, MASKED, false>(candidates, base, tally.lambda, out),
        (3, true) => flat::<3, BASED, MASKED, true>(candidates, base, tally.lambda, out),
        (FEW, false) => flat::<FEW, BASED, MASKED, false>(candidates, base, tally.lambda, out),
        (FEW, true) => flat::<FEW, BASED, MASKED, true>(candidates, base, tally.lambda, out),
        (n, _) => unreachable!("{n} are not a few"),
    }
}

#[inline(always)]
fn flat<const N: usize, const BASED: bool, const MASKED: bool, const MEAN: bool>(
    candidates: &[Candidate<'_>],
    base: &[f32],
    lambda: f32,
    out: &mut [f32],
) {
    let n = out.len();
    let base = &base[..n];
    let values: [&[f32]; N] = std::array::from_fn(|k| &candidates[k].values[..n]);
    let masks: [&[u8]; N] = std::array::from_fn(|k| if MASKED { &candidates[k].mask[..n] } else { &[][..] });
    let factors: [f32; N] = std::array::from_fn(|k| candidates[k].factor);
    let weights: [f32; N] = std::array::from_fn(|k| candidates[k].weight);
    for i in 0..n {
        let mut weighted = [0.0; N];
        let mut sum = 0.0;
        for k in 0..N {
            let difference = if BASED { values[k][i] - base[i] } else { values[k][i] };
            let sparse = if MASKED { masked(difference, masks[k][i]) } else { difference };
            // Multiplying by 1 changes nothing, and there is one rounding each.
            weighted[k] = sparse * factors[k] * weights[k];
            sum += weighted[k];
        }
        let flip = if sum >= 0.0 { 0 } else { SIGN };
        let [mut delta, mut divisor] = [0.0; 2];
        for k in 0..N {
            let agrees = f32::from_bits(weighted[k].to_bits() ^ flip) > 0.0;
            delta += if agrees { weighted[k] } else { 0.0 };
            divisor += if agrees { weights[k] } else { 0.0 };
        }
        if MEAN {
            delta /= if divisor == 0.0 { 1.0 } else { divisor };
        }
        out[i] = base[i] + delta * lambda;
    }
}

const SIGN: u32 = 1 << 31;

vectorized! {
    /// The same among any number of weighted sparse differences.
    pub(super) fn elect_many(
        weighted: &[Vec<f32>],
        weights: &[f32],
        base: &[f32],
        tally: Tally,
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
            if tally.is_mean {
                for (delta, divisor) in out.iter_mut().zip(&divisors) {
                    *delta /= if *divisor == 0.0 { 1.0 } else { *divisor };
                }
            }
            for (r, b) in out.iter_mut().zip(&base[start..start + n]) {
                *r = b + *r * tally.lambda;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::partner::KEPT;
    use crate::kernels::simd::at_every_level;

    /// The definition, for one element: (difference, factor, weight) of each candidate.
    fn by_definition(differences: &[(f32, f32, f32)], base: f32, tally: Tally) -> f32 {
        let weighted: Vec<(f32, f32)> = differences.iter().map(|(d, f, w)| (d * f * w, *w)).collect();
        let is_positive = weighted.iter().fold(0.0, |sum, (d, _)| sum + d) >= 0.0;
        let (mut delta, mut divisor) = (0.0, 0.0);
        for (d, weight) in weighted {
            if d > 0.0 && is_positive || d < 0.0 && !is_positive {
                delta += d;
                divisor += weight;
            }
        }
        if tally.is_mean && divisor != 0.0 {
            delta /= divisor;
        }
        base + delta * tally.lambda
    }

    #[test]
    fn every_form_and_number_of_candidates_gives_the_bits_of_the_definition() {
        const N: usize = 1037;
        // Exact ties of signs, zeros of either sign, and numbers of many sizes.
        let value = |k: usize, i: usize| match (i * 7 + k) % 11 {
            0 => 0.0,
            1 => -0.0,
            2 => 1.5,
            3 => -1.5,
            _ => ((i * 37 + k * 101) % 257) as f32 / 128.0 * 2f32.powi((i % 40) as i32 - 30) - 0.01,
        };
        let base: Vec<f32> = (0..N).map(|i| value(9, i)).collect();
        let models: Vec<Vec<f32>> = (0..6).map(|k| (0..N).map(|i| value(k, i)).collect()).collect();
        let masks: Vec<Vec<u8>> = (0..6)
            .map(|k| (0..N).map(|i| if (i * 13 + k * 5) % 3 > 0 { KEPT } else { 0 }).collect())
            .collect();
        let factors = [1.0, 1.25, 0.7, 1.0, 3.0, 1.1];
        let weights = [0.6, -0.6, 0.5, 0.5, 1.0, -0.25];
        at_every_level(|level| {
            for n in 1..=models.len() {
                for form in [Form::Models, Form::MaskedModels, Form::Differences] {
                    for tally in [Tally { is_mean: true, lambda: 1.0 }, Tally { is_mean: false, lambda: 0.9 }]
                    {
                        let difference = |k: usize, i: usize| match form {
                            Form::Models => models[k][i] - base[i],
                            Form::MaskedModels if masks[k][i] == 0 => 0.0,
                            Form::MaskedModels => models[k][i] - base[i],
                            Form::Differences => models[k][i],
                        };
                        let mut out = vec![f32::NAN; N];
                        if n <= FEW {
                            let candidate = |k: usize| Candidate {
                                values: &models[k],
                                mask: &masks[k],
                                factor: factors[k],
                                weight: weights[k],
                            };
                            let candidates: Vec<Candidate<'_>> = (0..n).map(candidate).collect();
                            elect(&candidates, form, &base, tally, &mut out);
                        } else {
                            let weighted = |k: usize| {
                                (0..N).map(|i| difference(k, i) * factors[k] * weights[k]).collect()
                            };
                            let weighted: Vec<Vec<f32>> = (0..n).map(weighted).collect();
                            elect_many(&weighted, &weights[..n], &base, tally, &mut out);
                        }
                        for (i, out) in out.iter().enumerate() {
                            let differences: Vec<(f32, f32, f32)> =
                                (0..n).map(|k| (difference(k, i), factors[k], weights[k])).collect();
                            let expected = by_definition(&differences, base[i], tally);
                            let what = format!("element {i}, {n} of {form:?}, {tally:?}, {level:?}");
                            assert_eq!(out.to_bits(), expected.to_bits(), "{what}");
                        }
                    }
                }
            }
        });
    }
}
