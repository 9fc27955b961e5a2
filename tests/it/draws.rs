//! What random methods keep, held to the definition of their draws from the seed on.

use std::fs;

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use crate::harness::Space;

/// A vector; matrices whose rows start within a counter; and vectors along the second of three and more axes.
const SHAPES: [(&str, &[usize]); 6] = [
    ("model.layers.0.bias", &[301]),
    ("model.layers.0.conv.weight", &[5, 11, 3, 2]),
    ("model.layers.0.narrow.weight", &[40, 2]),
    ("model.layers.0.single.weight", &[40, 1]),
    ("model.layers.0.stack.weight", &[3, 70, 130]),
    ("model.layers.0.wide.weight", &[70, 263]),
];

/// Salmon, Moraes, Dror, Shaw: Philox4x32, with 7 rounds.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..7 {
        let a = u64::from(counter[0]) * 0xd251_1f53;
        let b = u64::from(counter[2]) * 0xcd9e_8d57;
        let high = |product: u64| (product >> 32) as u32;
        counter = [high(b) ^ counter[1] ^ key[0], b as u32, high(a) ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    counter
}

/// Steele, Lea, Flood: SplitMix64.
fn splitmix(seed: u64, number: u64) -> u64 {
    let z = seed.wrapping_add((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The draws of an element: a byte, and 64 bits.
fn draws(name: &[u32; 6], index: u64) -> (u8, u64) {
    let counter = index / 16;
    let words = philox([counter as u32, (counter >> 32) as u32, name[2], name[3]], [name[0], name[1]]);
    let byte = words[index as usize % 16 / 4].to_le_bytes()[index as usize % 4];
    (byte, splitmix(u64::from(name[5]) << 32 | u64::from(name[4]), index))
}

/// Whether an element is kept, given its row, its place there and its flat index.
fn is_kept(name: &[u32; 6], density: f64, epsilon: f64, row: &[f32], i: usize, index: u64) -> bool {
    let (byte, bits) = draws(name, index);
    let u = (f64::from(byte) + (bits % (1 << 24)) as f64 / f64::from(1 << 24)) / 256.0;
    if row.len() == 1 {
        return u < density;
    }
    let among_others = ((u128::from(bits) * (row.len() as u128 - 1)) >> 64) as usize;
    let partner = if among_others < i { among_others } else { among_others + 1 };
    let beats = row[i].abs() > row[partner].abs() || row[i].abs() == row[partner].abs() && i < partner;
    u < if beats { density + epsilon } else { density - epsilon }
}

fn stream_name(seed: u64, stage: &str, position: u64, tensor: &str) -> [u32; 6] {
    let mut hasher = blake3::Hasher::new_derive_key("lamarck random stream");
    hasher.update(&seed.to_le_bytes()).update(&position.to_le_bytes());
    for part in [stage, tensor] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    let bytes = *hasher.finalize().as_bytes();
    std::array::from_fn(|i| u32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap()))
}

/// Small steps of either sign, many of them equal and some zero.
fn values(shape: &[usize]) -> Vec<f32> {
    (0..shape.iter().product::<usize>()).map(|i| ((i * 37 + i / 7) % 23) as f32 - 11.0).collect()
}

fn write_model(space: &Space, folder: &str, value: impl Fn(f32) -> f32) {
    let tensors: Vec<(&str, &[usize], Vec<u8>)> = SHAPES
        .iter()
        .map(|(name, shape)| {
            (*name, *shape, values(shape).into_iter().flat_map(|x| value(x).to_le_bytes()).collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).expect("the shape fits"))
    });
    space.write(&format!("{folder}/model.safetensors"), serialize(views, None).expect("it can be written"));
    space.write(&format!("{folder}/config.json"), r#"{"model_type": "llama", "num_hidden_layers": 1}"#);
}

#[test]
fn masks_follow_from_the_seed_as_documented() {
    let space = Space::new();
    write_model(&space, "base", |_| 0.0);
    write_model(&space, "model", |x| x);
    let (seed, density) = (11, 0.45);
    let methods = [("della_linear", 0.2), ("della_linear", -0.2), ("dare_linear", 0.0)];
    let stages = methods.iter().enumerate().map(|(number, (method, epsilon))| {
        let own = if *epsilon == 0.0 { String::new() } else { format!(", epsilon: {epsilon}") };
        format!(
            "name: s{number}\nmerge_method: {method}\nbase_model: ./base\n\
             models: [{{model: ./model, parameters: {{weight: 1, density: {density}{own}}}}}]\n\
             parameters: {{rescale: false}}\nseed: {seed}\n"
        )
    });
    space.write("recipe.yaml", stages.collect::<Vec<_>>().join("---\n"));
    for (level, jobs) in [("", "2"), ("baseline", "1"), ("avx2", "1")] {
        let _ = fs::remove_dir_all(space.path("merges"));
        let args = ["build", "-q", "recipe.yaml", "--cache", &format!("cache-{level}"), "--jobs", jobs];
        let output = space.command(&args).env("LAMARCK_SIMD", level).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for (number, (_, epsilon)) in methods.iter().enumerate() {
            let shard = fs::read(space.path(&format!("merges/s{number}/model.safetensors"))).unwrap();
            let shard = SafeTensors::deserialize(&shard).unwrap();
            for (tensor, shape) in SHAPES {
                let name = stream_name(seed, &format!("s{number}"), 0, tensor);
                let deltas = values(shape);
                let (len, inner) = match shape {
                    [len] => (*len, 1),
                    [_, len, inner @ ..] => (*len, inner.iter().product()),
                    [] => unreachable!("no tensor here is a single number"),
                };
                let found = shard.tensor(tensor).unwrap();
                for (index, found) in found.data().chunks(4).enumerate() {
                    let found = f32::from_le_bytes(found.try_into().unwrap());
                    let first = index / (len * inner) * len * inner + index % inner;
                    let row: Vec<f32> = (0..len).map(|i| deltas[first + i * inner]).collect();
                    let i = index / inner % len;
                    let kept = is_kept(&name, density, *epsilon, &row, i, index as u64);
                    let expected = if kept { deltas[index] } else { 0.0 };
                    assert_eq!(found, expected, "{tensor}, element {index} of s{number}, level {level:?}");
                }
            }
        }
    }
}
