//! The mean of tensors of one shape, element by element: rows of a token that several models have.
//!
//! `r = (x_1 + ... + x_n) / n`, in f64, rounded once.

use super::contract::{Access, Op, Streaming};
use super::merge::float_of_one_shape;
use crate::manifest::Sink;
use crate::methods::{Cut, Extent, Kernel, Leaf, Operation, Scratch};
use crate::tensor::{Dtype, TensorSpec};

#[derive(Debug)]
pub struct Mean {
    pub dtype: Dtype,
}

impl Op for Mean {
    fn name(&self) -> &'static str {
        "mean"
    }

    fn version(&self) -> u32 {
        1
    }

    fn write_fields(&self, _sink: &mut dyn Sink) {
        // The dtype shows in the output.
        let Self { dtype: _ } = self;
    }

    fn output(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, String> {
        float_of_one_shape(inputs, self.dtype)
    }

    fn access(&self) -> Access<'_> {
        Access::Streaming(Streaming { operation: &Average, compute: None })
    }
}

#[derive(Debug)]
struct Average;

impl Operation for Average {
    fn write_manifest(&self, _sink: &mut dyn Sink) {}

    fn cut(&self) -> Cut {
        Cut::Elements
    }

    fn kernel(&self, _extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(Self)
    }
}

impl Kernel for Average {
    fn takes_pieces(&self) -> bool {
        true
    }

    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], _scratch: &mut Scratch) {
        let n = leaf.inputs.len() as f64;
        for (i, out) in out.iter_mut().enumerate() {
            let sum: f64 = leaf.inputs.iter().map(|input| f64::from(input[i])).sum();
            *out = (sum / n) as f32;
        }
    }
}
