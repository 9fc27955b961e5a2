//! How a tensor is cut: into leaves, the units of arithmetic, and blocks of leaves, the units of reading.
//!
//! The cut follows from the shape and the operation alone, so that sums over leaves are the same with
//! any number of threads and any memory limit.

use std::ops::Range;

use crate::kernels::mask;
use crate::methods::{Cut, Extent};
use crate::tensor::Shape;

/// Elements a leaf has, or the next smaller number of whole rows: with a handful of inputs as f32 it
/// stays in a core's cache.
const LEAF: usize = 1 << 14;

/// Leaves read and written in one go.
const LEAVES_PER_BLOCK: usize = 16;

/// Strided vectors are taken this many at a time, so that a read fetches more than one element.
const STRIDED_VECTORS: usize = 64;

/// The cut of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Geometry {
    /// Leaves are neighbouring runs of elements.
    Contiguous { n_elements: usize, row_len: Option<usize>, leaf: usize },
    /// Vectors of `len` elements, `inner` elements apart, in `outer` groups.
    Strided { outer: usize, len: usize, inner: usize },
}

/// One leaf: what of the tensor it covers, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafSpan {
    pub rows: usize,
    pub row_len: usize,
    pub start: usize,
    pub row_step: usize,
    pub col_step: usize,
}

impl Geometry {
    pub fn new(shape: &Shape, cut: Cut) -> Self {
        let n_elements = shape.elements();
        let dims = &shape.0;
        let at_least = |rows: usize, row_len: usize| {
            let row_len = row_len.max(1);
            let leaf = (LEAF / row_len).max(rows) * row_len;
            Self::Contiguous { n_elements, row_len: Some(row_len), leaf }
        };
        let rows_of = |row_len: usize| at_least(1, row_len);
        let last = dims.last().copied().unwrap_or(1);
        match cut {
            Cut::Elements => Self::Contiguous { n_elements, row_len: None, leaf: LEAF },
            Cut::LastAxis => rows_of(last),
            Cut::Rows { at_least: rows } => at_least(rows, last),
            Cut::FirstAxis => match dims.as_slice() {
                [] => rows_of(1),
                [len] => rows_of(*len),
                [len, inner @ ..] => Self::Strided { outer: 1, len: *len, inner: inner.iter().product() },
            },
            Cut::SecondAxis => match dims.as_slice() {
                [] => rows_of(1),
                [len] | [_, len] => rows_of(*len),
                [outer, len, inner @ ..] => {
                    Self::Strided { outer: *outer, len: *len, inner: inner.iter().product() }
                }
            },
        }
    }

    /// What a kernel is told of the tensor and its leaves.
    pub fn extent(&self) -> Extent {
        let n_elements = match self {
            Self::Contiguous { n_elements, .. } => *n_elements,
            Self::Strided { outer, len, inner } => outer * len * inner,
        };
        Extent { n_elements, rows: if self.n_leaves() == 0 { 0 } else { self.leaf(0).rows } }
    }

    pub fn n_leaves(&self) -> usize {
        match self {
            Self::Contiguous { n_elements, leaf, .. } => n_elements.div_ceil(*leaf),
            Self::Strided { outer, len, inner } if *len > 0 => outer * inner.div_ceil(STRIDED_VECTORS),
            Self::Strided { .. } => 0,
        }
    }

    pub fn leaf(&self, index: usize) -> LeafSpan {
        match *self {
            Self::Contiguous { n_elements, row_len, leaf } => {
                let start = index * leaf;
                let n = leaf.min(n_elements - start);
                let row_len = row_len.unwrap_or(n);
                LeafSpan { rows: n / row_len, row_len, start, row_step: row_len, col_step: 1 }
            }
            Self::Strided { outer: _, len, inner } => {
                let tiles = inner.div_ceil(STRIDED_VECTORS);
                let (group, tile) = (index / tiles, index % tiles);
                let first = tile * STRIDED_VECTORS;
                let rows = STRIDED_VECTORS.min(inner - first);
                LeafSpan {
                    rows,
                    row_len: len,
                    start: group * len * inner + first,
                    row_step: 1,
                    col_step: inner,
                }
            }
        }
    }

    /// Cuts a leaf into pieces of whole rows with at least so many elements each, but for the last. What is
    /// strided stays whole.
    pub fn pieces(&self, leaf: LeafSpan, least: usize) -> impl Iterator<Item = LeafSpan> + use<> {
        let row_len = match self {
            Self::Contiguous { row_len, .. } => *row_len,
            Self::Strided { .. } => Some(leaf.len()),
        };
        let unit = row_len.unwrap_or(1);
        let step = if least < leaf.len() { least.div_ceil(unit) * unit } else { leaf.len().max(1) };
        (0..leaf.len()).step_by(step).map(move |at| {
            let n = step.min(leaf.len() - at);
            if n == leaf.len() {
                return leaf;
            }
            let row_len = row_len.unwrap_or(n);
            LeafSpan { rows: n / row_len, row_len, start: leaf.start + at, row_step: row_len, ..leaf }
        })
    }

    /// Runs of leaves that are read and written together.
    pub fn blocks(&self) -> Vec<Range<usize>> {
        let step = if self.is_contiguous() { LEAVES_PER_BLOCK } else { 1 };
        (0..self.n_leaves()).step_by(step).map(|start| start..(start + step).min(self.n_leaves())).collect()
    }

    pub fn is_contiguous(&self) -> bool {
        matches!(self, Self::Contiguous { .. })
    }

    /// The bytes that a mask of the tensor takes, as packed rows in the order of the leaves.
    pub fn mask_bytes(&self) -> usize {
        match *self {
            Self::Contiguous { n_elements, row_len: None, .. } => mask::n_bytes(1, n_elements),
            Self::Contiguous { n_elements, row_len: Some(row_len), .. } => {
                mask::n_bytes(n_elements / row_len, row_len)
            }
            Self::Strided { outer, len, inner } => mask::n_bytes(outer * inner, len),
        }
    }

    /// Those of them that hold a piece of a leaf.
    pub fn mask_of(&self, piece: LeafSpan) -> Range<usize> {
        let start = match *self {
            // Leaves and their pieces begin at whole bytes.
            Self::Contiguous { row_len: None, .. } => piece.start / mask::PER_BYTE,
            Self::Contiguous { row_len: Some(row_len), .. } => mask::n_bytes(piece.start / row_len, row_len),
            Self::Strided { len, inner, .. } => {
                let (group, first) = (piece.start / (len * inner), piece.start % (len * inner));
                mask::n_bytes(group * inner + first, len)
            }
        };
        start..start + mask::n_bytes(piece.rows, piece.row_len)
    }
}

impl LeafSpan {
    pub fn len(&self) -> usize {
        self.rows * self.row_len
    }

    /// The bytes that hold the leaf, of elements of so many each. Not for strided leaves.
    pub fn stored(&self, size: usize) -> Range<usize> {
        self.start * size..(self.start + self.len()) * size
    }

    /// The runs of neighbouring elements that the leaf covers, in the order of their columns, each
    /// holding one element of every row. Only for strided leaves.
    pub fn columns(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let Self { rows, row_len, start, col_step, .. } = *self;
        (0..row_len).map(move |column| {
            let first = start + column * col_step;
            first..first + rows
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn covers_once(dims: &[usize], cut: Cut) {
        let shape = Shape(dims.to_vec());
        let geometry = Geometry::new(&shape, cut);
        let mut seen = vec![0; shape.elements()];
        for index in geometry.blocks().into_iter().flatten() {
            let leaf = geometry.leaf(index);
            for row in 0..leaf.rows {
                for column in 0..leaf.row_len {
                    seen[leaf.start + row * leaf.row_step + column * leaf.col_step] += 1;
                }
            }
        }
        assert!(seen.iter().all(|count| *count == 1), "{dims:?} {cut:?}");
    }

    #[test]
    fn every_element_is_in_one_leaf() {
        for dims in [
            &[][..],
            &[7],
            &[40_000],
            &[3, 5],
            &[100, 500],
            &[2, 20_000],
            &[3, 4, 150],
            &[2, 5, 3, 70],
            &[0, 4],
            &[300, 200],
        ] {
            for cut in
                [Cut::Elements, Cut::LastAxis, Cut::Rows { at_least: 3 }, Cut::SecondAxis, Cut::FirstAxis]
            {
                covers_once(dims, cut);
            }
        }
    }

    #[test]
    fn pieces_are_whole_rows_that_cover_their_leaf() {
        for (dims, cut, expected) in [
            (
                &[100, 500][..],
                Cut::SecondAxis,
                &[1500, 1500, 1500, 1500, 1500, 1500, 1500, 1500, 1500, 1500, 1000][..],
            ),
            (&[5000], Cut::LastAxis, &[5000]),
            (&[2500], Cut::Elements, &[1024, 1024, 452]),
            (&[2, 3, 70], Cut::SecondAxis, &[192]),
        ] {
            let geometry = Geometry::new(&Shape(dims.to_vec()), cut);
            let leaf = geometry.leaf(0);
            let pieces: Vec<LeafSpan> = geometry.pieces(leaf, 1024).collect();
            assert_eq!(pieces.iter().map(LeafSpan::len).collect::<Vec<_>>(), expected, "{dims:?}");
            assert!(pieces.windows(2).all(|pair| pair[0].start + pair[0].len() == pair[1].start));
            assert!(pieces.iter().all(|piece| cut == Cut::Elements || piece.row_len == leaf.row_len));
        }
    }

    #[test]
    fn masks_of_pieces_follow_one_another_and_fill_the_tensors_mask() {
        for dims in
            [&[][..], &[7], &[40_000], &[3, 5], &[100, 500], &[2, 5, 3, 70], &[4, 9, 1], &[0, 4], &[300, 200]]
        {
            for cut in [Cut::Elements, Cut::LastAxis, Cut::SecondAxis] {
                let geometry = Geometry::new(&Shape(dims.to_vec()), cut);
                let mut end = 0;
                for leaf in geometry.blocks().into_iter().flatten().map(|index| geometry.leaf(index)) {
                    for piece in geometry.pieces(leaf, 256) {
                        let place = geometry.mask_of(piece);
                        assert_eq!(place.start, end, "{dims:?} {cut:?}");
                        assert!(place.len() * mask::PER_BYTE >= piece.len());
                        end = place.end;
                    }
                }
                assert_eq!(end, geometry.mask_bytes(), "{dims:?} {cut:?}");
            }
        }
    }

    #[test]
    fn rows_are_whole() {
        let geometry = Geometry::new(&Shape(vec![100, 500]), Cut::SecondAxis);
        assert_eq!(geometry.extent(), Extent { n_elements: 50_000, rows: 32 });
        assert_eq!(geometry.leaf(3).rows, 4);
        let geometry = Geometry::new(&Shape(vec![20, 9000]), Cut::Rows { at_least: 8 });
        assert_eq!((geometry.leaf(0).rows, geometry.leaf(2).rows), (8, 4));
    }
}
