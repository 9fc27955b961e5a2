//! The arithmetic of every method on large tensors in memory, beside a plain copy of the same bytes:
//! `cargo bench --bench kernels [-- METHOD...]`.
//!
//! Everything runs on all cores, in turn, in one process. A method's bytes are those of its inputs, once for
//! every pass over them, and of its result; a copy's are those that it reads and those that it writes.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use lamarck::build::Bytes;
use lamarck::build::compute::{Computation, Failure};
use lamarck::kernels::simd::{self, Level};
use lamarck::kernels::stream::Stream;
use lamarck::methods::{self, Arguments, InputArguments, Method, Scope, Simplified, Value, Values};
use lamarck::tensor::{Dtype, Shape, TensorSpec};
use rayon::prelude::*;

const SHAPE: [usize; 2] = [16384, 2048];
const ROUNDS: usize = 7;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let names = [
        "linear",
        "slerp",
        "nuslerp",
        "multislerp",
        "karcher",
        "task_arithmetic",
        "model_stock",
        "sce",
        "ram",
        "ramplus_tl",
        "nearswap",
        "arcee_fusion",
        "dare_ties",
        "della",
        "ties",
        "breadcrumbs",
    ];
    let names = names.iter().filter(|name| wanted.is_empty() || wanted.iter().any(|wanted| wanted == *name));
    let n: usize = SHAPE.iter().product();
    let inputs: Vec<Bytes> = (0..4).map(|number| tensor(n, number)).collect();
    let mut out = vec![1; n * Dtype::Bf16.size()];
    println!("bf16 {SHAPE:?}, {} threads, medians of {ROUNDS} rounds", rayon::current_num_threads());
    println!("{:24} {:>10} {:>8} {:>8}  ns an element and input", "", "level", "GB/s", "of copy");
    for name in names {
        let method = methods::find(name).expect("the method exists");
        for level in [Level::Baseline, Level::Avx2, Level::Avx512] {
            if simd::limit(level) == level {
                measure(method, level, &inputs, &mut out);
            }
        }
    }
}

/// A checkpoint's tensor: a common part and a smaller one of its own.
fn tensor(n: usize, number: usize) -> Bytes {
    let streams = [0, number + 1].map(|position| Stream::derive(0, "kernels", position, "tensor"));
    let centered =
        |which: usize, i: usize| (streams[which].bits(i as u64) >> 32) as f32 / u32::MAX as f32 - 0.5;
    let value = |i: usize| 0.05 * centered(0, i) + 0.01 * centered(1, i);
    let bytes: Vec<u8> = (0..n).flat_map(|i| half::bf16::from_f32(value(i)).to_le_bytes()).collect();
    Bytes::Memory(bytes.into())
}

fn measure(method: &'static dyn Method, level: Level, inputs: &[Bytes], out: &mut [u8]) {
    let name = method.spec().name;
    let spec = method.spec();
    let has_base = spec.base.is_relative();
    let n_inputs = spec.inputs.max.map_or(inputs.len(), |max| max + usize::from(has_base));
    let Simplified::Operation { operation, inputs: order } =
        method.simplify(&arguments(method, n_inputs)).expect("the arguments are sound")
    else {
        unreachable!("there is something to compute")
    };
    let operands: Vec<&Bytes> = order.iter().map(|i| &inputs[*i]).collect();
    let tensor = TensorSpec { dtype: Dtype::Bf16, shape: Shape(SHAPE.to_vec()) };
    let computation = Computation {
        operation: &*operation,
        inputs: operands.iter().map(|bytes| ((*bytes).clone(), Dtype::Bf16)).collect(),
        compute: None,
        shape: &tensor.shape,
        output: &tensor,
        parallel: true,
        proceed: &|| Ok(()),
    };
    let mut copies: Vec<Vec<u8>> = operands.iter().map(|bytes| vec![1; bytes.n_bytes()]).collect();
    let (mut kernel, mut copy) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        if let Err(Failure::Undefined(problem)) = computation.run_into(out) {
            panic!("{name}: {problem}");
        }
        kernel.push(started.elapsed());
        let started = Instant::now();
        for (from, to) in operands.iter().zip(&mut copies) {
            copy_all(from, to);
        }
        copy.push(started.elapsed());
    }
    let passes = match name {
        "linear" | "task_arithmetic" | "dare_ties" | "della" | "ram" | "nearswap" => 1,
        "slerp" | "nuslerp" | "multislerp" | "karcher" | "model_stock" | "sce" | "ramplus_tl" => 2,
        _ => 4,
    };
    let n_bytes: usize = operands.iter().map(|bytes| bytes.n_bytes()).sum();
    let rate = |bytes: usize, times: &mut Vec<Duration>| bytes as f64 / median(times).as_secs_f64() / 1e9;
    let of_copy = rate(2 * n_bytes, &mut copy);
    let of_kernel = rate(passes * n_bytes + out.len(), &mut kernel);
    let models = operands.len() - usize::from(has_base && name != "slerp");
    let each = median(&mut kernel).as_secs_f64() * 1e9 / (out.len() / 2) as f64 / models as f64;
    let share = 100.0 * of_kernel / of_copy;
    println!("{name:24} {:>10} {of_kernel:8.1} {share:7.0}%  {each:.2}", format!("{level:?}"));
}

fn copy_all(from: &Bytes, to: &mut [u8]) {
    const PIECE: usize = 1 << 20;
    let Bytes::Memory(from) = from else { unreachable!("all tensors are in memory") };
    to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| to.copy_from_slice(from));
}

fn arguments(method: &'static dyn Method, n_inputs: usize) -> Arguments {
    let value = |name: &str, default| match (name, default) {
        ("weight", _) => Some(Value::Number(0.6)),
        ("density", _) => Some(Value::Number(0.6)),
        ("epsilon", _) => Some(Value::Number(0.08)),
        ("t", _) => Some(Value::Number(0.4)),
        (_, methods::Default::Is(value)) => Some(value),
        _ => None,
    };
    let values = |scopes: &[Scope]| -> Values {
        let params = method.spec().params.iter().filter(|param| scopes.contains(&param.scope));
        params.filter_map(|param| Some((param.name, value(param.name, param.default)?))).collect()
    };
    let inputs = (0..n_inputs).map(|i| InputArguments {
        is_base: i == 0 && method.spec().base.is_relative(),
        stream: Stream::derive(0, "kernels", i, "tensor"),
        values: if i == 0 && method.spec().base.is_relative() {
            values(&[Scope::EachInput])
        } else {
            values(&[Scope::EachInput, Scope::EachModel])
        },
    });
    Arguments { shared: values(&[Scope::Shared]), inputs: inputs.collect() }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
