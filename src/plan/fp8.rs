//! Eight-bit floats without scales: read where a recipe asks for a wider dtype, copied where it asks for none.

use crate::recipe::{Finding, Span};
use crate::tensor::TensorSpec;

/// Why a result cannot be written as eight-bit floats.
pub fn unwritable(spec: &TensorSpec, what: &str, span: Span) -> Finding {
    let message =
        format!("{what} would have to be rounded to {}, which lamarck does not support", spec.dtype);
    Finding::error("fp8-result", span, message).help("add `dtype: bfloat16`, or another dtype")
}
