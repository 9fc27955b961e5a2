//! A number added to every element: norms that one format stores as `1 + w` and another as `w`.
//!
//! `r = x + c`, in f32, in the dtype of the input.

use super::contract::{Access, Op, Tensor, Whole, not_finite};
use crate::kernels::convert;
use crate::manifest::{Sink, SinkExt};
use crate::tensor::TensorSpec;

#[derive(Debug)]
pub struct Offset {
    pub by: f32,
}

impl Op for Offset {
    fn name(&self) -> &'static str {
        "offset"
    }

    fn version(&self) -> u32 {
        1
    }

    fn write_fields(&self, sink: &mut dyn Sink) {
        let Self { by } = self;
        sink.number("by", f64::from(*by));
    }

    fn output(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let [input] = inputs else { return Err(format!("is made of {} tensors", inputs.len())) };
        if !input.dtype.is_float() || input.dtype.is_eight_bits() {
            return Err(format!("computes in {}", input.dtype));
        }
        Ok((*input).clone())
    }

    fn access(&self) -> Access<'_> {
        Access::Whole(self)
    }
}

impl Whole for Offset {
    fn run(&self, inputs: &[Tensor<'_>], out: &mut [u8]) -> Result<(), String> {
        let [Tensor { spec, bytes }] = inputs else {
            return Err("it is one tensor that is offset".to_owned());
        };
        let mut values = vec![0.0; spec.shape.elements()];
        convert::decode(spec.dtype, bytes, &mut values);
        for value in &mut values {
            *value += self.by;
        }
        if convert::encode(spec.dtype, &values, out) { Ok(()) } else { Err(not_finite(spec.dtype)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Dtype, Shape};

    #[test]
    fn every_element_moves() {
        let spec = |dtype| TensorSpec { dtype, shape: Shape(vec![2]) };
        let op = Offset { by: -1.0 };
        let bytes: Vec<u8> = [1.5f32, 0.75].iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut out = vec![0; op.output(&[&spec(Dtype::F32)]).unwrap().n_bytes()];
        op.run(&[Tensor { spec: &spec(Dtype::F32), bytes: &bytes }], &mut out).unwrap();
        assert_eq!(out, [0.5f32, -0.25].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
        let huge = [f32::MAX, f32::NAN].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        assert!(op.run(&[Tensor { spec: &spec(Dtype::F32), bytes: &huge }], &mut out).is_err());
        assert!(op.output(&[&spec(Dtype::I32)]).is_err() && op.output(&[]).is_err());
    }
}
