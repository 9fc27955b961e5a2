//! Results that follow from what all inputs have in one place, in one loop from inputs to results.
//!
//! The number of inputs is a constant of the loop. What an element of an input is can be decided by a mask: where it
//! is not kept, it counts as that of the first input.

use super::mask::{Mask, masked};
use super::simd::vectorized;

/// The most inputs that `counted!` tells apart.
pub const MOST_INPUTS: usize = 5;

/// What becomes of the elements that N inputs have in one place.
pub trait Elementwise<const N: usize> {
    /// The result in that place. Must be `#[inline(always)]`, to be compiled for every level.
    fn of(&self, x: [f32; N]) -> f32;
}

/// What elements can be as they are worked on.
pub trait Element: Copy + Sync {
    /// Writes the result in every place. With masks there is one for each input but the first, whose place among them
    /// is not looked at. Tells whether all results are finite, where they are rounded; if not, what is written means
    /// nothing.
    fn emit<F: Elementwise<N>, const N: usize>(
        function: &F,
        inputs: &[&[Self]; N],
        masks: Option<&[&[Mask]; N]>,
        out: &mut [Self],
    ) -> bool;
}

impl Element for f32 {
    fn emit<F: Elementwise<N>, const N: usize>(
        function: &F,
        inputs: &[&[Self]; N],
        masks: Option<&[&[Mask]; N]>,
        out: &mut [Self],
    ) -> bool {
        emit(function, inputs, masks, out);
        true
    }
}

vectorized! {
    fn emit<F: Elementwise<N>, const N: usize>(
        function: &F,
        inputs: &[&[f32]; N],
        masks: Option<&[&[Mask]; N]>,
        out: &mut [f32],
    ) {
        match masks {
            None => run::<F, N, false>(function, inputs, &[&[]; N], out),
            Some(masks) => run::<F, N, true>(function, inputs, masks, out),
        }
    }
}

#[inline(always)]
fn run<F: Elementwise<N>, const N: usize, const MASKED: bool>(
    function: &F,
    inputs: &[&[f32]; N],
    masks: &[&[Mask]; N],
    out: &mut [f32],
) {
    let n = out.len();
    let inputs: [&[f32]; N] = inputs.map(|input| &input[..n]);
    let mut kept: [&[Mask]; N] = [&[]; N];
    for k in 1..N {
        kept[k] = if MASKED { &masks[k][..n] } else { &[] };
    }
    for i in 0..n {
        let mut x = [0.0; N];
        for k in 0..N {
            x[k] = if MASKED && k > 0 { masked(inputs[k][i], x[0], kept[k][i]) } else { inputs[k][i] };
        }
        out[i] = function.of(x);
    }
}

/// Runs code on a slice of 1 to [`MOST_INPUTS`] inputs as an array, with their number as a constant:
/// `counted!(slice, array: N => code)`.
macro_rules! counted {
    ($slice:expr, $array:ident: $count:ident => $code:expr) => {
        $crate::kernels::elementwise::counted!(@each $slice, $array: $count => $code, 1 2 3 4 5)
    };
    (@each $slice:expr, $array:ident: $count:ident => $code:expr, $($number:literal)*) => {
        match $slice.len() {
            $($number => {
                const $count: usize = $number;
                let $array: &[_; $count] = $slice.first_chunk().expect("it has just so many");
                $code
            })*
            n => unreachable!("{n} inputs are too many for one loop"),
        }
    };
}

pub(crate) use counted;

#[cfg(test)]
mod tests {
    use super::*;

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
