//! Damage to anything kept is noticed before a byte of it is used, and mended.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::checkpoints::Checkpoint;
use crate::harness::{Space, TWO_STAGES, project, scaled};

/// A built space, with what it made.
fn built() -> (Space, Vec<u8>) {
    let space = Space::new();
    space.use_models(&project("recipes/ancestors"));
    space.write("recipe.yaml", TWO_STAGES);
    space.ok(&["build", "-q", "recipe.yaml"]);
    let model = weights(&space);
    (space, model)
}

fn weights(space: &Space) -> Vec<u8> {
    fs::read(space.path("merges/blend/model.safetensors")).expect("there is a model")
}

fn blobs(space: &Space) -> Vec<PathBuf> {
    let root = space.path("cache/v2/blobs");
    space.files("cache/v2/blobs").into_keys().map(|path| root.join(path)).collect()
}

fn flip(path: &Path, at: usize, bit: u32) {
    let mut bytes = fs::read(path).unwrap();
    let at = at % bytes.len();
    bytes[at] ^= 1 << (bit % 8);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn every_damaged_blob_is_made_again() {
    let (space, model) = built();
    for (i, path) in blobs(&space).iter().enumerate() {
        match i % 7 {
            0 => flip(path, i * 7919, i as u32),
            1 => fs::remove_file(path).unwrap(),
            2 => fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1).unwrap(),
            3 => fs::OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap(),
            4 => {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            }
            5 => {
                fs::remove_file(path).unwrap();
                symlink("/etc/passwd", path).unwrap();
            }
            _ => {
                let zeros = vec![0; fs::metadata(path).unwrap().len() as usize];
                fs::remove_file(path).unwrap();
                fs::write(path, zeros).unwrap();
            }
        }
    }
    fs::remove_dir_all(space.path("merges")).unwrap();
    let built = space.build(&["recipe.yaml"]);
    assert!(weights(&space) == model);
    assert!(built.damaged > 0 && built.by_stage()["stock"] > 0);
    assert_eq!(space.build(&["recipe.yaml"]).ran.len(), 0);
    // What the build did not want may still be damaged.
    space.run(&["cache", "verify", "--repair"]);
    assert!(space.ok(&["cache", "verify"]).stdout.contains("all sound"));
}

/// Where memory is too small for the tensors, blobs are hashed as a whole first and read again in blocks.
#[test]
fn a_damaged_blob_is_made_again_where_memory_is_small() {
    let (space, model) = built();
    for (i, path) in blobs(&space).iter().enumerate() {
        match i % 3 {
            0 => flip(path, i * 7919, i as u32),
            1 => fs::remove_file(path).unwrap(),
            _ => {}
        }
    }
    fs::remove_dir_all(space.path("merges")).unwrap();
    let built = space.build(&["recipe.yaml", "--memory", "1KB"]);
    assert!(weights(&space) == model);
    assert!(built.damaged > 0 && built.by_stage()["stock"] > 0);
}

/// Results of some size are held to checksums when they are computed with, and to their digests when they leave.
#[test]
fn a_large_blob_that_is_damaged_is_made_again() {
    let space = Space::new();
    for (model, seed) in [("a", 1), ("b", 2)] {
        let mut checkpoint = Checkpoint::new(json!({ "num_hidden_layers": 4 }));
        for i in 0..4 {
            checkpoint.random(&format!("model.layers.{i}.w.weight"), &[256, 300], seed * 100 + i);
        }
        checkpoint.write(&space.path(model));
    }
    let recipe = |t: &str| {
        format!(
            "name: one\nmerge_method: linear\nmodels: [{{model: ./a}}, {{model: ./b}}]\nparameters: {{weight: 0.5}}\n---\n\
             name: two\nmerge_method: slerp\nbase_model: ./a\nmodels: [{{model: one}}]\nparameters: {{t: {t}}}\n"
        )
    };
    space.write("recipe.yaml", recipe("0.5"));
    space.ok(&["build", "-q", "recipe.yaml"]);
    for (i, path) in blobs(&space).iter().enumerate() {
        match i {
            // In the first block, and in the last.
            0 => flip(path, 5, 1),
            1 => flip(path, 256 * 300 * 4 - 1, 7),
            2 => fs::OpenOptions::new().write(true).open(path).unwrap().set_len(200_000).unwrap(),
            _ => {}
        }
    }
    space.write("recipe.yaml", recipe("0.6"));
    let built = space.build(&["recipe.yaml"]);
    assert_eq!((built.damaged, built.by_stage()["one"], built.by_stage()["two"]), (3, 3, 4));
    space.ok(&["build", "-q", "recipe.yaml", "--cache", "fresh", "--out", "fresh-out"]);
    let model = |folder: &str| fs::read(space.path(folder).join("model.safetensors")).unwrap();
    assert!(model("merges/two") == model("fresh-out"));
    // The first stage as an output is written from the store.
    flip(&blobs(&space)[3], 150_000, 2);
    let built = space.build(&["recipe.yaml", "--stage", "one", "--out", "one"]);
    assert_eq!((built.damaged, built.ran.len()), (1, 1));
    space.ok(&["verify", "one", "--rebuild"]);
}

#[test]
fn verify_names_what_is_damaged() {
    let (space, _) = built();
    assert!(space.ok(&["cache", "verify"]).stdout.contains("all sound"));
    let victim = blobs(&space)[5].clone();
    flip(&victim, 3, 1);
    let run = space.run(&["cache", "verify"]);
    assert_eq!(run.code, 3);
    assert!(
        run.stdout.contains("1 damaged")
            && run.stdout.contains(victim.file_name().unwrap().to_str().unwrap())
    );
    assert!(victim.exists(), "without --repair nothing is removed");
    space.run(&["cache", "verify", "--repair"]);
    assert!(!victim.exists());
}

/// Flips, zeroes and cuts of the index never lead to a wrong byte or to a panic, and mend themselves.
#[test]
fn a_damaged_index_costs_time_alone() {
    let (space, model) = built();
    let lock = space.read("merges/blend/lamarck.lock.json");
    let path = space.path("cache/v2/index.redb");
    let sound = fs::read(&path).unwrap();
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize % below
    };
    for i in 0..scaled(15, 500) {
        let mut damaged = sound.clone();
        let at = next(damaged.len());
        match i % 7 {
            // In the head of the file, which says how to read the rest.
            5 => damaged[if i % 2 == 0 { 64 } else { 192 }] ^= 1 << next(8),
            6 => (0..300).for_each(|_| {
                let at = next(damaged.len());
                damaged[at] ^= 1 << next(8);
            }),
            3 => damaged.truncate(at),
            4 => {
                let end = (at + 4096).min(damaged.len());
                damaged[at..end].fill(0);
            }
            _ => damaged[at] ^= 1 << next(8),
        }
        fs::write(&path, damaged).unwrap();
        fs::remove_dir_all(space.path("merges")).unwrap();
        let run = space.run(&["build", "recipe.yaml"]);
        assert_eq!(run.code, 0, "{i} at {at}: {}", run.stderr);
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
        assert!(weights(&space) == model, "{i} at {at}");
        assert_eq!(space.read("merges/blend/lamarck.lock.json"), lock, "{i} at {at}");
    }
}

#[test]
fn a_lost_index_leaves_blobs_that_are_used_again() {
    let (space, model) = built();
    let before = space.files("cache/v2/blobs");
    for content in [None, Some(&b""[..]), Some(b"no database"), Some(&[0; 100_000])] {
        let path = space.path("cache/v2/index.redb");
        match content {
            None => fs::remove_file(&path).unwrap(),
            Some(bytes) => fs::write(&path, bytes).unwrap(),
        }
        space.ok(&["build", "-q", "recipe.yaml"]);
        assert!(weights(&space) == model);
        assert!(space.files("cache/v2/blobs") == before);
    }
    // An index of an earlier time beside newer blobs.
    let old = fs::read(space.path("cache/v2/index.redb")).unwrap();
    space.replace("recipe.yaml", "t: 0.3", "t: 0.4");
    space.ok(&["build", "-q", "recipe.yaml"]);
    let newer = weights(&space);
    fs::write(space.path("cache/v2/index.redb"), old).unwrap();
    space.ok(&["build", "-q", "recipe.yaml"]);
    assert!(weights(&space) == newer);
}

#[test]
fn commands_that_only_look_name_a_damaged_index() {
    let (space, _) = built();
    space.write("cache/v2/index.redb", [7; 5000]);
    for command in [&["plan", "recipe.yaml"][..], &["log"], &["cache", "stat"]] {
        let error = space.fails(3, command);
        assert!(error.contains("index.redb is damaged") && error.contains("next build"), "{error}");
    }
    let run = space.ok(&["build", "recipe.yaml"]);
    assert!(run.stderr.contains("set aside"), "{}", run.stderr);
}

#[test]
fn a_damaged_output_is_written_again() {
    let (space, model) = built();
    let path = space.path("merges/blend/model.safetensors");
    let stamp = fs::metadata(&path).unwrap().modified().unwrap();
    for damage in ["flip", "flip and restore the stamp", "truncate", "remove"] {
        match damage {
            "flip" => flip(&path, 100_000, 2),
            "flip and restore the stamp" => {
                let mut bytes = fs::read(&path).unwrap();
                bytes[200_000] ^= 4;
                fs::write(&path, bytes).unwrap();
                fs::File::options().append(true).open(&path).unwrap().set_modified(stamp).unwrap();
            }
            "truncate" => fs::File::options().write(true).open(&path).unwrap().set_len(1000).unwrap(),
            _ => fs::remove_file(&path).unwrap(),
        }
        // The output holds the only copy of its own results, so those are made again, and no others.
        assert!(space.build(&["recipe.yaml"]).by_stage().keys().all(|stage| *stage == "blend"), "{damage}");
        assert!(weights(&space) == model, "{damage}");
    }
    space.write("merges/blend/config.json", "{}");
    space.ok(&["build", "-q", "recipe.yaml"]);
    assert_eq!(space.json("merges/blend/config.json")["num_hidden_layers"], 48);
}

/// The version of the store's format is in its path, and others' are left alone.
#[test]
fn other_versions_of_the_store_are_left_alone() {
    let (space, _) = built();
    space.write("cache/v0/index.redb", "old");
    space.write("cache/v99/blobs/x", "new");
    space.replace("recipe.yaml", "t: 0.3", "t: 0.4");
    space.ok(&["build", "-q", "recipe.yaml"]);
    space.ok(&["cache", "gc", "--max-size", "1"]);
    assert_eq!(
        (space.read("cache/v0/index.redb").as_str(), space.read("cache/v99/blobs/x").as_str()),
        ("old", "new")
    );
}
