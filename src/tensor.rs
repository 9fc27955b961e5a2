//! Dtypes, shapes and tensor specs: what a tensor is, without its bytes or its name.

use std::fmt;

/// An element type as safetensors stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(non_camel_case_types)]
pub enum Dtype {
    Bool,
    U8,
    I8,
    F8_E5M2,
    F8_E4M3,
    I16,
    U16,
    F16,
    Bf16,
    I32,
    U32,
    F32,
    F64,
    I64,
    U64,
    C64,
}

use Dtype::*;

/// Every dtype with its name in safetensors headers and its size in bytes.
const DTYPES: [(Dtype, &str, usize); 16] = [
    (Bool, "BOOL", 1),
    (U8, "U8", 1),
    (I8, "I8", 1),
    (F8_E5M2, "F8_E5M2", 1),
    (F8_E4M3, "F8_E4M3", 1),
    (I16, "I16", 2),
    (U16, "U16", 2),
    (F16, "F16", 2),
    (Bf16, "BF16", 2),
    (I32, "I32", 4),
    (U32, "U32", 4),
    (F32, "F32", 4),
    (F64, "F64", 8),
    (I64, "I64", 8),
    (U64, "U64", 8),
    (C64, "C64", 8),
];

/// The dtypes that a recipe may name, by their name there.
const RECIPE_NAMES: [(&str, Dtype); 5] =
    [("bfloat16", Bf16), ("float16", F16), ("float32", F32), ("float64", F64), ("int64", I64)];

impl Dtype {
    /// The name in a safetensors header, such as `BF16`.
    pub fn name(self) -> &'static str {
        DTYPES.iter().find(|row| row.0 == self).expect("every dtype has a row").1
    }

    /// Looks a dtype up by its name in a safetensors header.
    pub fn from_name(name: &str) -> Option<Self> {
        DTYPES.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Bytes an element takes.
    pub fn size(self) -> usize {
        DTYPES.iter().find(|row| row.0 == self).expect("every dtype has a row").2
    }

    /// Looks a dtype up by its name in a recipe (`bfloat16`, with or without `torch.`).
    pub fn from_recipe_name(name: &str) -> Option<Self> {
        let name = name.strip_prefix("torch.").unwrap_or(name);
        RECIPE_NAMES.iter().find(|row| row.0 == name).map(|row| row.1)
    }

    /// The name in recipes and config.json, for the dtypes that have one.
    pub fn recipe_name(self) -> Option<&'static str> {
        RECIPE_NAMES.iter().find(|row| row.1 == self).map(|row| row.0)
    }

    /// All names that a recipe may use, for error messages.
    pub fn recipe_names() -> impl Iterator<Item = &'static str> {
        RECIPE_NAMES.iter().map(|row| row.0)
    }

    /// Whether merges can compute with it: f64, f32, f16, bf16 and, as inputs, eight-bit floats.
    pub fn is_float(self) -> bool {
        matches!(self, F64 | F32 | F16 | Bf16) || self.is_eight_bits()
    }

    /// Whether it is a float of eight bits: read, and never written but as a copy.
    pub fn is_eight_bits(self) -> bool {
        matches!(self, F8_E4M3 | F8_E5M2)
    }

    /// Whether every value of `self` is exactly representable in `other`.
    pub fn fits_in(self, other: Self) -> bool {
        self == other
            || matches!((self, other), (F16 | Bf16, F32 | F64) | (F32, F64))
            || self.is_eight_bits() && matches!(other, F16 | Bf16 | F32 | F64)
    }

    /// The smallest float type that holds both, as torch promotes them.
    pub fn promote(self, other: Self) -> Self {
        if self.fits_in(other) {
            other
        } else if other.fits_in(self) {
            self
        } else {
            F32
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The dimensions of a tensor, outermost first; empty for a scalar.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape(pub Vec<usize>);

impl Shape {
    /// Number of elements. The product was checked for overflow when the header was read.
    pub fn elements(&self) -> usize {
        self.0.iter().product()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, dim) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{dim}")?;
        }
        f.write_str("]")
    }
}

/// Dtype and shape: everything about a tensor's bytes but the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorSpec {
    pub dtype: Dtype,
    pub shape: Shape,
}

impl TensorSpec {
    /// Bytes that the tensor takes.
    pub fn n_bytes(&self) -> usize {
        self.shape.elements() * self.dtype.size()
    }
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.dtype, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promotion_follows_torch() {
        assert_eq!(Bf16.promote(F16), F32);
        assert_eq!(Bf16.promote(Bf16), Bf16);
        assert_eq!(F32.promote(F16), F32);
        assert_eq!(F64.promote(Bf16), F64);
        assert_eq!(F8_E4M3.promote(Bf16), Bf16);
        assert_eq!(F8_E4M3.promote(F8_E5M2), F32);
    }

    #[test]
    fn names_round_trip() {
        for (dtype, name, _) in DTYPES {
            assert_eq!(Dtype::from_name(name), Some(dtype));
        }
        assert_eq!(Dtype::from_recipe_name("torch.bfloat16"), Some(Bf16));
        assert_eq!(Dtype::from_recipe_name("bf16"), None);
    }
}
