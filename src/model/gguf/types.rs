//! How GGUF files store tensors, and which of that is read.

use crate::op::FromQ8;
use crate::tensor::{Dtype, Shape, TensorSpec};

/// Names of ggml's types, for messages.
const NAMES: [(u32, &str); 34] = [
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (6, "Q5_0"),
    (7, "Q5_1"),
    (8, "Q8_0"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (12, "Q4_K"),
    (13, "Q5_K"),
    (14, "Q6_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (30, "BF16"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

/// What a tensor is stored as.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    Plain(TensorSpec),
    /// Q8_0, as bytes.
    Blocks(TensorSpec),
}

/// What a tensor of a type and shape is stored as.
///
/// # Errors
/// Names the type that is not read, or the shape that it does not have.
pub fn kind(number: u32, shape: &Shape) -> Result<Kind, String> {
    let plain = |dtype| Ok(Kind::Plain(TensorSpec { dtype, shape: shape.clone() }));
    match number {
        0 => plain(Dtype::F32),
        1 => plain(Dtype::F16),
        30 => plain(Dtype::Bf16),
        8 => {
            let whole = |n: &&usize| (**n).is_multiple_of(FromQ8::BLOCK);
            let Some((row, outer)) = shape.0.split_last().filter(|(row, _)| whole(row)) else {
                return Err(format!("as Q8_0 with rows whose length is not a multiple of {}", FromQ8::BLOCK));
            };
            let mut dims = outer.to_vec();
            dims.push(row / FromQ8::BLOCK * FromQ8::BLOCK_BYTES);
            Ok(Kind::Blocks(TensorSpec { dtype: Dtype::U8, shape: Shape(dims) }))
        }
        other => {
            let name = NAMES.iter().find(|(number, _)| *number == other);
            let name = name.map_or_else(|| format!("type {other}"), |(_, name)| (*name).to_owned());
            Err(format!(
                "as {name}, which lamarck does not support; use the file in BF16, F16 or Q8_0, or the model in safetensors"
            ))
        }
    }
}
