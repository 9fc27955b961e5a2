//! What a build does to files that are not its own: nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::checkpoints::Checkpoint;
use crate::harness::Space;

fn space() -> Space {
    let space = Space::new();
    Checkpoint::decoder(2, 1).write(&space.path("a"));
    Checkpoint::decoder(2, 2).write(&space.path("b"));
    space.write("recipe.yaml", recipe("out", "0.25"));
    space
}

fn recipe(name: &str, weight: &str) -> String {
    format!(
        "name: {name}\nmerge_method: linear\nmodels: [{{model: ./a, parameters: {{weight: 0.5}}}}, \
         {{model: ./b, parameters: {{weight: {weight}}}}}]\n"
    )
}

#[test]
fn files_of_any_name_stay_and_edited_ones_are_kept_beside() {
    let space = space();
    space.ok(&["build", "recipe.yaml"]);
    for name in ["modelA.safetensors", "model_q4.safetensors", "vocab.txt", "eval/scores.json"] {
        space.write(&format!("merges/out/{name}"), "mine");
    }
    symlink("../elsewhere", space.path("merges/out/runs")).unwrap();
    space.write("merges/out/config.json", "{\"mine\": 1}");
    space.write("recipe.yaml", recipe("out", "0.75"));
    let built = space.ok(&["build", "recipe.yaml"]);
    for name in ["modelA.safetensors", "model_q4.safetensors", "vocab.txt", "eval/scores.json"] {
        assert_eq!(space.read(&format!("merges/out/{name}")), "mine");
    }
    assert!(fs::symlink_metadata(space.path("merges/out/runs")).unwrap().is_symlink());
    assert_eq!(space.read("merges/out/config.json.yours"), "{\"mine\": 1}");
    assert_eq!(space.json("merges/out/config.json")["num_hidden_layers"], 2);
    assert!(built.stderr.contains("config.json.yours"), "{}", built.stderr);
    space.ok(&["verify", "merges/out"]);
}

#[test]
fn the_card_keeps_what_its_author_wrote() {
    let space = space();
    space.ok(&["build", "recipe.yaml"]);
    let card = space.read("merges/out/README.md");
    let mine = card.replacen("---\n", "---\nlanguage: en\n", 1) + "\nMy own words.\n";
    space.write("merges/out/README.md", &mine);
    space.ok(&["build", "recipe.yaml"]);
    assert_eq!(space.read("merges/out/README.md"), mine);
    space.write("recipe.yaml", recipe("out", "0.75"));
    space.ok(&["build", "recipe.yaml"]);
    let renewed = space.read("merges/out/README.md");
    assert!(renewed.contains("language: en\n") && renewed.ends_with("\nMy own words.\n"), "{renewed}");
    assert!(renewed.contains("weight: 0.75") && !renewed.contains("weight: 0.25"), "{renewed}");
    assert!(!space.path("merges/out/README.md.yours").exists());

    space.write("merges/out/README.md", "# all mine\n");
    space.ok(&["build", "recipe.yaml"]);
    assert_eq!(space.read("merges/out/README.md"), "# all mine\n");
}

#[test]
fn an_output_that_is_read_is_refused_however_it_is_spelled() {
    let space = space();
    Checkpoint::decoder(2, 3).write(&space.path("c"));
    space.write("first.yaml", recipe("first", "0.25"));
    space.ok(&["build", "first.yaml"]);
    space.write(
        "second.yaml",
        "name: first\nmerge_method: linear\nparameters: {weight: 0.5}\n\
         models: [{model: ./merges/first}, {model: ./c}]\n",
    );
    symlink(space.path("merges/first"), space.path("link")).unwrap();
    let before = space.files("merges/first");
    for out in [&[][..], &["--out", "link"], &["--out", "a/../merges/first"], &["--out", "c"]] {
        let error = space.fails(1, &[&["build", "second.yaml"], out].concat());
        assert!(error.contains("also read by this build") || error.contains("did not write"), "{error}");
        assert!(space.files("merges/first") == before);
    }
}

#[test]
fn caches_and_pipes_are_no_places_for_models() {
    let space = space();
    space.ok(&["build", "recipe.yaml", "--cache", "cache"]);
    let error = space.fails(1, &["build", "recipe.yaml", "--cache", "cache", "--out", "cache/v2/model"]);
    assert!(error.contains("is inside the cache"), "{error}");
    fs::remove_file(space.path("merges/out/README.md")).unwrap();
    for pipe in ["README.md", "x.safetensors"] {
        let path = space.path(&format!("merges/out/{pipe}"));
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        space.write("recipe.yaml", recipe("out", if pipe == "README.md" { "0.3" } else { "0.4" }));
        if pipe == "README.md" {
            let error = space.fails(1, &["build", "recipe.yaml"]);
            assert!(error.contains("README.md") && error.contains("move it away"), "{error}");
            fs::remove_file(&path).unwrap();
        } else {
            space.ok(&["build", "recipe.yaml"]);
            assert!(fs::symlink_metadata(&path).is_ok());
        }
    }
}

#[test]
fn a_folder_of_the_users_is_not_marked_as_a_cache() {
    let space = space();
    space.write("project/thesis.tex", "x");
    space.ok(&["build", "recipe.yaml", "--cache", "project"]);
    assert!(!space.path("project/.gitignore").exists() && !space.path("project/CACHEDIR.TAG").exists());
    assert!(space.path("project/v2/CACHEDIR.TAG").exists());
    space.ok(&["build", "recipe.yaml", "--cache", "made"]);
    assert!(space.path("made/CACHEDIR.TAG").exists());
}

#[test]
fn the_working_directory_is_never_replaced() {
    let space = space();
    fs::create_dir(space.path("here")).unwrap();
    let inode = || fs::metadata(space.path("here")).unwrap().ino();
    let before = inode();
    for weight in ["0.25", "0.5"] {
        space.write("recipe.yaml", recipe("out", weight));
        let mut command = space.command(&["build", "../recipe.yaml", "--out", ".", "--cache", "../cache"]);
        let built = command.current_dir(space.path("here")).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        assert_eq!(inode(), before);
    }
    space.ok(&["verify", "here"]);
}

fn stamp(path: &Path) -> Value {
    let found = fs::metadata(path).unwrap();
    json!({ "inode": found.ino(), "size": found.size(), "modified": [found.mtime(), found.mtime_nsec()] })
}

const BENCH: &str = "merges/.lamarck-out-Ab3dEf";

/// A space in the state after a kill in the middle of an update: the old model, with somebody's notes, and a bench
/// with the new one, of which some files have been moved.
fn cut_short(moved: &[&str]) -> Space {
    let space = space();
    space.ok(&["build", "recipe.yaml"]);
    space.write("merges/out/notes.txt", "mine");
    let old = stamp(&space.path("merges/out/model.safetensors"));
    space.write("other.yaml", recipe("out", "0.75"));
    space.ok(&["build", "other.yaml", "--out", "new"]);
    fs::create_dir_all(space.path(BENCH)).unwrap();
    let model = space.path(&format!("{BENCH}/model"));
    fs::rename(space.path("new"), &model).unwrap();
    space.write(&format!("{BENCH}/lock"), "");
    let files = [
        "model.safetensors",
        "README.md",
        "merge.svg",
        "mergekit_config.yml",
        "recipe.yaml",
        "config.json",
        "lamarck.lock.json",
    ];
    let new: Map<String, Value> =
        files.iter().map(|name| ((*name).to_owned(), stamp(&model.join(name)))).collect();
    let journal = json!({
        "way": { "MoveIn": { "files": files, "kept": [] } }, "old": { "model.safetensors": old }, "new": new,
    });
    space.write(&format!("{BENCH}/journal.json"), journal.to_string());
    for name in moved {
        fs::rename(model.join(name), space.path(&format!("merges/out/{name}"))).unwrap();
    }
    space
}

/// What an update cut short leaves is told of, and finished by the next build.
#[test]
fn an_update_that_was_cut_short_is_told_of_and_finished() {
    for moved in [&[][..], &["model.safetensors"]] {
        let space = cut_short(moved);
        let run = space.run(&["verify", "merges/out"]);
        assert!(run.code == 3 && run.stdout.contains("interrupted"), "{}", run.stdout);
        space.ok(&["build", "other.yaml"]);
        assert!(!space.path(BENCH).exists());
        assert_eq!(space.read("merges/out/notes.txt"), "mine");
        assert!(!space.path("merges/out/model.safetensors.yours").exists());
        assert!(space.path("merges/out/config.json.yours").exists(), "it was not among what may go");
        space.ok(&["verify", "merges/out"]);
    }
}

/// Whoever restores a backup over a half-done update does not get a mixture.
#[test]
fn an_update_is_not_finished_in_another_folder() {
    let space = cut_short(&["model.safetensors"]);
    fs::remove_dir_all(space.path("merges/out")).unwrap();
    space.ok(&["build", "recipe.yaml", "--out", "backup"]);
    fs::rename(space.path("backup"), space.path("merges/out")).unwrap();
    let backup = space.files("merges/out");
    assert_eq!(space.build(&["recipe.yaml"]).finished[0]["shards_written"], 0);
    assert!(space.files("merges/out") == backup && !space.path(BENCH).exists());

    // A part of the new version is in its place, and the rest of it nowhere: that never loads.
    let space = cut_short(&["model.safetensors", "README.md"]);
    fs::remove_file(space.path("merges/out/README.md")).unwrap();
    space.write("broken.yaml", recipe("out", "1.5").replace("./b", "./nowhere"));
    space.fails(1, &["build", "broken.yaml"]);
    space.ok(&["build", "other.yaml"]);
    space.ok(&["verify", "merges/out"]);
}

#[test]
fn what_cannot_be_cleared_is_told_of_and_lost_nothing() {
    let space = space();
    space.ok(&["build", "recipe.yaml"]);
    // Somebody's folder among what a killed build left, and a journal that cannot be read.
    space.write(&format!("{BENCH}/lock"), "");
    space.write(&format!("{BENCH}/model/theirs/x"), "precious");
    let other = "merges/.lamarck-out-Xy9zWv";
    space.write(&format!("{other}/lock"), "");
    space.write(&format!("{other}/journal.json"), "[");
    space.write(&format!("{other}/model/x"), "precious");
    for weight in ["0.5", "0.75"] {
        space.write("recipe.yaml", recipe("out", weight));
        let built = space.ok(&["build", "recipe.yaml"]);
        assert!(built.stderr.contains("Ab3dEf") && built.stderr.contains("Xy9zWv"), "{}", built.stderr);
    }
    assert_eq!(space.read(&format!("{BENCH}/model/theirs/x")), "precious");
    assert_eq!(space.read(&format!("{other}/model/x")), "precious");
}

#[test]
fn a_path_that_leads_elsewhere_is_refused_before_anything_is_done() {
    let space = space();
    space.write("first.yaml", recipe("first", "0.25"));
    space.ok(&["build", "first.yaml"]);
    let chain = "name: next\nmerge_method: linear\nparameters: {weight: 0.5}\n\
                 models: [{model: ../../merges/first}, {model: ../../b}]\n";
    space.write("chain.yaml", chain);
    let before = space.files("merges/first");
    let mut command =
        space.command(&["build", "../../chain.yaml", "--out", "nope/..", "--cache", "../../cache"]);
    let output = command.current_dir(space.path("merges/first")).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(space.files("merges/first") == before && !space.path("merges/first/nope").exists());

    symlink("nowhere", space.path("dangling")).unwrap();
    let error = space.fails(1, &["build", "recipe.yaml", "--out", "dangling"]);
    assert!(error.contains("broken link"), "{error}");

    let two = [recipe("one", "0.25"), recipe("two", "0.75")].join("---\n");
    space.write("two.yaml", two);
    fs::create_dir_all(space.path("merges/one")).unwrap();
    symlink("one", space.path("merges/two")).unwrap();
    let error = space.fails(1, &["build", "two.yaml"]);
    assert!(error.contains("another stage of this build"), "{error}");
}

#[test]
fn a_link_to_a_pipe_holds_nobody_up() {
    let space = space();
    space.ok(&["build", "recipe.yaml"]);
    assert!(Command::new("mkfifo").arg(space.path("pipe")).status().unwrap().success());
    fs::remove_file(space.path("merges/out/model.safetensors")).unwrap();
    symlink("../../pipe", space.path("merges/out/model.safetensors")).unwrap();
    space.write("recipe.yaml", recipe("out", "0.75"));
    space.ok(&["build", "recipe.yaml"]);
    assert!(fs::symlink_metadata(space.path("merges/out/model.safetensors.yours")).unwrap().is_symlink());
    space.ok(&["verify", "merges/out"]);
}
