//! Quantised checkpoints: eight-bit floats are multiplied by their scales, everything else is refused by name.

use std::collections::BTreeMap;

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::checkpoints::{Checkpoint, Tensor, read};
use crate::harness::Space;

const COPY: &str = "name: x\nmerge_method: passthrough\nmodels: [{model: ./a}]\n";

/// Every finite E4M3 number, over and over.
fn e4m3(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 37 % 256) as u8).map(|byte| if byte & 0x7f == 0x7f { 0x30 } else { byte }).collect()
}

/// What an E4M3 number is, by the definition of the format.
fn value(byte: u8) -> f64 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f64::from(byte & 7));
    let size = match exponent {
        0 => mantissa * 2f64.powi(-9),
        _ => (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
    };
    if byte >> 7 == 1 { -size } else { size }
}

fn scale(i: usize) -> f32 {
    0.001 + (i * 29 % 13) as f32 * 0.000_37
}

/// A quantised matrix with its scales, of which `place` tells the one of an element.
struct Matrix<'a> {
    name: &'a str,
    shape: [usize; 2],
    scale: (&'a str, &'a [usize]),
    place: fn(usize, usize) -> usize,
}

impl Matrix<'_> {
    fn add_to(&self, checkpoint: &mut Checkpoint) {
        let [rows, columns] = self.shape;
        checkpoint.f8(self.name, Dtype::F8_E4M3, &self.shape, &e4m3(rows * columns));
        let n = self.scale.1.iter().product();
        let scales: Vec<f32> = (0..n).map(scale).collect();
        checkpoint.f32(self.scale.0, self.scale.1, &scales);
    }

    /// The weights that it stands for, in double precision.
    fn weights(&self) -> Vec<f64> {
        let [rows, columns] = self.shape;
        let bytes = e4m3(rows * columns);
        let weight = |i: usize| value(bytes[i]) * f64::from(scale((self.place)(i / columns, i % columns)));
        (0..rows * columns).map(weight).collect()
    }

    /// Half a step of the dtype is the most that rounding may take away.
    #[track_caller]
    fn check(&self, found: &Tensor, dtype: Dtype, bits: i32) {
        assert_eq!((found.dtype, &found.shape[..]), (dtype, &self.shape[..]), "{}", self.name);
        for (found, weight) in found.values.iter().zip(self.weights()) {
            let half_a_step = weight.abs() * 2f64.powi(-bits);
            assert!((found - weight).abs() <= half_a_step * 1.001, "{}: {found} {weight}", self.name);
        }
    }
}

fn quantised(quantization_config: Value) -> Checkpoint {
    let mut checkpoint = Checkpoint::new(json!({
        "model_type": "llama", "num_hidden_layers": 1, "dtype": "bfloat16",
        "quantization_config": quantization_config,
    }));
    checkpoint.random("model.norm.weight", &[4], 1);
    checkpoint.bf16()
}

/// Builds a recipe and reads what it made.
#[track_caller]
fn built(space: &Space, recipe: &str) -> BTreeMap<String, Tensor> {
    space.write("r.yaml", recipe);
    space.ok(&["build", "-q", "r.yaml", "--out", "o"]);
    let config = space.json("o/config.json");
    assert!(config.get("quantization_config").is_none(), "{config}");
    read(&space.path("o"))
}

#[test]
fn scales_a_block_a_row_or_a_tensor() {
    let blocks = json!({"quant_method": "fp8", "weight_block_size": [128, 64]});
    let others = json!({"quant_method": "compressed-tensors", "format": "float-quantized",
        "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}}});
    let weight = "model.layers.0.mlp.up_proj.weight";
    let inverse = "model.layers.0.mlp.up_proj.weight_scale_inv";
    let plain = "model.layers.0.mlp.up_proj.weight_scale";
    type Case<'a> = (&'a Value, &'a str, &'a [usize], fn(usize, usize) -> usize);
    let cases: [Case<'_>; 7] = [
        // The last blocks are smaller, both ways.
        (&blocks, inverse, &[3, 5], |row, column| row / 128 * 5 + column / 64),
        (&others, plain, &[300], |row, _| row),
        (&others, plain, &[300, 1], |row, _| row),
        (&others, plain, &[1, 290], |_, column| column),
        (&others, plain, &[1], |_, _| 0),
        (&others, plain, &[], |_, _| 0),
        (&json!(null), inverse, &[300, 1], |row, _| row),
    ];
    for (config, name, shape, place) in cases {
        let matrix = Matrix { name: weight, shape: [300, 290], scale: (name, shape), place };
        let space = Space::new();
        let mut checkpoint = quantised(config.clone());
        matrix.add_to(&mut checkpoint);
        checkpoint.f32("model.layers.0.mlp.up_proj.input_scale", &[], &[0.5]);
        checkpoint.f32("model.layers.0.self_attn.k_scale", &[], &[0.5]);
        checkpoint.write(&space.path("a"));
        // Without a dtype the result has that of the configuration.
        let found = built(&space, COPY);
        assert_eq!(found.keys().collect::<Vec<_>>(), [weight, "model.norm.weight"]);
        matrix.check(&found[weight], Dtype::BF16, 8);
        let said = space.ok(&["check", "-v", "r.yaml"]).stderr;
        assert!(said.contains("note[dequantised]") && said.contains("input_scale"), "{said}");
        assert!(built(&space, &format!("{COPY}dtype: float32\n"))[weight].dtype == Dtype::F32);
        checkpoint.config["dtype"] = "float32".into();
        checkpoint.write(&space.path("a"));
        matrix.check(&built(&space, COPY)[weight], Dtype::F32, 23);
    }
}

#[test]
fn experts_with_a_scale_each_are_joined() {
    let space = Space::new();
    let mut checkpoint = quantised(json!({"quant_method": "fp8", "weight_block_size": [4, 4]}));
    let prefix = "model.layers.0.block_sparse_moe";
    checkpoint.random(&format!("{prefix}.gate.weight"), &[2, 6], 1);
    for expert in 0..2 {
        for (w, [rows, columns]) in [("w1", [5, 6]), ("w2", [6, 5]), ("w3", [5, 6])] {
            let name = format!("{prefix}.experts.{expert}.{w}.weight");
            checkpoint.f8(&name, Dtype::F8_E4M3, &[rows, columns], &[0x38 + expert; 30]);
            let value = if w == "w3" { 3.0 } else { 2.0 };
            checkpoint.f32(&format!("{name}_scale_inv"), &[2, 2], &[value; 4]);
        }
    }
    checkpoint.write(&space.path("a"));
    let found = built(&space, COPY);
    let up = &found["model.layers.0.mlp.experts.gate_up_proj"];
    assert_eq!((up.dtype, &up.shape[..]), (Dtype::BF16, &[2, 10, 6][..]));
    let at = |expert: usize, row: usize| up.values[(expert * 10 + row) * 6];
    assert_eq!([at(0, 0), at(0, 5), at(1, 0), at(1, 5)], [2.0, 3.0, 2.25, 3.375]);
    assert_eq!(found["model.layers.0.mlp.experts.down_proj"].values[30], 2.25);
}

#[test]
fn a_merge_sees_the_weights_and_a_second_build_nothing_new() {
    let space = Space::new();
    let mut a = quantised(json!({"quant_method": "fp8", "weight_block_size": null}));
    let name = "model.layers.0.w.weight";
    a.f8(name, Dtype::F8_E4M3, &[1, 2], &[0x38, 0xb8]);
    a.f32("model.layers.0.w.weight_scale_inv", &[], &[0.5]);
    a.write(&space.path("a"));
    let mut b = Checkpoint::new(json!({"model_type": "llama", "num_hidden_layers": 1}));
    b.random("model.norm.weight", &[4], 1);
    b.f32(name, &[1, 2], &[2.5, 1.0]);
    b.write(&space.path("b"));
    let recipe = "name: x\nmerge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\n\
                  parameters: {weight: 0.5}\ndtype: float32\n";
    assert_eq!(built(&space, recipe)[name].values, [1.5, 0.25]);
    assert_eq!(space.build(&["r.yaml", "--out", "o"]).ran.len(), 0);
    space.ok(&["verify", "o", "--rebuild"]);
    // Another scale is another weight.
    crate::harness::settle();
    a.f32("model.layers.0.w.weight_scale_inv", &[], &[1.5]);
    a.write(&space.path("a"));
    assert_eq!(built(&space, recipe)[name].values, [2.0, -0.25]);
}

#[test]
fn other_methods_are_refused_by_name() {
    let four_bits = json!({"quant_method": "compressed-tensors", "format": "pack-quantized",
        "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}}});
    for (config, word) in [
        (json!({"quant_method": "gptq", "bits": 4}), "GPTQ"),
        (json!({"quant_method": "awq"}), "AWQ"),
        (json!({"quant_method": "bitsandbytes", "load_in_4bit": true}), "bitsandbytes"),
        (json!({"quant_method": "hqq"}), "HQQ"),
        (json!({"quant_method": "aqlm"}), "AQLM"),
        (json!({"quant_method": "mxfp4"}), "MXFP4"),
        (json!({"quant_method": "torchao"}), "torchao"),
        (four_bits, "compressed-tensors, in the format pack-quantized"),
        (json!({"quant_method": "of-tomorrow"}), "of-tomorrow"),
    ] {
        let space = Space::new();
        quantised(config).write(&space.path("a"));
        refuses(&space, &["error[quantised]", "a:", word]);
        space.ok(&["inspect", "a"]);
    }
    // Without a word in config.json, names of tensors tell.
    for (tensors, word) in [
        (&["q.qweight", "q.qzeros", "q.scales", "q.g_idx"][..], "GPTQ"),
        (&["q.weight", "q.weight.absmax", "q.weight.quant_map"], "bitsandbytes"),
        (&["q.weight", "q.SCB"], "bitsandbytes"),
        (&["experts.down_proj_blocks", "experts.down_proj_scales"], "MXFP4"),
        (&["q.weight", "q.weight_scale"], "integers that have scales"),
    ] {
        let space = Space::new();
        let mut checkpoint = quantised(json!(null));
        for name in tensors {
            checkpoint.u8(&format!("model.layers.0.{name}"), &[2, 2], &[1; 4]);
        }
        checkpoint.write(&space.path("a"));
        refuses(&space, &["error[quantised]", word, "`model.layers.0."]);
    }
}

#[test]
fn scales_that_are_missing_or_not_understood_are_errors() {
    let weight = "model.layers.0.w.weight";
    let fp8 = json!({"quant_method": "fp8", "weight_block_size": [2, 2]});
    type Scales<'a> = &'a [(&'a str, &'a [usize])];
    let cases: [(&Value, Scales<'_>, &str); 6] = [
        (&fp8, &[], "without a scale"),
        (&json!(null), &[("model.layers.0.w.input_scale", &[])], "not a kind of scale that lamarck knows"),
        (
            &json!(null),
            &[("model.layers.0.w.weight_scale_inv", &[2, 2])],
            "whose size config.json does not give",
        ),
        (&fp8, &[("model.layers.0.w.weight_scale_inv", &[3, 2])], "blocks of 2 x 2"),
        (&fp8, &[("model.layers.0.w.weight_scale_inv", &[3])], "blocks of 2 x 2"),
        (
            &fp8,
            &[("model.layers.0.w.weight_scale_inv", &[]), ("model.layers.1.w.weight_scale_inv", &[])],
            "model.layers.1.w.weight_scale_inv",
        ),
    ];
    for (config, scales, word) in cases {
        let space = Space::new();
        let mut checkpoint = quantised(config.clone());
        checkpoint.f8(weight, Dtype::F8_E4M3, &[4, 4], &e4m3(16));
        for (name, shape) in scales {
            checkpoint.f32(name, shape, &vec![1.0; shape.iter().product()]);
        }
        checkpoint.write(&space.path("a"));
        refuses(&space, &["error[quantised]", word]);
    }
}

/// A build and a copy without a dtype must fail alike, and leave nothing behind.
#[track_caller]
fn refuses(space: &Space, words: &[&str]) {
    for dtype in ["", "dtype: bfloat16\n"] {
        space.write("r.yaml", format!("{COPY}{dtype}"));
        let said = space.fails(1, &["build", "r.yaml"]);
        for word in words {
            assert!(said.contains(word), "`{word}` is not in: {said}");
        }
        assert!(!space.path("merges").exists());
    }
}
