//! What the system around a command may do to it: a full disk under its results, a cache that cannot be looked
//! at, few files that may be open.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Map, json};

use crate::checkpoints::Checkpoint;
use crate::harness::{Space, scaled};

fn space() -> Space {
    let space = Space::new();
    Checkpoint::decoder(2, 1).write(&space.path("a"));
    Checkpoint::decoder(2, 2).write(&space.path("b"));
    let recipe =
        "name: out\nmerge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {weight: 0.5}\n";
    space.write("recipe.yaml", recipe);
    space
}

#[test]
fn results_that_cannot_be_printed_are_an_error() {
    let space = space();
    space.ok(&["build", "recipe.yaml"]);
    for args in [
        &["methods"][..],
        &["check", "recipe.yaml"],
        &["plan", "recipe.yaml", "--exit-code"],
        &["verify", "merges/out"],
        &["log"],
        &["build", "recipe.yaml", "--json"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = space.command(args).stdout(full).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{args:?}: {error}");
        assert!(error.contains("error"), "{args:?}: {error}");
    }
}

#[test]
fn a_cache_that_cannot_be_looked_at_is_not_an_empty_one() {
    let space = space();
    // For every user, root too, a loop of links is something that cannot be opened.
    symlink("loop", space.path("loop")).unwrap();
    for args in [&["log"][..], &["cache", "stat"], &["cache", "verify"], &["plan", "recipe.yaml"]] {
        let error = space.fails(4, &[args, &["--cache", "loop"]].concat());
        assert!(error.contains("loop"), "{args:?}: {error}");
    }
}

#[test]
fn models_may_have_more_shards_than_files_may_be_open() {
    const SHARDS: usize = 300;
    let space = space();
    for (model, seed) in [("a", 1), ("b", 2)] {
        let dir = space.path(model);
        fs::remove_dir_all(&dir).unwrap();
        let mut map = Map::new();
        for i in 0..SHARDS {
            let mut shard = Checkpoint::new(json!({ "num_hidden_layers": SHARDS }));
            let (tensor, file) = (format!("model.layers.{i}.w.weight"), format!("model-{i:05}.safetensors"));
            shard.random(&tensor, &[2, 2], seed * 1000 + i as u64);
            shard.write(&dir);
            fs::rename(dir.join("model.safetensors"), dir.join(&file)).unwrap();
            map.insert(tensor, json!(file));
        }
        let index = json!({ "metadata": {}, "weight_map": map });
        fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    }
    let limited = format!("ulimit -n 400; exec {} build -q recipe.yaml", env!("CARGO_BIN_EXE_lamarck"));
    let output = Command::new("sh").args(["-c", &limited]).current_dir(space.path("")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    space.ok(&["verify", "merges/out"]);
}

/// What the help text says of memory holds, for many tensors of middling size; also where each is read again
/// long after it was first, by another output.
#[test]
#[cfg(target_os = "linux")]
fn memory_stays_within_its_limit() {
    const MB: u64 = 1_000_000;
    let space = Space::new();
    for (model, seed) in [("a", 1), ("b", 2)] {
        let mut checkpoint = Checkpoint::new(json!({ "num_hidden_layers": 40 }));
        for i in 0..40 {
            checkpoint.random(&format!("model.layers.{i}.w.weight"), &[1024, 1024], seed * 100 + i);
        }
        checkpoint.write(&space.path(model));
    }
    let weight = |weight: &str| format!("parameters: {{weight: {weight}}}\n");
    let stage = |name: &str, model: &str| {
        format!("name: {name}\nmerge_method: linear\nmodels: [{{model: {model}}}, {{model: ./b}}]\n")
    };
    space.write(
        "chain.yaml",
        [stage("one", "./a"), weight("0.5"), "---\n".to_owned(), stage("two", "one"), weight("0.25")]
            .concat(),
    );
    let slice = |scale: &str| {
        format!("- sources: [{{model: ./a, layer_range: [0, 40], parameters: {{scale: {scale}}}}}]\n")
    };
    let repeated = [slice("0.9"), slice("1.1"), slice("0.5")].concat();
    space.write("stack.yaml", format!("name: stack\nmerge_method: passthrough\nslices:\n{repeated}"));
    for (recipe, limit) in [("chain", 32), ("chain", 64), ("stack", 32), ("stack", 64)] {
        let (file, cache) = (format!("{recipe}.yaml"), format!("cache-{recipe}-{limit}"));
        let memory = format!("{limit}MB");
        let args = ["build", "-q", &file, "--memory", &memory, "--jobs", "2", "--cache", &cache];
        let most = space.most_memory(&args);
        assert!(most > 5 * MB, "nothing was measured");
        assert!(most < (limit + 40) * MB, "{recipe} at {memory}: {} MB", most / MB);
    }
}

/// Builds hand results over to their outputs while all that is kept is checked.
#[test]
fn what_is_checked_beside_builds_is_sound() {
    let space = space();
    Checkpoint::decoder(2, 3).write(&space.path("c"));
    let recipe = |weight: usize| {
        format!(
            "name: one\nmerge_method: linear\nmodels: [{{model: ./a}}, {{model: ./b}}]\nparameters: {{weight: 0.{weight}}}\n\
             ---\nname: two\nmerge_method: linear\nmodels: [{{model: one}}, {{model: ./c}}]\nparameters: {{weight: 0.5}}\n"
        )
    };
    for round in 0..scaled(8, 200) as usize {
        let builds: Vec<_> = ["one", "two"]
            .iter()
            .enumerate()
            .map(|(i, stage)| {
                space.write(&format!("{stage}.yaml"), recipe(1 + (round + i) % 3));
                let recipe = format!("{stage}.yaml");
                space.command(&["build", "-q", &recipe, "--stage", stage, "--out", stage]).spawn().unwrap()
            })
            .collect();
        for _ in 0..5 {
            space.ok(&["cache", "verify"]);
        }
        for mut build in builds {
            assert!(build.wait().unwrap().success());
        }
    }
}
