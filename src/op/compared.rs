//! Tensors that are compared: what they must have in common, and the table of numbers that comes of it.

use crate::tensor::{Dtype, Shape, TensorSpec};

/// A table of so many numbers about tensors, which must be floating-point and of one shape.
///
/// # Errors
/// Says what about the tensors cannot be compared.
pub(super) fn table(inputs: &[&TensorSpec], columns: usize) -> Result<TensorSpec, String> {
    if let Some(other) = inputs.iter().find(|input| input.shape != inputs[0].shape) {
        return Err(format!("of shape {} is compared with {}", inputs[0].shape, other.shape));
    }
    if let Some(other) = inputs.iter().find(|input| !input.dtype.is_float()) {
        return Err(format!("is compared with {}, which is not a floating-point type", other.dtype));
    }
    Ok(TensorSpec { dtype: Dtype::F64, shape: Shape(vec![columns]) })
}

/// A part of a whole; 0 of nothing.
pub(super) fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}
