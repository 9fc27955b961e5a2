//! The command lines of mergekit's tools, as scripts have them.

use std::fs;

use crate::checkpoints::Checkpoint;
use crate::harness::Space;

const LINEAR: &str =
    "merge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {weight: 0.5}\n";

fn space() -> Space {
    let space = Space::new();
    for (name, seed) in [("a", 2), ("b", 3)] {
        Checkpoint::decoder(2, seed).write(&space.path(name));
        space.write(&format!("{name}/tokenizer.json"), "{}");
    }
    space.write("r.yml", LINEAR);
    space
}

#[test]
fn a_merge_goes_where_it_is_told() {
    let space = space();
    let run = space.ok(&[
        "mergekit-yaml",
        "r.yml",
        "out/merged",
        "--cuda",
        "--lazy-unpickle",
        "--allow-crimes",
        "-vv",
    ]);
    assert_eq!(run.stderr.matches("have no effect here").count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains("--cuda: ") && run.stderr.contains("--allow-crimes: "), "{}", run.stderr);
    space.ok(&["build", "-q", "r.yml", "--out", "same"]);
    assert!(space.files("out/merged") == space.files("same"), "it is a build");
    assert!(!space.path("merges").exists());
}

#[test]
fn options_with_a_meaning_have_it() {
    let space = space();
    let quiet = space.ok(&[
        "mergekit-yaml",
        "r.yml",
        "out",
        "--quiet",
        "--no-copy-tokenizer",
        "--no-write-model-card",
    ]);
    assert_eq!(quiet.stderr, "");
    let names: Vec<_> = space.files("out").into_keys().map(|name| name.display().to_string()).collect();
    assert_eq!(names, ["config.json", "lamarck.lock.json", "model.safetensors", "recipe.yaml"]);
    space.ok(&["mergekit-yaml", "r.yml", "out", "--out-shard-size", "300", "-j", "1"]);
    assert!(
        space.path("out/model.safetensors.index.json").is_file()
            && space.path("out/tokenizer.json").is_file()
    );
    let dare = "merge_method: dare_ties\nbase_model: ./a\nmodels: [{model: ./b, parameters: {weight: 1, density: 0.5}}]\n";
    space.write("dare.yml", dare);
    let weights = |seed: &str| {
        space.ok(&["mergekit-yaml", "dare.yml", seed, "--random-seed", seed]);
        fs::read(space.path(&format!("{seed}/model.safetensors"))).unwrap()
    };
    assert!(weights("1") != weights("2"));
    assert!(space.fails(2, &["mergekit-yaml", "r.yml", "out", "--out-shard-size", "5GB"]).contains("5B"));
    assert!(
        space.fails(1, &["mergekit-yaml", "r.yml", "a"]).contains("a"),
        "nothing is written over a model"
    );
}

#[test]
fn stages_go_to_the_folder_of_intermediates() {
    let space = space();
    space.write(
        "multi.yml",
        format!("name: half\n{LINEAR}---\nname: unused\n{LINEAR}---\n{}", LINEAR.replace("./b", "half")),
    );
    assert!(space.fails(2, &["mergekit-multi", "multi.yml", "-I", "work"]).contains("--out-path"));
    space.ok(&["mergekit-multi", "multi.yml", "-I", "work", "--out-path", "final", "--no-lazy"]);
    for out in ["work/half", "work/unused", "final"] {
        assert!(space.path(out).join("model.safetensors").is_file(), "{out}");
    }
    assert!(!space.path("merges").exists());
    // An edit reaches what is made of it, though its folder is there.
    let before = fs::read(space.path("final/model.safetensors")).unwrap();
    space.replace("multi.yml", "name: half\nmerge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {weight: 0.5}",
        "name: half\nmerge_method: linear\nmodels: [{model: ./a, parameters: {weight: 0.9}}, {model: ./b, parameters: {weight: 0.1}}]");
    space.ok(&["mergekit-multi", "multi.yml", "--intermediate-dir", "work", "--out-path", "final", "--lazy"]);
    assert!(fs::read(space.path("final/model.safetensors")).unwrap() != before);
}

#[test]
fn state_dicts_have_a_command_line_too() {
    let space = space();
    space
        .write("raw.yml", LINEAR.replace("./a", "a/model.safetensors").replace("./b", "b/model.safetensors"));
    space.ok(&["mergekit-pytorch", "raw.yml", "out"]);
    assert!(space.path("out/model.safetensors").is_file() && !space.path("out/config.json").exists());
}
