//! A tensor of zeros: the row of a token that no model knows.

use super::contract::{Access, Op, Streaming};
use crate::manifest::Sink;
use crate::methods::{Cut, Extent, Kernel, Leaf, Operation, Scratch};
use crate::tensor::TensorSpec;

#[derive(Debug)]
pub struct Zeros {
    pub spec: TensorSpec,
}

impl Op for Zeros {
    fn name(&self) -> &'static str {
        "zeros"
    }

    fn version(&self) -> u32 {
        1
    }

    fn write_fields(&self, _sink: &mut dyn Sink) {
        // Dtype and shape are those of the output.
        let Self { spec: _ } = self;
    }

    fn output(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, String> {
        if inputs.is_empty() { Ok(self.spec.clone()) } else { Err("is made of nothing".to_owned()) }
    }

    fn access(&self) -> Access<'_> {
        Access::Streaming(Streaming { operation: &Nothing, compute: None })
    }
}

#[derive(Debug)]
struct Nothing;

impl Operation for Nothing {
    fn write_manifest(&self, _sink: &mut dyn Sink) {}

    fn cut(&self) -> Cut {
        Cut::Elements
    }

    fn kernel(&self, _extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(Self)
    }
}

impl Kernel for Nothing {
    fn takes_pieces(&self) -> bool {
        true
    }

    fn emit(&self, _leaf: &Leaf<'_>, out: &mut [f32], _scratch: &mut Scratch) {
        out.fill(0.0);
    }
}
