//! A change of dtype, where a tensor is otherwise copied: `r = x`, rounded to the dtype of arithmetic and then
//! to that of the result, to nearest, ties to even.

use super::contract::{Access, Op, Streaming};
use super::merge::{float_of_one_shape, write_compute};
use crate::manifest::Sink;
use crate::methods::{Cut, Extent, Kernel, Leaf, Operation, Scratch};
use crate::tensor::{Dtype, TensorSpec};

#[derive(Debug)]
pub struct Convert {
    /// What the input is rounded to first; `None` leaves it as stored.
    pub compute: Option<Dtype>,
    pub dtype: Dtype,
}

impl Op for Convert {
    fn name(&self) -> &'static str {
        "convert"
    }

    fn version(&self) -> u32 {
        1
    }

    fn write_fields(&self, sink: &mut dyn Sink) {
        let Self { compute, dtype: _ } = self;
        write_compute(*compute, sink);
    }

    fn output(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, String> {
        float_of_one_shape(inputs, self.dtype)
    }

    fn access(&self) -> Access<'_> {
        Access::Streaming(Streaming { operation: &Unchanged, compute: self.compute })
    }
}

/// Values pass unchanged between the roundings of input and output.
#[derive(Debug)]
struct Unchanged;

impl Operation for Unchanged {
    fn write_manifest(&self, _sink: &mut dyn Sink) {}

    fn cut(&self) -> Cut {
        Cut::Elements
    }

    fn kernel(&self, _extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(Self)
    }
}

impl Kernel for Unchanged {
    fn takes_pieces(&self) -> bool {
        true
    }

    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], _scratch: &mut Scratch) {
        out.copy_from_slice(leaf.inputs[0]);
    }
}
