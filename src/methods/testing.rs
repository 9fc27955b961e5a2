//! Runs operations on small tensors, for the tests of methods.

use std::collections::BTreeMap;

use super::arguments::{ArgumentError, Arguments, InputArguments, Values};
use super::method::{Method, Simplified};
use super::operation::{Cut, Extent, Kernel, Leaf, Operation, Sample};
use super::scratch::Scratch;
use super::spec::{self, Scope, Value};
use crate::kernels::bracket::{Listed, places};
use crate::kernels::mask::{Mask, widen};
use crate::kernels::stream::Stream;

pub const B: [f32; 8] = [1.0, -2.0, 3.0, -4.0, 0.5, 0.25, -0.5, 2.0];
pub const X: [f32; 8] = [1.5, -2.25, 2.6, -3.95, 0.6, 0.85, -1.5, 2.45];
pub const Y: [f32; 8] = [0.7, -1.45, 3.2, -2.9, 0.35, 0.6, 0.2, 1.1];
pub const X2: [f32; 8] = [1.5, -2.25, 2.5, -4.0, 0.5, 0.75, -1.5, 2.5];
pub const Y2: [f32; 8] = [0.75, -1.5, 3.25, -3.0, 0.25, 0.5, -0.25, 1.0];
pub const Z2: [f32; 8] = [1.25, -2.5, 3.5, -4.5, 1.0, 0.25, -0.75, 2.25];

/// A method's application to small tensors. An input called `base` is the base.
#[derive(Clone)]
pub struct Case {
    shape: Vec<usize>,
    inputs: Vec<(&'static str, Vec<f32>)>,
    shared: BTreeMap<&'static str, Value>,
    each: BTreeMap<&'static str, Vec<f64>>,
    seed: u64,
    /// Rows (or elements) of a leaf.
    leaf: usize,
    /// How many elements a search for ranks sees first; without, there is no such search.
    sample: Option<u64>,
}

impl Case {
    /// Tensors of two rows of four, as in the published vectors.
    pub fn new(inputs: &[(&'static str, &[f32; 8])]) -> Self {
        let inputs: Vec<(&'static str, &[f32])> =
            inputs.iter().map(|(name, values)| (*name, &values[..])).collect();
        Self::of_shape(&[2, 4], &inputs)
    }

    pub fn of_shape(shape: &[usize], inputs: &[(&'static str, &[f32])]) -> Self {
        let inputs = inputs.iter().map(|(name, values)| (*name, values.to_vec())).collect();
        Self {
            shape: shape.to_vec(),
            inputs,
            shared: BTreeMap::new(),
            each: BTreeMap::new(),
            seed: 0,
            leaf: usize::MAX,
            sample: Some(0),
        }
    }

    pub fn number(mut self, name: &'static str, value: f64) -> Self {
        self.shared.insert(name, Value::Number(value));
        self
    }

    pub fn flag(mut self, name: &'static str, value: bool) -> Self {
        self.shared.insert(name, Value::Flag(value));
        self
    }

    pub fn integer(mut self, name: &'static str, value: i64) -> Self {
        self.shared.insert(name, Value::Integer(value));
        self
    }

    /// Sets a parameter for each input but the base, in order.
    pub fn each(mut self, name: &'static str, values: &[f64]) -> Self {
        self.each.insert(name, values.to_vec());
        self
    }

    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    pub fn leaf(mut self, leaf: usize) -> Self {
        self.leaf = leaf;
        self
    }

    pub fn sample(mut self, sample: Option<u64>) -> Self {
        self.sample = sample;
        self
    }

    fn arguments(&self) -> Arguments {
        let mut models = 0..;
        let inputs = self.inputs.iter().enumerate().map(|(position, (name, _))| {
            let is_base = *name == "base";
            let model = if is_base { None } else { models.next() };
            let own =
                self.each.iter().filter_map(|(name, values)| Some((*name, Value::Number(values[model?]))));
            InputArguments {
                is_base,
                stream: Stream::derive(self.seed, "stage", position, "tensor"),
                values: own.collect(),
            }
        });
        let shared = self.shared.iter().map(|(name, value)| (*name, *value)).collect();
        Arguments { shared, inputs: inputs.collect() }
    }

    /// Runs a method with its defaults for whatever the case does not set.
    pub fn run(&self, method: &'static dyn Method) -> Vec<f32> {
        match self.simplify(method).unwrap() {
            Simplified::Input(i) => self.inputs[i].1.clone(),
            Simplified::Operation { operation, inputs } => self.compute(&*operation, &inputs).unwrap(),
        }
    }

    /// Why the method's result is undefined.
    pub fn undefined(&self, method: &'static dyn Method) -> String {
        let Ok(Simplified::Operation { operation, inputs }) = self.simplify(method) else {
            panic!("there is nothing to compute")
        };
        self.compute(&*operation, &inputs).unwrap_err()
    }

    pub fn simplify(&self, method: &'static dyn Method) -> Result<Simplified, ArgumentError> {
        method.simplify(&self.with_defaults(method))
    }

    fn with_defaults(&self, method: &'static dyn Method) -> Arguments {
        let mut arguments = self.arguments();
        let fill = |values: &mut Values, scope: &[Scope]| {
            for param in method.spec().params.iter().filter(|param| scope.contains(&param.scope)) {
                match (values.get(param.name), param.default) {
                    (Some(value), _) => param.check(value).expect("a recipe with this value is refused"),
                    (None, spec::Default::Is(value)) => values.insert(param.name, value),
                    (None, _) => {}
                }
            }
        };
        fill(&mut arguments.shared, &[Scope::Shared]);
        for input in &mut arguments.inputs {
            fill(
                &mut input.values,
                if input.is_base { &[Scope::EachInput] } else { &[Scope::EachInput, Scope::EachModel] },
            );
        }
        arguments
    }

    fn compute(&self, operation: &dyn Operation, inputs: &[usize]) -> Result<Vec<f32>, String> {
        if operation.cut() == Cut::FirstAxis {
            return self.compute_along_first_axis(operation, inputs);
        }
        let n: usize = self.shape.iter().product();
        let row_len =
            if operation.cut() == Cut::Elements { 1 } else { self.shape.last().copied().unwrap_or(1).max(1) };
        let step = self.leaf.min(n / row_len).max(1) * row_len;
        let inputs: Vec<&[f32]> = inputs.iter().map(|i| &self.inputs[*i].1[..]).collect();
        let rows = if operation.cut() == Cut::Elements { 1 } else { step / row_len };
        let mut kernel = operation.kernel(Extent { n_elements: n, rows });
        let leaves: Vec<std::ops::Range<usize>> =
            (0..n).step_by(step).map(|start| start..(start + step).min(n)).collect();
        let slices = |range: &std::ops::Range<usize>| {
            inputs.iter().map(|input| &input[range.clone()]).collect::<Vec<_>>()
        };
        fn leaf<'a>(
            index: usize,
            range: &std::ops::Range<usize>,
            (inputs, masks): (&'a [&'a [f32]], &'a [&'a [Mask]]),
            cut: Cut,
            row_len: usize,
        ) -> Leaf<'a> {
            let row_len = if cut == Cut::Elements { range.len() } else { row_len };
            let (rows, start, row_step) = (range.len() / row_len, range.start as u64, row_len as u64);
            Leaf { index, inputs, masks, rows, row_len, start, row_step, col_step: 1 }
        }
        // Leaves in pieces of whole rows where the kernel takes them, as builds hand them over.
        let pieces = |kernel: &dyn Kernel, range: &std::ops::Range<usize>| -> Vec<std::ops::Range<usize>> {
            let piece = if kernel.takes_pieces() { row_len.max(8).next_multiple_of(row_len) } else { n };
            range.clone().step_by(piece).map(|start| start..(start + piece).min(range.end)).collect()
        };
        let mut scratch = Scratch::default();
        let n_masks = operation.masks().len();
        let draw = |kernel: &dyn Kernel, index, piece: &std::ops::Range<usize>, scratch: &mut Scratch| {
            let inputs = slices(piece);
            let leaf = leaf(index, piece, (&inputs, &[]), operation.cut(), row_len);
            let mask = |number: usize| -> Vec<Mask> {
                let (mut drawn, mut mask) = (Vec::new(), Vec::new());
                kernel.draw(number, &leaf, &mut drawn, scratch);
                widen(&drawn, &mut mask);
                mask
            };
            (0..n_masks).map(mask).collect::<Vec<_>>()
        };
        loop {
            if let Some(ranking) = kernel.ranking() {
                let Some(sample) = self.sample else {
                    ranking.absorb(None);
                    continue;
                };
                let places: Vec<u64> = places(n as u64, sample.min(n as u64)).collect();
                let seen: Vec<Vec<f32>> = inputs
                    .iter()
                    .map(|input| places.iter().map(|place| input[*place as usize]).collect())
                    .collect();
                let seen: Vec<&[f32]> = seen.iter().map(Vec::as_slice).collect();
                let n_lists = ranking.see(&Sample { places: &places, inputs: &seen });
                // Each leaf is a run of its own.
                let runs = leaves.iter().enumerate().map(|(index, range)| {
                    let mut lists: Vec<Listed> = (0..n_lists).map(|_| Listed::default()).collect();
                    let piece = row_len.max(8).next_multiple_of(row_len);
                    for start in range.clone().step_by(piece) {
                        let piece = start..(start + piece).min(range.end);
                        let inputs = slices(&piece);
                        let leaf = leaf(index, &piece, (&inputs, &[]), operation.cut(), row_len);
                        ranking.list(&leaf, &mut lists, &mut scratch);
                    }
                    lists.iter_mut().for_each(Listed::end_leaf);
                    lists
                });
                let runs: Vec<Vec<Listed>> = runs.collect();
                ranking.absorb(Some(&runs));
                continue;
            }
            let Some(pass) = kernel.next_pass() else { break };
            let mut sums = vec![0.0; leaves.len() * pass.sums];
            let mut counts = vec![0; pass.counts];
            // Backwards, since the order must not matter.
            for (index, range) in leaves.iter().enumerate().rev() {
                let own = &mut sums[index * pass.sums..(index + 1) * pass.sums];
                for piece in pieces(&*kernel, range) {
                    let masks = draw(&*kernel, index, &piece, &mut scratch);
                    let (inputs, masks) =
                        (slices(&piece), masks.iter().map(Vec::as_slice).collect::<Vec<_>>());
                    let leaf = leaf(index, &piece, (&inputs, &masks), operation.cut(), row_len);
                    kernel.gather(&leaf, own, &mut counts, &mut scratch);
                }
            }
            kernel.absorb(&sums, &counts)?;
        }
        let mut out = vec![f32::NAN; n];
        for (index, range) in leaves.iter().enumerate() {
            for piece in pieces(&*kernel, range) {
                let masks = draw(&*kernel, index, &piece, &mut scratch);
                let (inputs, masks) = (slices(&piece), masks.iter().map(Vec::as_slice).collect::<Vec<_>>());
                let leaf = leaf(index, &piece, (&inputs, &masks), operation.cut(), row_len);
                kernel.emit(&leaf, &mut out[piece.clone()], &mut scratch);
            }
        }
        Ok(out)
    }

    /// The same with vectors along the first axis, one after the other.
    fn compute_along_first_axis(
        &self,
        operation: &dyn Operation,
        inputs: &[usize],
    ) -> Result<Vec<f32>, String> {
        let n: usize = self.shape.iter().product();
        let row_len = self.shape.first().copied().unwrap_or(1);
        let rows = n / row_len;
        let of_row = |i: &usize, row: usize| -> Vec<f32> {
            (0..row_len).map(|at| self.inputs[*i].1[at * rows + row]).collect()
        };
        let kernel = operation.kernel(Extent { n_elements: n, rows: 1 });
        assert!(kernel.next_pass().is_none(), "such vectors are worked on one by one");
        let mut out = vec![f32::NAN; n];
        for row in 0..rows {
            let values: Vec<Vec<f32>> = inputs.iter().map(|i| of_row(i, row)).collect();
            let inputs: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
            let (start, col_step) = (row as u64, rows as u64);
            let leaf = Leaf {
                index: row,
                inputs: &inputs,
                masks: &[],
                rows: 1,
                row_len,
                start,
                row_step: 1,
                col_step,
            };
            let mut result = vec![f32::NAN; row_len];
            kernel.emit(&leaf, &mut result, &mut Scratch::default());
            result.iter().enumerate().for_each(|(at, r)| out[at * rows + row] = *r);
        }
        Ok(out)
    }
}

#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 3e-6);
    assert!(near, "found {found:?}\nexpected {expected:?}");
}
