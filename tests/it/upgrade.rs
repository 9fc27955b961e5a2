//! A store that this version wrote, kept: later versions must read it or leave it alone.

use std::fs;

use crate::checkpoints::Checkpoint;
use crate::harness::{Space, copy_dir, project};

const FIXTURE: &str = "tests/fixtures/store";

fn space() -> Space {
    let space = Space::new();
    Checkpoint::decoder(1, 1).write(&space.path("a"));
    Checkpoint::decoder(1, 2).write(&space.path("b"));
    space.write(
        "recipe.yaml",
        "name: first\nmerge_method: dare_ties\nbase_model: ./a\nmodels: [{model: ./b}]\n\
         parameters: {weight: 0.5, density: 0.5}\n---\nname: second\nmerge_method: slerp\nbase_model: ./a\n\
         models: [{model: first}]\nparameters: {t: 0.5}\n",
    );
    space
}

/// If this fails because a format changed on purpose, the version in the store's path or in the keys has
/// to change with it, and the fixture is written anew: build `space()`'s recipe and copy its `cache/`.
#[test]
fn a_store_of_this_format_is_still_read() {
    let space = space();
    copy_dir(&project(FIXTURE), &space.path("cache"));
    let blobs = space.files("cache/v2/blobs");
    assert!(!blobs.is_empty());
    let built = space.build(&["recipe.yaml"]);
    // The last stage's results were in a folder that is gone; the first one's are in the fixture.
    assert!(!built.by_stage().contains_key("first"), "{:?}", built.ran);
    assert!(space.ok(&["cache", "verify"]).stdout.contains("all sound"));
    assert_eq!(space.ok(&["log"]).stdout.lines().filter(|line| line.starts_with("  build ")).count(), 2);
    space.ok(&["build", "-q", "recipe.yaml", "--cache", "fresh", "--out", "fresh-out"]);
    let model = |folder: &str| fs::read(space.path(folder).join("model.safetensors")).unwrap();
    assert!(model("merges/second") == model("fresh-out"));
}
