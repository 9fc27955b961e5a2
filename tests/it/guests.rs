//! What a build does to files that are not its own: nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;

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
    assert!(
        built.stderr.contains("config.json") && built.stderr.contains("config.json.yours"),
        "{}",
        built.stderr
    );
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
    let error = space.fails(1, &["build", "recipe.yaml", "--cache", "cache", "--out", "cache/v1/model"]);
    assert!(error.contains("lies in the cache"), "{error}");
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
    assert!(space.path("project/v1/CACHEDIR.TAG").exists());
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

/// What an update cut short leaves is told of, and finished by the next build.
#[test]
fn an_update_that_was_cut_short_is_told_of_and_finished() {
    let space = space();
    space.ok(&["build", "recipe.yaml"]);
    space.write("merges/out/notes.txt", "mine");
    let old = fs::metadata(space.path("merges/out/model.safetensors")).unwrap();
    space.write("other.yaml", recipe("out", "0.75"));
    space.ok(&["build", "other.yaml", "--out", "new"]);
    // The state after a kill before the weights were moved in.
    let bench = "merges/.lamarck-out-Ab3dEf";
    fs::create_dir_all(space.path(bench)).unwrap();
    fs::rename(space.path("new"), space.path(&format!("{bench}/model"))).unwrap();
    space.write(&format!("{bench}/lock"), "");
    let stamp = serde_json::json!({
        "device": old.dev(), "inode": old.ino(), "size": old.size(), "modified": [old.mtime(), old.mtime_nsec()],
    });
    let files: Vec<String> =
        ["model.safetensors", "README.md", "recipe.yaml", "config.json", "lamarck.lock.json"]
            .iter()
            .map(|name| (*name).to_owned())
            .collect();
    let journal = serde_json::json!({
        "way": { "MoveIn": { "files": files } }, "old": { "model.safetensors": stamp },
    });
    space.write(&format!("{bench}/journal.json"), journal.to_string());
    assert!(space.fails(3, &["verify", "merges/out"]).is_empty());
    space.ok(&["build", "other.yaml"]);
    assert!(!space.path(bench).exists());
    assert_eq!(space.read("merges/out/notes.txt"), "mine");
    assert!(!space.path("merges/out/model.safetensors.yours").exists());
    assert!(space.path("merges/out/config.json.yours").exists(), "it was not among what may go");
    space.ok(&["verify", "merges/out"]);
}
