//! What is removed from a cache, in which order, and what that costs.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::harness::{Space, project};

fn built() -> Space {
    let space = Space::new();
    space.use_models(&project("recipes/ancestors"));
    space.write(
        "recipe.yaml",
        "name: stock\n\
         merge_method: model_stock\n\
         base_model: arcee-ai/Virtuoso-Small\n\
         models: [{model: CultriX/SeQwence-14B-EvolMerge}, {model: CultriX/Qwen2.5-14B-Wernicke}]\n\
         ---\n\
         name: blend\n\
         merge_method: slerp\n\
         base_model: arcee-ai/Virtuoso-Small\n\
         models: [{model: stock}]\n\
         parameters: {t: 0.3}\n",
    );
    space.ok(&["build", "-q", "recipe.yaml"]);
    space
}

fn json(space: &Space, args: &[&str]) -> Value {
    serde_json::from_str(&space.ok(&[args, &["--json"]].concat()).stdout).expect("the output is JSON")
}

fn names(space: &Space) -> BTreeSet<std::path::PathBuf> {
    space.files("cache/v1/blobs").into_keys().collect()
}

#[test]
fn what_is_evicted_keeps_its_consumers_up_to_date() {
    let space = built();
    let model = fs::read(space.path("merges/blend/model.safetensors")).unwrap();
    let would = json(&space, &["cache", "gc", "--max-size", "1", "--keep-builds", "0", "--dry-run"]);
    let n_blobs = names(&space).len();
    assert_eq!(would["removed"], n_blobs);
    assert_eq!(names(&space).len(), n_blobs);
    let did = json(&space, &["cache", "gc", "--max-size", "1", "--keep-builds", "0"]);
    assert_eq!((&did["removed"], &did["removed_bytes"]), (&would["removed"], &would["removed_bytes"]));
    assert_eq!(names(&space).len(), 0);
    assert_eq!(space.build(&["recipe.yaml"]).ran.len(), 0, "the model is up to date without them");
    // A new last stage needs the stage below, which is gone, and only that.
    space.replace("recipe.yaml", "t: 0.3", "t: 0.4");
    let again = space.build(&["recipe.yaml"]);
    assert_eq!(again.by_stage().into_iter().collect::<Vec<_>>(), [("blend", 579), ("stock", 579)]);
    space.replace("recipe.yaml", "t: 0.4", "t: 0.3");
    space.ok(&["build", "-q", "recipe.yaml"]);
    assert!(fs::read(space.path("merges/blend/model.safetensors")).unwrap() == model);
}

#[test]
fn the_least_recently_used_goes_first() {
    let space = built();
    let first = names(&space);
    space.replace("recipe.yaml", "t: 0.3", "t: 0.4");
    space.ok(&["build", "-q", "recipe.yaml"]);
    let both = names(&space);
    let stat = json(&space, &["cache", "stat"]);
    let old = stat["old_bytes"].as_u64().unwrap();
    assert!(old > 0);
    let total = stat["blob_bytes"].as_u64().unwrap();
    // One byte less than there is: a result that only the older build has goes.
    json(&space, &["cache", "gc", "--max-size", &(total - 1).to_string()]);
    let left = names(&space);
    assert!(left.len() < both.len());
    assert!(both.difference(&left).all(|path| first.contains(path)));
    // However small the limit, the newest build keeps what it has.
    json(&space, &["cache", "gc", "--max-size", "1"]);
    assert_eq!(json(&space, &["cache", "stat"])["old_bytes"], 0);
    fs::remove_dir_all(space.path("merges")).unwrap();
    assert_eq!(space.build(&["recipe.yaml"]).ran.len(), 0);
    assert_eq!(json(&space, &["cache", "gc", "--max-age", "1d", "--keep-builds", "0"])["removed"], 0);
}

#[test]
fn a_standing_limit_holds() {
    let space = built();
    let models = project("recipes/ancestors");
    let models = models.to_str().unwrap();
    space.write("lamarck.toml", format!("models = [{models:?}]\ncache-limit = \"1kB\"\n"));
    space.replace("recipe.yaml", "t: 0.3", "t: 0.4");
    let run = space.ok(&["build", "recipe.yaml"]);
    assert!(run.stderr.contains("to keep its limit"), "{}", run.stderr);
    assert_eq!(json(&space, &["cache", "stat"])["old"], 0);
    fs::remove_dir_all(space.path("merges")).unwrap();
    assert_eq!(space.build(&["recipe.yaml"]).ran.len(), 0, "the last build keeps what it has");
}

#[test]
fn stat_shows_what_each_stage_takes() {
    let space = built();
    let stat = json(&space, &["cache", "stat"]);
    let stages = stat["stages"].as_array().unwrap();
    assert_eq!(stages.iter().map(|stage| &stage["stage"]).collect::<Vec<_>>(), ["blend", "stock"]);
    let bytes: u64 = stages.iter().map(|stage| stage["bytes"].as_u64().unwrap()).sum();
    let shared: u64 = stages.iter().map(|stage| stage["shared_bytes"].as_u64().unwrap()).sum();
    let total = stat["blob_bytes"].as_u64().unwrap();
    assert!(total <= bytes && bytes - shared / 2 >= total, "{stat}");
    assert!(space.ok(&["cache", "stat"]).stdout.contains("  stock: "));
}
