//! Tensors laid one behind the other, seen in another shape: stacked experts, fused projections.

use super::contract::{Access, Op, RowRun};
use crate::manifest::Sink;
use crate::tensor::{Shape, TensorSpec};

#[derive(Debug)]
pub struct Concat {
    /// How many rows each input has along its first axis.
    pub rows: Vec<usize>,
    /// The shape of the whole.
    pub shape: Shape,
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn version(&self) -> u32 {
        1
    }

    fn write_fields(&self, _sink: &mut dyn Sink) {
        // Rows show in the inputs' shapes, and the shape in the output's.
        let Self { rows: _, shape: _ } = self;
    }

    fn output(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let [first, ..] = inputs else { return Err("has no inputs".to_owned()) };
        if let Some(other) = inputs.iter().find(|input| input.dtype != first.dtype) {
            return Err(format!("lays {} beside {}", first.dtype, other.dtype));
        }
        let n_elements: usize = inputs.iter().map(|input| input.shape.elements()).sum();
        if n_elements != self.shape.elements() {
            return Err(format!("makes {} of {n_elements} elements", self.shape));
        }
        Ok(TensorSpec { dtype: first.dtype, shape: self.shape.clone() })
    }

    fn access(&self) -> Access<'_> {
        let run = |(input, rows): (usize, &usize)| RowRun { input, rows: 0..*rows };
        Access::Rows(self.rows.iter().enumerate().map(run).collect::<Vec<_>>().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dtype;

    #[test]
    fn the_whole_has_the_elements_of_its_parts() {
        let spec = |dims: &[usize]| TensorSpec { dtype: Dtype::F16, shape: Shape(dims.to_vec()) };
        let concat = Concat { rows: vec![2, 2], shape: Shape(vec![2, 2, 3]) };
        assert_eq!(concat.output(&[&spec(&[2, 3]), &spec(&[2, 3])]), Ok(spec(&[2, 2, 3])));
        assert!(concat.output(&[&spec(&[2, 3])]).is_err());
        let other = TensorSpec { dtype: Dtype::F32, ..spec(&[2, 3]) };
        assert!(concat.output(&[&spec(&[2, 3]), &other]).is_err());
    }
}
