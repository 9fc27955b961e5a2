//! What all methods have in common, on tensors of odd shapes and values, driven by what they declare.

use serde_json::{Value, json};

use crate::checkpoints::{Checkpoint, Tensor, read};
use crate::golden::stage;
use crate::harness::Space;

fn methods(space: &Space) -> Vec<Value> {
    let document: Value = serde_json::from_str(&space.ok(&["methods", "--json"]).stdout).unwrap();
    document["methods"].as_array().unwrap().clone()
}

/// A model of one layer whose tensors are odd in some way.
fn odd(seed: u64) -> Checkpoint {
    let mut checkpoint = Checkpoint::new(json!({"model_type": "llama", "num_hidden_layers": 1}));
    for (i, shape) in
        [&[][..], &[1], &[0], &[3, 0], &[0, 3], &[5, 1], &[1, 5], &[2, 3, 4], &[2, 1, 3, 2], &[4097, 5]]
            .into_iter()
            .enumerate()
    {
        checkpoint.random(&format!("model.layers.0.shape_{i}.weight"), shape, seed);
    }
    let mut values = |name: &str, of: &dyn Fn(usize) -> f32| {
        let values: Vec<f32> = (0..12).map(of).collect();
        checkpoint.f32(&format!("model.layers.0.{name}.weight"), &[3, 4], &values);
    };
    let own = |i: usize| ((i as u64 * 7 + seed * 5) % 11) as f32 - 5.0;
    values("zeros", &|_| 0.0);
    values("equal", &|i| i as f32 - 3.5);
    values("ones", &|_| 1.0);
    values("huge", &|i| 1e37 * own(i));
    values("tiny", &|i| 1e-41 * own(i));
    values("mixed", &|i| 1e37_f32.powi(i as i32 % 3 - 1) * own(i));
    // The models' are opposite, or parallel, to one another.
    let sign = if seed == 2 { 1.0 } else { -1.0 };
    values("opposite", &|i| sign * (i as f32 - 3.5));
    values("parallel", &|i| seed as f32 * (i as f32 - 3.5));
    checkpoint
}

#[test]
fn odd_tensors_have_finite_results() {
    let space = Space::new();
    for (seed, name) in (1..).zip(["a", "b", "c"]) {
        odd(seed).write(&space.path(&format!("{name}-float32")));
    }
    let methods = methods(&space);
    assert!(methods.len() >= 20);
    let stages: Vec<String> = methods.iter().map(|method| stage(method, "float32")).collect();
    space.write("recipe.yaml", stages.join("---\n"));
    space.ok(&["build", "-q", "recipe.yaml"]);
    let shapes = |tensors: &std::collections::BTreeMap<String, Tensor>| -> Vec<(String, Vec<usize>)> {
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect()
    };
    let sources = shapes(&read(&space.path("a-float32")));
    for method in &methods {
        let name = method["name"].as_str().unwrap();
        let merged = read(&space.path(&format!("merges/{name}-float32")));
        assert_eq!(shapes(&merged), sources, "{name}");
        for (tensor, Tensor { values, .. }) in &merged {
            assert!(values.iter().all(|value| value.is_finite()), "{name}: {tensor} is {values:?}");
        }
        assert!(merged["model.layers.0.zeros.weight"].values.iter().all(|value| *value == 0.0), "{name}");
    }
}

/// A stage of models and a base that is not the last of them, with whatever parameters the method must have.
fn plain(method: &Value, base: &str, models: &[&str]) -> String {
    let required = method["params"].as_array().unwrap().iter().filter(|param| param["required"] == true);
    let settings: Vec<String> =
        required.map(|param| format!("{}: {}", param["name"].as_str().unwrap(), param["example"])).collect();
    let models: Vec<String> = models.iter().map(|model| format!("{{model: ./{model}}}")).collect();
    format!(
        "name: merged\nmerge_method: {}\nbase_model: ./{base}\nmodels: [{}]\nparameters: {{{}}}\n",
        method["name"].as_str().unwrap(),
        models.join(", "),
        settings.join(", ")
    )
}

#[test]
fn models_that_equal_their_base_give_it_back() {
    let space = Space::new();
    for name in ["a", "b", "c"] {
        Checkpoint::decoder(1, 7).write(&space.path(name));
    }
    let source = read(&space.path("a"));
    for method in methods(&space).iter().filter(|method| method["base"] != "ordinary") {
        let n = method["models_max"].as_u64().unwrap_or(2).min(2) as usize;
        space.write("recipe.yaml", plain(method, "a", &["b", "c"][..n]));
        space.ok(&["build", "-q", "recipe.yaml", "--out", "out"]);
        for (name, tensor) in read(&space.path("out")) {
            let near = |(r, b): (&f64, &f64)| (r - b).abs() <= 1e-6;
            assert!(tensor.values.iter().zip(&source[&name].values).all(near), "{}: {name}", method["name"]);
        }
    }
}

#[test]
fn a_buffer_that_some_models_lack_is_copied_or_missed() {
    let space = Space::new();
    const BUFFER: &str = "model.layers.0.self_attn.rotary_emb.inv_freq";
    for (seed, (name, has_buffer)) in (1..).zip([("a", true), ("b", true), ("c", false), ("d", false)]) {
        let mut checkpoint = Checkpoint::decoder(1, seed);
        if has_buffer {
            checkpoint.random(BUFFER, &[2], seed);
        }
        checkpoint.write(&space.path(name));
    }
    let buffer = |model: &str| read(&space.path(model)).remove(BUFFER).expect("it is there");
    let all = methods(&space);
    let method = |name: &str| all.iter().find(|method| method["name"] == name).unwrap();
    for (name, base, models, copied) in [
        ("arcee_fusion", "a", &["c"][..], Some("a")),
        ("arcee_fusion", "c", &["a"], Some("a")),
        ("nuslerp", "c", &["b", "d"], Some("b")),
        ("nearswap", "a", &["c"], Some("a")),
        ("nearswap", "c", &["a"], None),
        ("ram", "a", &["c", "d"], Some("a")),
        ("sce", "c", &["a", "b"], None),
        ("multislerp", "a", &["b", "c"], Some("b")),
    ] {
        space.write("recipe.yaml", plain(method(name), base, models));
        let args = ["build", "-q", "recipe.yaml", "--out", "out"];
        match copied {
            Some(model) => {
                space.ok(&args);
                assert_eq!(buffer("out"), buffer(model), "{name} {base} {models:?}");
            }
            None => {
                let error = space.fails(1, &args);
                assert!(error.contains("tensor-missing") && error.contains(BUFFER), "{error}");
            }
        }
    }
}

#[test]
fn a_base_may_be_left_out_where_it_is_optional() {
    let space = Space::new();
    for (seed, name) in (1..).zip(["a", "b", "c"]) {
        Checkpoint::decoder(2, seed).write(&space.path(name));
    }
    for name in ["nuslerp", "multislerp"] {
        let models = "models: [{model: ./b}, {model: ./c}]\nparameters: {weight: 0.5}\n";
        let slices = "slices:\n- sources: [{model: ./b, layer_range: [0, 2]}, {model: ./c, layer_range: [0, 2]}]\n\
                      parameters: {weight: 0.5}\n";
        let based = "slices:\n- sources: [{model: ./a, layer_range: [0, 2]}, {model: ./b, layer_range: [0, 2]}, \
                     {model: ./c, layer_range: [0, 2]}]\nparameters: {weight: 0.5}\n";
        let build = |base: &str, body: &str| {
            space.write("recipe.yaml", format!("name: merged\nmerge_method: {name}\n{base}{body}"));
            space.ok(&["build", "-q", "recipe.yaml", "--out", "out"]);
            read(&space.path("out"))
        };
        let without = build("", models);
        assert_eq!(build("", slices), without);
        let with = build("base_model: ./a\n", models);
        assert_ne!(with, without);
        assert_eq!(build("base_model: ./a\n", based), with);
        space.write("recipe.yaml", format!("name: merged\nmerge_method: {name}\nbase_model: ./a\n{slices}"));
        let error = space.fails(1, &["check", "recipe.yaml"]);
        assert!(error.contains("missing-base") && error.contains("recipe.yaml:5:"), "{error}");
    }
    let text = space.ok(&["methods", "nuslerp"]).stdout;
    assert!(
        text.contains("base: if given, the reference for all models\nmodels: 2 besides the base\n"),
        "{text}"
    );
}

#[test]
fn a_weight_that_sce_does_not_read_is_told_of() {
    let space = Space::new();
    for (seed, name) in (1..).zip(["a", "b", "c"]) {
        Checkpoint::decoder(1, seed).write(&space.path(name));
    }
    space.write(
        "recipe.yaml",
        "name: merged\nmerge_method: sce\nbase_model: ./a\nmodels:\n- {model: ./b, parameters: {weight: 0.5}}\n\
         - {model: ./c}\n",
    );
    let warnings = space.ok(&["check", "recipe.yaml"]).stderr;
    assert!(warnings.contains("unused-parameter") && warnings.contains("`weight`"), "{warnings}");
}
