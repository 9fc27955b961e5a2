//! Sources that change under us.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use crate::checkpoints::{Checkpoint, read};
use crate::harness::{Space, copy_dir, settle};

const RECIPE: &str =
    "name: mean\nmerge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {weight: 0.5}\n";
const NAME: &str = "model.norm.weight";

fn built() -> Space {
    let space = Space::new();
    Checkpoint::decoder(1, 1).write(&space.path("a"));
    Checkpoint::decoder(1, 2).write(&space.path("b"));
    space.write("recipe.yaml", RECIPE);
    settle();
    space.ok(&["build", "-q", "recipe.yaml"]);
    assert_eq!(space.build(&["recipe.yaml"]).hashed.len(), 0, "the sources are remembered");
    space
}

/// The model must be what the sources as they are now give.
#[track_caller]
fn assert_fresh(space: &Space) {
    space.ok(&["build", "-q", "recipe.yaml"]);
    let [a, b, ours] = ["a", "b", "merges/mean"].map(|folder| read(&space.path(folder)));
    for (name, tensor) in &ours {
        for (i, value) in tensor.values.iter().enumerate() {
            let mean = (a[name].values[i] + b[name].values[i]) / 2.0;
            assert!((value - mean).abs() < 1e-6, "{name} is stale");
        }
    }
}

/// The same tensors with other values in one of them.
fn other_bytes() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let mut other = Checkpoint::decoder(1, 2);
    other.f32(NAME, &[4], &[0.5, 0.25, -0.5, 1.0]);
    other.write(dir.path());
    fs::read(dir.path().join("model.safetensors")).unwrap()
}

fn set_stamp(path: &Path, stamp: SystemTime) {
    fs::File::options().append(true).open(path).unwrap().set_modified(stamp).unwrap();
}

#[test]
fn an_edit_that_keeps_size_and_stamp_is_noticed() {
    let space = built();
    let path = space.path("b/model.safetensors");
    let stamp = fs::metadata(&path).unwrap().modified().unwrap();
    let bytes = other_bytes();
    assert_eq!(bytes.len() as u64, fs::metadata(&path).unwrap().len());
    fs::write(&path, bytes).unwrap();
    set_stamp(&path, stamp);
    assert_fresh(&space);
}

#[test]
fn a_replaced_file_is_noticed_whatever_its_stamp() {
    for stamp in [SystemTime::UNIX_EPOCH, SystemTime::now() + Duration::from_secs(1 << 20)] {
        let space = built();
        let path = space.path("b/model.safetensors");
        let old = fs::metadata(&path).unwrap().modified().unwrap();
        for stamp in [stamp, old] {
            space.write("b/new", other_bytes());
            set_stamp(&space.path("b/new"), stamp);
            fs::rename(space.path("b/new"), &path).unwrap();
            assert_fresh(&space);
        }
    }
}

/// A file that was written just now may be written again without a trace, so nothing is remembered of it.
#[test]
fn fresh_files_are_not_remembered() {
    let space = Space::new();
    space.write("recipe.yaml", RECIPE);
    for round in 0..5 {
        Checkpoint::decoder(1, round).write(&space.path("a"));
        Checkpoint::decoder(1, round + 10).write(&space.path("b"));
        assert_fresh(&space);
    }
}

/// As the Hugging Face cache has them: links to files that are named by their content.
#[test]
fn links_are_followed_to_what_they_name() {
    let space = built();
    copy_dir(&space.path("b"), &space.path("store"));
    let link = space.path("b/model.safetensors");
    fs::remove_file(&link).unwrap();
    symlink(space.path("store/model.safetensors"), &link).unwrap();
    assert_fresh(&space);
    space.write("store/other.safetensors", other_bytes());
    fs::remove_file(&link).unwrap();
    symlink(space.path("store/other.safetensors"), &link).unwrap();
    assert_fresh(&space);
}

#[allow(unsafe_code)]
fn mapped(path: &Path) -> memmap2::MmapMut {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    // SAFETY: the file keeps its length as long as it is mapped.
    unsafe { memmap2::MmapMut::map_mut(&file) }.unwrap()
}

/// Of every file a few blocks are looked at, the last among them, whatever its stamps are.
#[test]
fn a_change_under_the_same_stamps_is_noticed_where_files_are_probed() {
    let space = Space::new();
    Checkpoint::decoder(1, 1).write(&space.path("a"));
    Checkpoint::decoder(1, 2).write(&space.path("b"));
    space.write("recipe.yaml", RECIPE);
    let path = space.path("b/model.safetensors");
    let mut map = mapped(&path);
    let last = map.len() - 4;
    let value = |map: &[u8]| f32::from_le_bytes(map[last..].try_into().unwrap());
    let old = value(&map);
    map[last..].copy_from_slice(&old.to_le_bytes());
    settle();
    assert_fresh(&space);
    map[last..].copy_from_slice(&(old + 1.0).to_le_bytes());
    assert_fresh(&space);
}

/// A store through a map whose page is dirty already moves no stamp. Such a change is not noticed where nothing
/// is computed, but nothing is ever computed from the new bytes under the digest of the old ones.
#[test]
fn bytes_that_change_without_a_trace_are_never_computed_with() {
    for memory in ["1GB", "16MB"] {
        let space = Space::new();
        for (name, seed) in [("a", 1), ("b", 2)] {
            let mut checkpoint = Checkpoint::decoder(1, seed);
            checkpoint.random("model.layers.0.mlp.large.weight", &[1500, 1000], seed);
            checkpoint.write(&space.path(name));
        }
        let recipe = |weight: f64| {
            let b = format!("{{model: ./b, parameters: {{weight: {weight}}}}}");
            space.write("recipe.yaml", RECIPE.replace("{model: ./b}", &b));
        };
        recipe(0.25);
        let path = space.path("b/model.safetensors");
        let mut map = mapped(&path);
        // A value of the large tensor, which takes up most of the file.
        let at = map.len() / 2 / 4 * 4..map.len() / 2 / 4 * 4 + 4;
        let old: [u8; 4] = map[at.clone()].try_into().unwrap();
        map[at.clone()].copy_from_slice(&old);
        settle();
        let build = |cache: &str, out: &str| {
            space.run(&["build", "-q", "recipe.yaml", "--memory", memory, "--cache", cache, "--out", out])
        };
        assert_eq!(build("cache", "out").code, 0);
        for (value, weight) in [(777_f32.to_le_bytes(), 0.75), (old, 0.5)] {
            let stamp = fs::metadata(&path).unwrap().modified().unwrap();
            map[at.clone()].copy_from_slice(&value);
            if fs::metadata(&path).unwrap().modified().unwrap() != stamp {
                return; // This file system stamps such stores.
            }
            recipe(weight);
            let stopped = build("cache", "out");
            assert_eq!(stopped.code, 1, "{}", stopped.stderr);
            assert!(
                stopped.stderr.contains("b/model.safetensors: tensor `model.layers.0.mlp.large.weight`"),
                "{}",
                stopped.stderr
            );
            assert!(stopped.stderr.contains("changed since it was hashed"), "{}", stopped.stderr);
            assert_eq!(build("cache", "out").code, 0, "what was remembered of the file is gone");
            let fresh = tempfile::tempdir().unwrap();
            let fresh = fresh.path().to_str().unwrap();
            assert_eq!(build(fresh, "fresh").code, 0);
            let model = |out: &str| fs::read(space.path(out).join("model.safetensors")).unwrap();
            assert!(model("out") == model("fresh"));
        }
    }
}

/// A source that changes while it is read stops the build, and nothing made of it is kept.
#[test]
fn a_source_edited_during_the_build_stops_it() {
    let space = Space::new();
    for (name, seed) in [("a", 1), ("b", 2)] {
        let mut checkpoint = Checkpoint::decoder(1, seed);
        for i in 0..12 {
            checkpoint.random(&format!("model.layers.0.mlp.part_{i}.weight"), &[1000, 1000], seed);
        }
        checkpoint.write(&space.path(name));
    }
    space.write("recipe.yaml", RECIPE);
    let mut command = space.command(&["build", "--json", "--jobs", "1", "recipe.yaml"]);
    let build = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Wait for the build to have opened its sources, which it does before it makes its cache.
    let until = Instant::now() + Duration::from_secs(30);
    while !space.path("cache/v2/index.redb").exists() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    let path = space.path("b/model.safetensors");
    let source = fs::File::options().write(true).open(&path).unwrap();
    source.write_all_at(&0.125_f32.to_le_bytes(), source.metadata().unwrap().len() - 4).unwrap();
    let output = build.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("b/model.safetensors changed while it was being read"), "{error}");
    assert!(!space.path("merges/mean").exists());
    assert_fresh(&space);
}
