//! Lock files: builds that must keep to them, and models that are proven against them.

use std::fs;

use crate::checkpoints::Checkpoint;
use crate::harness::{Space, settle};

const RECIPE: &str = "name: first\nmerge_method: linear\nmodels:\n\
    - {model: ./a, parameters: {weight: 0.25}}\n- {model: ./b, parameters: {weight: 0.75}}\n\
    ---\nname: second\nmerge_method: dare_ties\nbase_model: ./a\n\
    models: [{model: first, parameters: {weight: 0.9, density: 0.5}}]\n";
const OUT: &str = "merges/second";

fn built(args: &[&str]) -> Space {
    let space = Space::new();
    Checkpoint::decoder(2, 1).write(&space.path("a"));
    Checkpoint::decoder(2, 2).write(&space.path("b"));
    space.write("recipe.yaml", RECIPE);
    space.ok(&[&["build", "-q", "recipe.yaml"], args].concat());
    space
}

#[test]
fn a_locked_build_keeps_to_the_lock() {
    let space = built(&[]);
    let before = space.files(OUT);
    space.ok(&["build", "-q", "recipe.yaml", "--locked"]);
    // The lock alone is enough to make the rest again.
    let lock = space.read(&format!("{OUT}/lamarck.lock.json"));
    fs::remove_dir_all(space.path("merges")).unwrap();
    fs::remove_dir_all(space.path("cache")).unwrap();
    space.write(&format!("{OUT}/lamarck.lock.json"), lock);
    space.ok(&["build", "-q", "recipe.yaml", "--locked"]);
    assert!(space.files(OUT) == before);
}

#[test]
fn a_locked_build_names_what_differs_and_writes_nothing() {
    for (old, new, words) in [
        ("weight: 0.25", "weight: 0.26", &["first.models[0].parameters.weight: 0.25 -> 0.26"][..]),
        ("dare_ties", "ties", &["second.method: \"dare_ties\" -> \"ties\""]),
        ("density: 0.5", "density: 0.5}}, {model: ./b, parameters: {weight: 1", &["second.models[1]"]),
    ] {
        let space = built(&[]);
        let before = space.files(OUT);
        space.replace("recipe.yaml", old, new);
        let error = space.fails(1, &["build", "recipe.yaml", "--locked"]);
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert!(space.files(OUT) == before);
    }
    let space = built(&[]);
    let before = space.files(OUT);
    Checkpoint::decoder(2, 3).write(&space.path("b"));
    let error = space.fails(1, &["build", "recipe.yaml", "--locked"]);
    assert!(error.contains("./b: tensor `") && error.contains("lockfile"), "{error}");
    let error = space.fails(1, &["build", "recipe.yaml", "--locked", "--seed", "5"]);
    assert!(error.contains("second.seed: 0 -> 5"), "{error}");
    assert!(space.files(OUT) == before);
    fs::remove_file(space.path(OUT).join("lamarck.lock.json")).unwrap();
    assert!(space.fails(1, &["build", "recipe.yaml", "--locked"]).contains("merges/second"));
}

#[test]
fn a_model_is_proven_against_its_lock() {
    let space = built(&["--seed", "7"]);
    assert!(space.ok(&["verify", OUT]).stdout.contains("all 9 tensors"));
    let run = space.ok(&["verify", OUT, "--rebuild"]);
    assert!(run.stdout.contains("when rebuilt"), "{}", run.stdout);
    assert_eq!(fs::read_dir(space.path("merges")).unwrap().count(), 1, "nothing is left of the rebuild");

    let shard = space.path(OUT).join("model.safetensors");
    let sound = fs::read(&shard).unwrap();
    let mut damaged = sound.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&shard, &damaged).unwrap();
    let run = space.run(&["verify", OUT]);
    assert_eq!(run.code, 3);
    assert!(run.stdout.contains("has different bytes"), "{}", run.stdout);
    fs::write(&shard, &sound[..sound.len() - 8]).unwrap();
    assert_eq!(space.run(&["verify", OUT]).code, 3);
    fs::remove_file(&shard).unwrap();
    assert_eq!(space.run(&["verify", OUT, "--json"]).code, 3);
}

/// Whoever changes a model and its lock together is found out by building it again.
#[test]
fn a_forged_lock_does_not_survive_a_rebuild() {
    let space = built(&[]);
    let path = space.path(OUT).join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, &bytes).unwrap();
    let shard = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut lock = space.json(&format!("{OUT}/lamarck.lock.json"));
    for (name, tensor) in shard.tensors() {
        lock["tensors"][&name]["blake3"] = blake3::hash(tensor.data()).to_hex().as_str().into();
    }
    space.write(&format!("{OUT}/lamarck.lock.json"), lock.to_string());
    space.ok(&["verify", OUT]);
    let run = space.run(&["verify", OUT, "--rebuild"]);
    assert_eq!(run.code, 3);
    assert!(run.stdout.contains("when it is rebuilt"), "{}", run.stdout);
}

#[test]
fn what_is_no_lock_is_refused() {
    let space = built(&[]);
    for (lock, word) in
        [("{}", "not a lamarck lockfile"), ("[", "cannot use"), ("{\"format\": 99}", "format 99")]
    {
        space.write(&format!("{OUT}/lamarck.lock.json"), lock);
        let error = space.fails(1, &["verify", OUT]);
        assert!(error.contains(word), "{error}");
    }
    assert!(space.fails(1, &["verify", "a"]).contains("lamarck.lock.json"));
}

#[test]
fn rehash_reads_every_source_and_trusts_nothing() {
    let space = built(&[]);
    settle();
    space.build(&["recipe.yaml"]);
    assert_eq!(space.build(&["recipe.yaml"]).hashed.len(), 0);
    let again = space.build(&["recipe.yaml", "--rehash"]);
    assert_eq!(again.hashed.len(), 2 * 9);
    assert_eq!(again.ran.len(), 0);
}
