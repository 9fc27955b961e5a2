//! Adapters applied to models and stages: beside what PEFT makes of them, what runs again, and what is refused.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::checkpoints::{Checkpoint, read};
use crate::harness::{Space, copy_dir, project, settle};

/// How far values may be from PEFT's, as a fraction of the tensor's largest magnitude.
const TOLERANCE: f64 = 1e-5;

#[test]
fn every_case_agrees_with_peft() {
    let root = project("tests/fixtures/lora");
    let mut wrong = Vec::new();
    let mut n_cases = 0;
    for case in fs::read_dir(root.join("cases")).unwrap().map(|entry| entry.unwrap().path()) {
        n_cases += 1;
        let space = Space::new();
        let (recipe, out) = (case.join("recipe.yml"), space.path("out"));
        let mut build = space.command(&["build", "-q"]);
        build.args([recipe.as_path(), "--cache".as_ref(), &space.path("cache"), "--out".as_ref(), &out]);
        let output = build.current_dir(&root).output().unwrap();
        if !output.status.success() {
            wrong.push(format!("{}: {}", case.display(), String::from_utf8_lossy(&output.stderr)));
            continue;
        }
        let found = read(&out);
        for (name, expected) in read(&case.join("expected")) {
            let Some(tensor) = found.get(&name) else {
                wrong.push(format!("{}: {name} is missing", case.display()));
                continue;
            };
            let largest = expected.values.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
            let is_near = |(a, b): (&f64, &f64)| (a - b).abs() <= TOLERANCE * largest;
            if tensor.shape != expected.shape || !tensor.values.iter().zip(&expected.values).all(is_near) {
                wrong.push(format!("{}: {name}", case.display()));
            }
        }
    }
    assert_eq!(n_cases, 19);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Writes an adapter's folder.
pub fn write_adapter(dir: &Path, config: Value, adapter: &Checkpoint) {
    adapter.write(dir);
    fs::remove_file(dir.join("config.json")).unwrap();
    fs::rename(dir.join("model.safetensors"), dir.join("adapter_model.safetensors")).unwrap();
    fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
}

fn key(layer: usize, module: &str, part: &str) -> String {
    format!("base_model.model.model.layers.{layer}.{module}.{part}")
}

/// An adapter of rank 2 on the queries of two layers of [`Checkpoint::decoder`].
pub fn queries() -> Checkpoint {
    let mut adapter = Checkpoint::new(Value::Null);
    for layer in 0..2 {
        adapter.random(&key(layer, "self_attn.q_proj", "lora_A.weight"), &[2, 4], 5);
        adapter.random(&key(layer, "self_attn.q_proj", "lora_B.weight"), &[4, 2], 6);
    }
    adapter
}

pub fn config(alpha: f64) -> Value {
    json!({ "peft_type": "LORA", "r": 2, "lora_alpha": alpha, "target_modules": ["q_proj"] })
}

const BAKE: &str = "name: baked\nmerge_method: passthrough\nmodels: [{model: ./a+./ad}]\n";

/// A model `a`, an adapter `ad` and a recipe that bakes the one into the other.
fn space() -> Space {
    let space = Space::new();
    Checkpoint::decoder(2, 1).write(&space.path("a"));
    write_adapter(&space.path("ad"), config(4.0), &queries());
    space.write("r.yaml", BAKE);
    space
}

fn adapted() -> BTreeSet<String> {
    (0..2).map(|layer| format!("model.layers.{layer}.self_attn.q_proj.weight of ./a+./ad")).collect()
}

fn ran(space: &Space) -> BTreeSet<String> {
    space.build(&["r.yaml"]).ran.into_iter().map(|(_, tensor)| tensor).collect()
}

#[test]
fn only_what_an_adapter_changes_is_made() {
    let space = space();
    assert_eq!(ran(&space), adapted());
    let (before, after) = (read(&space.path("a")), read(&space.path("merges/baked")));
    let changed: BTreeSet<&String> = before.keys().filter(|name| before[*name] != after[*name]).collect();
    assert_eq!(changed.len(), 2);
    // What was read is told, and proves the result.
    let lock = space.json("merges/baked/lamarck.lock.json");
    assert_eq!(lock["sources"]["./ad"]["tensors"].as_object().unwrap().len(), 4);
    assert_eq!(lock["sources"]["./a"]["tensors"].as_object().unwrap().len(), before.len());
    space.ok(&["verify", "merges/baked", "--rebuild"]);
}

#[test]
fn an_edit_of_an_adapter_rebuilds_what_it_reaches() {
    let space = space();
    assert_eq!(ran(&space), adapted());
    write_adapter(&space.path("ad"), config(4.0), &queries());
    settle();
    assert_eq!(ran(&space), BTreeSet::new(), "it was touched, and is the same");
    let more = json!({ "lora_dropout": 0.1, "peft_version": "1.0", "base_model_name_or_path": "x/y" });
    let mut as_before = config(4.0);
    as_before.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    space.write("ad/adapter_config.json", as_before.to_string());
    assert_eq!(ran(&space), BTreeSet::new(), "nothing bears on the weights");
    space.write("ad/adapter_config.json", config(3.0).to_string());
    let told = space.ok(&["explain", "r.yaml"]).stdout;
    assert!(told.contains("scale of ./ad 2 -> 1.5"), "{told}");
    assert_eq!(ran(&space), adapted());
    let mut edited = queries();
    edited.random(&key(1, "self_attn.q_proj", "lora_B.weight"), &[4, 2], 9);
    write_adapter(&space.path("ad"), config(3.0), &edited);
    let built = space.build(&["r.yaml"]);
    assert_eq!(built.ran.len(), 1);
    assert!(built.ran.iter().all(|(_, tensor)| tensor.contains("layers.1.")), "{built:?}");
}

#[test]
fn references_stand_wherever_a_model_can() {
    let space = space();
    Checkpoint::decoder(2, 2).write(&space.path("b"));
    space.ok(&["build", "-q", "r.yaml", "--out", "o"]);
    let baked = read(&space.path("o"));
    let blend = |reference: &str, base: &str| {
        let models = format!("models: [{{model: {reference}, parameters: {{weight: 0.7}}}}]\n");
        let parameters = "parameters: {normalize: false}\n";
        space.write(
            "s.yaml",
            format!("merge_method: task_arithmetic\nbase_model: {base}\n{models}{parameters}"),
        );
        space.ok(&["build", "-q", "s.yaml", "--out", "p"]);
        fs::read(space.path("p/model.safetensors")).unwrap()
    };
    let expected = blend("./o", "./b");
    for reference in ["./a+./ad", "a+ad", "{model: {path: a}, lora: {path: ad}}", "{model: a, lora: ad}"] {
        assert!(blend(reference, "./b") == expected, "{reference}");
    }
    assert!(blend("./b", "./o") == blend("./b", "./a+./ad"), "as a base");
    // A stage's result takes an adapter like the model that it equals.
    let copy = "name: copy\nmerge_method: passthrough\nmodels: [{model: ./a}]\n---\n";
    space.write("s.yaml", format!("{copy}merge_method: passthrough\nmodels: [{{model: copy+./ad}}]\n"));
    space.ok(&["build", "-q", "s.yaml", "--out", "p"]);
    assert_eq!(read(&space.path("p")), baked);
}

#[test]
fn a_result_is_rounded_once_to_the_dtype_of_its_stage_or_model() {
    let space = space();
    let model = Checkpoint::decoder(2, 1).bf16();
    model.write(&space.path("a"));
    let query = |dtype: &str| {
        space.write("r.yaml", format!("{BAKE}{dtype}"));
        space.ok(&["build", "-q", "r.yaml", "--out", "o"]);
        read(&space.path("o")).remove("model.layers.0.self_attn.q_proj.weight").unwrap()
    };
    let (exact, plain) = (query("dtype: float32\n"), query(""));
    assert_eq!((exact.dtype, plain.dtype), (Dtype::F32, Dtype::BF16));
    let rounded = |value: &f64| f64::from(half::bf16::from_f32(*value as f32));
    assert_eq!(exact.values.iter().map(rounded).collect::<Vec<_>>(), plain.values);
    assert_ne!(exact.values, plain.values);
    assert_eq!(query("dtype: bfloat16\n"), plain);
}

/// An embedding too large for the memory is worked on in blocks, by rows or by columns.
#[test]
fn threads_and_memory_change_no_byte() {
    let space = Space::new();
    let (rows, columns) = (3001, 520);
    let mut model = Checkpoint::decoder(1, 1);
    model.random("model.embed_tokens.weight", &[rows, columns], 1);
    model.write(&space.path("a"));
    let mut adapter = Checkpoint::new(Value::Null);
    let part = |name: &str| format!("base_model.model.model.embed_tokens.{name}");
    adapter.random(&part("lora_embedding_A"), &[5, rows], 2);
    adapter.random(&part("lora_embedding_B"), &[columns, 5], 3);
    let config = json!({ "peft_type": "LORA", "r": 5, "lora_alpha": 2, "target_modules": ["embed_tokens"] });
    write_adapter(&space.path("ad"), config.clone(), &adapter);
    adapter.random(&part("lora_magnitude_vector"), &[columns], 4);
    write_adapter(&space.path("dora"), config, &adapter);
    for adapter in ["ad", "dora"] {
        space.write("r.yaml", BAKE.replace("./ad", &format!("./{adapter}")));
        let bytes = |more: &[&str]| {
            let args = ["build", "-q", "r.yaml", "--out", "o", "--cache", "c"];
            space.ok(&[&args, more].concat());
            fs::remove_dir_all(space.path("c")).unwrap();
            fs::read(space.path("o/model.safetensors")).unwrap()
        };
        let expected = bytes(&["--jobs", "1"]);
        assert!(bytes(&["--jobs", "3", "--memory", "8MiB"]) == expected, "{adapter}");
        assert!(expected != fs::read(space.path("a/model.safetensors")).unwrap());
    }
}

#[track_caller]
fn refused(space: &Space, words: &[&str]) {
    let said = space.fails(1, &["build", "r.yaml"]);
    for word in words {
        assert!(said.contains(word), "`{word}` is not in\n{said}");
    }
    assert!(said.matches("error[").count() <= 1, "{said}");
    assert!(!space.path("merges/baked").exists());
}

#[test]
fn adapters_that_do_not_fit_are_refused_with_the_key() {
    let space = space();
    let change = |more: Value, adapter: &Checkpoint| {
        let mut config = config(4.0);
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        write_adapter(&space.path("ad"), config, adapter);
    };
    let query = |part: &str| key(0, "self_attn.q_proj", part);
    change(json!({ "r": 3 }), &queries());
    refused(&space, &["r.yaml:3", "./ad", "q_proj.lora_A.weight", "rank 2", "gives its module rank 3"]);
    change(json!({ "init_lora_weights": "pissa" }), &queries());
    refused(&space, &["init_lora_weights: pissa"]);
    change(json!({ "peft_type": "LOHA" }), &queries());
    refused(&space, &["LOHA"]);
    change(json!({ "alora_invocation_tokens": [1] }), &queries());
    refused(&space, &["alora_invocation_tokens"]);
    change(json!({ "target_modules": ["v_proj"] }), &queries());
    refused(&space, &["q_proj.lora_A.weight", "does not target"]);
    let mut odd = queries();
    odd.random(&query("lora_A.weight"), &[2, 5], 1);
    change(json!({}), &odd);
    refused(&space, &["q_proj.lora_A.weight` [2, 5]", "q_proj.weight` [4, 4]"]);
    let mut odd = queries();
    odd.remove(&query("lora_B.weight"));
    change(json!({}), &odd);
    refused(&space, &["q_proj.lora_A.weight", "other half"]);
    let mut odd = queries();
    odd.random("base_model.model.transformer.h.0.attn.c_attn.lora_A.weight", &[2, 4], 1);
    odd.random("base_model.model.transformer.h.0.attn.c_attn.lora_B.weight", &[4, 2], 1);
    change(json!({}), &odd);
    refused(&space, &["c_attn.lora_A.weight", "no tensor of the model"]);
    let mut odd = queries();
    odd.random(&query("lora_diag"), &[2], 1);
    change(json!({}), &odd);
    refused(&space, &["q_proj.lora_diag"]);
    let mut odd = queries();
    odd.f32(&query("lora_A.weight"), &[2, 4], &[1.0, 2.0, f32::NAN, 0.0, 0.0, 0.0, 0.0, 0.0]);
    change(json!({}), &odd);
    refused(&space, &["ad/adapter_model.safetensors", "q_proj.lora_A.weight", "NaN"]);
}

#[test]
fn folders_are_told_for_what_they_are() {
    let space = space();
    space.write("r.yaml", BAKE.replace("./a+./ad", "./a+./a"));
    refused(&space, &["`./a` is a model, not an adapter"]);
    space.write("r.yaml", BAKE.replace("./a+./ad", "./ad"));
    refused(&space, &["`./ad` is an adapter, not a model", "MODEL+./ad"]);
    space.write("r.yaml", BAKE.replace("./ad", "./gone"));
    refused(&space, &["adapter `./gone` was not found"]);
    space.write("r.yaml", BAKE);
    fs::remove_file(space.path("ad/adapter_model.safetensors")).unwrap();
    refused(&space, &["adapter_model.safetensors", "adapter_model.bin"]);
    let (fixtures, odd) = (project("tests/fixtures/lora/models"), Space::new());
    for model in ["no-base", "ad-other-width", "ad-pissa"] {
        copy_dir(&fixtures.join(model), &odd.path(model));
    }
    odd.write("r.yaml", BAKE.replace("./a+./ad", "./no-base+./ad-other-width"));
    refused(&odd, &["mlp.down_proj.lora_A.weight` [2, 20]", "mlp.down_proj.weight` [16, 24]"]);
    odd.write("r.yaml", BAKE.replace("./a+./ad", "./no-base+./ad-pissa"));
    refused(&odd, &["pissa"]);
}

#[test]
fn adapters_are_inspected_and_measured_with_their_model() {
    let space = space();
    let told = space.ok(&["inspect", "./a+./ad"]).stdout;
    assert!(told.contains("which changes 2 tensors"), "{told}");
    assert!(told.contains("model.layers.N.self_attn.q_proj.weight  F32 [4, 4]  adapted  x2"), "{told}");
    let told: Value = serde_json::from_str(&space.ok(&["inspect", "--json", "./a+./ad"]).stdout).unwrap();
    let is_adapted = |tensor: &&Value| tensor["adapted"] == true;
    assert_eq!(told["tensors"].as_array().unwrap().iter().filter(is_adapted).count(), 2);
    space.fails(1, &["inspect", "./a+./a"]);
    space.ok(&["build", "-q", "r.yaml"]);
    let told = space.ok(&["inspect", "merges/baked", "--stats"]).stdout;
    assert!(told.contains("q_proj"), "{told}");
}
