//! Numbers in blocks of Q8_0, as ggml stores them: a scale in half precision, and eight bits for each number.
//!
//! `r = d * q`, in f32, which holds every such product exactly.

use half::f16;

use super::contract::{Access, Op, Tensor, Whole};
use crate::manifest::Sink;
use crate::tensor::{Dtype, Shape, TensorSpec};

/// The numbers of blocks, which are stored as bytes.
#[derive(Debug)]
pub struct FromQ8 {
    /// Of the result.
    pub shape: Shape,
}

impl FromQ8 {
    /// How many numbers a block holds, neighbours in a row.
    pub const BLOCK: usize = 32;
    pub const BLOCK_BYTES: usize = 34;
}

impl Op for FromQ8 {
    fn name(&self) -> &'static str {
        "from Q8_0"
    }

    fn version(&self) -> u32 {
        1
    }

    fn write_fields(&self, _sink: &mut dyn Sink) {
        // The shape shows in the output's.
        let Self { shape: _ } = self;
    }

    fn output(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let [blocks] = inputs else { return Err(format!("is made of {} tensors", inputs.len())) };
        let n_blocks = self.shape.elements() / Self::BLOCK;
        if blocks.dtype != Dtype::U8
            || blocks.n_bytes() != n_blocks * Self::BLOCK_BYTES
            || !self.shape.elements().is_multiple_of(Self::BLOCK)
        {
            return Err(format!("makes {} of {blocks}", self.shape));
        }
        Ok(TensorSpec { dtype: Dtype::F32, shape: self.shape.clone() })
    }

    fn access(&self) -> Access<'_> {
        Access::Whole(self)
    }
}

impl Whole for FromQ8 {
    fn run(&self, inputs: &[Tensor<'_>], out: &mut [u8]) -> Result<(), String> {
        let [Tensor { bytes, .. }] = inputs else { return Err("blocks are those of one tensor".to_owned()) };
        let numbers = out.as_chunks_mut::<4>().0.chunks_mut(Self::BLOCK);
        for (block, numbers) in bytes.chunks_exact(Self::BLOCK_BYTES).zip(numbers) {
            let ([low, high], quants) = ([block[0], block[1]], &block[2..]);
            let scale = f16::from_le_bytes([low, high]).to_f32();
            for (number, quant) in numbers.iter_mut().zip(quants) {
                *number = (scale * f32::from(quant.cast_signed())).to_le_bytes();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_their_quants_times_the_scale_of_the_block() {
        let op = FromQ8 { shape: Shape(vec![2, 32]) };
        let mut bytes = Vec::new();
        for scale in [0.5, -0.25] {
            bytes.extend(f16::from_f32(scale).to_le_bytes());
            bytes.extend((0..32u8).map(|i| i.wrapping_mul(8).wrapping_sub(128)));
        }
        let spec = TensorSpec { dtype: Dtype::U8, shape: Shape(vec![2, 34]) };
        let mut out = vec![0; op.output(&[&spec]).unwrap().n_bytes()];
        op.run(&[Tensor { spec: &spec, bytes: &bytes }], &mut out).unwrap();
        let found: Vec<f32> = out.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let quant = |i: usize| (i % 32) as f32 * 8.0 - 128.0;
        let expected: Vec<f32> = (0..64).map(|i| quant(i) * if i < 32 { 0.5 } else { -0.25 }).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn blocks_must_be_whole_and_as_many_as_are_needed() {
        let spec = |dtype, dims: &[usize]| TensorSpec { dtype, shape: Shape(dims.to_vec()) };
        let op = |dims: &[usize]| FromQ8 { shape: Shape(dims.to_vec()) };
        assert!(op(&[2, 32]).output(&[&spec(Dtype::U8, &[2, 34])]).is_ok());
        assert!(op(&[2, 32]).output(&[&spec(Dtype::U8, &[2, 33])]).is_err());
        assert!(op(&[2, 33]).output(&[&spec(Dtype::U8, &[2, 34])]).is_err());
        assert!(op(&[2, 32]).output(&[&spec(Dtype::I8, &[2, 34])]).is_err());
    }
}
