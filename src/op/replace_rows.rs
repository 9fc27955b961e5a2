//! Some rows of a tensor replaced by those of another; the rest stay as they are.

use super::contract::{Access, Op, RowRun};
use crate::manifest::{Sink, SinkExt};
use crate::tensor::TensorSpec;

#[derive(Clone, Debug)]
pub struct ReplaceRows {
    /// The row of the first input that each row of the second takes the place of.
    rows: Vec<usize>,
    /// What the result is made of.
    runs: Vec<RowRun>,
}

impl ReplaceRows {
    /// `None` if a row is replaced twice, or is none of the `count` that there are.
    pub fn new(rows: Vec<usize>, count: usize) -> Option<Self> {
        let mut sorted: Vec<(usize, usize)> = rows.iter().copied().zip(0..).collect();
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
        Some(Self { rows, runs })
    }
}

impl Op for ReplaceRows {
    fn name(&self) -> &'static str {
        "replace rows"
    }

    fn version(&self) -> u32 {
        1
    }

    fn write_fields(&self, sink: &mut dyn Sink) {
        // The runs follow from the rows.
        let Self { rows, runs: _ } = self;
        let rows: Vec<String> = rows.iter().map(usize::to_string).collect();
        sink.text("rows", &rows.join(" "));
    }

    fn output(&self, inputs: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let [whole, new] = inputs else { return Err("has other inputs than two".to_owned()) };
        let rest = |spec: &TensorSpec| (spec.dtype, spec.shape.0.get(1..).map(<[usize]>::to_vec));
        let n_rows = new.shape.0.first().copied().unwrap_or(0);
        if rest(whole) != rest(new) || n_rows != self.rows.len() {
            return Err(format!("{whole} cannot have {} rows of {new}", self.rows.len()));
        }
        Ok((*whole).clone())
    }

    fn access(&self) -> Access<'_> {
        Access::Rows((&self.runs[..]).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_follow_the_order_of_the_result() {
        let text = |rows: &[usize], count: usize| {
            let op = ReplaceRows::new(rows.to_vec(), count)?;
            let run = |RowRun { input, rows }: &RowRun| format!("{input}:{}..{}", rows.start, rows.end);
            Some(op.runs.iter().map(run).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(text(&[2, 3], 6).as_deref(), Some("0:0..2 1:0..2 0:4..6"));
        assert_eq!(text(&[3, 2, 0], 4).as_deref(), Some("1:2..3 0:1..2 1:1..2 1:0..1"));
        assert_eq!(text(&[], 2).as_deref(), Some("0:0..2"));
        assert_eq!((text(&[1, 1], 3), text(&[3], 3)), (None, None));
    }
}
