//! `passthrough`: one input, unchanged or scaled.

use super::arguments::{ArgumentError, Arguments};
use super::interval::Interval;
use super::method::{Method, Simplified};
use super::operation::{Cut, Extent, Kernel, Leaf, Operation};
use super::scratch::Scratch;
use super::spec::{BaseRule, Count, Default, Kind, MethodSpec, MissingRule, ParamSpec, Scope, Value};
use crate::manifest::{Sink, SinkExt};

#[derive(Debug)]
pub struct Passthrough;

static SPEC: MethodSpec = MethodSpec {
    name: "passthrough",
    version: 1,
    summary: "Passes on the tensors of one model, to stack layers of several.",
    formula: "r = x, or scale * x",
    reference: "mergekit, https://github.com/arcee-ai/mergekit",
    base: BaseRule::Ordinary,
    inputs: Count { min: 1, max: Some(1) },
    missing: MissingRule::MergeRest,
    draws: false,
    params: &[ParamSpec {
        name: "scale",
        scope: Scope::EachInput,
        kind: Kind::Number(Interval::ALL),
        default: Default::Absent,
        example: Value::Number(1.5),
        inert: false,
        doc: "Factor for the tensor; without it, the tensor's bytes are kept.",
    }],
};

impl Method for Passthrough {
    fn spec(&'static self) -> &'static MethodSpec {
        &SPEC
    }

    fn simplify(&self, arguments: &Arguments) -> Result<Simplified, ArgumentError> {
        match arguments.inputs[0].values.optional_number("scale") {
            None | Some(1.0) => Ok(Simplified::Input(0)),
            Some(scale) => Ok(Simplified::Operation { operation: Box::new(Scale(scale)), inputs: vec![0] }),
        }
    }
}

#[derive(Debug)]
struct Scale(f64);

impl Operation for Scale {
    fn write_manifest(&self, sink: &mut dyn Sink) {
        let Self(scale) = self;
        sink.number("inputs[0].scale", *scale);
    }

    fn cut(&self) -> Cut {
        Cut::Elements
    }

    fn kernel(&self, _extent: Extent) -> Box<dyn Kernel + '_> {
        Box::new(Self(self.0))
    }
}

impl Kernel for Scale {
    fn takes_pieces(&self) -> bool {
        true
    }

    fn emit(&self, leaf: &Leaf<'_>, out: &mut [f32], _scratch: &mut Scratch) {
        let scale = self.0 as f32;
        for (r, x) in out.iter_mut().zip(leaf.inputs[0]) {
            *r = x * scale;
        }
    }
}
