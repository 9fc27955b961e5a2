//! Which stages' results the cache keeps, as `store` in lamarck.toml and `cache:` in stages say.

use std::fs;

use serde_json::{Value, json};

use crate::checkpoints::Checkpoint;
use crate::harness::{Space, settle};

const LAYERS: usize = 4;

/// Two models whose tensors are too large to be stored in any case.
fn space(store: &str) -> Space {
    let space = Space::new();
    for (model, seed) in [("a", 1), ("b", 2)] {
        let mut checkpoint = Checkpoint::new(json!({ "num_hidden_layers": LAYERS }));
        for i in 0..LAYERS as u64 {
            checkpoint.random(&format!("model.layers.{i}.w.weight"), &[128, 200], seed * 100 + i);
        }
        checkpoint.write(&space.path(model));
    }
    space.write("lamarck.toml", format!("store = \"{store}\"\n"));
    // What a source holds is remembered from then on, so that it is known what has to be made again.
    settle();
    space
}

/// Three stages, of which the last two have parameters, and the first ones may say whether they are kept.
fn recipe(of_first: &str, of_second: &str, [second, third]: [&str; 2]) -> String {
    format!(
        "name: one\nmerge_method: linear\nmodels: [{{model: ./a}}, {{model: ./b}}]\nparameters: {{weight: 0.5}}\n{of_first}---\n\
         name: two\nmerge_method: slerp\nbase_model: ./a\nmodels: [{{model: one}}]\nparameters: {{t: {second}}}\n{of_second}---\n\
         name: three\nmerge_method: slerp\nbase_model: ./b\nmodels: [{{model: two}}]\nparameters: {{t: {third}}}\n"
    )
}

fn n_blobs(space: &Space) -> usize {
    space.files("cache/v2/blobs").len()
}

/// How many actions of each stage a build ran. Its model is what a build that stores everything makes.
fn build(space: &Space, text: &str) -> [usize; 3] {
    space.write("recipe.yaml", text);
    let built = space.build(&["recipe.yaml"]);
    let _ = fs::remove_dir_all(space.path("fresh"));
    fs::create_dir(space.path("fresh")).unwrap();
    space.write("fresh/lamarck.toml", "");
    space.write("fresh/recipe.yaml", text);
    space.ok(&["build", "-q", "fresh/recipe.yaml"]);
    let model = |folder: &str| fs::read(space.path(folder).join("merges/three/model.safetensors")).unwrap();
    assert!(model("") == model("fresh"));
    ["one", "two", "three"].map(|stage| built.by_stage().get(stage).copied().unwrap_or(0))
}

fn not_stored(space: &Space, text: &str) -> Vec<(String, u64, String)> {
    space.write("recipe.yaml", text);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let plan = space.document(&["plan", "recipe.yaml"]);
    let stages = plan["not_stored"].as_array().unwrap().iter();
    stages.map(|of| (text(&of["stage"]), of["bytes"].as_u64().unwrap(), text(&of["why"]))).collect()
}

const BYTES: u64 = (LAYERS * 128 * 200 * 4) as u64;

#[test]
fn only_named_stages_are_stored() {
    let space = space("named");
    let text = |t| recipe("cache: true\n", "", ["0.5", t]);
    assert_eq!(not_stored(&space, &text("0.5")), [("two".to_owned(), BYTES, "named".to_owned())]);
    let told = space.ok(&["plan", "recipe.yaml"]).stdout;
    assert!(told.contains("not stored: 409.6 kB of two; it has no `cache: true`\n"), "{told}");
    assert!(told.contains("disk: 409.6 kB to write to cache"), "{told}");
    assert_eq!(build(&space, &text("0.5")), [LAYERS; 3]);
    assert_eq!(n_blobs(&space), LAYERS);
    assert_eq!(build(&space, &text("0.5")), [0; 3], "what is not stored is up to date all the same");
    // What is in between is made again, from what is stored.
    assert_eq!(build(&space, &text("0.6")), [0, LAYERS, LAYERS]);
    assert_eq!(n_blobs(&space), LAYERS);
    // Of the output, old versions are not kept.
    assert!(space.files("cache/v2/packs").is_empty());
    assert_eq!(build(&space, &text("0.5")), [0, LAYERS, LAYERS]);
    // The last stage is noted where it is.
    assert_eq!(space.build(&["recipe.yaml", "--out", "copy"]).ran.len(), 0);
    // A stage that is named from now on is stored when it is next made.
    let named = |t| recipe("cache: true\n", "cache: true\n", ["0.5", t]);
    assert_eq!(build(&space, &named("0.7")), [0, LAYERS, LAYERS]);
    assert_eq!(build(&space, &named("0.8")), [0, 0, LAYERS]);
    assert_eq!(not_stored(&space, &named("0.9")), []);
}

#[test]
fn a_stage_that_keeps_changing_is_not_stored_until_it_is_needed() {
    let space = space("auto");
    let text = |second, third| recipe("", "", [second, third]);
    assert_eq!(build(&space, &text("0.1", "0.5")), [LAYERS; 3]);
    for second in ["0.2", "0.3"] {
        assert_eq!(not_stored(&space, &text(second, "0.5")), []);
        assert_eq!(build(&space, &text(second, "0.5")), [0, LAYERS, LAYERS]);
    }
    assert_eq!(n_blobs(&space), 4 * LAYERS);
    assert_eq!(space.files("cache/v2/packs").len(), 2);
    // Two builds have made it anew.
    for second in ["0.4", "0.5"] {
        assert_eq!(not_stored(&space, &text(second, "0.5")), [("two".to_owned(), BYTES, "auto".to_owned())]);
        assert_eq!(build(&space, &text(second, "0.5")), [0, LAYERS, LAYERS]);
        assert_eq!((n_blobs(&space), space.files("cache/v2/packs").len()), (4 * LAYERS, 2));
    }
    // Another stage is edited, which needs it: it is made once more, and stored.
    assert_eq!(not_stored(&space, &text("0.5", "0.6")), []);
    assert_eq!(build(&space, &text("0.5", "0.6")), [0, LAYERS, LAYERS]);
    assert_eq!(n_blobs(&space), 5 * LAYERS);
    assert_eq!(build(&space, &text("0.5", "0.7")), [0, 0, LAYERS]);
}

#[test]
fn what_a_stage_says_goes_before_the_setting() {
    let unstored = |stage: &str, why: &str| [(stage.to_owned(), BYTES, why.to_owned())];
    let plain = recipe("", "", ["0.5"; 2]);
    assert_eq!(not_stored(&space("all"), &plain), []);
    let said = recipe("", "cache: false\n", ["0.5"; 2]);
    for store in ["all", "auto"] {
        assert_eq!(not_stored(&space(store), &said), unstored("two", "recipe"));
    }
    let both = recipe("cache: false\n", "cache: true\n", ["0.5"; 2]);
    let space = space("named");
    assert_eq!(not_stored(&space, &both), unstored("one", "recipe"));
    assert_eq!(build(&space, &both), [LAYERS; 3]);
    assert_eq!(n_blobs(&space), LAYERS);
    space.write("lamarck.toml", "store = \"some\"\n");
    let refused = space.fails(1, &["plan", "recipe.yaml"]);
    assert!(refused.contains("`store` must be \"all\", \"named\" or \"auto\""), "{refused}");
}
