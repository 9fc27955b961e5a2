//! `lamarck diff`: against the same numbers in f64, from whatever the two sides are, and without reading twice.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::checkpoints::{Checkpoint, Tensor, read};
use crate::harness::{Space, settle};

/// Models `base`, `a` and `b`, and a recipe of two stages over them.
fn space() -> Space {
    let space = Space::new();
    for (i, model) in ["base", "a", "b"].iter().enumerate() {
        Checkpoint::decoder(2, i as u64).write(&space.path(model));
    }
    space.write(
        "recipe.yaml",
        "name: first\nmerge_method: task_arithmetic\nbase_model: ./base\n\
         models: [{model: ./a, parameters: {weight: 0.5}}, {model: ./b, parameters: {weight: 0.25}}]\n\
         ---\nname: second\nmerge_method: slerp\nbase_model: first\nmodels: [{model: ./b}]\n\
         parameters: {t: [{filter: lm_head, value: 1}, {value: 0.3}]}\n",
    );
    space
}

fn diff(space: &Space, a: &str, b: &str) -> Value {
    space.document(&["diff", a, b])
}

fn near(found: &Value, expected: f64) -> bool {
    found.as_f64().is_some_and(|found| (found - expected).abs() <= 1e-6 * expected.abs().max(1e-3))
}

#[track_caller]
fn check_tensors(found: &Value, a: &BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>) {
    let tensors = found["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), a.len());
    let mut totals = [0.0; 2];
    for tensor in tensors {
        let name = tensor["tensor"].as_str().unwrap();
        let (a, b) = (&a[name].values, &b[name].values);
        if a == b {
            assert_eq!(tensor["outcome"], "equal", "{tensor}");
            continue;
        }
        let change: Vec<f64> = a.iter().zip(b).map(|(a, b)| b - a).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let norm = |a: &[f64]| dot(a, a).sqrt();
        let part = |is: &dyn Fn(f64, f64) -> bool| {
            a.iter().zip(b).filter(|(a, b)| is(**a, **b)).count() as f64 / a.len() as f64
        };
        assert_eq!(tensor["outcome"], "differs");
        assert!(near(&tensor["norm"], norm(&change)), "{tensor}");
        assert!(near(&tensor["relative"], norm(&change) / norm(a)), "{tensor}");
        assert!(near(&tensor["cosine"], dot(a, b) / norm(a) / norm(b)), "{tensor}");
        assert!(near(&tensor["flipped"], part(&|a, b| a * b < 0.0)), "{tensor}");
        assert!(near(&tensor["changed"], part(&|a, b| a != b)), "{tensor}");
        let largest = change.iter().map(|d| d.abs()).fold(0.0, f64::max);
        assert!(near(&tensor["largest"], largest), "{tensor}");
        let shape: Vec<usize> = serde_json::from_value(tensor["shape"].clone()).unwrap();
        let at: Vec<usize> = serde_json::from_value(tensor["largest_at"].clone()).unwrap();
        let flat = at.iter().zip(&shape).fold(0, |flat, (at, len)| flat * len + at);
        assert!((change[flat].abs() - largest).abs() < 1e-6, "{tensor}");
        totals[0] += dot(&change, &change);
        totals[1] += dot(a, a);
    }
    assert!(near(&found["total"]["relative"], (totals[0] / totals[1]).sqrt()));
}

#[test]
fn numbers_are_those_of_their_definitions_and_nothing_is_read_twice() {
    let space = space();
    let mut c = Checkpoint::decoder(2, 1);
    c.random("model.norm.weight", &[4], 0);
    c.write(&space.path("c"));
    settle();
    let found = diff(&space, "a", "c");
    check_tensors(&found, &read(&space.path("a")), &read(&space.path("c")));
    assert_eq!((&found["total"]["tensors"], &found["total"]["equal"]), (&json!(9), &json!(8)));
    let found = diff(&space, "a", "b");
    check_tensors(&found, &read(&space.path("a")), &read(&space.path("b")));
    assert_eq!(found["computed"], 9);
    // `a` was read for the first comparison, and everything for the second.
    assert_eq!(
        found["bytes_read"].as_u64().unwrap(),
        fs::metadata(space.path("b/model.safetensors")).unwrap().len() - header(&space, "b")
    );
    let again = diff(&space, "a", "b");
    assert_eq!((&again["computed"], &again["bytes_read"]), (&json!(0), &json!(0)));
    assert_eq!(again["tensors"], found["tensors"]);
    // The numbers go by what the files hold now.
    Checkpoint::decoder(2, 7).write(&space.path("b"));
    check_tensors(&diff(&space, "a", "b"), &read(&space.path("a")), &read(&space.path("b")));
}

fn header(space: &Space, model: &str) -> u64 {
    let bytes = fs::read(space.path(model).join("model.safetensors")).unwrap();
    8 + u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

#[test]
fn builds_stages_recipes_tags_and_folders_are_compared() {
    let space = space();
    settle();
    space.ok(&["build", "-q", "recipe.yaml"]);
    crate::harness::copy_dir(&space.path("merges/second"), &space.path("kept"));
    space.replace("recipe.yaml", "0.25", "0.75");
    let error = space.fails(1, &["diff", "kept", "recipe.yaml"]);
    assert!(error.contains("stage `second` of recipe.yaml is not in the cache"), "{error}");
    assert!(error.contains("`lamarck build recipe.yaml`"), "{error}");
    space.ok(&["build", "-q", "recipe.yaml"]);
    space.ok(&["tag", "1", "old"]);
    let (old, new) = (read(&space.path("kept")), read(&space.path("merges/second")));
    for (a, b) in [
        ("kept", "merges/second"),
        ("1", "2"),
        ("old", "build:2"),
        ("@1#second", "recipe.yaml"),
        ("kept/model.safetensors", "recipe.yaml#second"),
    ] {
        let found = diff(&space, a, b);
        check_tensors(&found, &old, &new);
        assert_eq!(found["differ"], true, "{a} {b}");
        if !a.contains("safetensors") {
            let edits = &found["recipe"]["edits"];
            assert_eq!(edits.as_array().unwrap().len(), 1, "{found}");
            assert_eq!((&edits[0]["old"], &edits[0]["new"]), (&json!("0.25"), &json!("0.75")));
        }
    }
    // A stage that is no output: the head of the last one is `b`'s, so that of the first was never made.
    let found = diff(&space, "recipe.yaml#first", "merges/second");
    assert_eq!(found["unmade_a"], json!(["lm_head.weight"]));
    assert_eq!(found["only_b"][0]["tensor"], "lm_head.weight");
    let of = |name: &str| found["tensors"].as_array().unwrap().iter().any(|tensor| tensor["tensor"] == name);
    assert!(of("model.norm.weight") && !of("lm_head.weight"));
    assert_eq!(found["recipe"]["edits"], json!([]));
    // What was made for one build is not there for another recipe, and is not made.
    let before = space.files("cache/v2/blobs").len();
    space.replace("recipe.yaml", "0.75", "0.5");
    space.fails(1, &["diff", "recipe.yaml#first", "kept"]);
    assert_eq!(space.files("cache/v2/blobs").len(), before);
    // A folder of that name goes before a build.
    Checkpoint::decoder(2, 0).write(&space.path("1"));
    let run = space.ok(&["diff", "1", "base"]);
    assert!(run.stdout.contains("all 9 tensors in both are equal"), "{}", run.stdout);
    assert!(run.stderr.contains("build:1"), "{}", run.stderr);
    let error = space.fails(2, &["diff", "@7", "base"]);
    assert!(error.contains("there is no build 7"), "{error}");
    let error = space.fails(2, &["diff", "recipe.yaml#third", "base"]);
    assert!(error.contains("no stage `third`"), "{error}");
}

#[test]
fn a_build_whose_models_changed_or_whose_results_are_gone_is_not_compared() {
    let space = space();
    settle();
    space.ok(&["build", "-q", "recipe.yaml"]);
    space.replace("recipe.yaml", "0.25", "0.75");
    space.ok(&["build", "-q", "recipe.yaml"]);
    let found = diff(&space, "1", "2");
    for blob in space.files("cache/v2/blobs").keys() {
        fs::remove_file(space.path("cache/v2/blobs").join(blob)).unwrap();
    }
    // The differences are gone as well, with what they were computed from.
    let error = space.fails(1, &["diff", "1", "2"]);
    assert!(
        error.contains("build 1 is not in the cache") && error.contains("lamarck build --from 1"),
        "{error}"
    );
    space.ok(&["build", "-q", "--from", "1", "--out", "kept"]);
    assert_eq!(diff(&space, "1", "2")["tensors"], found["tensors"]);
    Checkpoint::decoder(2, 9).write(&space.path("a"));
    let error = space.fails(1, &["diff", "1", "2"]);
    assert!(error.contains("made from its current models"), "{error}");
    settle();
    space.ok(&["build", "-q", "recipe.yaml"]);
    let error = space.fails(1, &["diff", "1", "2"]);
    assert!(error.contains("build 1 can no longer be compared"), "{error}");
}

#[test]
fn what_only_one_has_and_other_types_and_shapes_are_told() {
    let space = Space::new();
    let mut a = Checkpoint::decoder(2, 1);
    a.i64("model.position_ids", &[2], &[1, 2]);
    a.i64("model.other_ids", &[2], &[1, 2]);
    a.f32("model.mine", &[1], &[1.0]);
    a.write(&space.path("a"));
    let mut b = Checkpoint::decoder(2, 1);
    b.i64("model.position_ids", &[2], &[1, 3]);
    b.i64("model.other_ids", &[2], &[1, 2]);
    b.f32("model.yours", &[1], &[1.0]);
    b.random("lm_head.weight", &[4, 8], 1);
    b.bf16().write(&space.path("b"));
    let found = diff(&space, "a", "b");
    let outcome = |name: &str| {
        let tensors = found["tensors"].as_array().unwrap();
        tensors.iter().find(|tensor| tensor["tensor"] == name).unwrap()["outcome"].clone()
    };
    assert_eq!(
        (outcome("model.position_ids"), outcome("model.other_ids")),
        (json!("other_bytes"), json!("equal"))
    );
    assert_eq!(found["only_a"][0]["tensor"], "model.mine");
    assert_eq!(found["only_b"][0]["tensor"], "model.yours");
    assert_eq!(found["other_shapes"][0]["tensor"], "lm_head.weight");
    let norm =
        found["tensors"].as_array().unwrap().iter().find(|tensor| tensor["tensor"] == "model.norm.weight");
    let norm = norm.unwrap();
    assert_eq!((&norm["dtype_a"], &norm["dtype_b"]), (&json!("F32"), &json!("BF16")));
    let relative = norm["relative"].as_f64().unwrap();
    assert!(relative > 0.0 && relative < 0.004, "{relative}");
    let text = space.ok(&["diff", "a", "b"]).stdout;
    for part in
        ["only in A: 1 tensor", "only in B: 1 tensor", "of other shapes: 1 tensor", "F32 in A and BF16 in B"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn exit_codes_tell_only_if_asked() {
    let space = space();
    space.ok(&["diff", "a", "b"]);
    assert_eq!(space.run(&["diff", "a", "b", "--exit-code"]).code, 10);
    space.ok(&["diff", "a", "a", "--exit-code"]);
    let error = space.fails(1, &["diff", "a", "nowhere"]);
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn the_page_is_one_file_with_maps_and_all_tensors() {
    let space = space();
    space.ok(&["diff", "a", "b", "--html", "diff.html"]);
    let page = space.read("diff.html");
    assert_eq!(page.matches("<figure").count(), 3);
    assert!(page.contains("model.layers.1.mlp.up_proj.weight") && page.contains("id=\"filter\""));
    assert!(!page.contains("http://") && !page.contains("https://"));
    let error = space.fails(4, &["diff", "a", "b", "--html", "no/where.html"]);
    assert!(error.contains("no/where.html"), "{error}");
}

#[test]
fn bounded_memory_gives_the_same_numbers() {
    let space = Space::new();
    let wide = |seed| {
        let mut model = Checkpoint::new(json!({"num_hidden_layers": 1}));
        model.random("model.layers.0.mlp.up_proj.weight", &[1500, 700], seed);
        model.random("model.embed_tokens.weight", &[3, 5], seed);
        model
    };
    wide(1).write(&space.path("a"));
    wide(2).write(&space.path("b"));
    let all = diff(&space, "a", "b");
    let little = space.document(&["diff", "a", "b", "--memory", "1MB", "--jobs", "3", "--cache", "other"]);
    assert_eq!(all["tensors"], little["tensors"]);
    check_tensors(&all, &read(&space.path("a")), &read(&space.path("b")));
}
