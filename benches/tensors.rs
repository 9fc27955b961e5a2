//! Work on whole tensors that is more than one pass: the selection of ranks beside a copy, LoRA beside a product of
//! matrices, rows in a new order beside a copy: `cargo bench --bench tensors [-- selection|lora|rows...]`.
//!
//! What is compared runs in turn, in one process, on all cores. Times are medians, with the quartiles behind them; CPU
//! time is that of all threads, of the median round.

#![allow(clippy::print_stdout)]

mod in_turn;

use std::hint::black_box;
use std::sync::Arc;

use lamarck::build::compute::{Computation, Failure};
use lamarck::build::{Bytes, Masks, Run};
use lamarck::kernels::simd::{self, Level};
use lamarck::kernels::stream::Stream;
use lamarck::methods::{self, Arguments, InputArguments, Operation, Scope, Simplified, Value, Values};
use lamarck::op::{Access, Block, Factor, LowRank, Op, Tensor, Update, Vectors};
use lamarck::tensor::{Dtype, Shape, TensorSpec};
use rayon::prelude::*;

use in_turn::{ROUNDS, Times, in_turn};

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    println!("{} threads, medians of {ROUNDS} rounds", rayon::current_num_threads());
    for level in [Level::Baseline, Level::Avx2, Level::Avx512] {
        if simd::limit(level) != level {
            continue;
        }
        println!("\n{level:?}");
        if is_wanted("selection") {
            selections();
        }
        if is_wanted("lora") {
            adapters();
        }
    }
    if is_wanted("rows") {
        remaps();
    }
}

/// Finding the ranks that `ties` and `breadcrumbs` keep, without making the result.
fn selections() {
    const SHAPE: [usize; 2] = [8192, 4096];
    let n: usize = SHAPE.iter().product();
    println!("selection, bf16 {SHAPE:?}, 3 models");
    for (what, spread) in [("large differences", 0.01), ("a light fine-tune", 0.0005)] {
        let base = weights(n, 0, None);
        let models = (1..4).map(|number| weights(n, number, Some((&base, spread))));
        let values: Vec<Vec<f32>> = std::iter::once(base.clone()).chain(models).collect();
        let inputs: Vec<Bytes> = values.iter().map(|values| encoded(values)).collect();
        for name in ["ties", "breadcrumbs"] {
            let operation = sparse(name, inputs.len());
            let tensor = TensorSpec { dtype: Dtype::Bf16, shape: Shape(SHAPE.to_vec()) };
            let masks = Masks::default();
            let computation = computation(&*operation, &inputs, &tensor, &masks);
            let mut copies = vec![vec![1_u8; 2 * n]; inputs.len()];
            let [search, copy] = in_turn(
                || drop(finish(computation.prepare())),
                || inputs.iter().zip(&mut copies).for_each(|(from, to)| copy_all(from, to)),
            );
            let each = |seconds: f64| seconds * 1e9 / (3 * n) as f64;
            println!(
                "  {:32} {:5.2} ns an element and input, CPU {:5.2}; a copy {:5.2}, {:5.2}  {search}",
                format!("{name}, {what}"),
                each(search.wall.median),
                each(search.cpu),
                each(copy.wall.median),
                each(copy.cpu)
            );
        }
    }
}

/// LoRA on tensors of a language model, beside the product of its factors by a library for matrices.
fn adapters() {
    println!("lora, the product of the factors; both with its sum with the tensor, rounded");
    for dtype in [Dtype::Bf16, Dtype::F32] {
        for (rows, columns) in [(4096, 4096), (13824, 5120)] {
            for rank in [8, 16, 32, 64, 128] {
                let spec = |rows, columns| TensorSpec { dtype, shape: Shape(vec![rows, columns]) };
                let factors = [spec(rank, columns), spec(rows, rank)];
                let [own, a, b] = [(rows * columns, 1), (rank * columns, 2), (rows * rank, 3)]
                    .map(|(n, number)| weights(n, number, None));
                let stored = |values: &[f32]| match dtype {
                    Dtype::Bf16 => encoded(values),
                    _ => Bytes::Memory(Arc::new(values.iter().flat_map(|x| x.to_le_bytes()).collect())),
                };
                let [input, stored_a, stored_b] = [&own, &a, &b].map(|values| stored(values));
                let update = Update {
                    vectors: Vectors::Rows { count: rows, len: columns },
                    blocks: vec![Block {
                        vectors: 0..rows,
                        left: Some(Factor { input: 2, first: 0, step: rank, rank_step: 1 }),
                        right: Factor { input: 1, first: 0, step: 1, rank_step: columns },
                        rank,
                        scale: 2.0,
                        magnitude: None,
                    }],
                };
                let op = LowRank { update, dtype };
                let Access::Beside(beside) = op.access() else { unreachable!("factors stand beside") };
                let tensor = spec(rows, columns);
                let mut out = vec![1; tensor.n_bytes()];
                let mut product = vec![0.0_f32; rows * columns];
                let [apply, multiply] = in_turn(
                    || {
                        let tensors = [(&factors[0], &stored_a), (&factors[1], &stored_b)]
                            .map(|(spec, bytes)| Tensor { spec, bytes: bytes.at_hand().expect("in memory") });
                        let operation = beside.prepare.prepare(&tensors);
                        let inputs = [input.clone()];
                        let masks = Masks::default();
                        finish(computation(&*operation, &inputs, &tensor, &masks).run_into(&mut out));
                    },
                    || matmul([rows, rank, columns], &b, &a, &mut product),
                );
                let rate = |times: &Times| (2 * rows * columns * rank) as f64 / times.wall.median * 1e-9;
                println!(
                    "  {dtype} {rows:5} x {columns:5} rank {rank:3} {:6.1} Gflop/s, a product {:6.1}, {:4.0}%  {apply}",
                    rate(&apply),
                    rate(&multiply),
                    100.0 * rate(&apply) / rate(&multiply)
                );
            }
        }
    }
}

/// Rows of an embedding in another order, made into a tensor of their own, on one core.
fn remaps() {
    const ROWS: usize = 131_072;
    const ROW_BYTES: usize = 2 * 2048;
    println!("\nrows of {ROW_BYTES} bytes in a new order, {ROWS} of them; a copy of all");
    let from = Bytes::Memory(Arc::new((0..ROWS * ROW_BYTES).map(|i| i as u8).collect()));
    for length in [1, 4, 1000] {
        let n_runs = ROWS / length;
        let run = |i: usize| {
            // A prime that does not divide the number of runs visits each of them once.
            let first = i * 40_507 % n_runs * length;
            Run { bytes: from.clone(), range: first * ROW_BYTES..(first + length) * ROW_BYTES }
        };
        let remapped = Bytes::joined((0..n_runs).map(run).collect());
        let [read, copied] = in_turn(
            || drop(black_box(remapped.in_full().expect("memory can be read"))),
            || drop(black_box(from.at_hand().expect("it is in memory").to_vec())),
        );
        let rate = |n_bytes: usize, times: &Times| n_bytes as f64 / times.cpu * 1e-9;
        println!(
            "  runs of {length:4} {:6.1} GB/s of CPU time, a copy {:6.1}  {read}",
            rate(remapped.n_bytes(), &read),
            rate(ROWS * ROW_BYTES, &copied)
        );
    }
}

fn computation<'a>(
    operation: &'a dyn Operation,
    inputs: &[Bytes],
    tensor: &'a TensorSpec,
    masks: &'a Masks,
) -> Computation<'a> {
    Computation {
        operation,
        inputs: inputs.iter().map(|bytes| (bytes.clone(), tensor.dtype)).collect(),
        masks,
        compute: None,
        shape: &tensor.shape,
        output: tensor,
        parallel: true,
        proceed: &|| Ok(()),
    }
}

fn finish<T>(result: Result<T, Failure>) -> T {
    result.unwrap_or_else(|failure| match failure {
        Failure::Undefined(problem) => panic!("{problem}"),
        Failure::Build(problem) => panic!("{problem}"),
    })
}

/// A member of the task-arithmetic family that keeps six of ten elements, less one of a hundred where it leaves out
/// the largest.
fn sparse(name: &str, n_inputs: usize) -> Box<dyn Operation> {
    let method = methods::find(name).expect("the method exists");
    let values = |scopes: &[Scope]| -> Values {
        let params = method.spec().params.iter().filter(|param| scopes.contains(&param.scope));
        let value = |name, default| match (name, default) {
            ("weight" | "density", _) => Some(Value::Number(0.6)),
            ("gamma", _) => Some(Value::Number(0.01)),
            (_, methods::Default::Is(value)) => Some(value),
            _ => None,
        };
        params.filter_map(|param| Some((param.name, value(param.name, param.default)?))).collect()
    };
    let inputs = (0..n_inputs).map(|i| InputArguments {
        is_base: i == 0,
        stream: Stream::derive(0, "tensors", i, "tensor"),
        values: values(if i == 0 { &[Scope::EachInput] } else { &[Scope::EachInput, Scope::EachModel] }),
    });
    let arguments = Arguments { shared: values(&[Scope::Shared]), inputs: inputs.collect() };
    match method.simplify(&arguments).expect("the arguments are sound") {
        Simplified::Operation { operation, .. } => operation,
        Simplified::Input(_) => unreachable!("there is something to compute"),
    }
}

/// Normal-like values: those of a tensor, or of one that has come to differ from it a little.
fn weights(n: usize, number: usize, base: Option<(&[f32], f32)>) -> Vec<f32> {
    let stream = Stream::derive(0, "tensors", number, "tensor");
    let uniform = |place: usize| (stream.bits(place as u64) >> 32) as f32 / u32::MAX as f32;
    let value = |i: usize| {
        let sum: f32 = (4 * i..4 * i + 4).map(uniform).sum();
        base.map_or(0.03 * (sum - 2.0), |(base, spread)| base[i] + spread * (sum - 2.0))
    };
    (0..n).map(|i| half::bf16::from_f32(value(i)).to_f32()).collect()
}

fn encoded(values: &[f32]) -> Bytes {
    let bytes = values.iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes());
    Bytes::Memory(Arc::new(bytes.collect()))
}

fn copy_all(from: &Bytes, to: &mut [u8]) {
    const PIECE: usize = 1 << 20;
    let from = from.at_hand().expect("all tensors are in memory");
    to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| to.copy_from_slice(from));
}

/// `out = left * right` of matrices of `m * k` and `k * n`, row by row.
#[allow(unsafe_code)]
fn matmul([m, k, n]: [usize; 3], left: &[f32], right: &[f32], out: &mut [f32]) {
    assert_eq!((left.len(), right.len(), out.len()), (m * k, k * n, m * n));
    let row = |length: usize| length as isize;
    // SAFETY: the strides are those of whole rows, and lengths were compared.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            row(n),
            false,
            left.as_ptr(),
            1,
            row(k),
            right.as_ptr(),
            1,
            row(n),
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::Rayon(0),
        );
    }
}
