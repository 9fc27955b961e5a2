//! A change of dtype, where a tensor is otherwise copied. No recipe names it.

use super::operation::{Cut, Kernel, Leaf, Operation};
use super::scratch::Scratch;
use super::spec::{BaseRule, Count, MethodSpec, MissingRule};
use crate::manifest::Sink;

pub static SPEC: MethodSpec = MethodSpec {
    name: "convert",
    version: 1,
    summary: "Rounds a tensor to another dtype.",
    formula: "r = x, rounded to dtype and then to out_dtype",
    reference: "IEEE 754 rounding to nearest, ties to even",
    base: BaseRule::Ordinary,
    inputs: Count { min: 1, max: Some(1) },
    missing: MissingRule::MergeRest,
    draws: false,
    params: &[],
};

/// The operation: values pass unchanged between the roundings of input and output.
pub fn operation() -> Box<dyn Operation> {
    Box::new(Convert)
}

#[derive(Debug)]
struct Convert;

impl Operation for Convert {
    fn write_manifest(&self, _sink: &mut dyn Sink) {}

    fn cut(&self) -> Cut {
        Cut::Elements
    }

    fn kernel(&self, _n_elements: usize) -> Box<dyn Kernel + '_> {
        Box::new(Self)
    }
}

impl Kernel for Convert {
    fn takes_pieces(&self) -> bool {
        true
    }

    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], _scratch: &mut Scratch) {
        out.copy_from_slice(leaf.inputs[0]);
    }
}
