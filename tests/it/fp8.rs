//! Checkpoints in eight-bit floats without scales, which are read exactly.

use std::fs;

use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use crate::checkpoints::{Checkpoint, read};
use crate::harness::Space;

const NAME: &str = "model.layers.0.w.weight";
/// 0.5, -448, and the smallest there is, in E4M3.
const E4M3: [u8; 3] = [0x30, 0xfe, 0x01];
/// 0.5, -57344, and the smallest there is, in E5M2.
const E5M2: [u8; 3] = [0x38, 0xfb, 0x01];

fn model(dtype: Dtype, bytes: &[u8]) -> Checkpoint {
    let mut checkpoint = Checkpoint::new(json!({"model_type": "llama", "num_hidden_layers": 1}));
    checkpoint.f8(NAME, dtype, &[bytes.len()], bytes);
    checkpoint
}

fn space() -> Space {
    let space = Space::new();
    model(Dtype::F8_E4M3, &E4M3).write(&space.path("a"));
    model(Dtype::F8_E5M2, &E5M2).write(&space.path("b"));
    space
}

#[test]
fn eight_bit_floats_are_read_exactly() {
    let space = space();
    let values = |recipe: &str| {
        space.write("r.yaml", recipe);
        space.ok(&["build", "-q", "r.yaml", "--out", "o", "--deny-warnings"]);
        let tensor = read(&space.path("o")).remove(NAME).unwrap();
        (tensor.dtype, tensor.values)
    };
    let copy = |model| format!("name: x\nmerge_method: passthrough\nmodels: [{{model: ./{model}}}]\n");
    let tiny = |exponent| 2f64.powi(exponent);
    let (a, b) = (vec![0.5, -448.0, tiny(-9)], vec![0.5, -57_344.0, tiny(-16)]);
    assert_eq!(values(&(copy("a") + "dtype: bfloat16\n")), (Dtype::BF16, a.clone()));
    assert_eq!(space.json("o/config.json")["dtype"], "bfloat16");
    assert_eq!(values(&(copy("b") + "out_dtype: float16\n")), (Dtype::F16, b.clone()));
    let mean = "name: x\nmerge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\n\
                parameters: {weight: 1, normalize: false}\ndtype: float32\n";
    let sum = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    assert_eq!(values(mean), (Dtype::F32, sum));
}

#[test]
fn without_a_dtype_they_are_copied_or_refused() {
    let space = space();
    space.write("r.yaml", "name: x\nmerge_method: passthrough\nmodels: [{model: ./a}]\n");
    space.ok(&["build", "-q", "r.yaml", "--out", "o"]);
    let shard = fs::read(space.path("o/model.safetensors")).unwrap();
    let shard = SafeTensors::deserialize(&shard).unwrap();
    assert_eq!(shard.tensor(NAME).unwrap().data(), E4M3);
    model(Dtype::F8_E4M3, &[0x31, 0x32, 0x33]).write(&space.path("c"));
    space.write(
        "r.yaml",
        "name: x\nmerge_method: linear\nmodels: [{model: ./a}, {model: ./c}]\nparameters: {weight: 1}\n",
    );
    let said = space.fails(1, &["check", "r.yaml"]);
    assert!(said.contains(NAME) && said.contains("dtype: bfloat16"), "{said}");
}
