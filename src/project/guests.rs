//! Other people's things in and around an output: whatever they are and whenever they come, a build loses none.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::faults::{build, built, copy};
use crate::disk::faults::{Fault, arm};

const OUT: &str = "merges/blend";

/// What a guest leaves: every file and link holds its own path and who left it, so that it is known again.
fn leave(root: &Path, who: &str, places: &[&str]) {
    for place in places {
        let path = root.join(place);
        let what = format!("{who}:{place}");
        if let Some(link) = place.strip_suffix("@") {
            let _ = symlink(what, root.join(link));
            continue;
        }
        // Where somebody's file is in the way, the guest does without.
        let _ = fs::create_dir_all(path.parent().unwrap()).and_then(|()| {
            // As editors do: the file is replaced, not written over, since others may hold it by another name.
            let new = path.with_extension("new");
            fs::write(&new, what)?;
            fs::rename(new, path)
        });
    }
}

const BEFORE: [&str; 14] = [
    "merges/blend/notes.txt",
    "merges/blend/modelA.safetensors",
    "merges/blend/model-backup.safetensors",
    "merges/blend/vocab.txt",
    "merges/blend/eval/scores",
    "merges/blend/runs@",
    "merges/blend/README.md",
    "merges/blend/config.json",
    "merges/blend/tokenizer.json@",
    "merges/blend/.lamarck-blend-abcdef/x",
    "merges/.lamarck-blend-abcdef/x",
    "merges/.lamarck-blend-converge-abcdef/eval/x",
    "merges/.lamarck-blend-converge-abcdef/lamarck.lock.json",
    "merges/blend-converge/x",
];

const MEANWHILE: [&str; 9] = [
    "merges/blend/late.txt",
    "merges/blend/late/deep/file",
    "merges/blend/late-link@",
    "merges/blend/model.safetensors",
    "merges/blend/model-00009-of-00009.safetensors",
    "merges/blend/recipe.yaml",
    "merges/blend/generation_config.json",
    "merges/blend/README.md",
    "merges/.lamarck-blend-uvwxyz/late",
];

fn come_meanwhile(root: &Path) {
    leave(root, "meanwhile", &MEANWHILE);
}

/// Everything of a guest's that is somewhere below a folder.
fn found(root: &Path) -> BTreeSet<String> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![root.to_owned()]);
    let mut note = |text: String| {
        if text.starts_with("before:") || text.starts_with("meanwhile:") {
            found.insert(text);
        }
    };
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() {
                note(fs::read_link(path).unwrap().to_string_lossy().into_owned());
            } else {
                note(String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned());
            }
        }
    }
    found
}

#[test]
fn nothing_of_somebody_elses_is_lost_at_any_step() {
    let space = tempfile::tempdir().unwrap();
    let (models, first) = built(space.path(), "first");
    let root = space.path().join("root");
    let mut seed = 1_u64;
    // A guest who comes before brings half of what there is, another half each time.
    let mut some_of = |places: &[&'static str]| -> Vec<&'static str> {
        places
            .iter()
            .filter(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                seed >> 63 == 0
            })
            .copied()
            .collect()
    };
    let mut prepare = |places: &[&'static str], all: bool| {
        let _ = fs::remove_dir_all(&root);
        copy(&first, &root);
        let places = if all { places.to_vec() } else { some_of(places) };
        leave(&root, "before", &places);
    };
    for is_alone in [false, true] {
        let guests = if is_alone { &[][..] } else { &BEFORE[..] };
        prepare(guests, true);
        let disarm = arm(&root, Fault::None);
        build(&root, &models, "0.6").unwrap();
        let n_steps = disarm().len();
        let stride = if option_env!("LAMARCK_FULL_TESTS").is_some() { 1 } else { 5 };
        for at in (0..n_steps + 4).step_by(stride) {
            for dies in [false, true] {
                prepare(guests, false);
                let before = found(&root);
                let disarm = arm(&root, Fault::Meanwhile { at, act: come_meanwhile, dies });
                let result = build(&root, &models, "0.6");
                let came = disarm().len() > at;
                let what = format!("step {at}, dies: {dies}, alone: {is_alone}, {result:?}");
                let now = found(&root);
                // A guest may have replaced what another left.
                let is_replaced =
                    |thing: &str| came && MEANWHILE.contains(&thing.trim_start_matches("before:"));
                let lost = |before: &BTreeSet<String>, now: &BTreeSet<String>| -> Vec<String> {
                    before.difference(now).filter(|thing| !is_replaced(thing)).cloned().collect()
                };
                let gone = lost(&before, &now);
                assert!(gone.is_empty(), "{what}: {gone:?} are gone");
                let after = now;
                build(&root, &models, "0.6").unwrap_or_else(|error| panic!("{what}: then {error}"));
                build(&root, &models, "0.2").unwrap_or_else(|error| panic!("{what}: then {error}"));
                let now = found(&root);
                let gone = lost(&after, &now);
                assert!(gone.is_empty(), "{what}: the next builds lost {gone:?}");
                if came {
                    let n_late = now.iter().filter(|thing| thing.starts_with("meanwhile:")).count();
                    assert_eq!(n_late, MEANWHILE.len(), "{what}: {now:?}");
                }
                assert!(root.join(OUT).join("lamarck.lock.json").is_file());
            }
        }
    }
}
