//! The same sources, recipe and seed give the same bytes, however they are come by.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::checkpoints::{Checkpoint, read};
use crate::harness::{CARD, FULL, Space, project};

/// A build's weights and lock, from an empty store.
fn cold(space: &Space, name: &str, args: &[&str]) -> BTreeMap<PathBuf, Vec<u8>> {
    let (cache, out) = (format!("cache-{name}"), format!("out-{name}"));
    let fixed = ["build", "-q", "recipe.yaml", "--cache", &cache, "--out", &out];
    space.ok(&[&fixed, args].concat());
    space.files(&out)
}

#[test]
fn threads_and_memory_do_not_show() {
    let space = Space::with_full_recipe();
    let reference = cold(&space, "1", &["--jobs", "1"]);
    assert!(reference.contains_key(&PathBuf::from("model.safetensors")));
    for (name, args) in [
        ("8", &["--jobs", "8"][..]),
        ("small", &["--jobs", "2", "--memory", "64MB"]),
        ("large", &["--jobs", "2", "--memory", "4GB"]),
        ("tiny", &["--jobs", "3", "--memory", "1MB"]),
    ] {
        assert!(cold(&space, name, args) == reference, "{name} differs");
    }
}

/// Tensors of many blocks and leaves, so that every way of cutting them up is taken.
#[test]
fn threads_and_memory_do_not_show_in_large_tensors() {
    let space = Space::new();
    for (name, seed) in [("base", 1), ("a", 2), ("b", 3)] {
        let mut checkpoint = Checkpoint::decoder(1, seed);
        checkpoint.random("model.layers.0.mlp.down_proj.weight", &[700, 513], seed);
        checkpoint.random("model.layers.0.mlp.gate_proj.weight", &[3, 100_001], seed);
        checkpoint.random("model.layers.0.mlp.bias", &[300_007], seed);
        checkpoint.bf16().write(&space.path(name));
    }
    let stage = |name: &str, method: &str, parameters: &str| {
        format!(
            "name: {name}\nmerge_method: {method}\nbase_model: ./base\nmodels: [{{model: ./a}}, {{model: ./b}}]\n\
             parameters: {{{parameters}}}\ndtype: bfloat16\n"
        )
    };
    let stages = [
        stage("stock", "model_stock", ""),
        stage("filters", "model_stock", "filter_wise: true"),
        stage("trimmed", "ties", "weight: 0.6, density: 0.37, rescale: true"),
        stage("dare", "dare_ties", "weight: 0.6, density: 0.37"),
        stage("by-rank", "della", "weight: 0.6, density: 0.5, epsilon: 0.2"),
        stage("crumbs", "breadcrumbs_ties", "weight: 0.6, density: 0.5, gamma: 0.03"),
        "name: arc\nmerge_method: slerp\nbase_model: ./base\nmodels: [{model: ./a}]\nparameters: {t: 0.3}\n"
            .to_owned(),
        stage("mean", "linear", "weight: 0.4").replace("base_model: ./base\n", ""),
        stage("arcs", "nuslerp", "weight: 0.4"),
        stage("rows", "nuslerp", "weight: 0.4, nuslerp_flatten: false"),
        stage("columns", "nuslerp", "weight: 0.4, nuslerp_flatten: false, nuslerp_row_wise: true"),
        stage("directions", "multislerp", "weight: 0.4"),
        stage("sphere", "karcher", ""),
        stage("varying", "sce", "select_topk: 0.37"),
        stage("all-varying", "sce", ""),
        stage("active", "ram", "epsilon: 0.5"),
        stage("strengthened", "ramplus_tl", "epsilon: 0.5, alpha: 3"),
        stage("near", "nearswap", "t: 0.2").replace(", {model: ./b}", ""),
        stage("fused", "arcee_fusion", "").replace(", {model: ./b}", ""),
    ];
    space.write("recipe.yaml", stages.join("---\n"));
    let cold = |name: &str, args: &[&str]| {
        let cache = format!("cache-{name}");
        let mut command = space.command(&[&["build", "-q", "recipe.yaml", "--cache", &cache], args].concat());
        // Whatever is not named after a level of vectors uses the best there is.
        let level = ["baseline", "avx2"].into_iter().find(|level| name.starts_with(level)).unwrap_or("");
        let output = command.env("LAMARCK_SIMD", level).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let merges = space.files("merges");
        std::fs::remove_dir_all(space.path("merges")).unwrap();
        merges
    };
    let reference = cold("1", &["--jobs", "1", "--memory", "4GB"]);
    assert_eq!(reference.keys().filter(|path| path.ends_with("model.safetensors")).count(), stages.len());
    for (name, args) in [
        ("8", &["--jobs", "8", "--memory", "4GB"][..]),
        ("small", &["--jobs", "1", "--memory", "1MB"]),
        ("both", &["--jobs", "5", "--memory", "8MB"]),
        ("baseline", &["--jobs", "2"]),
        ("baseline-small", &["--jobs", "2", "--memory", "1MB"]),
        ("avx2", &["--jobs", "2"]),
    ] {
        assert!(cold(name, args) == reference, "{name} differs");
    }
}

#[test]
fn a_warm_and_a_damaged_store_give_the_bytes_of_a_cold_one() {
    let space = Space::with_full_recipe();
    let reference = cold(&space, "cold", &[]);
    // Every third result is gone or changed; a build that needs it makes it again.
    let edited = space.read("recipe.yaml").replace("lambda:            0.95", "lambda:            0.94");
    let text = space.read("recipe.yaml");
    space.write("recipe.yaml", edited);
    cold(&space, "other", &[]);
    let blobs = space.files("cache-other/v2/blobs");
    for (i, path) in blobs.keys().enumerate() {
        let full = space.path("cache-other/v2/blobs").join(path);
        match i % 3 {
            0 => std::fs::remove_file(&full).unwrap(),
            1 => {
                let mut bytes = std::fs::read(&full).unwrap();
                bytes[0] ^= 1;
                std::fs::write(&full, bytes).unwrap();
            }
            _ => {}
        }
    }
    space.write("recipe.yaml", text);
    assert!(cold(&space, "other", &[]) == reference, "a damaged store shows");
}

#[test]
fn shard_sizes_change_shards_and_not_tensors() {
    let space = Space::with_full_recipe();
    cold(&space, "one", &[]);
    cold(&space, "many", &["--shard-size", "200kB"]);
    assert!(space.path("out-many/model-00001-of-00007.safetensors").exists());
    assert!(!space.path("out-many/model.safetensors").exists());
    assert_eq!(read(&space.path("out-one")), read(&space.path("out-many")));
    // The shards of a build before must not be left for a loader to find.
    space.ok(&["build", "-q", "recipe.yaml", "--cache", "cache-many", "--out", "out-many"]);
    assert!(space.path("out-many/model.safetensors").exists());
    let left =
        space.files("out-many").into_keys().filter(|path| path.to_string_lossy().contains("-of-")).count();
    assert_eq!(left, 0);
    assert!(!space.path("out-many/model.safetensors.index.json").exists());
}

#[test]
fn the_card_recipe_builds_from_finished_model_stocks() {
    let space = Space::with_full_recipe();
    let reference = cold(&space, "full", &[]);
    for stage in ["reason", "prose"] {
        let name = format!("lamarck-14b-{stage}-model_stock");
        let out = format!("stocks/sometimesanotion/{name}");
        space.ok(&["build", "-q", "recipe.yaml", "--stage", &name, "--out", &out]);
    }
    let card = project(CARD);
    assert_eq!(std::fs::read(&card).unwrap(), std::fs::read(project(CARD)).unwrap());
    let card = card.to_str().unwrap();
    space.ok(&["build", "-q", card, "--models", "stocks", "--cache", "cache-full", "--out", "card"]);
    let weights = PathBuf::from("model.safetensors");
    assert!(space.files("card")[&weights] == reference[&weights], "both recipes give the same model");
    assert!(project(FULL).exists());
}
