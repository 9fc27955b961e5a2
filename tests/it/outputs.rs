//! What an output directory holds.

use std::fs;
use std::os::unix::fs::MetadataExt;

use safetensors::SafeTensors;

use crate::checkpoints::Checkpoint;
use crate::harness::{Space, copy_dir, project, project_text};

const INSTRUCT: &str = "recipes/ancestors/Qwen/Qwen2.5-14B-Instruct";

#[test]
fn the_full_recipe_gives_a_checkpoint_that_tells_where_it_came_from() {
    let space = Space::with_full_recipe();
    space.ok(&["build", "recipe.yaml"]);
    let out = "merges/lamarck-14b-finalize";

    assert_eq!(space.read(&format!("{out}/recipe.yaml")), space.read("recipe.yaml"));
    for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        assert_eq!(
            space.read(&format!("{out}/{file}")),
            project_text(&format!("{INSTRUCT}/{file}")),
            "{file}"
        );
    }
    // The base's, as the rest of the configuration.
    let generation = project_text("recipes/ancestors/Qwen/Qwen2.5-14B/generation_config.json");
    assert_eq!(space.read(&format!("{out}/generation_config.json")), generation);
    let config = space.json(&format!("{out}/config.json"));
    assert_eq!(config["num_hidden_layers"], 48);
    assert_eq!(config["layer_types"].as_array().map(Vec::len), Some(48));
    assert_eq!(config["vocab_size"], 528, "padded rows stay");
    let dtype = config.get("dtype").or(config.get("torch_dtype")).expect("there is a dtype");
    assert_eq!(dtype, "bfloat16");

    let card = space.read(&format!("{out}/README.md"));
    let (front, body) =
        card.strip_prefix("---\n").and_then(|card| card.split_once("\n---\n")).expect("front matter");
    let ancestors = [
        "Qwen/Qwen2.5-14B",
        "Qwen/Qwen2.5-14B-Instruct",
        "arcee-ai/Virtuoso-Small",
        "CultriX/SeQwence-14B-EvolMerge",
        "CultriX/Qwen2.5-14B-Wernicke",
        "sthenno-com/miscii-14b-1028",
        "underwoods/medius-erebus-magnum-14b",
    ];
    for ancestor in ancestors {
        assert!(front.contains(&format!("- {ancestor}\n")), "{ancestor} is in {front}");
    }
    assert!(front.contains("library_name: transformers") && front.contains("- merge"));
    assert!(body.contains("# lamarck-14b-finalize") && body.contains(&space.read("recipe.yaml")));
}

#[test]
fn the_lock_names_every_tensor_by_its_digest() {
    let space = Space::with_full_recipe();
    space.ok(&["build", "recipe.yaml", "--seed", "3"]);
    let out = "merges/lamarck-14b-finalize";
    let lock = space.json(&format!("{out}/lamarck.lock.json"));
    let bytes = fs::read(space.path(&format!("{out}/model.safetensors"))).unwrap();
    let shard = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(lock["tensors"].as_object().unwrap().len(), shard.len());
    for (name, tensor) in shard.tensors() {
        assert_eq!(lock["tensors"][&name]["blake3"], blake3::hash(tensor.data()).to_hex().as_str(), "{name}");
    }
    let source = fs::read(project(INSTRUCT).join("model.safetensors")).unwrap();
    let source = SafeTensors::deserialize(&source).unwrap();
    let locked = lock["sources"]["Qwen/Qwen2.5-14B-Instruct"]["tensors"].as_object().unwrap();
    assert!(!locked.is_empty());
    for (name, tensor) in locked {
        let data = source.tensor(name).unwrap();
        assert_eq!(tensor["blake3"], blake3::hash(data.data()).to_hex().as_str(), "{name}");
    }
    let stages = lock["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 7);
    assert!(stages.iter().all(|stage| stage["seed"] == 3));
    let della = stages.iter().find(|stage| stage["name"] == "lamarck-14b-prose-della").unwrap();
    assert_eq!(della["parameters"]["lambda"], 0.95);
    assert_eq!(della["models"][0]["parameters"]["density"], 0.4);
}

#[test]
fn shards_that_do_not_change_are_not_touched() {
    let space = Space::with_full_recipe();
    let build = ["recipe.yaml", "--shard-size", "200kB", "--out", "out"];
    space.build(&build);
    let inodes = |space: &Space| -> Vec<u64> {
        let name = |i: usize| format!("out/model-{i:05}-of-00007.safetensors");
        (1..=7).map(|i| fs::metadata(space.path(&name(i))).unwrap().ino()).collect()
    };
    let before = inodes(&space);
    space.replace("recipe.yaml", "t:               [ 0.60, 0.70 ]", "t:               [ 0.62, 0.72 ]");
    let again = space.build(&build);
    let changed = before.iter().zip(inodes(&space)).filter(|(before, after)| **before != *after).count();
    assert!((1..7).contains(&changed), "{changed} shards changed");
    assert_eq!(again.finished[0]["shards_written"], changed);
}

#[test]
fn every_final_stage_has_a_folder() {
    let space = Space::new();
    Checkpoint::decoder(1, 1).write(&space.path("a"));
    Checkpoint::decoder(1, 2).write(&space.path("b"));
    let stage = |name: &str, model: &str| {
        format!("name: {name}\nmerge_method: passthrough\nmodels: [{{model: {model}}}]\n")
    };
    space.write(
        "recipe.yaml",
        [stage("inner", "./a"), stage("one", "inner"), stage("two", "./b")].join("---\n"),
    );
    let built = space.build(&["recipe.yaml"]);
    let names: Vec<&str> = built.finished.iter().map(|line| line["stage"].as_str().unwrap()).collect();
    assert_eq!(names, ["one", "two"]);
    assert!(space.path("merges/two/model.safetensors").exists() && !space.path("merges/inner").exists());
    let error = space.fails(2, &["build", "recipe.yaml", "--out", "out"]);
    assert!(error.contains("--stage"), "{error}");
    space.ok(&["build", "recipe.yaml", "--stage", "two", "--out", "out"]);
    assert_eq!(space.files("out").len(), space.files("merges/two").len());
}

#[test]
fn a_stage_may_stay_out_of_the_cache() {
    let space = Space::new();
    Checkpoint::decoder(2, 1).write(&space.path("a"));
    Checkpoint::decoder(2, 2).write(&space.path("b"));
    let recipe = |cache: &str| {
        format!(
            "name: first\nmerge_method: linear\nmodels: [{{model: ./a}}, {{model: ./b}}]\n\
             parameters: {{weight: 0.5}}\n{cache}---\nname: second\nmerge_method: linear\n\
             models: [{{model: first}}, {{model: ./b}}]\nparameters: {{weight: 0.25}}\n{cache}"
        )
    };
    space.write("recipe.yaml", recipe(""));
    space.ok(&["build", "recipe.yaml", "--cache", "with", "--out", "with-out"]);
    space.write("recipe.yaml", recipe("cache: false\n"));
    let without = ["recipe.yaml", "--cache", "without", "--out", "without-out"];
    let first = space.build(&without);
    assert_eq!(space.files("without/v2/blobs").len(), 0);
    let weights = |folder: &str| fs::read(space.path(folder).join("model.safetensors")).unwrap();
    assert!(weights("with-out") == weights("without-out"));
    assert_eq!(space.build(&without).ran.len(), 0, "the output is still there");
    fs::remove_dir_all(space.path("without-out")).unwrap();
    assert_eq!(space.build(&without).ran, first.ran, "nothing of it was kept");
    assert!(weights("with-out") == weights("without-out"));
}

#[test]
fn chat_templates_come_by_name_in_full_or_by_majority() {
    let space = Space::new();
    for (i, name) in ["a", "b", "c"].iter().enumerate() {
        let dir = space.path(name);
        copy_dir(&project("tests/conformance/models/tok-a"), &dir);
        Checkpoint::decoder(1, i as u64).write(&dir);
    }
    space.write("a/tokenizer_config.json", r#"{"chat_template": "one's own", "model_max_length": 7}"#);
    space.write("b/chat_template.jinja", "most have this");
    space.write("c/chat_template.jinja", "most have this");
    let recipe = |template: &str| {
        format!(
            "name: first\nmerge_method: linear\nmodels: [{{model: ./a}}, {{model: ./b}}, {{model: ./c}}]\n\
             parameters: {{weight: 0.5}}\n{template}---\nname: second\nmerge_method: passthrough\n\
             models: [{{model: first}}]\n"
        )
    };
    for (template, expected) in [
        ("chat_template: chatml\n", "<|im_start|>"),
        ("chat_template: \"{% for m in messages %}mine{% endfor %}\"\n", "mine"),
        ("chat_template: auto\n", "most have this"),
    ] {
        space.write("recipe.yaml", recipe(template));
        space.ok(&["build", "recipe.yaml"]);
        assert!(space.read("merges/second/chat_template.jinja").contains(expected));
        let config = space.json("merges/second/tokenizer_config.json");
        assert!(config.get("chat_template").is_none() && config["model_max_length"] == 7);
    }
    space.write("recipe.yaml", recipe(""));
    space.ok(&["build", "recipe.yaml"]);
    assert!(!space.path("merges/second/chat_template.jinja").exists());
    assert_eq!(space.json("merges/second/tokenizer_config.json")["chat_template"], "one's own");
}
