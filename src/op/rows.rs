//! Rows of several tensors in a new order: an embedding whose tokens get other places, or some of whose rows an adapter
//! has trained.
//!
//! No arithmetic and no bytes of its own: whoever reads the result reads the inputs. Which row comes from where is
//! part of the key, in full where it is short and as a digest where it is long.

use std::borrow::Cow;
use std::fmt::Write;

use super::contract::{Access, Op, RowRun};
use crate::digest::Digest;
use crate::manifest::{Sink, SinkExt};
use crate::tensor::{Shape, TensorSpec};

/// A map of rows is shown in full up to this many runs.
const SHOWN: usize = 24;

#[derive(Clone, Debug)]
pub struct Rows {
    /// Rows of the inputs, in the order of the result; a row may be taken more than once.
    pub runs: Vec<RowRun>,
    /// The shape of the result.
    pub shape: Shape,
}

impl Rows {
    /// A tensor of this shape, the first input, with the rows of the second in place of some of its own, which are
    /// listed in the second's order. `None` if a row is replaced twice, or is none that the tensor has.
    pub fn replacing(replaced: &[usize], shape: Shape) -> Option<Self> {
        let count = shape.0.first().copied().unwrap_or(0);
        let mut sorted: Vec<(usize, usize)> = replaced.iter().copied().zip(0..).collect();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0].0 == pair[1].0)
            || sorted.last().is_some_and(|(row, _)| *row >= count)
        {
            return None;
        }
        let (mut runs, mut next): (Vec<RowRun>, usize) = (Vec::new(), 0);
        for (row, new) in sorted {
            if next < row {
                runs.push(RowRun { input: 0, rows: next..row });
            }
            match runs.last_mut() {
                Some(last) if last.input == 1 && last.rows.end == new => last.rows.end += 1,
                _ => runs.push(RowRun { input: 1, rows: new..new + 1 }),
            }
            next = row + 1;
        }
        if next < count {
            runs.push(RowRun { input: 0, rows: next..count });
        }
        Some(Self { runs, shape })
    }

    /// All runs as text, each as `FIRST..END of INPUT`.
    fn text(&self) -> String {
        let mut text = String::new();
        for RowRun { input, rows } in &self.runs {
            let comma = if text.is_empty() { "" } else { ", " };
            write!(text, "{comma}{}..{} of {input}", rows.start, rows.end).expect("text grows");
        }
        text
    }
}

impl Op for Rows {
    fn name(&self) -> &'static str {
        "rows"
    }

    fn version(&self) -> u32 {
        1
    }

    fn write_fields(&self, sink: &mut dyn Sink) {
        let Self { runs, shape: _ } = self;
        let text = self.text();
        if runs.len() <= SHOWN {
            sink.text("rows", &text);
        } else {
            let digest = Digest::of(text.as_bytes());
            sink.text("rows", &format!("{} runs, {digest}", runs.len()));
        }
    }

    fn output(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let [first, ..] = inputs else { return Err("has no inputs".to_owned()) };
        if let Some(other) = inputs.iter().find(|input| input.dtype != first.dtype) {
            return Err(format!("lays rows of {} beside rows of {}", first.dtype, other.dtype));
        }
        let mut n_elements = 0;
        for RowRun { input, rows } in &self.runs {
            let shape = &inputs.get(*input).ok_or("takes rows of an input that does not exist")?.shape;
            let n_rows = shape.0.first().copied().unwrap_or(0);
            if rows.end > n_rows {
                return Err(format!("takes row {} of {n_rows}", rows.end - 1));
            }
            n_elements += shape.elements() / n_rows.max(1) * rows.len();
        }
        if n_elements != self.shape.elements() {
            return Err(format!("makes {} of {n_elements} elements", self.shape));
        }
        Ok(TensorSpec { dtype: first.dtype, shape: self.shape.clone() })
    }

    fn access(&self) -> Access<'_> {
        Access::Rows(Cow::Borrowed(&self.runs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::ManifestText;
    use crate::tensor::Dtype;

    fn spec(dims: &[usize]) -> TensorSpec {
        TensorSpec { dtype: Dtype::F16, shape: Shape(dims.to_vec()) }
    }

    fn rows(runs: &[(usize, std::ops::Range<usize>)], dims: &[usize]) -> Rows {
        let run =
            |(input, rows): &(usize, std::ops::Range<usize>)| RowRun { input: *input, rows: rows.clone() };
        Rows { runs: runs.iter().map(run).collect(), shape: Shape(dims.to_vec()) }
    }

    #[test]
    fn rows_must_be_there_and_add_up() {
        let op = rows(&[(0, 1..3), (1, 0..1), (0, 0..1)], &[4, 3]);
        assert_eq!(op.output(&[&spec(&[3, 3]), &spec(&[1, 3])]), Ok(spec(&[4, 3])));
        assert!(op.output(&[&spec(&[2, 3]), &spec(&[1, 3])]).is_err(), "row 2 is missing");
        assert!(op.output(&[&spec(&[3, 3]), &spec(&[1, 2])]).is_err(), "a row is shorter");
        assert!(op.output(&[&spec(&[3, 3])]).is_err(), "an input is missing");
        let other = TensorSpec { dtype: Dtype::F32, ..spec(&[1, 3]) };
        assert!(op.output(&[&spec(&[3, 3]), &other]).is_err());
        // A vector can stand for one row.
        let vector = rows(&[(0, 0..2), (1, 0..3)], &[3, 3]);
        assert_eq!(vector.output(&[&spec(&[2, 3]), &spec(&[3])]), Ok(spec(&[3, 3])));
    }

    #[test]
    fn replaced_rows_follow_the_order_of_the_result() {
        let text = |rows: &[usize], count: usize| {
            let op = Rows::replacing(rows, Shape(vec![count, 2]))?;
            let run = |RowRun { input, rows }: &RowRun| format!("{input}:{}..{}", rows.start, rows.end);
            Some(op.runs.iter().map(run).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(text(&[2, 3], 6).as_deref(), Some("0:0..2 1:0..2 0:4..6"));
        assert_eq!(text(&[3, 2, 0], 4).as_deref(), Some("1:2..3 0:1..2 1:1..2 1:0..1"));
        assert_eq!(text(&[], 2).as_deref(), Some("0:0..2"));
        assert_eq!((text(&[1, 1], 3), text(&[3], 3)), (None, None));
    }

    #[test]
    fn keys_hold_every_row() {
        let fields = |op: &Rows| {
            let mut text = ManifestText::default();
            op.write_fields(&mut text);
            text.finish()
        };
        let short = rows(&[(0, 1..3), (1, 0..1)], &[3, 3]);
        assert_eq!(fields(&short), "rows = 1..3 of 0, 0..1 of 1\n");
        let long = |last: usize| {
            let runs: Vec<_> = (0..100).map(|i| (i % 2, if i == 99 { last } else { i }..i + 1)).collect();
            rows(&runs, &[100, 3])
        };
        assert!(fields(&long(99)).starts_with("rows = 100 runs, "));
        assert_ne!(fields(&long(99)), fields(&long(98)));
    }
}
