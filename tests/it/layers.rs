//! Layers renamed and cut: which tensors of the inputs an output tensor is made of.

use serde_json::json;

use crate::checkpoints::{Checkpoint, read};
use crate::harness::Space;

/// Layers of one matrix each, named by `name`.
fn stack(layers: usize, seed: u64, name: impl Fn(usize) -> String) -> Checkpoint {
    let mut checkpoint = Checkpoint::new(json!({"model_type": "llama", "num_hidden_layers": layers}));
    for layer in 0..layers {
        checkpoint.random(&format!("model.layers.{}.w.weight", name(layer)), &[3], seed);
    }
    checkpoint
}

#[test]
fn zeros_before_layer_numbers_are_kept() {
    let space = Space::new();
    stack(12, 1, |layer| format!("{layer:02}")).write(&space.path("a"));
    space.write(
        "r.yaml",
        "name: x\nmerge_method: passthrough\nslices:\n- sources: [{model: ./a, layer_range: [9, 12]}]\n\
         - sources: [{model: ./a, layer_range: [0, 12]}]\n",
    );
    space.ok(&["build", "-q", "r.yaml", "--out", "o"]);
    let (from, to) = (read(&space.path("a")), read(&space.path("o")));
    assert_eq!(to.len(), 15);
    for (layer, tensor) in (9..12).chain(0..12).enumerate() {
        let name = |layer| format!("model.layers.{layer:02}.w.weight");
        assert_eq!(to[&name(layer)], from[&name(tensor)], "layer {layer}");
    }
}

#[test]
fn the_donor_says_how_layers_are_numbered() {
    let space = Space::new();
    stack(2, 1, |layer| layer.to_string()).write(&space.path("a"));
    stack(2, 2, |layer| format!("{layer:03}")).write(&space.path("b"));
    space.write(
        "r.yaml",
        "name: x\nmerge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {weight: 0.5}\n",
    );
    space.ok(&["build", "-q", "r.yaml", "--out", "o"]);
    let names: Vec<String> = read(&space.path("o")).into_keys().collect();
    assert_eq!(names, ["model.layers.0.w.weight", "model.layers.1.w.weight"]);
}

#[test]
fn two_tensors_of_one_name_are_an_error_that_names_both() {
    let space = Space::new();
    let mut checkpoint = stack(2, 1, |layer| layer.to_string());
    checkpoint.random("model.layers.01.w.weight", &[3], 1);
    checkpoint.write(&space.path("a"));
    let mut checkpoint = stack(2, 1, |layer| layer.to_string());
    checkpoint.random("model.norm.weight", &[3], 1);
    checkpoint.random("norm.weight", &[3], 1);
    checkpoint.write(&space.path("b"));
    let recipe =
        |model: &str| format!("name: x\nmerge_method: passthrough\nmodels: [{{model: ./{model}}}]\n");
    space.write("r.yaml", recipe("a"));
    let said = space.fails(1, &["check", "r.yaml"]);
    assert!(said.contains("`model.layers.01.w.weight` and `model.layers.1.w.weight`"), "{said}");
    // Words that come and go are no reason to take one for the other where a model has both.
    space.write("r.yaml", recipe("b"));
    space.ok(&["build", "-q", "r.yaml", "--out", "o"]);
    assert_eq!(read(&space.path("o")), read(&space.path("b")));
}

/// A first slice of `a` and `b`, a last one of the sources given.
fn ties(last: &[&str]) -> String {
    let source = |model: &&str| {
        let parameters = if *model == "a" { "" } else { ", parameters: {weight: 0.5, density: 0.5}" };
        format!("{{model: ./{model}, layer_range: [0, 1]{parameters}}}")
    };
    let slice = |models: &[&str]| {
        format!("- sources: [{}]\n", models.iter().map(source).collect::<Vec<_>>().join(", "))
    };
    format!("name: x\nmerge_method: ties\nbase_model: ./a\nslices:\n{}{}", slice(&["a", "b"]), slice(last))
}

#[test]
fn tensors_behind_the_layers_have_no_more_sources_than_the_first_slice() {
    let space = Space::new();
    for (name, seed) in [("a", 1), ("b", 2), ("c", 3)] {
        Checkpoint::decoder(1, seed).write(&space.path(name));
    }
    let built = |recipe: String| {
        space.write("r.yaml", recipe);
        let said = space.ok(&["build", "r.yaml", "--out", "o"]).stderr;
        (said, read(&space.path("o")))
    };
    let (said, cut) = built(ties(&["a", "b", "c"]));
    assert_eq!(said.matches("without ./c").count(), 1, "{said}");
    let (said, pair) = built(ties(&["a", "b"]));
    assert!(!said.contains("without"), "{said}");
    for name in ["model.norm.weight", "lm_head.weight", "model.embed_tokens.weight"] {
        assert_eq!(cut[name], pair[name], "{name}");
    }
    let layer = "model.layers.1.mlp.up_proj.weight";
    assert_ne!(cut[layer], pair[layer], "the layers have all sources");
    space.write("r.yaml", ties(&["b", "c", "a"]));
    let said = space.fails(1, &["check", "r.yaml"]);
    assert!(said.contains("the base is not among them"), "{said}");
}
