//! A tensor whose elements lie in another order than its own, or apart: a transposed matrix, a row seen many times.

use super::contract::{Access, Op, Tensor, Whole};
use crate::manifest::{Sink, SinkExt};
use crate::tensor::{Shape, TensorSpec};

/// Element `(i, j, ..)` of the result is the input's element `i * strides[0] + j * strides[1] + ..`.
#[derive(Debug)]
pub struct Strided {
    /// One an axis, in elements.
    pub strides: Vec<usize>,
    /// Of the result.
    pub shape: Shape,
}

impl Strided {
    /// How many elements the input has at least; `None` if that is more than can be counted.
    pub fn reach(shape: &Shape, strides: &[usize]) -> Option<usize> {
        if shape.0.contains(&0) {
            return Some(0);
        }
        let steps = shape.0.iter().zip(strides);
        steps
            .map(|(n, stride)| (n - 1).checked_mul(*stride))
            .try_fold(1, |reach: usize, step| reach.checked_add(step?))
    }

    /// Whether elements lie in the order of the result, without gaps.
    pub fn is_plain(shape: &Shape, strides: &[usize]) -> bool {
        let mut expected = 1;
        shape.0.iter().zip(strides).rev().all(|(n, stride)| {
            // Along an axis of length 1 there is no step.
            let fits = *n == 1 || *stride == expected;
            expected *= n;
            fits
        })
    }
}

impl Op for Strided {
    fn name(&self) -> &'static str {
        "strided"
    }

    fn version(&self) -> u32 {
        1
    }

    fn write_fields(&self, sink: &mut dyn Sink) {
        // The shape shows in the output's.
        let Self { strides, shape: _ } = self;
        let strides: Vec<String> = strides.iter().map(usize::to_string).collect();
        sink.text("strides", &strides.join(", "));
    }

    fn output(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let [input] = inputs else { return Err(format!("is made of {} tensors", inputs.len())) };
        let reach = Self::reach(&self.shape, &self.strides);
        if self.strides.len() != self.shape.0.len()
            || reach.is_none_or(|reach| reach > input.shape.elements())
        {
            return Err(format!("of shape {} reaches beyond what is stored", self.shape));
        }
        Ok(TensorSpec { dtype: input.dtype, shape: self.shape.clone() })
    }

    fn access(&self) -> Access<'_> {
        Access::Whole(self)
    }
}

impl Whole for Strided {
    fn run(&self, inputs: &[Tensor<'_>], out: &mut [u8]) -> Result<(), String> {
        let [Tensor { spec, bytes }] = inputs else {
            return Err("one tensor is seen in another order".to_owned());
        };
        let size = spec.dtype.size();
        let Some((row, outer)) = self.shape.0.split_last() else {
            out.copy_from_slice(&bytes[..size]);
            return Ok(());
        };
        let step = self.strides[outer.len()];
        let mut index = vec![0; outer.len()];
        for out in out.chunks_exact_mut((row * size).max(1)) {
            let first: usize = index.iter().zip(&self.strides).map(|(i, stride)| i * stride).sum();
            for (i, element) in out.chunks_exact_mut(size).enumerate() {
                let at = (first + i * step) * size;
                element.copy_from_slice(&bytes[at..at + size]);
            }
            // The next row: the last axis that is not at its end moves on.
            for (i, n) in index.iter_mut().zip(outer).rev() {
                *i += 1;
                if *i < *n {
                    break;
                }
                *i = 0;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dtype;

    fn seen(strides: &[usize], dims: &[usize], n: u8) -> Result<Vec<u8>, String> {
        let op = Strided { strides: strides.to_vec(), shape: Shape(dims.to_vec()) };
        let spec = TensorSpec { dtype: Dtype::U8, shape: Shape(vec![n.into()]) };
        let bytes: Vec<u8> = (0..n).collect();
        let mut out = vec![0; op.output(&[&spec])?.n_bytes()];
        op.run(&[Tensor { spec: &spec, bytes: &bytes }], &mut out)?;
        Ok(out)
    }

    #[test]
    fn elements_are_taken_by_their_strides() {
        assert_eq!(seen(&[1, 3], &[3, 2], 6).unwrap(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(seen(&[0, 2], &[2, 2], 3).unwrap(), [0, 2, 0, 2]);
        assert_eq!(seen(&[1, 4, 2], &[2, 2, 2], 8).unwrap(), [0, 2, 4, 6, 1, 3, 5, 7]);
        assert_eq!(seen(&[], &[], 1).unwrap(), [0]);
        assert!(seen(&[5, 1], &[0, 5], 0).unwrap().is_empty());
        assert!(seen(&[5, 1], &[5, 0], 0).unwrap().is_empty());
    }

    #[test]
    fn nothing_beyond_the_input_is_seen() {
        assert!(seen(&[1, 3], &[3, 2], 5).unwrap_err().contains("reaches beyond"));
        assert!(seen(&[usize::MAX, 1], &[3, 2], 5).is_err());
        assert!(seen(&[1], &[3, 2], 5).is_err());
    }

    #[test]
    fn rows_one_behind_the_other_are_plain() {
        let is_plain = |dims: &[usize], strides: &[usize]| Strided::is_plain(&Shape(dims.to_vec()), strides);
        assert!(is_plain(&[2, 3], &[3, 1]) && is_plain(&[], &[]) && is_plain(&[1, 3], &[99, 1]));
        assert!(!is_plain(&[2, 3], &[1, 2]) && !is_plain(&[2, 3], &[4, 1]) && !is_plain(&[2], &[0]));
    }
}
