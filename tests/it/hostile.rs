//! Files from strangers, changed at random: no panic, no endless work, nothing written outside.

use std::fs;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::checkpoints::Checkpoint;
use crate::harness::{Space, project, scaled};

/// Replaces a few stretches of a text by others.
fn edited(text: &[u8], edits: &[(f64, usize, Vec<u8>)]) -> Vec<u8> {
    let mut text = text.to_vec();
    for (at, removed, inserted) in edits {
        let start = (at * text.len() as f64) as usize;
        let end = (start + removed).min(text.len());
        text.splice(start..end, inserted.iter().copied());
    }
    text
}

fn edits() -> impl Strategy<Value = Vec<(f64, usize, Vec<u8>)>> {
    let digits = "[0-9\\[\\]{}\",:.eE+-]{0,8}".prop_map(String::into_bytes);
    let bytes = prop::collection::vec(any::<u8>(), 0..6);
    prop::collection::vec((0.0..1.0_f64, 0..12_usize, prop_oneof![digits, bytes]), 1..4)
}

/// Runs a command on a folder whose `file` is edited at random, many times over.
fn survives(file: &str, command: &[&str]) {
    let space = Space::new();
    for (name, seed) in [("a", 1), ("b", 2)] {
        Checkpoint::decoder(2, seed).write(&space.path(name));
        let tokenizer = project("tests/conformance/models/tok-a/tokenizer.json");
        fs::copy(tokenizer, space.path(name).join("tokenizer.json")).unwrap();
    }
    // An index beside shards of other names, so that it is read.
    fs::rename(space.path("b/model.safetensors"), space.path("b/part.safetensors")).unwrap();
    let whole = fs::read(space.path("b/part.safetensors")).unwrap();
    let names = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let map: serde_json::Map<String, serde_json::Value> =
        names.names().iter().map(|name| ((*name).to_owned(), "part.safetensors".into())).collect();
    space.write("b/model.safetensors.index.json", serde_json::json!({ "weight_map": map }).to_string());
    space.write(
        "recipe.yaml",
        "name: mean\nmerge_method: linear\ntokenizer_source: ./b\nmodels: [{model: ./a}, {model: ./b}]\n\
         parameters: {weight: 0.5}\n",
    );
    space.ok(command);
    let sound = fs::read(space.path("b").join(file)).unwrap();
    // The weights themselves may be anything; it is the header that is parsed.
    let head = if file.ends_with("safetensors") { sound.len().min(1500) } else { sound.len() };
    let mut runner =
        TestRunner::new(Config { cases: scaled(300, 3000), failure_persistence: None, ..Config::default() });
    let result = runner.run(&edits(), |edits| {
        let mut bytes = edited(&sound[..head], &edits);
        bytes.extend_from_slice(&sound[head..]);
        fs::write(space.path("b").join(file), bytes).unwrap();
        let run = space.run(command);
        let is_told = run.code == 0 || (run.code == 1 && run.stderr.contains("error"));
        if !is_told || run.stderr.contains("panicked") {
            return Err(TestCaseError::fail(format!("{}: {}", run.code, run.stderr)));
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{file}: {error}"));
    let outside: Vec<_> =
        fs::read_dir(space.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let expected = ["a", "b", "recipe.yaml", "cache", "merges"];
    assert!(outside.iter().all(|name| expected.iter().any(|known| name == known)), "{outside:?}");
}

#[test]
fn safetensors_headers() {
    survives("part.safetensors", &["build", "-q", "recipe.yaml"]);
}

#[test]
fn shard_indexes() {
    survives("model.safetensors.index.json", &["build", "-q", "recipe.yaml"]);
}

#[test]
fn configurations() {
    survives("config.json", &["build", "-q", "recipe.yaml"]);
}

#[test]
fn tokenizers() {
    survives("tokenizer.json", &["check", "-q", "recipe.yaml"]);
}

/// The lock of an output is read back by `verify`.
#[test]
fn lock_files() {
    let space = Space::new();
    Checkpoint::decoder(1, 1).write(&space.path("a"));
    space.write("recipe.yaml", "name: copy\nmerge_method: passthrough\nmodels: [{model: ./a}]\n");
    space.ok(&["build", "-q", "recipe.yaml"]);
    let path = space.path("merges/copy/lamarck.lock.json");
    let sound = fs::read(&path).unwrap();
    let mut runner =
        TestRunner::new(Config { cases: scaled(300, 3000), failure_persistence: None, ..Config::default() });
    let result = runner.run(&edits(), |edits| {
        fs::write(&path, edited(&sound, &edits)).unwrap();
        for command in [&["verify", "merges/copy"][..], &["build", "-q", "--locked", "recipe.yaml"]] {
            let run = space.run(command);
            if !matches!(run.code, 0 | 1 | 3) || run.stderr.contains("panicked") {
                return Err(TestCaseError::fail(format!("{}: {}", run.code, run.stderr)));
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// Layer counts and sizes that a config.json claims are not taken for amounts of work or memory.
#[test]
fn absurd_claims_cost_nothing() {
    let space = Space::new();
    Checkpoint::decoder(1, 1).write(&space.path("a"));
    let mut boastful = Checkpoint::decoder(1, 2);
    boastful.config["num_hidden_layers"] = 4_000_000_000_u64.into();
    boastful.config["vocab_size"] = (1_u64 << 60).into();
    boastful.config["layer_types"] = serde_json::json!([[[[]]]]);
    boastful.write(&space.path("b"));
    for (method, body) in [
        ("linear", "models: [{model: ./b}, {model: ./a}]\nparameters: {weight: 1}\n"),
        ("passthrough", "slices: [{sources: [{model: ./b, layer_range: [0, 4000000000]}]}]\n"),
        ("passthrough", "slices: [{sources: [{model: ./b, layer_range: [0, 18446744073709551615]}]}]\n"),
    ] {
        space.write("recipe.yaml", format!("name: x\nmerge_method: {method}\n{body}"));
        let run = space.run(&["check", "recipe.yaml"]);
        assert!(run.code == 0 || run.code == 1, "{}", run.stderr);
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    }
}

/// A shard cut off anywhere is refused, whatever is left of it.
#[test]
fn shards_cut_off_anywhere() {
    let space = Space::new();
    Checkpoint::decoder(1, 1).write(&space.path("a"));
    let path = space.path("a/model.safetensors");
    let whole = fs::read(&path).unwrap();
    let step = if scaled(0, 1) == 1 { 1 } else { 37 };
    for length in (0..whole.len()).step_by(step).chain([whole.len() - 1]) {
        fs::write(&path, &whole[..length]).unwrap();
        let error = space.fails(1, &["inspect", "a"]);
        assert!(error.contains("a/model.safetensors"), "{length}: {error}");
    }
}

#[test]
fn recipes_made_to_be_large() {
    let space = Space::new();
    let stage =
        |i: usize| format!("name: s{i}\nmerge_method: passthrough\nmodels: [{{model: s{}}}]\n---\n", i + 1);
    for (what, text) in [
        ("brackets", "[".repeat(200_000)),
        ("maps", "a: {".repeat(50_000)),
        ("a scalar of 10 MB", format!("merge_method: {}", "x".repeat(10_000_000))),
        ("itself as its model", stage(0).replace("s1", "s0")),
        ("thousands of stages", (0..5_000).map(stage).collect()),
        ("an anchor within itself", "a: &a [*a]\n".to_owned()),
        ("a key without end", format!("? {}\n", "k".repeat(3_000_000))),
    ] {
        space.write("recipe.yaml", text);
        let run = space.run(&["check", "recipe.yaml"]);
        assert_eq!(run.code, 1, "{what}: {}", &run.stderr[..run.stderr.len().min(500)]);
        assert!(!run.stderr.contains("panicked") && run.stderr.contains("error"), "{what}");
    }
}
