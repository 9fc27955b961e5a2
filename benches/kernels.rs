//! The arithmetic of every method on large tensors in memory, beside a plain copy of the same bytes:
//! `cargo bench --bench kernels [-- METHOD...]`.
//!
//! Everything runs on all cores. A method and the copy take turns, in one process: numbers are medians, with the
//! quartiles behind them. A method's bytes are those of its inputs, once for every pass over them, and of its result;
//! a copy's are those that it reads and those that it writes.

#![allow(clippy::print_stdout)]

mod in_turn;

use lamarck::build::compute::{Computation, Failure};
use lamarck::build::{Bytes, Masks};
use lamarck::kernels::simd::{self, Level};
use lamarck::kernels::stream::Stream;
use lamarck::methods::{self, Arguments, InputArguments, Method, Scope, Simplified, Value, Values};
use lamarck::tensor::{Dtype, Shape, TensorSpec};
use rayon::prelude::*;

use in_turn::{ROUNDS, Spread, in_turn};

const SHAPE: [usize; 2] = [16384, 2048];
/// Tensors with as many elements, of short and of long rows.
const ROWS: [[usize; 2]; 2] = [[65536, 512], [6552, 5120]];

/// Methods to which rows can matter, and how many elements differ.
const THINNING: [&str; 2] = ["dare_ties", "della"];

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
    let names: Vec<&str> = names
        .into_iter()
        .filter(|name| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name))
        .collect();
    println!("bf16, {} threads, medians of {ROUNDS} rounds and quartiles", rayon::current_num_threads());
    println!("ns are of one element of one model; CPU ns are those of all threads");
    let n: usize = SHAPE.iter().product();
    let inputs: Vec<Bytes> = (0..4).map(|number| tensor(n, number)).collect();
    table(&format!("{SHAPE:?}"), &names, &SHAPE, &inputs);
    let thinning: Vec<&str> = names.into_iter().filter(|name| THINNING.contains(name)).collect();
    if thinning.is_empty() {
        return;
    }
    let light = fine_tunes(n);
    for shape in ROWS {
        table(&format!("rows of {}", shape[1]), &thinning, &shape, &inputs);
        table(&format!("rows of {}, a light fine-tune", shape[1]), &thinning, &shape, &light);
    }
}

fn table(what: &str, names: &[&str], shape: &[usize], inputs: &[Bytes]) {
    println!("\n{:40} {:>5} {:>20} {:>24} {:>7}", what, "GB/s", "% of copy", "ns", "CPU ns");
    for name in names {
        let method = methods::find(name).expect("the method exists");
        for draws in Draws::of(name) {
            for level in [Level::Baseline, Level::Avx2, Level::Avx512] {
                if simd::limit(level) == level {
                    measure(method, *draws, level, shape, inputs);
                }
            }
        }
    }
}

/// How a method's masks are come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draws {
    /// As by default: once for the sums that rescaling takes, if the method draws at all.
    Default,
    /// Without rescaling.
    Once,
    /// Without rescaling, from masks of an earlier build.
    AtHand,
}

impl Draws {
    fn of(name: &str) -> &'static [Self] {
        match name {
            "della" => &[Self::Default, Self::Once, Self::AtHand],
            "dare_ties" => &[Self::Default, Self::Once],
            _ => &[Self::Default],
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::Once => ", rescale: false",
            Self::AtHand => ", masks at hand",
        }
    }
}

/// A base, and models that differ from it by a few steps of bf16, or here and there not at all.
fn fine_tunes(n: usize) -> Vec<Bytes> {
    let streams = [0, 1, 2, 3].map(|position| Stream::derive(0, "fine-tunes", position, "tensor"));
    // Four draws make what is nearly normal, with a standard deviation of 0.58.
    let normal = |number: usize, i: usize| -> f32 {
        let draws = (4 * i as u64..4 * i as u64 + 4).map(|place| streams[number].bits(place) >> 32);
        draws.map(|draw| draw as f32 / u32::MAX as f32 - 0.5).sum()
    };
    let base: Vec<half::bf16> = (0..n).map(|i| half::bf16::from_f32(0.035 * normal(0, i))).collect();
    let mut n_equal = 0;
    let mut stored = |number: usize| {
        let element = |i: usize| {
            let element = match number {
                0 => base[i],
                _ => half::bf16::from_f32(base[i].to_f32() + 0.000_35 * normal(number, i)),
            };
            n_equal += usize::from(number == 1 && element == base[i]);
            element.to_le_bytes()
        };
        Bytes::Memory((0..n).flat_map(element).collect::<Vec<u8>>().into())
    };
    let inputs = (0..4).map(&mut stored).collect();
    println!(
        "\na light fine-tune: {:.0} % of its elements are those of the base",
        100.0 * n_equal as f64 / n as f64
    );
    inputs
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

fn measure(method: &'static dyn Method, draws: Draws, level: Level, shape: &[usize], inputs: &[Bytes]) {
    let name = method.spec().name;
    let spec = method.spec();
    let has_base = spec.base.is_relative();
    let n_inputs = spec.inputs.max.map_or(inputs.len(), |max| max + usize::from(has_base));
    let Simplified::Operation { operation, inputs: order } =
        method.simplify(&arguments(method, draws, n_inputs)).expect("the arguments are sound")
    else {
        unreachable!("there is something to compute")
    };
    let tensor = TensorSpec { dtype: Dtype::Bf16, shape: Shape(shape.to_vec()) };
    let operands: Vec<Bytes> = order.iter().map(|i| of_shape(&inputs[*i], &tensor)).collect();
    let mut copies: Vec<Vec<u8>> = operands.iter().map(|bytes| vec![1; bytes.n_bytes()]).collect();
    let mut out = vec![1; tensor.n_bytes()];
    // What is drawn for these in the first round is at hand in all others.
    let at_hand = (draws == Draws::AtHand).then(|| Masks::staying(&*operation, &tensor.shape));
    let [kernel, copy] = in_turn(
        || {
            let unknown = Masks::unknown(&*operation, &tensor.shape);
            let computation = Computation {
                operation: &*operation,
                inputs: operands.iter().map(|bytes| (bytes.clone(), Dtype::Bf16)).collect(),
                masks: at_hand.as_ref().unwrap_or(&unknown),
                compute: None,
                shape: &tensor.shape,
                output: &tensor,
                parallel: true,
                proceed: &|| Ok(()),
            };
            if let Err(Failure::Undefined(problem)) = computation.run_into(&mut out) {
                panic!("{name}: {problem}");
            }
        },
        || operands.iter().zip(&mut copies).for_each(|(from, to)| copy_all(from, to)),
    );
    let passes = match name {
        "linear" | "task_arithmetic" | "dare_ties" | "della" | "ram" | "nearswap" => 1,
        "slerp" | "nuslerp" | "multislerp" | "karcher" | "model_stock" | "sce" | "ramplus_tl" => 2,
        "ties" | "breadcrumbs" => 2,
        _ => 4,
    };
    let n_bytes: usize = operands.iter().map(|bytes| bytes.n_bytes()).sum();
    let moved = passes * n_bytes + tensor.n_bytes();
    let models = operands.len() - usize::from(has_base && name != "slerp");
    let each = |seconds: f64| seconds * 1e9 / tensor.shape.elements() as f64 / models as f64;
    let share = kernel.rate_of(&copy, 100.0 * moved as f64 / (2 * n_bytes) as f64);
    let Spread { median, low, high } = kernel.wall;
    println!(
        "{:40} {:5.1} {:6.0} ({:4.0} to {:4.0}) {:8.2} ({:5.2} to {:5.2}) {:7.2}",
        format!("  {name}{}, {level:?}", draws.label()),
        moved as f64 / median / 1e9,
        share.median,
        share.low,
        share.high,
        each(median),
        each(low),
        each(high),
        each(kernel.cpu),
    );
}

/// As much of a tensor as a shape has room for.
fn of_shape(bytes: &Bytes, spec: &TensorSpec) -> Bytes {
    let all = bytes.at_hand().expect("all tensors are in memory");
    if all.len() == spec.n_bytes() {
        bytes.clone()
    } else {
        Bytes::Memory(all[..spec.n_bytes()].to_vec().into())
    }
}

fn copy_all(from: &Bytes, to: &mut [u8]) {
    const PIECE: usize = 1 << 20;
    let Bytes::Memory(from) = from else { unreachable!("all tensors are in memory") };
    to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| to.copy_from_slice(from));
}

fn arguments(method: &'static dyn Method, draws: Draws, n_inputs: usize) -> Arguments {
    let value = |name: &str, default| match (name, default) {
        ("weight", _) => Some(Value::Number(0.6)),
        ("density", _) => Some(Value::Number(0.6)),
        ("epsilon", _) => Some(Value::Number(0.08)),
        ("t", _) => Some(Value::Number(0.4)),
        ("rescale", _) if draws != Draws::Default => Some(Value::Flag(false)),
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
