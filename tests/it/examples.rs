//! The recipes of `examples/`: each builds, says nothing that it does not allow, and gives the model that its table says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::checkpoints::read;
use crate::harness::{Space, copy_dir, project, project_text};

/// The ancestors' layers, and their rows of embeddings and heads.
const USUAL: (usize, usize) = (48, 528);
/// Examples whose models have others.
const OTHERS: [(&str, (usize, usize)); 2] = [("frankenmerge", (64, 528)), ("tokenizer", (48, 576))];

/// The names of all examples.
pub fn examples() -> Vec<String> {
    let entries = fs::read_dir(project("examples")).expect("there are examples");
    let names = entries.map(|entry| entry.expect("they can be read").file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned)).collect();
    names.sort();
    names
}

#[test]
fn every_example_builds_without_a_warning_and_gives_a_sound_model() {
    let space = Space::new();
    space.use_models(&project("recipes/ancestors"));
    copy_dir(&project("examples"), &space.path("examples"));
    let mut made: BTreeMap<String, String> = BTreeMap::new();
    for name in examples() {
        let (recipe, out) = (format!("examples/{name}.yaml"), format!("out/{name}"));
        space.ok(&["build", "-q", "--deny-warnings", &recipe, "--out", &out]);
        let (layers, rows) = OTHERS.iter().find(|(of, _)| *of == name).map_or(USUAL, |(_, sizes)| *sizes);
        let config = space.json(&format!("{out}/config.json"));
        assert_eq!(config["num_hidden_layers"], layers, "{name}");
        assert_eq!(config["vocab_size"], rows, "{name}");
        let tensors = read(&space.path(&out));
        assert_eq!(tensors.len(), 12 * layers + 3, "{name}");
        for (tensor, found) in &tensors {
            assert!(found.values.iter().all(|value| value.is_finite()), "{name}: {tensor}");
            assert!(found.values.iter().any(|value| *value != 0.0), "{name}: {tensor} is nothing but zeros");
        }
        for tensor in ["model.embed_tokens.weight", "lm_head.weight"] {
            assert_eq!(tensors[tensor].shape, [rows, 32], "{name}: {tensor}");
        }
        for file in ["tokenizer.json", "recipe.yaml", "lamarck.lock.json"] {
            assert!(space.path(&out).join(file).is_file(), "{name} has no {file}");
        }
        let shard = blake3::hash(&fs::read(space.path(&out).join("model.safetensors")).unwrap()).to_string();
        if let Some(other) = made.insert(shard, name.clone()) {
            panic!("{name} and {other} give the same model");
        }
    }
    assert!(made.len() >= 18);
}

#[test]
fn a_variable_of_an_example_makes_another_model() {
    let space = Space::new();
    space.use_models(&project("recipes/ancestors"));
    space.write("r.yaml", project_text("examples/variables.yaml"));
    let build = |set: &str| {
        space.ok(&["build", "-q", "r.yaml", "--set", set]);
        fs::read(space.path("merges/ancestors-variables/model.safetensors")).unwrap()
    };
    assert!(build("share=0.5") != build("share=0.3"));
}

#[test]
fn examples_say_what_they_are_and_all_are_listed() {
    let table = project_text("examples/README.md");
    let is_name = |name: &&str| name.ends_with(".yaml");
    let listed: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ["))
        .filter_map(|line| line.split(']').next())
        .filter(is_name)
        .collect();
    let names: BTreeSet<String> = examples().iter().map(|name| format!("{name}.yaml")).collect();
    assert_eq!(listed, names.iter().map(String::as_str).collect::<BTreeSet<_>>());
    for name in examples() {
        let text = project_text(&format!("examples/{name}.yaml"));
        let mut lines = text.lines();
        assert_eq!(
            lines.next(),
            Some("# yaml-language-server: $schema=../docs/recipe.schema.json"),
            "{name}"
        );
        assert!(lines.next().is_some_and(|line| line.starts_with("# ")), "{name} does not say what it is");
        assert!(
            text.contains(&format!("\nname: ancestors-{name}\n")),
            "{name}: a stage is called after the file"
        );
    }
    let _: Value = serde_json::from_str(&project_text("examples/adapters/wernicke/adapter_config.json"))
        .expect("the adapter's settings are JSON");
}
