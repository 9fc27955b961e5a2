//! Methods with loops of their own for bf16 give the bytes that decoding, computing in f32 and encoding give.

use lamarck::build::compute::{Computation, Failure};
use lamarck::build::{Bytes, Masks};
use lamarck::kernels::pairs::Bf16;
use lamarck::kernels::simd::{Level, limit};
use lamarck::kernels::stream::Stream;
use lamarck::methods::{
    self, Arguments, InputArguments, Method, Operation, Scope, Simplified, Value, Values,
};
use lamarck::tensor::{Dtype, Shape, TensorSpec};

/// Runs an operation on inputs as they are, or widened to f32 first, which takes loops for bf16 out of the way.
fn run(
    operation: &dyn Operation,
    inputs: &[Vec<Bf16>],
    shape: &Shape,
    as_f32: bool,
    parallel: bool,
) -> Result<Vec<u8>, String> {
    let output = TensorSpec { dtype: Dtype::Bf16, shape: shape.clone() };
    let bytes = |input: &Vec<Bf16>| -> (Bytes, Dtype) {
        let bytes = input.as_flattened();
        if as_f32 {
            let wide = input.iter().flat_map(|[low, high]| [0, 0, *low, *high]);
            (Bytes::Memory(wide.collect::<Vec<u8>>().into()), Dtype::F32)
        } else {
            (Bytes::Memory(bytes.to_vec().into()), Dtype::Bf16)
        }
    };
    let compute = |masks: &Masks| {
        let computation = Computation {
            operation,
            inputs: inputs.iter().map(bytes).collect(),
            masks,
            compute: None,
            shape,
            output: &output,
            parallel,
            proceed: &|| Ok(()),
        };
        let mut out = vec![0xaa; output.n_bytes()];
        match computation.run_into(&mut out) {
            Ok(()) => Ok(out),
            Err(Failure::Undefined(problem)) => Err(problem),
            Err(Failure::Build(error)) => panic!("{error}"),
        }
    };
    let out = compute(&Masks::unknown(operation, shape));
    // Masks that stay are drawn for the first result, and at hand for the second.
    if !operation.masks().is_empty() {
        let staying = Masks::staying(operation, shape);
        (0..2).for_each(|_| assert_eq!(compute(&staying), out));
    }
    out
}

/// Whether a computation has a result, which is the same from bf16 as it is stored, at every level, as from f32.
fn agrees(method: &'static dyn Method, arguments: &Arguments, inputs: &[Vec<Bf16>], shape: &[usize]) -> bool {
    let (operation, order) = match method.simplify(arguments).expect("the arguments are sound") {
        Simplified::Operation { operation, inputs } => (operation, inputs),
        Simplified::Input(_) => return true,
    };
    let inputs: Vec<Vec<Bf16>> = order.iter().map(|i| inputs[*i].clone()).collect();
    let shape = Shape(shape.to_vec());
    let expected = run(&*operation, &inputs, &shape, true, false);
    for level in [Level::Baseline, Level::Avx2, Level::Avx512] {
        limit(level);
        for parallel in [false, true] {
            let found = run(&*operation, &inputs, &shape, false, parallel);
            let n = inputs.len();
            assert!(found == expected, "{} of {n}, {shape}, {level:?}, {parallel}", method.spec().name);
        }
    }
    limit(Level::Avx512);
    expected.is_ok()
}

fn arguments(method: &'static dyn Method, n_inputs: usize, set: &[(&'static str, Value)]) -> Arguments {
    let value = |name: &str, default, position: usize| {
        let of_this = set.iter().find(|(set, _)| *set == name).map(|(_, value)| *value);
        of_this.or(match (name, default) {
            ("weight", _) => Some(Value::Number([0.6, -0.3, 1.0, 0.1, 0.45, 0.2][position])),
            ("density" | "t", _) => Some(Value::Number(0.4)),
            ("epsilon", _) => Some(Value::Number(1e-3)),
            (_, methods::Default::Is(value)) => Some(value),
            _ => None,
        })
    };
    let values = |scopes: &[Scope], position: usize| -> Values {
        let params = method.spec().params.iter().filter(|param| scopes.contains(&param.scope));
        params.filter_map(|param| Some((param.name, value(param.name, param.default, position)?))).collect()
    };
    let inputs = (0..n_inputs).map(|i| {
        let is_base = i == 0 && method.spec().base.is_relative();
        let scopes: &[Scope] =
            if is_base { &[Scope::EachInput] } else { &[Scope::EachInput, Scope::EachModel] };
        InputArguments { is_base, stream: Stream::derive(0, "bf16", i, "tensor"), values: values(scopes, i) }
    });
    Arguments { shared: values(&[Scope::Shared], 0), inputs: inputs.collect() }
}

/// Elements that inputs partly have in common; here and there zeros of either sign and subnormal numbers.
fn inputs(n_inputs: usize, n: usize) -> Vec<Vec<Bf16>> {
    let draws = |position: usize| -> Vec<u32> {
        let stream = Stream::derive(0, "bf16 inputs", position, "tensor");
        (0..n as u64).map(|i| (stream.bits(i) >> 32) as u32).collect()
    };
    let common = draws(0);
    let input = |number: usize| -> Vec<Bf16> {
        let own = draws(number + 1);
        let element = |(common, own): (&u32, &u32)| {
            let bits = match own % 16 {
                0 => 0x8000,
                1 => 0,
                2 => (own >> 16) & 0x807f,
                3 => common >> 16 & 0x80ff | 0x3c00,
                // Exponents from 2^-14 to 2.
                _ => (common >> 16 & 0x8fff | 0x3000) ^ (own >> 8 & 0x7f),
            };
            (bits as u16).to_le_bytes()
        };
        common.iter().zip(&own).map(element).collect()
    };
    (0..n_inputs).map(input).collect()
}

/// How many inputs a method is tried with.
fn numbers_of_inputs(method: &'static dyn Method) -> std::ops::RangeInclusive<usize> {
    let spec = method.spec();
    let base = usize::from(spec.base.is_relative());
    // One alone is mostly passed on as it is.
    let least = (spec.inputs.min + base).max(2);
    least..=spec.inputs.max.map_or(6, |most| (most + base).min(6)).max(least)
}

fn merging() -> impl Iterator<Item = &'static dyn Method> {
    methods::all().iter().copied().filter(|method| method.spec().name != "passthrough")
}

#[test]
fn bytes_are_those_of_f32() {
    for method in merging() {
        for n_inputs in numbers_of_inputs(method) {
            // Pieces and an odd number of elements; rows of odd lengths; next to nothing.
            for shape in [&[4099][..], &[11, 151], &[3, 5], &[1], &[0, 4]] {
                let inputs = inputs(n_inputs, shape.iter().product());
                assert!(agrees(method, &arguments(method, n_inputs, &[]), &inputs, shape));
            }
        }
    }
}

#[test]
fn bytes_are_those_of_f32_from_block_to_block() {
    let slerp = methods::find("slerp").unwrap();
    let n = (1 << 18) + 4099;
    assert!(agrees(slerp, &arguments(slerp, 2, &[]), &inputs(2, n), &[n]));
}

#[test]
fn bytes_are_those_of_f32_whatever_is_set() {
    let number = |name, value| (name, Value::Number(value));
    let flag = |name, value| (name, Value::Flag(value));
    let sets: [(&str, &[(&'static str, Value)]); 12] = [
        ("linear", &[flag("normalize", false)]),
        ("linear", &[number("weight", 0.25)]),
        ("slerp", &[number("t", -0.5)]),
        ("model_stock", &[flag("filter_wise", true)]),
        ("task_arithmetic", &[number("lambda", 0.7)]),
        ("task_arithmetic", &[flag("normalize", true)]),
        ("dare_linear", &[number("density", 1.0)]),
        ("nuslerp", &[flag("nuslerp_flatten", false)]),
        ("multislerp", &[flag("normalize_weights", false)]),
        ("ram", &[number("epsilon", 0.0)]),
        ("sce", &[number("select_topk", 0.5)]),
        ("nearswap", &[number("t", 1e-9)]),
    ];
    for (name, set) in sets {
        let method = methods::find(name).unwrap();
        for n_inputs in numbers_of_inputs(method) {
            let arguments = arguments(method, n_inputs, set);
            assert!(agrees(method, &arguments, &inputs(n_inputs, 1027), &[13, 79]));
        }
    }
}

#[test]
fn what_is_not_finite_is_the_same_error() {
    for method in merging() {
        let n_inputs = *numbers_of_inputs(method).start();
        for bits in [0x7f80u16, 0xffff, 0x7f7f, 0xff7f] {
            for at in [0, 299, 300] {
                let mut inputs = inputs(n_inputs, 301);
                inputs[n_inputs - 1][at] = bits.to_le_bytes();
                let is_sound = agrees(method, &arguments(method, n_inputs, &[]), &inputs, &[301]);
                let adds_up = ["linear", "slerp", "model_stock"].contains(&method.spec().name);
                assert!(!is_sound || !adds_up || bits & 0x7fff == 0x7f7f, "{bits:#x}");
            }
        }
    }
}
