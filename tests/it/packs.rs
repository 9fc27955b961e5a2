//! What only the old version of an output holds: it comes into the cache with the output's file, at no cost.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::checkpoints::Checkpoint;
use crate::harness::{Space, TWO_STAGES, project};

const MODEL: &str = "merges/blend/model.safetensors";

fn space() -> Space {
    let space = Space::new();
    space.use_models(&project("recipes/ancestors"));
    space.write("recipe.yaml", TWO_STAGES);
    space
}

/// Builds with the blend's `t`; gives the number of actions that ran, and the model.
fn build(space: &Space, t: &str) -> (usize, Vec<u8>) {
    space.write("recipe.yaml", TWO_STAGES.replace("t: 0.3", &format!("t: {t}")));
    let ran = space.build(&["recipe.yaml"]).ran.len();
    (ran, fs::read(space.path(MODEL)).unwrap())
}

fn packs(space: &Space) -> Vec<PathBuf> {
    let root = space.path("cache/v2/packs");
    space.files("cache/v2/packs").into_keys().map(|path| root.join(path)).collect()
}

fn n_blobs(space: &Space) -> usize {
    space.files("cache/v2/blobs").len()
}

fn json(space: &Space, args: &[&str]) -> Value {
    serde_json::from_str(&space.ok(&[args, &["--json"]].concat()).stdout).expect("the output is JSON")
}

#[test]
fn an_old_version_moves_into_the_cache_and_back() {
    let space = space();
    let (_, first) = build(&space, "0.3");
    let blobs = n_blobs(&space);
    let stat = json(&space, &["cache", "stat"]);
    for _ in 0..2 {
        let (_, second) = build(&space, "0.4");
        let [pack] = &packs(&space)[..] else { panic!("one file moved") };
        assert!(fs::read(pack).unwrap() == first && second != first);
        assert_eq!(n_blobs(&space), blobs, "nothing was copied");
        assert_eq!(fs::metadata(pack).unwrap().permissions().mode() & 0o777, 0o444);
        let now = json(&space, &["cache", "stat"]);
        let grown = |field: &str| now[field].as_u64().unwrap() - stat[field].as_u64().unwrap();
        assert_eq!(grown("blob_bytes") + grown("dead_bytes"), first.len() as u64);
        assert!(grown("dead_bytes") < first.len() as u64 / 2, "{now}");
        assert!(space.ok(&["cache", "verify"]).stdout.contains("all sound"));
        // What the cache has of an output is not kept twice.
        assert_eq!(build(&space, "0.3"), (0, first.clone()));
        let [pack] = &packs(&space)[..] else { panic!("the other version moved") };
        assert!(fs::read(pack).unwrap() == second);
    }
    // Another output is written from the pack, also where memory is small.
    space.replace("recipe.yaml", "t: 0.3", "t: 0.4");
    let built = space.build(&["recipe.yaml", "--out", "copy", "--memory", "1KB"]);
    assert_eq!(built.ran.len(), 0);
    assert!(packs(&space).is_empty(), "the copy holds what was in it");
}

#[test]
fn files_with_another_use_stay_where_they_are() {
    for (n, name) in ["read-only", "linked", "a link"].into_iter().enumerate() {
        let space = space();
        let (_, first) = build(&space, "0.3");
        let (shard, mine) = (space.path(MODEL), space.path("mine"));
        match n {
            0 => fs::set_permissions(&shard, Permissions::from_mode(0o444)).unwrap(),
            1 => fs::hard_link(&shard, &mine).unwrap(),
            _ => {
                fs::rename(&shard, &mine).unwrap();
                std::os::unix::fs::symlink(&mine, &shard).unwrap();
            }
        }
        build(&space, "0.4");
        assert!(packs(&space).is_empty(), "{name}");
        assert!(n == 0 || fs::read(&mine).unwrap() == first, "{name}");
        let (ran, again) = build(&space, "0.3");
        // Its change stamp has moved, so it is not known any more what it holds.
        assert!(again == first && ran > 0, "{name}: {ran} ran");
    }
}

#[test]
fn from_another_file_system_what_is_wanted_is_copied() {
    let space = space();
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    if device(elsewhere.path()) == device(&space.path("")) {
        return;
    }
    let out = elsewhere.path().join("out");
    let build = |t: &str| {
        space.write("recipe.yaml", TWO_STAGES.replace("t: 0.3", &format!("t: {t}")));
        let ran = space.build(&["recipe.yaml", "--out", out.to_str().unwrap()]).ran.len();
        (ran, fs::read(out.join("model.safetensors")).unwrap())
    };
    let (_, first) = build("0.3");
    let blobs = n_blobs(&space);
    build("0.4");
    let both = n_blobs(&space);
    assert!(packs(&space).is_empty() && both > blobs);
    assert_eq!(build("0.3"), (0, first));
    assert_eq!(n_blobs(&space), both, "one version went, and the other came");
}

#[test]
fn a_file_that_is_edited_is_not_taken_for_what_it_was() {
    let space = space();
    let (_, first) = build(&space, "0.3");
    let mut edited = first.clone();
    let at = edited.len() - 9;
    edited[at] ^= 4;
    fs::write(space.path(MODEL), &edited).unwrap();
    build(&space, "0.4");
    assert!(packs(&space).is_empty());
    let (ran, again) = build(&space, "0.3");
    assert!(again == first && ran > 0);
}

#[test]
fn damage_in_a_pack_is_found_and_made_good() {
    let space = space();
    let (_, first) = build(&space, "0.3");
    let damage = |at: u64| {
        let pack = &packs(&space)[0];
        fs::set_permissions(pack, Permissions::from_mode(0o644)).unwrap();
        let file = fs::File::options().read(true).write(true).open(pack).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    };
    build(&space, "0.4");
    damage(first.len() as u64 / 2);
    let run = space.run(&["cache", "verify"]);
    assert!(run.code == 3 && run.stdout.contains("1 damaged"), "{}", run.stdout);
    space.run(&["cache", "verify", "--repair"]);
    assert!(space.ok(&["cache", "verify"]).stdout.contains("all sound"));
    let (ran, again) = build(&space, "0.3");
    assert!(ran == 1 && again == first, "{ran}");
    // The same without looking first.
    build(&space, "0.4");
    damage(first.len() as u64 / 2);
    let (ran, again) = build(&space, "0.3");
    assert!(ran == 1 && again == first, "{ran}");
    // A pack that is gone, or cut.
    for cut in [false, true] {
        build(&space, "0.4");
        let pack = packs(&space)[0].clone();
        if cut {
            fs::remove_file(&pack).unwrap();
            fs::write(&pack, &first[..first.len() / 2]).unwrap();
        } else {
            fs::remove_file(&pack).unwrap();
        }
        let (ran, again) = build(&space, "0.3");
        assert!(ran > 0 && again == first, "{ran}");
        assert!(space.ok(&["cache", "verify"]).stdout.contains("all sound"));
    }
}

#[test]
fn what_is_needed_of_a_pack_stays_and_the_rest_goes() {
    let space = space();
    let (_, first) = build(&space, "0.3");
    build(&space, "0.4");
    // Most of the first version is in an output again; the rest is still in the pack.
    let most = "[{filter: q_proj, value: 0.4}, {value: 0.3}]";
    let (ran, _) = build(&space, most);
    assert_eq!(ran, 0);
    let n_packs = packs(&space).len();
    assert!(n_packs > 0);
    let bytes = json(&space, &["cache", "stat"])["blob_bytes"].as_u64().unwrap();
    // Nothing goes that the last three builds have.
    let removed = json(&space, &["cache", "gc", "--keep-builds", "3"]);
    assert_eq!(removed["removed"], 0, "{removed}");
    let stat = json(&space, &["cache", "stat"]);
    assert_eq!(stat["blob_bytes"], bytes);
    assert!(packs(&space).len() < n_packs, "a pack that is mostly dead goes");
    assert_eq!(build(&space, "0.3"), (0, first));
    // Stale ones go with all that is in them.
    json(&space, &["cache", "gc", "--stale"]);
    assert!(packs(&space).is_empty());
    assert_eq!(json(&space, &["cache", "stat"])["dead_bytes"], 0);
    assert_eq!(build(&space, "0.3").0, 0, "the last build keeps what it has");
}

#[test]
fn limits_count_packs() {
    let space = space();
    let (_, first) = build(&space, "0.3");
    for t in ["0.4", "0.5", "0.6"] {
        build(&space, t);
    }
    assert_eq!(packs(&space).len(), 3);
    let total = |stat: &Value| stat["blob_bytes"].as_u64().unwrap() + stat["dead_bytes"].as_u64().unwrap();
    let most = total(&json(&space, &["cache", "stat"])) - first.len() as u64 / 2;
    json(&space, &["cache", "gc", "--max-size", &most.to_string()]);
    let stat = json(&space, &["cache", "stat"]);
    assert!(total(&stat) <= most, "{stat} of {most}");
    assert_eq!(build(&space, "0.5").0, 0, "what was used last stays");
    assert!(build(&space, "0.3").0 > 0);
}

/// A crash between the change of the output and the commit, or an earlier version's `gc`, leaves a file that the index
/// does not know.
#[test]
fn a_pack_that_the_index_does_not_know_is_never_used_and_goes() {
    let space = space();
    let (_, first) = build(&space, "0.3");
    build(&space, "0.4");
    fs::remove_file(space.path("cache/v2/index.redb")).unwrap();
    let (ran, again) = build(&space, "0.3");
    assert!(ran > 0 && again == first);
    assert!(space.ok(&["cache", "verify"]).stdout.contains("all sound"));
    let stray = space.path("cache/v2/packs/not-a-pack");
    fs::write(&stray, "x").unwrap();
    assert!(packs(&space).len() > 1);
    json(&space, &["cache", "gc", "--stale"]);
    assert!(packs(&space).is_empty());
}

/// Counted in what processes write, whatever it is and wherever it goes.
#[test]
#[cfg(target_os = "linux")]
fn an_edit_writes_what_changed() {
    let space = Space::new();
    const LAYERS: u64 = 12;
    for (model, seed) in [("a", 1), ("b", 2)] {
        let mut checkpoint = Checkpoint::new(json!({ "num_hidden_layers": LAYERS }));
        for i in 0..LAYERS {
            checkpoint.random(&format!("model.layers.{i}.w.weight"), &[512, 512], seed * 100 + i);
        }
        checkpoint.write(&space.path(model));
    }
    let recipe = |weight: &str| {
        format!(
            "name: one\nmerge_method: linear\nmodels: [{{model: ./a}}, {{model: ./b}}]\nparameters: {{weight: 0.5}}\n---\n\
             name: two\nmerge_method: slerp\nbase_model: ./a\nmodels: [{{model: one}}]\nparameters: {{t: {weight}}}\n---\n\
             name: three\nmerge_method: slerp\nbase_model: ./b\nmodels: [{{model: two}}]\nparameters: {{t: 0.5}}\n"
        )
    };
    let written = |weight: &str| -> u64 {
        space.write("recipe.yaml", recipe(weight));
        space.bytes_written(&["recipe.yaml"])
    };
    let stage = LAYERS * 512 * 512 * 4;
    assert!(written("0.5") > 3 * stage, "three stages were stored");
    // The second stage and the third change.
    for weight in ["0.6", "0.7"] {
        let ratio = written(weight) as f64 / (2 * stage) as f64;
        assert!((1.0..1.1).contains(&ratio), "{ratio} times what changed was written");
    }
    // What is back again is in the cache, and becomes the output anew.
    assert!(written("0.6") as f64 / (stage as f64) < 1.1);
}
