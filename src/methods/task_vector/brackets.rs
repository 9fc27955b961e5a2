//! Where the bounds of selections are expected, and what was found there.

use super::arithmetic::subtract;
use crate::kernels::bracket::{Bracket, Listed};
use crate::kernels::select::{Selection, magnitude};
use crate::methods::operation::{Leaf, Sample};
use crate::methods::scratch::Scratch;

/// An open rank of a selection, and where it is expected.
pub(super) struct Bracketed {
    vector: usize,
    /// Which of the selection's two bounds.
    bound: usize,
    rank: u64,
    bracket: Bracket,
}

/// Guesses from a sample where the open ranks of all selections are.
pub(super) fn guess(selections: &[Option<Selection>], sample: &Sample<'_>) -> Vec<Bracketed> {
    let mut deltas = vec![0.0; sample.places.len()];
    let mut brackets = Vec::new();
    for (vector, selection) in selections.iter().enumerate() {
        let Some(selection) = selection else { continue };
        subtract(sample.inputs[vector + 1], sample.inputs[0], &mut deltas);
        let mut magnitudes: Vec<u32> = deltas.iter().map(|delta| magnitude(*delta)).collect();
        for (bound, rank) in selection.open_ranks().into_iter().enumerate() {
            let Some(rank) = rank else { continue };
            let bracket = Bracket::around(rank as f64 / selection.n_elements() as f64, &mut magnitudes);
            brackets.push(Bracketed { vector, bound, rank, bracket });
        }
    }
    brackets
}

/// Looks through a piece of a leaf.
pub(super) fn list(brackets: &[Bracketed], leaf: &Leaf<'_>, lists: &mut [Listed], scratch: &mut Scratch) {
    let delta = &mut scratch.vectors(1)[0];
    let mut at_hand = None;
    for (Bracketed { vector, bracket, .. }, listed) in brackets.iter().zip(lists) {
        // Both bounds of a selection look through the same difference.
        if at_hand.replace(*vector) != Some(*vector) {
            delta.resize(leaf.n_elements(), 0.0);
            subtract(leaf.inputs[vector + 1], leaf.inputs[0], delta);
        }
        bracket.list(delta, listed);
    }
}

/// Settles all selections by what was listed, or none.
pub(super) fn settle(
    brackets: &[Bracketed],
    runs: &[Vec<Listed>],
    selections: &mut [Option<Selection>],
) -> bool {
    let mut found = vec![[None, None]; selections.len()];
    for (number, Bracketed { vector, bound, rank, bracket }) in brackets.iter().enumerate() {
        let listed: Vec<&Listed> = runs.iter().map(|lists| &lists[number]).collect();
        let Some(place) = bracket.find(*rank, &listed) else { return false };
        found[*vector][*bound] = Some(place);
    }
    for (selection, found) in selections.iter_mut().zip(found) {
        if let Some(selection) = selection {
            selection.settle(found);
        }
    }
    true
}
