//! Which elements of a difference are kept.

use crate::kernels::partner::{Drawer, Rows};
use crate::kernels::stream::Stream;
use crate::manifest::{Sink, SinkExt};
use crate::methods::operation::Leaf;

/// A resolved rule of one input.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Sparsifier {
    Everything,
    Nothing,
    /// Ranks 0 to max(1, floor(density * n)) of the tensor by magnitude. TIES: Yadav et al. 2023,
    /// <https://arxiv.org/abs/2306.01708>.
    Largest {
        density: f64,
    },
    /// After floor(gamma * n) outliers, floor(density * n) ranks. Model Breadcrumbs: Davari and
    /// Belilovsky 2023, <https://arxiv.org/abs/2312.06795>.
    LargestButOutliers {
        density: f64,
        gamma: f64,
    },
    /// Each element with probability density. DARE: Yu et al. 2023, <https://arxiv.org/abs/2311.03099>.
    Random {
        density: f64,
        stream: Stream,
    },
    /// Each element with a probability from density - epsilon for the smallest magnitude of its row to
    /// density + epsilon for the largest; of equal magnitudes the lower index counts as larger. A row of one
    /// element is kept with probability density. DELLA: Deep et al. 2024, <https://arxiv.org/abs/2406.11617>.
    Ranked {
        density: f64,
        epsilon: f64,
        stream: Stream,
    },
}

impl Sparsifier {
    /// Writes only what can matter: nothing for a difference that is kept whole.
    pub(super) fn write_manifest(&self, input: &str, sink: &mut dyn Sink) {
        let stream_of = |stream: &Stream, sink: &mut dyn Sink| {
            let Stream { key, high, seed } = stream;
            let text = format!("{:08x}{:08x}{:08x}{:08x}{seed:016x}", key[0], key[1], high[0], high[1]);
            sink.text(&format!("{input}.stream"), &text);
        };
        let name = |field: &str| format!("{input}.{field}");
        match self {
            Self::Everything | Self::Nothing => {}
            Self::Largest { density } => sink.number(&name("density"), *density),
            Self::LargestButOutliers { density, gamma } => {
                sink.number(&name("density"), *density);
                sink.number(&name("gamma"), *gamma);
            }
            Self::Random { density, stream } => {
                sink.number(&name("density"), *density);
                stream_of(stream, sink);
            }
            Self::Ranked { density, epsilon, stream } => {
                sink.number(&name("density"), *density);
                sink.number(&name("epsilon"), *epsilon);
                stream_of(stream, sink);
            }
        }
    }

    /// Whether chance decides what is kept.
    pub(super) fn draws(&self) -> bool {
        matches!(self, Self::Random { .. } | Self::Ranked { .. })
    }

    /// Whether the draws look at the difference, which makes them costly.
    pub(super) fn compares(&self) -> bool {
        matches!(self, Self::Ranked { .. })
    }

    /// Draws which elements of rows are kept. `delta` is their difference, if the draws look at it.
    pub(super) fn draw(&self, rows: Rows, delta: &[f32], drawer: &mut Drawer, drawn: &mut Vec<u8>) {
        match self {
            Self::Random { density, stream } => drawer.evenly(stream, *density, rows, drawn),
            Self::Ranked { density, epsilon, stream } => {
                drawer.by_rank(stream, *density, *epsilon, rows, delta, drawn);
            }
            _ => unreachable!("chance does not decide what is kept"),
        }
    }

    /// The ranks that are kept among `n` elements, for rules that go by rank in the tensor.
    pub(super) fn ranks(&self, n: u64) -> Option<std::ops::Range<u64>> {
        // The product is taken in f64 as mergekit does: 0.29 of 100 are 28.
        let part = |fraction: f64| (fraction * n as f64).floor() as u64;
        match self {
            Self::Largest { density } => Some(0..part(*density).max(1)),
            Self::LargestButOutliers { density, gamma } => {
                let top = part(*gamma);
                let keep = part(*density);
                // What the outliers leave may be less than density asks for; then the outliers move up.
                let bottom = n.saturating_sub(keep + top);
                Some(n.saturating_sub(bottom + keep)..n - bottom)
            }
            _ => None,
        }
    }
}

/// Where a leaf's elements are.
pub(super) fn rows_of<T>(leaf: &Leaf<'_, T>) -> Rows {
    let Leaf { rows: count, row_len: len, start, row_step, col_step, .. } = *leaf;
    Rows { count, len, start, row_step, col_step }
}
