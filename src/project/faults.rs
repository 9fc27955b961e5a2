//! Every step of a build on a disk that fails: the model that was there stays, and the next build ends as
//! an undisturbed one.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::{Builder, Project, ProjectError, Report};
use crate::disk::faults::{Fault, arm};
use crate::event::{Event, Events};
use crate::model::locate::Places;
use crate::store::Store;

/// A decoder of one layer whose values depend on `seed`.
fn write_model(dir: &Path, seed: u16) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("config.json"), r#"{"num_hidden_layers": 1}"#).unwrap();
    // More than are synced one by one.
    let tensors: Vec<(String, Vec<u8>)> = (0..10)
        .map(|i| {
            let values = (0..256_u16).map(|j| f32::from(seed * 31 + j * 7 + i).sin());
            (format!("model.layers.0.part_{i}.weight"), values.flat_map(f32::to_le_bytes).collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, bytes)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![16, 16], bytes).unwrap())
    });
    fs::write(dir.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
}

fn recipe(t: &str) -> String {
    format!(
        "name: mean\nmerge_method: linear\nmodels: [{{model: ./a, parameters: {{weight: {t}}}}}, {{model: ./b, parameters: {{weight: 0.5}}}}]\n\
         ---\nname: blend\nmerge_method: slerp\nbase_model: ./a\nmodels: [{{model: mean}}]\n\
         parameters: {{t: {t}}}\n"
    )
}

/// Two models.
fn write_models(space: &Path) -> PathBuf {
    let models = space.join("models");
    write_model(&models.join("a"), 1);
    write_model(&models.join("b"), 2);
    models
}

/// Two models, and a folder in which they were built once.
pub(super) fn built(space: &Path, folder: &str) -> (PathBuf, PathBuf) {
    let (models, root) = (write_models(space), space.join(folder));
    build(&root, &models, "0.3").unwrap();
    (models, root)
}

pub(super) fn build(root: &Path, models: &Path, t: &str) -> Result<Report, ProjectError> {
    build_listening(root, models, t, 1 << 28, &|_: Event<'_>| ())
}

fn build_listening(
    root: &Path,
    models: &Path,
    t: &str,
    memory: u64,
    events: &dyn Events,
) -> Result<Report, ProjectError> {
    let project = Project {
        places: Places { roots: vec![models.to_owned()], ..Places::default() },
        jobs: 2,
        patient: false,
        memory,
        shard_bytes: 4200,
        ..Project::new(root, Vec::new())
    };
    let loaded = project.load(Path::new("recipe.yaml"), &recipe(t), &[], None);
    let recipe = loaded.recipe.expect("the recipe is right");
    let catalog = project.catalog(&recipe, &[])?.0.expect("the models are there");
    let planned = catalog.plan(&recipe, &[]).0.expect("the plan is right");
    Builder::new(&project, &recipe, &planned).follow(events, &AtomicBool::new(false)).build()
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let Ok(entries) = fs::read_dir(dir) else { return BTreeMap::new() };
    entries.map(|entry| entry.unwrap().path()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Whatever has a blob's name holds its bytes.
pub(super) fn assert_sound(root: &Path, what: &str) {
    let Some(store) = Store::open_existing(&root.join("cache")).unwrap() else { return };
    if root.join("cache/v2/blobs").exists() {
        let checked = store.check(false, &|_| ()).unwrap();
        assert!(checked.damaged.is_empty() && checked.damaged_rows == 0, "{what}: {checked:?}");
    }
}

#[test]
fn any_failing_step_leaves_the_old_model_or_the_new_one() {
    let space = tempfile::tempdir().unwrap();
    let (models, before) = built(space.path(), "before");
    let out = |root: &Path| root.join("merges/blend");
    let contents = |root: &Path| -> Vec<Vec<u8>> { files(&out(root)).into_values().collect() };

    let root = space.path().join("root");
    // From an older model to a newer one, and from nothing to a first one.
    for starts_empty in [false, true] {
        let prepare = || {
            let _ = fs::remove_dir_all(&root);
            if !starts_empty {
                copy(&before, &root);
            }
        };
        prepare();
        let old = contents(&root);
        let disarm = arm(&root, Fault::None);
        build(&root, &models, "0.6").unwrap();
        let steps = disarm();
        let new = contents(&root);
        assert!(steps.len() > 30, "{steps:?}");
        for what in ["create", "write", "sync", "sync all", "rename", "commit", "exchange", "remove"] {
            assert!(steps.contains(&what) || starts_empty, "no step is called {what}");
        }
        let stride = if option_env!("LAMARCK_FULL_TESTS").is_some() { 1 } else { 4 };
        for number in (usize::from(starts_empty)..steps.len()).step_by(stride) {
            let faults = [
                Fault::Once(number, ErrorKind::StorageFull),
                Fault::Once(number, ErrorKind::PermissionDenied),
                Fault::From(number),
                Fault::PowerCut { at: number, keeps_names: true },
                Fault::PowerCut { at: number, keeps_names: false },
            ];
            for fault in faults {
                prepare();
                let disarm = arm(&root, fault);
                let result = build(&root, &models, "0.6");
                disarm();
                let what = format!("{fault:?} ({}), empty: {starts_empty}", steps[number]);
                let after = contents(&root);
                assert!(after == old || after == new, "{what} left a mixture");
                assert!(result.is_err() || after == new, "{what} was told of as a success");
                assert_sound(&root, &what);
                build(&root, &models, "0.6").unwrap_or_else(|error| panic!("{what}: then {error}"));
                assert!(contents(&root) == new, "{what}: the next build made something else");
                assert_sound(&root, &what);
            }
        }
    }
}

/// What only the old version holds moves into the store once the new one is in its place.
#[test]
fn a_failing_step_costs_the_old_version_time_alone() {
    let space = tempfile::tempdir().unwrap();
    let models = write_models(space.path());
    let root = space.path().join("root");
    let shards = || {
        let is_shard = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "safetensors");
        let mut files = files(&root.join("merges/blend"));
        files.retain(|path, _| is_shard(path));
        files
    };
    let build = |t: &str| super::faults::build(&root, &models, t);
    build("0.3").unwrap();
    let old = shards();
    let disarm = arm(&root, Fault::None);
    build("0.6").unwrap();
    let steps = disarm();
    let packs = || fs::read_dir(root.join("cache/v2/packs")).map_or(0, Iterator::count);
    // The last shard has more header than tensors, and is copied from.
    assert!(packs() == old.len() - 1 && build("0.3").unwrap().ran == 0 && packs() == old.len() - 1);
    let first = steps.iter().position(|step| *step == "exchange").unwrap();
    let stride = if option_env!("LAMARCK_FULL_TESTS").is_some() { 1 } else { 3 };
    for number in (first..steps.len()).step_by(stride) {
        for fault in [
            Fault::Once(number, ErrorKind::StorageFull),
            Fault::From(number),
            Fault::PowerCut { at: number, keeps_names: true },
            Fault::PowerCut { at: number, keeps_names: false },
        ] {
            let what = format!("{fault:?} ({})", steps[number]);
            // Whatever the last round left.
            build("0.6").unwrap();
            build("0.3").unwrap();
            let disarm = arm(&root, fault);
            let result = build("0.6");
            disarm();
            assert_sound(&root, &what);
            build("0.3").unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(shards() == old, "{what}: {result:?}");
            assert_sound(&root, &what);
        }
    }
}

/// Others wait for room in the writer's queue, and must not do so for ever.
#[test]
fn a_panic_of_the_writer_ends_the_build_with_an_error() {
    let space = tempfile::tempdir().unwrap();
    let models = write_models(space.path());
    for what in ["write blob", "write to shard"] {
        let root = space.path().join(what);
        let listen = |event: Event<'_>| match event {
            Event::Finished { what: done, .. } if done == what => panic!("as the test wants it"),
            _ => {}
        };
        // Few results fit into the queue.
        let error = build_listening(&root, &models, "0.6", 17_000, &listen).unwrap_err().to_string();
        assert!(error.contains("panicked"), "{error}");
        build(&root, &models, "0.6").unwrap();
    }
}
