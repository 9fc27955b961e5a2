//! A method's arithmetic on the tensors of several models.

use super::contract::{Access, Op, Streaming};
use crate::manifest::{Sink, SinkExt};
use crate::methods::{MethodSpec, Operation};
use crate::tensor::{Dtype, TensorSpec};

#[derive(Debug)]
pub struct Merge {
    pub method: &'static MethodSpec,
    pub operation: Box<dyn Operation>,
    /// What inputs are rounded to before the arithmetic; `None` leaves them as stored.
    pub compute: Option<Dtype>,
    /// What the result is rounded to.
    pub dtype: Dtype,
}

impl Op for Merge {
    fn name(&self) -> &'static str {
        self.method.name
    }

    fn version(&self) -> u32 {
        self.method.version
    }

    fn write_fields(&self, sink: &mut dyn Sink) {
        // The method is in the name, the dtype in the output.
        let Self { method: _, operation, compute, dtype: _ } = self;
        operation.write_manifest(sink);
        write_compute(*compute, sink);
    }

    fn output(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, String> {
        float_of_one_shape(inputs, self.dtype)
    }

    fn access(&self) -> Access<'_> {
        Access::Streaming(Streaming { operation: &*self.operation, compute: self.compute })
    }
}

/// Writes the dtype of the arithmetic, by the name that all operations give it.
pub(super) fn write_compute(compute: Option<Dtype>, sink: &mut dyn Sink) {
    sink.text("compute", compute.map_or("as stored", Dtype::name));
}

/// The result of element-wise arithmetic on floating-point inputs.
pub(super) fn float_of_one_shape(inputs: &[&TensorSpec], dtype: Dtype) -> Result<TensorSpec, String> {
    let [first, rest @ ..] = inputs else { return Err("has no inputs".to_owned()) };
    if let Some(other) = rest.iter().find(|other| other.shape != first.shape) {
        return Err(format!("has inputs of shapes {} and {}", first.shape, other.shape));
    }
    if let Some(other) = inputs.iter().find(|input| !input.dtype.is_float()) {
        return Err(format!("computes with {}, which is not a floating-point type", other.dtype));
    }
    Ok(TensorSpec { dtype, shape: first.shape.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Shape;

    #[test]
    fn inputs_must_be_floats_of_one_shape() {
        let spec = |dtype, dims: &[usize]| TensorSpec { dtype, shape: Shape(dims.to_vec()) };
        let (a, b) = (spec(Dtype::Bf16, &[2, 3]), spec(Dtype::F32, &[2, 3]));
        assert_eq!(float_of_one_shape(&[&a, &b], Dtype::F16), Ok(spec(Dtype::F16, &[2, 3])));
        assert!(float_of_one_shape(&[&a, &spec(Dtype::Bf16, &[3, 2])], Dtype::F16).is_err());
        assert!(float_of_one_shape(&[&a, &spec(Dtype::I64, &[2, 3])], Dtype::F16).is_err());
        assert!(float_of_one_shape(&[], Dtype::F16).is_err());
    }
}
