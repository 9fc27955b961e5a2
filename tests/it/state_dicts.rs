//! Bare state dicts: files of tensors and folders without a config.json, merged name by name.

use std::collections::BTreeMap;
use std::fs;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};

use crate::checkpoints::{Tensor, read};
use crate::harness::{Space, project};

/// A tensor by name, shape and values.
type Given<'a> = (&'a str, &'a [usize], &'a [f32]);

/// A safetensors file of float32 tensors.
fn file(tensors: &[Given<'_>]) -> Vec<u8> {
    let bytes = |(.., values): &Given<'_>| values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let bytes: Vec<Vec<u8>> = tensors.iter().map(bytes).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).expect("the shape fits"))
    });
    serialize(views, None).expect("it can be written")
}

/// Two state dicts whose names would mean layers, heads and leading words in a model.
fn two() -> Space {
    let space = Space::new();
    let a: &[Given<'_>] = &[
        ("model.layers.0.w", &[2], &[1.0, 2.0]),
        ("layers.0.w", &[2], &[3.0, 4.0]),
        ("lm_head.weight", &[1, 2], &[5.0, 6.0]),
        ("gamma", &[], &[7.0]),
    ];
    let b: Vec<(&str, &[usize], Vec<f32>)> = a
        .iter()
        .map(|(name, shape, values)| (*name, *shape, values.iter().map(|x| x * 10.0).collect()))
        .collect();
    space.write("a.safetensors", file(a));
    space.write("b/model.safetensors", file(&b.iter().map(|(n, s, v)| (*n, *s, &v[..])).collect::<Vec<_>>()));
    space
}

fn values(tensors: &BTreeMap<String, Tensor>) -> Vec<(&str, Vec<f64>)> {
    tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.values.clone())).collect()
}

#[test]
fn tensors_meet_by_their_names_alone() {
    let space = two();
    space.write(
        "r.yaml",
        "name: mean\nmerge_method: linear\nmodels: [{model: a.safetensors}, {model: ./b}]\nparameters:\n  weight:\n  \
         - {filter: gamma, value: 0}\n  - {value: 1}\n  normalize: false\n---\n\
         name: twice\nmerge_method: linear\nmodels: [{model: mean}]\nparameters: {weight: 2, normalize: false}\n",
    );
    space.ok(&["build", "r.yaml", "--stage", "twice", "--stage", "mean"]);
    let expected = vec![
        ("gamma", vec![0.0]),
        ("layers.0.w", vec![33.0, 44.0]),
        ("lm_head.weight", vec![55.0, 66.0]),
        ("model.layers.0.w", vec![11.0, 22.0]),
    ];
    assert_eq!(values(&read(&space.path("merges/mean"))), expected);
    let twice = read(&space.path("merges/twice"));
    assert_eq!(twice["model.layers.0.w"].values, [22.0, 44.0]);
    let names: Vec<_> =
        space.files("merges/mean").into_keys().map(|name| name.display().to_string()).collect();
    assert_eq!(names, ["README.md", "lamarck.lock.json", "merge.svg", "model.safetensors", "recipe.yaml"]);
    assert!(!space.read("merges/mean/README.md").contains("transformers"));
    assert_eq!(space.build(&["r.yaml", "--stage", "mean"]).ran.len(), 0);
    space.ok(&["verify", "merges/mean", "--rebuild", "--recipe", "r.yaml"]);
    // A result is a state dict that others can read.
    space.write("next.yaml", "name: next\nmerge_method: passthrough\nmodels: [{model: ./merges/mean}]\n");
    space.ok(&["build", "next.yaml"]);
    assert_eq!(values(&read(&space.path("merges/next"))), expected);
    let shown = space.ok(&["inspect", "a.safetensors"]).stdout;
    assert!(shown.contains("bare state dict") && shown.contains("lm_head.weight"), "{shown}");
}

#[test]
fn files_of_every_kind_meet() {
    let space = Space::new();
    for name in ["training.ckpt", "training.safetensors"] {
        space.write(name, fs::read(project("tests/fixtures/pickled").join(name)).unwrap());
    }
    let recipe = |first: &str, second: &str| {
        format!(
            "name: both\nmerge_method: task_arithmetic\nbase_model: {first}\nmodels: [{{model: {second}, parameters: {{weight: 1}}}}]\n"
        )
    };
    space.write("r.yaml", recipe("training.safetensors", "training.ckpt"));
    space.ok(&["build", "r.yaml"]);
    let space_again = read(&space.path("merges/both"));
    space.write("only/model.safetensors", fs::read(space.path("training.safetensors")).unwrap());
    assert_eq!(space_again, read(&space.path("only")));
    // Alone in its folder, whatever it is called.
    space.write("lone/epoch-3.ckpt", fs::read(space.path("training.ckpt")).unwrap());
    space.write("r.yaml", recipe("training.safetensors", "./lone"));
    space.ok(&["build", "r.yaml"]);
    assert_eq!(space_again, read(&space.path("merges/both")));
    space.write("lone/epoch-4.ckpt", fs::read(space.path("training.ckpt")).unwrap());
    assert!(space.fails(1, &["build", "r.yaml"]).contains("`./lone`"));
}

#[test]
fn what_needs_a_model_is_refused() {
    let space = two();
    space.write("full/config.json", "{\"model_type\": \"x\"}");
    space.write("full/model.safetensors", fs::read(space.path("a.safetensors")).unwrap());
    space.write("less.safetensors", file(&[("gamma", &[], &[7.0])]));
    space.write("wide.safetensors", file(&[("gamma", &[2], &[7.0, 8.0])]));
    let linear = "merge_method: linear\nparameters: {weight: 1}\n";
    for (recipe, expected) in [
        (format!("{linear}models: [{{model: a.safetensors}}, {{model: ./full}}]"), "with the model `./full`"),
        (format!("{linear}models: [{{model: a.safetensors}}]\ntokenizer_source: union"), "no tokenizer"),
        (format!("{linear}models: [{{model: a.safetensors}}]\nchat_template: chatml"), "no chat template"),
        (
            format!("{linear}slices: [{{sources: [{{model: a.safetensors, layer_range: [0, 1]}}]}}]"),
            "no known layers",
        ),
        (
            format!("{linear}modules: {{default: {{models: [{{model: a.safetensors}}]}}}}"),
            "have no `modules`",
        ),
        (format!("{linear}models: [{{model: a.safetensors}}, {{model: less.safetensors}}]"), "has no tensor"),
        (
            format!("{linear}models: [{{model: less.safetensors}}, {{model: wide.safetensors}}]"),
            "wide.safetensors has [2]",
        ),
    ] {
        space.write("r.yaml", &recipe);
        let told = space.fails(1, &["build", "r.yaml"]);
        assert!(told.contains(expected), "{recipe}\n{told}");
        assert!(!space.path("merges").exists());
    }
}

#[test]
fn a_result_is_never_written_over_what_it_is_made_of() {
    let space = two();
    space.write("r.yaml", "merge_method: passthrough\nmodels: [{model: ./b}]\n");
    space.fails(1, &["build", "r.yaml", "--out", "b"]);
    space.write("r.yaml", "merge_method: passthrough\nmodels: [{model: b/model.safetensors}]\n");
    space.fails(1, &["build", "r.yaml", "--out", "b"]);
}
