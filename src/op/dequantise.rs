//! Quantised floats times their scales: one scale a block of neighbouring elements, a row, or the whole tensor.
//!
//! `r = x * s`, in f32, rounded once.

use super::contract::{Access, Beside, Op, Prepare, Tensor};
use crate::kernels::convert;
use crate::kernels::simd::vectorized;
use crate::manifest::{Sink, SinkExt};
use crate::methods::{Cut, Extent, Kernel, Leaf, Operation, Scratch};
use crate::tensor::{Dtype, Shape, TensorSpec};

/// The first input is dequantised, the second has its scales: a number a block, in the order of the blocks.
#[derive(Debug)]
pub struct Dequantise {
    pub blocks: Blocks,
    pub dtype: Dtype,
}

/// How a tensor is cut into blocks of one scale each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Of the tensor.
    pub shape: Shape,
    /// How many elements a block has along each axis; the last along an axis may have fewer.
    pub edges: Vec<usize>,
}

impl Blocks {
    /// How many blocks there are along each axis.
    pub fn grid(&self) -> Vec<usize> {
        self.shape.0.iter().zip(&self.edges).map(|(n, edge)| n.div_ceil((*edge).max(1))).collect()
    }

    /// Elements of a vector along the last axis.
    fn row_len(&self) -> usize {
        self.shape.0.last().copied().unwrap_or(1)
    }

    /// The place of a vector's first scale among all those of a grid, and how many it has.
    fn of_vector(&self, mut number: usize, grid: &[usize]) -> (usize, usize) {
        let Some((last, outer)) = grid.split_last() else { return (0, 1) };
        let (mut place, mut step) = (0, *last);
        for (axis, n_blocks) in outer.iter().enumerate().rev() {
            let n = self.shape.0[axis].max(1);
            place += number % n / self.edges[axis].max(1) * step;
            number /= n;
            step *= n_blocks;
        }
        (place, *last)
    }
}

impl Op for Dequantise {
    fn name(&self) -> &'static str {
        "dequantise"
    }

    fn version(&self) -> u32 {
        1
    }

    fn write_fields(&self, sink: &mut dyn Sink) {
        // The shape shows in the inputs, the dtype in the output.
        let Self { blocks: Blocks { shape: _, edges }, dtype: _ } = self;
        let edges: Vec<String> = edges.iter().map(usize::to_string).collect();
        sink.text("blocks", &edges.join(", "));
    }

    fn output(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let [values, scales] = inputs else { return Err(format!("is made of {} tensors", inputs.len())) };
        if let Some(other) = inputs.iter().find(|input| !input.dtype.is_float()) {
            return Err(format!("computes with {}, which is not a floating-point type", other.dtype));
        }
        if values.shape != self.blocks.shape || self.blocks.edges.len() != values.shape.0.len() {
            return Err(format!("of shape {} is cut as one of {}", values.shape, self.blocks.shape));
        }
        if scales.shape.elements() != self.blocks.grid().iter().product::<usize>() {
            return Err(format!("of shape {} has scales of shape {}", values.shape, scales.shape));
        }
        Ok(TensorSpec { dtype: self.dtype, shape: values.shape.clone() })
    }

    fn access(&self) -> Access<'_> {
        let len = self.blocks.row_len();
        let shape = Shape(vec![self.blocks.shape.elements() / len.max(1), len]);
        Access::Beside(Beside { prepare: &self.blocks, shape })
    }
}

impl Prepare for Blocks {
    fn prepare(&self, beside: &[Tensor<'_>]) -> Box<dyn Operation> {
        let Tensor { spec, bytes } = beside[0];
        let mut scales = vec![0.0; spec.shape.elements()];
        convert::decode(spec.dtype, bytes, &mut scales);
        Box::new(Scaled { blocks: self.clone(), grid: self.grid(), scales })
    }
}

/// Blocks with their scales at hand.
#[derive(Debug)]
struct Scaled {
    blocks: Blocks,
    grid: Vec<usize>,
    scales: Vec<f32>,
}

impl Operation for Scaled {
    // What it is made from writes its fields.
    fn write_manifest(&self, _sink: &mut dyn Sink) {}

    fn cut(&self) -> Cut {
        Cut::LastAxis
    }

    fn kernel(&self, _extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(InRows(self))
    }
}

struct InRows<'a>(&'a Scaled);

impl Kernel for InRows<'_> {
    fn takes_pieces(&self) -> bool {
        true
    }

    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], _scratch: &mut Scratch) {
        let Scaled { blocks, grid, scales } = self.0;
        let len = leaf.row_len.max(1);
        let first = leaf.start as usize / len;
        let edge = blocks.edges.last().copied().unwrap_or(1);
        for (row, (values, out)) in leaf.inputs[0].chunks(len).zip(out.chunks_mut(len)).enumerate() {
            let (place, count) = blocks.of_vector(first + row, grid);
            multiply(values, &scales[place..place + count], edge, out);
        }
    }
}

vectorized! {
    /// Multiplies a vector by its scales, each of which goes for so many neighbours.
    fn multiply(values: &[f32], scales: &[f32], edge: usize, out: &mut [f32]) {
        for ((values, out), scale) in values.chunks(edge).zip(out.chunks_mut(edge)).zip(scales) {
            for (value, out) in values.iter().zip(out) {
                *out = *value * *scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::at_every_level;

    fn spec(dtype: Dtype, dims: &[usize]) -> TensorSpec {
        TensorSpec { dtype, shape: Shape(dims.to_vec()) }
    }

    fn op(dims: &[usize], edges: &[usize]) -> Dequantise {
        let blocks = Blocks { shape: Shape(dims.to_vec()), edges: edges.to_vec() };
        Dequantise { blocks, dtype: Dtype::Bf16 }
    }

    /// What ones become, where every scale is the number of its block, counted from one.
    fn scales_of(dims: &[usize], edges: &[usize]) -> Vec<f32> {
        let op = op(dims, edges);
        let grid: usize = op.blocks.grid().iter().product();
        let scales: Vec<u8> = (0..grid).flat_map(|i| ((i + 1) as f32).to_le_bytes()).collect();
        let spec = spec(Dtype::F32, &[grid]);
        let operation = op.blocks.prepare(&[Tensor { spec: &spec, bytes: &scales }]);
        let len = op.blocks.row_len();
        let values = vec![1.0; op.blocks.shape.elements()];
        let mut out = vec![0.0; values.len()];
        let leaf = Leaf {
            index: 0,
            inputs: &[&values],
            masks: &[],
            rows: values.len() / len,
            row_len: len,
            start: 0,
            row_step: len as u64,
            col_step: 1,
        };
        let extent = Extent { n_elements: values.len(), rows: 1 };
        operation.kernel(extent).emit(&leaf, &mut out, &mut Scratch::default());
        out
    }

    #[test]
    fn every_element_is_multiplied_by_the_scale_of_its_block() {
        at_every_level(|_| {
            // Ragged at both ends.
            assert_eq!(
                scales_of(&[3, 5], &[2, 2]),
                [1., 1., 2., 2., 3., 1., 1., 2., 2., 3., 4., 4., 5., 5., 6.]
            );
            assert_eq!(scales_of(&[2, 3], &[1, 3]), [1., 1., 1., 2., 2., 2.]);
            assert_eq!(scales_of(&[2, 3], &[2, 3]), [1.; 6]);
            assert_eq!(scales_of(&[2, 2, 2], &[1, 2, 1]), [1., 2., 1., 2., 3., 4., 3., 4.]);
            assert_eq!(scales_of(&[2, 2, 2], &[1, 1, 2]), [1., 1., 2., 2., 3., 3., 4., 4.]);
            assert_eq!(scales_of(&[3], &[3]), [1.; 3]);
            assert_eq!(scales_of(&[], &[]), [1.]);
        });
    }

    #[test]
    fn scales_must_be_those_of_the_blocks() {
        let values = spec(Dtype::F8_E4M3, &[3, 5]);
        let found = op(&[3, 5], &[2, 2]).output(&[&values, &spec(Dtype::F32, &[2, 3])]);
        assert_eq!(found, Ok(spec(Dtype::Bf16, &[3, 5])));
        assert!(op(&[3, 5], &[2, 2]).output(&[&values, &spec(Dtype::F32, &[2, 2])]).is_err());
        assert!(op(&[5, 3], &[2, 2]).output(&[&values, &spec(Dtype::F32, &[2, 3])]).is_err());
        assert!(op(&[3, 5], &[2, 2]).output(&[&values, &spec(Dtype::U8, &[2, 3])]).is_err());
    }
}
