//! With what probability an element is kept, by its rank among the magnitudes of its row.
//!
//! Ranks rise with the magnitude from 0; of equal magnitudes the higher index ranks first. An element of
//! rank r is kept if its draw lies below lowest + step * r. So the verdict on a draw changes at most once as
//! ranks rise, at the draw's threshold.

use super::philox::bound;
use super::simd::vectorized;

const DRAWS: f64 = 4_294_967_296.0;

/// The schedule by which elements of rows of one length are kept.
#[derive(Clone, Debug)]
pub struct KeepSchedule {
    /// The bound of rank 0 and the distance between bounds, in draws: exactly 2^32 times the
    /// probabilities.
    lowest: f64,
    step: f64,
    /// Draws below this one are kept, whatever their rank.
    pub(super) surely: u32,
    /// Draws above this one are dropped, whatever their rank.
    pub(super) last: u32,
    pub(super) row_len: u32,
}

impl KeepSchedule {
    /// Probabilities from `density - epsilon` for the smallest element of a row to `density + epsilon` for
    /// the largest, all within (0, 1).
    ///
    /// # Panics
    /// If rows have a single element, whose rank means nothing, or more than u32 can count.
    pub fn new(density: f64, epsilon: f64, row_len: usize) -> Self {
        assert!(row_len > 1);
        let clamped = |bound: u64| u32::try_from(bound).unwrap_or(u32::MAX);
        Self {
            lowest: (density - epsilon) * DRAWS,
            step: 2.0 * epsilon / (row_len - 1) as f64 * DRAWS,
            surely: clamped(bound(density - epsilon.abs())),
            last: clamped(bound(density + epsilon.abs()).saturating_sub(1)),
            row_len: u32::try_from(row_len).expect("rows are shorter than 2^32"),
        }
    }

    /// Whether large elements are kept more often than small ones, and not less often.
    pub(super) fn rises(&self) -> bool {
        self.step > 0.0
    }

    /// Replaces draws by their thresholds: the first rank that a rising schedule keeps, or a falling one
    /// drops, or the row's length. For draws that some ranks keep and others drop.
    pub(super) fn find_thresholds(&self, draws: &mut [u32]) {
        // Below this step, rounding could put the estimate off by more than the rank that is allowed for.
        const LEAST_STEP: f64 = 1e-12 * DRAWS;
        if self.step.abs() < LEAST_STEP || self.row_len < 4 {
            draws.iter_mut().for_each(|draw| *draw = self.threshold(*draw));
        } else {
            estimate_thresholds(self, draws);
        }
    }

    fn threshold(&self, draw: u32) -> u32 {
        let (mut low, mut high) = (0, self.row_len);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.is_reached(draw, f64::from(middle)) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    #[inline(always)]
    fn keeps(&self, draw: u32, rank: f64) -> bool {
        f64::from(draw) < self.lowest + self.step * rank
    }

    /// Whether a rank is the draw's threshold or lies behind it.
    #[inline(always)]
    fn is_reached(&self, draw: u32, rank: f64) -> bool {
        self.keeps(draw, rank) == self.rises()
    }
}

vectorized! {
    /// Replaces draws by their thresholds, guessed by division and put right by looking.
    fn estimate_thresholds(schedule: &KeepSchedule, draws: &mut [u32]) {
        let (scale, highest) = (1.0 / schedule.step, f64::from(schedule.row_len - 2));
        for draw in draws {
            let estimate = ((f64::from(*draw) - schedule.lowest) * scale).clamp(1.0, highest) as u32;
            // The threshold lies from one below the estimate to two above it.
            let below = estimate - 1;
            let not_yet = |rank: u32| u32::from(!schedule.is_reached(*draw, f64::from(rank)));
            *draw = below + not_yet(below) + not_yet(below + 1) + not_yet(below + 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_change_at_thresholds() {
        for (epsilon, row_len) in [(0.2, 2), (0.2, 3), (-0.2, 64), (0.3, 4096), (1e-9, 100), (-1e-16, 100)] {
            let schedule = KeepSchedule::new(0.5, epsilon, row_len);
            let draws: Vec<u32> = (0..1000).map(|i| i * 4_294_967).collect();
            let mut thresholds = draws.clone();
            schedule.find_thresholds(&mut thresholds);
            for (draw, threshold) in draws.into_iter().zip(thresholds) {
                // What is kept or dropped at any rank has no use for a threshold.
                let is_open = (schedule.surely..=schedule.last).contains(&draw);
                for rank in (0..row_len as u32).filter(|_| is_open) {
                    let is_kept = (rank >= threshold) == schedule.rises();
                    assert_eq!(is_kept, schedule.keeps(draw, f64::from(rank)), "{epsilon} {draw} {rank}");
                }
            }
        }
    }
}
