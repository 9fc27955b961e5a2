//! Masks of DELLA are kept beside results, found by the next edit, and the first to go.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::checkpoints::Checkpoint;
use crate::harness::Space;

const MODEL: &str = "merges/merged/model.safetensors";

/// Tensors that are large enough for masks to be kept.
const LARGE: u64 = 3;

/// What the mask of a large tensor takes with its key, a bit an element; nothing else has this size, or twice this size.
const N_BYTES: usize = 32 + 512 * 1024 / 8;

const RECIPE: &str = "\
name: merged
merge_method: della
base_model: ./base
models:
  - {model: ./a, parameters: {weight: 0.6, density: 0.5}}
  - {model: ./b, parameters: {weight: 0.4, density: 0.6}}
parameters: {rescale: RESCALE}
dtype: bfloat16
";

/// Large tensors, and one that is not large.
fn space() -> Space {
    let space = Space::new();
    for (model, seed) in [("base", 1), ("a", 2), ("b", 3)] {
        let mut checkpoint = Checkpoint::new(json!({ "num_hidden_layers": LARGE }));
        for layer in 0..LARGE {
            checkpoint.random(&format!("model.layers.{layer}.w.weight"), &[512, 1024], seed * 100 + layer);
        }
        checkpoint.random("model.norm.weight", &[1024], seed);
        checkpoint.write(&space.path(model));
    }
    space.write("recipe.yaml", RECIPE.replace("RESCALE", "false"));
    space
}

fn build(space: &Space) -> Vec<u8> {
    space.ok(&["build", "-q", "recipe.yaml"]);
    fs::read(space.path(MODEL)).unwrap()
}

/// The same with a cache that knows nothing.
fn build_anew(space: &Space, args: &[&str]) -> Vec<u8> {
    let fresh = ["--cache", "fresh", "--out", "anew"];
    space.ok(&[&["build", "-q", "recipe.yaml"], &fresh[..], args].concat());
    let model = fs::read(space.path("anew/model.safetensors")).unwrap();
    fs::remove_dir_all(space.path("fresh")).unwrap();
    fs::remove_dir_all(space.path("anew")).unwrap();
    model
}

fn masks(space: &Space) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut blobs = space.files("cache/v2/blobs");
    blobs.retain(|_, bytes| [N_BYTES, 2 * N_BYTES].contains(&bytes.len()));
    blobs
}

fn json(space: &Space, args: &[&str]) -> Value {
    serde_json::from_str(&space.ok(&[args, &["--json"]].concat()).stdout).expect("the output is JSON")
}

#[test]
fn an_edit_finds_the_masks_of_the_build_before() {
    for rescale in ["false", "true"] {
        let space = space();
        space.write("recipe.yaml", RECIPE.replace("RESCALE", rescale));
        build(&space);
        let first = masks(&space);
        assert_eq!(first.len() as u64, LARGE, "masks of one tensor are kept together");
        space.replace("recipe.yaml", "weight: 0.6", "weight: 0.7");
        assert!(build(&space) == build_anew(&space, &[]));
        assert!(masks(&space) == first, "a weight changes no mask");
        // What is damaged, cut or gone is noticed, drawn again, and kept again.
        for (number, path) in first.keys().enumerate() {
            let path = space.path("cache/v2/blobs").join(path);
            let mut bytes = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            bytes[N_BYTES / 2] ^= 1;
            match number {
                0 => continue,
                1 => bytes.truncate(N_BYTES),
                _ => {}
            }
            fs::write(&path, bytes).unwrap();
        }
        space.replace("recipe.yaml", "weight: 0.7", "weight: 0.8");
        let edited = build(&space);
        assert!(masks(&space) == first);
        // Drawn piece by piece where there is no room for them, on any number of threads.
        for args in [&["--jobs", "1"][..], &["--jobs", "3"], &["--memory", "1MB"]] {
            assert!(build_anew(&space, args) == edited, "{args:?}");
        }
        // Another density draws anew, for that model.
        space.replace("recipe.yaml", "density: 0.5", "density: 0.55");
        assert!(build(&space) == build_anew(&space, &[]));
        let both = masks(&space);
        assert!(first.keys().all(|path| both.contains_key(path)));
        let of_one_model = both.values().filter(|bytes| bytes.len() == N_BYTES).count();
        assert_eq!((both.len() as u64, of_one_model as u64), (2 * LARGE, LARGE));
    }
}

#[test]
fn masks_go_first_and_what_they_were_of_stays() {
    let space = space();
    build(&space);
    space.replace("recipe.yaml", "density: 0.5", "density: 0.55");
    space.replace("recipe.yaml", "density: 0.6", "density: 0.65");
    let model = build(&space);
    let stat = json(&space, &["cache", "stat"]);
    let usage = |stat: &Value| {
        let stages = stat["stages"].as_array().unwrap();
        let masks = stages.iter().find(|stage| stage["stage"] == "masks");
        masks.map(|masks| (masks["results"].as_u64().unwrap(), masks["bytes"].as_u64().unwrap()))
    };
    assert_eq!(usage(&stat), Some((LARGE, LARGE * 2 * N_BYTES as u64)), "{stat}");
    assert_eq!(masks(&space).len() as u64, 2 * LARGE);
    // Those that the last build does not have are stale.
    json(&space, &["cache", "gc", "--stale"]);
    assert_eq!(masks(&space).len() as u64, LARGE);
    assert!(space.ok(&["cache", "verify"]).stdout.contains("all sound"));
    // Where room is short masks go, of the newest build too, and nothing else.
    let stat = json(&space, &["cache", "stat"]);
    let limit = stat["blob_bytes"].as_u64().unwrap() - 2 * 2 * N_BYTES as u64;
    let removed = json(&space, &["cache", "gc", "--max-size", &limit.to_string()]);
    assert_eq!((&removed["removed"], &removed["removed_builds"]), (&json!(2), &json!(0)), "{removed}");
    assert_eq!(masks(&space).len(), 1);
    assert_eq!(space.build(&["recipe.yaml"]).ran.len(), 0);
    space.replace("recipe.yaml", "weight: 0.6", "weight: 0.7");
    assert!(build(&space) != model);
    assert_eq!(masks(&space).len() as u64, LARGE);
}

#[test]
fn stages_that_are_not_stored_have_no_masks() {
    let space = space();
    space.write("recipe.yaml", format!("cache: false\n{}", RECIPE.replace("RESCALE", "true")));
    assert!(build(&space) == build_anew(&space, &[]));
    assert_eq!(masks(&space).len(), 0);
}
