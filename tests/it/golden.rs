//! What every method makes of a fixed merge, to the bit: arithmetic that changes must raise the version.

use std::collections::BTreeSet;
use std::fs;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde_json::Value;

use crate::harness::Space;
use crate::keys::takes;

const DTYPES: [(&str, Dtype); 4] =
    [("float32", Dtype::F32), ("float16", Dtype::F16), ("bfloat16", Dtype::BF16), ("float64", Dtype::F64)];

/// Of every method and version, the start of the BLAKE3 digest of what it makes in each of [`DTYPES`].
///
/// A method whose bytes change gets a new version, and a row of its own in the place of the old one.
const GOLDEN: &[(&str, u64, [&str; 4])] = &[
    ("passthrough", 1, ["463d53e0bae3445c", "1f555eb0a4ab5d12", "10d89c8565163afd", "b324126c206beb49"]),
    ("linear", 1, ["09a85a29c23020fb", "1da8060214556c70", "3db15f7b4cdf206a", "622b223d1c056589"]),
    ("slerp", 1, ["b6a0544c501ce023", "7192b5a128488b9b", "1025207e505c7819", "d305d098583d4b4c"]),
    ("nuslerp", 1, ["b872f4c7426b9b13", "e14e248cb51c2ebc", "d460c13c3f0e1102", "6796d37d0a3bfe73"]),
    ("multislerp", 1, ["3e19414b92df44b9", "631034e79d83a559", "e4e5d4738fc22341", "2abbc9d712dfa41c"]),
    ("karcher", 1, ["4bad0f3762b48f45", "bd43b128dbdd3b42", "d6e261239b0a533d", "13baf4c11a4577dd"]),
    ("task_arithmetic", 1, ["3717efeb5586fd38", "d503f440f69ac0a7", "e7f59cdeb4d97cb4", "d8f6762f53dada2b"]),
    ("ties", 1, ["5f8fa68a5475be88", "61c6cf18c5b57995", "385753b039c35e79", "72003562486f7889"]),
    ("dare_linear", 2, ["54538fb93e82daf4", "a11c4b7009df89cd", "29f4782656078fe0", "3377b7de9ef55193"]),
    ("dare_ties", 2, ["49d804dca8e055a8", "89588688bb18f538", "e13f56846629de42", "1306e9f65962d2ab"]),
    ("della", 2, ["98864f1b9e11653c", "7077c944b4c2a5d8", "5fa169a0ea7f7236", "0230b5b034ac28ef"]),
    ("della_linear", 2, ["d5240501b8917b47", "a2d568db7c5f9e2b", "55ebf8d46ab26c4e", "899f917e596c3ccd"]),
    ("breadcrumbs", 1, ["f49905c65790d756", "612ddd2dae104e81", "de5d9cef0e8db1a3", "a6fff65d9291d3c2"]),
    ("breadcrumbs_ties", 1, ["d9bb3da2c7e90b08", "cd00b569411b096b", "cebfb869bc7d5cf1", "bfeec27fcf2d7816"]),
    ("model_stock", 1, ["635a1e9b60aef258", "4585c31a4ef972de", "5594d64baad903e3", "2a8079de770a03d0"]),
    ("sce", 1, ["b496785d35ce2829", "f6fcdb8adae3a6ad", "7d463ab687da27ac", "ba2e0c8d1a0ffbee"]),
    ("ram", 1, ["37630fef7075bae5", "c0a12df52e75fe24", "c74982452a63e931", "d5a4a61d3ecaad6b"]),
    ("ramplus_tl", 1, ["0cc7f619278db164", "c257c58747c217b4", "24529409bffc15cd", "4a8f324f9c78bec7"]),
    ("nearswap", 1, ["792f55adcb7dc1b2", "9c78b1cc56ec0fc0", "992697d32d759477", "4de53be4dfdd12d0"]),
    ("arcee_fusion", 1, ["7297a9f81572d3df", "639988ec093290ad", "3690a300c26acf1f", "caf7e8a5f577592c"]),
];

/// Shapes of one leaf and of several, whole vectors and odd ends.
const SHAPES: [(&str, &[usize]); 5] = [
    ("model.embed_tokens.weight", &[8, 4]),
    ("model.layers.0.mlp.bias", &[33_001]),
    ("model.layers.0.mlp.experts", &[3, 7, 5]),
    ("model.layers.0.mlp.weight", &[130, 257]),
    ("model.norm.weight", &[4]),
];

/// Steele, Lea, Flood: SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn encoded(dtype: Dtype, value: f64) -> Vec<u8> {
    match dtype {
        Dtype::F64 => value.to_le_bytes().to_vec(),
        Dtype::F32 => (value as f32).to_le_bytes().to_vec(),
        Dtype::F16 => f16::from_f64(value).to_le_bytes().to_vec(),
        _ => bf16::from_f64(value).to_le_bytes().to_vec(),
    }
}

/// A model of values in (-1, 1), each a multiple of 2^-24.
fn write_model(space: &Space, name: &str, dtype: Dtype, seed: u64) {
    let mut state = seed;
    let tensors: Vec<(&str, &[usize], Vec<u8>)> = SHAPES
        .iter()
        .map(|(tensor, shape)| {
            let n = shape.iter().product();
            let values = (0..n).map(|_| (next(&mut state) >> 39) as f64 / f64::from(1 << 24) - 1.0);
            (*tensor, *shape, values.flat_map(|value| encoded(dtype, value)).collect())
        })
        .collect();
    let views = tensors.iter().map(|(tensor, shape, bytes)| {
        (*tensor, TensorView::new(dtype, shape.to_vec(), bytes).expect("the shape fits"))
    });
    space.write(&format!("{name}/model.safetensors"), serialize(views, None).expect("it can be written"));
    space.write(&format!("{name}/config.json"), r#"{"model_type": "llama", "num_hidden_layers": 1}"#);
}

/// A stage of the method with no parameter at its default, in one dtype.
pub fn stage(method: &Value, dtype: &str) -> String {
    let name = method["name"].as_str().unwrap();
    let (mut shared, mut own) = (Vec::new(), [Vec::new(), Vec::new()]);
    for param in method["params"].as_array().unwrap() {
        let name = param["name"].as_str().unwrap();
        if param["type"] == "flag" {
            shared.push(format!("{name}: {}", !param["default"].as_bool().unwrap()));
        } else if param["scope"] == "shared" {
            assert_ne!(param["default"], param["example"], "{name} is at its default");
            shared.push(format!("{name}: {}", param["example"]));
        } else {
            let example = param["example"].as_f64().unwrap();
            let less = Some(0.75 * example).filter(|less| param["type"] == "number" && takes(param, *less));
            for (value, own) in [example, less.unwrap_or(example)].into_iter().zip(&mut own) {
                assert_ne!(param["default"], value, "{name} is at its default");
                own.push(format!("{name}: {value}"));
            }
        }
    }
    let n_models = method["models_max"].as_u64().unwrap_or(2).min(2) as usize;
    let models: Vec<String> = ["b", "c"][..n_models]
        .iter()
        .zip(own)
        .map(|(model, own)| format!("{{model: ./{model}-{dtype}, parameters: {{{}}}}}", own.join(", ")))
        .collect();
    let base =
        if method["base"] == "ordinary" { String::new() } else { format!("base_model: ./a-{dtype}\n") };
    format!(
        "name: {name}-{dtype}\nmerge_method: {name}\n{base}models: [{}]\nparameters: {{{}}}\nseed: 5\n\
         dtype: {dtype}\n",
        models.join(", "),
        shared.join(", ")
    )
}

/// The digest of every tensor's name and bytes.
fn digest(space: &Space, stage: &str) -> String {
    let shard = fs::read(space.path(&format!("merges/{stage}/model.safetensors"))).unwrap();
    let shard = SafeTensors::deserialize(&shard).unwrap();
    let mut hasher = blake3::Hasher::new();
    for (name, _) in SHAPES {
        hasher.update(name.as_bytes());
        hasher.update(shard.tensor(name).unwrap().data());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

#[test]
fn every_method_makes_the_bytes_that_its_version_stands_for() {
    let space = Space::new();
    for (dtype, stored) in DTYPES {
        for (seed, model) in (1..).zip(["a", "b", "c"]) {
            write_model(&space, &format!("{model}-{dtype}"), stored, seed);
        }
    }
    let methods = space.methods();
    let stages = methods.iter().flat_map(|method| DTYPES.map(|(dtype, _)| stage(method, dtype)));
    space.write("recipe.yaml", stages.collect::<Vec<_>>().join("---\n"));
    let mut missing = BTreeSet::new();
    for level in ["", "baseline", "avx2"] {
        let args = ["build", "-q", "recipe.yaml", "--cache", &format!("cache-{level}")];
        let output = space.command(&args).env("LAMARCK_SIMD", level).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for method in &methods {
            let (name, version) = (method["name"].as_str().unwrap(), method["version"].as_u64().unwrap());
            let digests = DTYPES.map(|(dtype, _)| digest(&space, &format!("{name}-{dtype}")));
            let row = format!("({name:?}, {version}, {digests:?}),");
            let Some((_, golden_version, golden)) = GOLDEN.iter().find(|(golden, ..)| *golden == name) else {
                missing.insert(row);
                continue;
            };
            assert!(
                *golden_version != version || *golden == digests,
                "`{name}` makes other bytes at level {level:?}: raise its version, or find out why; now it is\n{row}"
            );
            assert_eq!(
                *golden_version, version,
                "`{name}` has a new version; put its row in the place of the old one:\n{row}"
            );
        }
        for (name, ..) in GOLDEN {
            assert!(
                methods.iter().any(|method| method["name"] == *name),
                "there is no method `{name}` any more"
            );
        }
        fs::remove_dir_all(space.path("merges")).unwrap();
    }
    // More than a row for each method if levels differ.
    let missing: Vec<String> = missing.into_iter().collect();
    assert!(
        missing.is_empty(),
        "GOLDEN lacks methods; once their results are what they should be, add\n{}",
        missing.join("\n")
    );
}
