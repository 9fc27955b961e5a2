//! Results that neither the cache nor an output keeps: they stay in memory until the last that reads them has run, and
//! go to temporary files where there is no room for them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::checkpoints::Checkpoint;
use crate::harness::Space;

const MB: u64 = 1 << 20;

/// Two models of so many tensors of a shape.
fn space(layers: usize, shape: &[usize]) -> Space {
    let space = Space::new();
    for (model, seed) in [("a", 1), ("b", 2)] {
        let mut checkpoint = Checkpoint::new(json!({ "num_hidden_layers": layers }));
        for i in 0..layers as u64 {
            checkpoint.random(&format!("model.layers.{i}.w.weight"), shape, seed * 100 + i);
        }
        checkpoint.write(&space.path(model));
    }
    space
}

/// A build from nothing: the bytes that it writes for each byte of its output, and the output. No file of it is left
/// but the output and the index.
fn build(space: &Space, args: &[&str]) -> (f64, BTreeMap<PathBuf, Vec<u8>>) {
    for folder in ["cache", "merges"] {
        let _ = fs::remove_dir_all(space.path(folder));
    }
    let written = space.bytes_written(&[&["recipe.yaml"], args].concat());
    assert!(space.files("cache/v2/tmp").is_empty() && space.files("cache/v2/blobs").is_empty());
    let output = space.files("merges/last");
    let n_bytes: usize = output.values().map(Vec::len).sum();
    (written as f64 / n_bytes as f64, output)
}

/// Five stages, each of which reads those before it; some also column by column.
fn chain() -> String {
    let stage = |name: &str, rest: &str| format!("name: {name}\ncache: false\n{rest}\n");
    let slerp = |base: &str, with: &str| {
        format!(
            "merge_method: slerp\nbase_model: {base}\nmodels: [{{model: {with}}}]\nparameters: {{t: 0.4}}"
        )
    };
    let columns = "merge_method: nuslerp\nmodels: [{model: one, parameters: {weight: 0.4}}, {model: ./b, parameters: {weight: 0.6}}]\n\
        parameters: {nuslerp_flatten: false, nuslerp_row_wise: false}";
    let last = "merge_method: linear\nmodels: [{model: one}, {model: two}, {model: three}, {model: four}]\n\
        parameters: {weight: 0.25}";
    [
        stage("one", &slerp("./a", "./b")),
        stage("two", columns),
        stage("three", &slerp("two", "./a")),
        stage("four", &slerp("three", "one")),
        stage("last", last),
    ]
    .join("---\n")
}

#[test]
#[cfg(target_os = "linux")]
fn what_is_not_stored_is_not_written() {
    let space = space(2, &[2560, 2048]);
    space.write("recipe.yaml", chain());
    let (ratio, expected) = build(&space, &["--jobs", "2", "--memory", "4GiB"]);
    assert!(ratio < 1.1, "{ratio}");
    // Where all threads work on each tensor.
    let (ratio, made) = build(&space, &["--jobs", "2", "--memory", "400MiB"]);
    assert!(ratio < 1.1 && made == expected, "{ratio}");
    // There is room for two of four results.
    let (ratio, made) = build(&space, &["--jobs", "1", "--memory", "90MiB"]);
    assert!((2.0..4.5).contains(&ratio) && made == expected, "{ratio}");
    // There is room for none.
    let (ratio, made) = build(&space, &["--jobs", "3", "--memory", "8MiB"]);
    assert!((4.9..5.2).contains(&ratio) && made == expected, "{ratio}");
}

#[test]
#[cfg(target_os = "linux")]
fn large_results_stay_within_the_limit_of_memory() {
    let space = space(1, &[2560, 4096]);
    space.write("recipe.yaml", chain());
    for (limit, least) in [(90, 10), (200, 80)] {
        let memory = format!("{limit}MiB");
        let args = ["build", "-q", "recipe.yaml", "--jobs", "2", "--memory", &memory, "--cache", &memory];
        let most = space.most_memory(&args) / MB;
        assert!((least..limit + 40).contains(&most), "{most} MiB of {limit}");
    }
}

/// Results that are read again long after, by another layer of the output. None is computed twice, and what is written
/// beside the output is no more than what does not fit.
#[test]
#[cfg(target_os = "linux")]
fn what_waits_for_a_late_reader_makes_room() {
    const LAYERS: u64 = 40;
    let space = space(LAYERS as usize, &[512, 512]);
    let slice = |scale: &str| {
        format!("- sources: [{{model: one, layer_range: [0, {LAYERS}], parameters: {{scale: {scale}}}}}]\n")
    };
    let one = "name: one\ncache: false\nmerge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {weight: 0.5}\n";
    let repeated = [slice("0.9"), slice("1.1"), slice("0.5")].concat();
    let last = format!("name: last\ncache: false\nmerge_method: passthrough\nslices:\n{repeated}");
    space.write("recipe.yaml", [one, &last].join("---\n"));
    let (ratio, expected) = build(&space, &["--memory", "1GiB"]);
    assert!(ratio < 1.1, "{ratio}");
    let (ratio, made) = build(&space, &["--jobs", "1", "--memory", "32MiB"]);
    let spilled = (ratio - 1.0) * (3 * LAYERS * MB) as f64 / MB as f64;
    assert!((20.0..45.0).contains(&spilled) && made == expected, "{spilled} MiB");
    fs::remove_dir_all(space.path("cache")).unwrap();
    let built = space.build(&["recipe.yaml", "--jobs", "2", "--memory", "32MiB"]);
    assert_eq!(built.ran.len() as u64, 4 * LAYERS);
}
