//! What is removed from a cache, in which order, and what that costs.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::harness::{Space, TWO_STAGES, is_full, project, scaled};

fn built() -> Space {
    let space = Space::new();
    space.use_models(&project("recipes/ancestors"));
    space.write("recipe.yaml", TWO_STAGES);
    space.ok(&["build", "-q", "recipe.yaml"]);
    space
}

fn json(space: &Space, args: &[&str]) -> Value {
    serde_json::from_str(&space.ok(&[args, &["--json"]].concat()).stdout).expect("the output is JSON")
}

fn names(space: &Space) -> BTreeSet<std::path::PathBuf> {
    space.files("cache/v2/blobs").into_keys().collect()
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
    assert_eq!(again.by_stage().into_keys().collect::<Vec<_>>(), ["blend", "stock"]);
    space.replace("recipe.yaml", "t: 0.4", "t: 0.3");
    space.ok(&["build", "-q", "recipe.yaml"]);
    assert!(fs::read(space.path("merges/blend/model.safetensors")).unwrap() == model);
}

#[test]
fn the_least_recently_used_goes_first() {
    let space = built();
    let of_first_stage = names(&space);
    space.replace("recipe.yaml", "t: 0.3", "t: 0.4");
    space.ok(&["build", "-q", "recipe.yaml"]);
    let stat = json(&space, &["cache", "stat"]);
    assert!(stat["old_bytes"].as_u64().unwrap() > 0, "the older blend is kept");
    let total = stat["blob_bytes"].as_u64().unwrap() + stat["dead_bytes"].as_u64().unwrap();
    // One byte less than there is: results go that only the older build has.
    json(&space, &["cache", "gc", "--max-size", &(total - 1).to_string()]);
    let left = json(&space, &["cache", "stat"]);
    assert!(left["blobs"].as_u64() < stat["blobs"].as_u64());
    assert!(names(&space).is_superset(&of_first_stage));
    // However small the limit, the newest build keeps what it has.
    json(&space, &["cache", "gc", "--max-size", "1"]);
    assert_eq!(json(&space, &["cache", "stat"])["old_bytes"], 0);
    assert_eq!(names(&space), of_first_stage);
    assert_eq!(json(&space, &["cache", "gc", "--max-age", "1d", "--keep-builds", "0"])["removed"], 0);
}

#[test]
fn a_standing_limit_holds() {
    let space = built();
    let models = project("recipes/ancestors");
    let models = models.to_str().unwrap();
    space.write("lamarck.toml", format!("models = [{models:?}]\ncache-limit = \"1kB\"\n"));
    let of_first_stage = names(&space);
    space.replace("recipe.yaml", "t: 0.3", "t: 0.4");
    let run = space.ok(&["build", "recipe.yaml"]);
    assert!(run.stderr.contains("to stay within its limit"), "{}", run.stderr);
    assert_eq!(json(&space, &["cache", "stat"])["old"], 0);
    assert_eq!(names(&space), of_first_stage, "the last build keeps what it has");
}

/// The bytes of a file tree.
fn size(space: &Space, folder: &str) -> usize {
    space.files(folder).values().map(Vec::len).sum()
}

#[test]
fn no_tensor_is_held_twice() {
    let space = Space::with_full_recipe();
    space.ok(&["build", "-q", "recipe.yaml"]);
    let lock = space.json("merges/lamarck-14b-finalize/lamarck.lock.json");
    let of = |tensors: &Value| -> BTreeSet<String> {
        tensors
            .as_object()
            .unwrap()
            .values()
            .map(|tensor| tensor["blake3"].as_str().unwrap().to_owned())
            .collect()
    };
    let held: BTreeSet<String> =
        names(&space).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert!(held.is_disjoint(&of(&lock["tensors"])), "the model is in its folder alone");
    for source in lock["sources"].as_object().unwrap().values() {
        assert!(held.is_disjoint(&of(&source["tensors"])), "sources are where they were");
    }
    // Everything made is held once: results of five stages in the store, the last one's in the model.
    let shard =
        fs::metadata(space.path("merges/lamarck-14b-finalize/model.safetensors")).unwrap().len() as usize;
    let blobs = size(&space, "cache/v2/blobs");
    let distinct: usize = blobs + lock_bytes(&lock["tensors"]);
    assert!((blobs + shard) as f64 <= 1.05 * distinct as f64, "{blobs} + {shard} for {distinct}");
}

/// The bytes of a lock's tensors, each digest counted once.
fn lock_bytes(tensors: &Value) -> usize {
    let mut seen = BTreeSet::new();
    let distinct =
        tensors.as_object().unwrap().values().filter(|tensor| seen.insert(tensor["blake3"].to_string()));
    distinct
        .map(|tensor| {
            tensor["shape"]
                .as_array()
                .unwrap()
                .iter()
                .map(|n| n.as_u64().unwrap() as usize)
                .product::<usize>()
                * 2
        })
        .sum()
}

#[test]
fn results_that_only_an_output_holds_are_read_from_it_and_rescued_from_it() {
    let space = built();
    let model = |folder: &str| fs::read(space.path(folder).join("model.safetensors")).unwrap();
    let first = model("merges/blend");
    // Read: another output of the same stage runs nothing.
    assert_eq!(space.build(&["recipe.yaml", "--out", "copy"]).ran.len(), 0);
    assert!(model("copy") == first);
    fs::remove_dir_all(space.path("copy")).unwrap();
    // Lost: the stage runs again, and nothing below it.
    fs::remove_dir_all(space.path("merges")).unwrap();
    assert_eq!(space.build(&["recipe.yaml"]).by_stage().into_keys().collect::<Vec<_>>(), ["blend"]);
    // Rescued: an output that replaces another does not lose what was in it.
    space.replace("recipe.yaml", "t: 0.3", "t: 0.4");
    space.ok(&["build", "-q", "recipe.yaml"]);
    assert!(model("merges/blend") != first);
    space.replace("recipe.yaml", "t: 0.4", "t: 0.3");
    assert_eq!(space.build(&["recipe.yaml"]).ran.len(), 0);
    assert!(model("merges/blend") == first);
}

#[test]
fn stat_shows_what_each_stage_takes() {
    let space = built();
    let stat = json(&space, &["cache", "stat"]);
    let stages = stat["stages"].as_array().unwrap();
    assert_eq!(stages.iter().map(|stage| &stage["stage"]).collect::<Vec<_>>(), ["stock"]);
    let bytes: u64 = stages.iter().map(|stage| stage["bytes"].as_u64().unwrap()).sum();
    let shared: u64 = stages.iter().map(|stage| stage["shared_bytes"].as_u64().unwrap()).sum();
    let total = stat["blob_bytes"].as_u64().unwrap();
    assert!(total <= bytes && bytes - shared / 2 >= total, "{stat}");
    assert!(space.ok(&["cache", "stat"]).stdout.contains("  stock: "));
}

#[test]
fn a_store_of_an_earlier_format_is_named() {
    let space = built();
    assert_eq!(json(&space, &["cache", "stat"])["older_versions"].as_array().unwrap().len(), 0);
    space.write("cache/v1/index.redb", "old");
    space.write("cache/v99/index.redb", "new");
    let stat = space.ok(&["cache", "stat"]).stdout;
    assert!(stat.contains("cache/v1 was left by an earlier version") && !stat.contains("v99"), "{stat}");
    assert_eq!(json(&space, &["cache", "stat"])["older_versions"].as_array().unwrap().len(), 1);
}

/// An index that grew by 3.4 kB an action held 570 MB after 150 edits of one number.
#[test]
fn the_index_stays_small() {
    let space = Space::with_full_recipe();
    space.ok(&["build", "-q", "recipe.yaml"]);
    let size = || {
        let stat = json(&space, &["cache", "stat"]);
        (stat["index_bytes"].as_u64().unwrap(), stat["actions"].as_u64().unwrap())
    };
    let recipe = space.read("recipe.yaml");
    for i in 1..=scaled(4, 150) {
        let weight = format!("weight:        {}", 0.9 + f64::from(i) / 1000.0);
        space.write("recipe.yaml", recipe.replacen("weight:        0.90", &weight, 1));
        space.ok(&["build", "-q", "recipe.yaml"]);
    }
    let (bytes, actions) = size();
    assert!(
        bytes < 40 << 20 && (!is_full() || bytes <= 400 * actions),
        "{bytes} bytes for {actions} actions"
    );
    // The database doubles its file when it is full; what is in it shows when nothing can go.
    space.ok(&["cache", "gc", "--keep-builds", "1000"]);
    let (bytes, actions) = size();
    assert!(bytes <= 400 * actions, "{bytes} bytes for {actions} actions");
    space.ok(&["cache", "gc", "--stale"]);
    let (after, actions) = size();
    assert!(actions == 3252 && after < 4 << 20, "{after} bytes for {actions} actions");
    assert_eq!(space.build(&["recipe.yaml"]).ran.len(), 0);
}
