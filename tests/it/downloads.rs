//! Models that were not downloaded whole, and indexes that do not tell the truth: each is told for what it is.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::checkpoints::{Checkpoint, read};
use crate::harness::Space;

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\n\
    oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 988097824\n";
const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";

/// A model `a` in two shards, and a recipe that copies it.
fn sharded() -> Space {
    let space = Space::new();
    let (mut first, mut second) = (Checkpoint::decoder(1, 1), Checkpoint::decoder(1, 1));
    let mut map = Map::new();
    let whole = {
        first.write(&space.path("whole"));
        read(&space.path("whole"))
    };
    for (i, name) in whole.keys().enumerate() {
        let (shard, other) = if i < 2 { (FIRST, &mut second) } else { (SECOND, &mut first) };
        other.remove(name);
        map.insert(name.clone(), shard.into());
    }
    first.write(&space.path("first"));
    second.write(&space.path("a"));
    fs::rename(space.path("a/model.safetensors"), space.path("a").join(SECOND)).unwrap();
    fs::copy(space.path("first/model.safetensors"), space.path("a").join(FIRST)).unwrap();
    let size: usize = whole.values().map(|tensor| tensor.values.len() * 4).sum();
    write_index(&space, &json!({"metadata": {"total_size": size}, "weight_map": map}));
    space.write("r.yaml", "name: x\nmerge_method: passthrough\nmodels: [{model: ./a}]\n");
    space
}

fn write_index(space: &Space, index: &Value) {
    space.write("a/model.safetensors.index.json", index.to_string());
}

fn index(space: &Space) -> Value {
    space.json("a/model.safetensors.index.json")
}

/// One error that holds all the words, and no result.
#[track_caller]
fn refuses(space: &Space, words: &[&str]) {
    let said = space.fails(1, &["build", "r.yaml"]);
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    assert_eq!(said.matches("error[").count(), 1, "{said}");
    assert!(!space.path("merges").exists() && !said.contains("panicked"), "{said}");
}

#[test]
fn a_model_in_two_shards_is_read() {
    let space = sharded();
    space.ok(&["build", "r.yaml", "--deny-warnings"]);
    assert_eq!(read(&space.path("merges/x")), read(&space.path("whole")));
    assert!(!space.ok(&["check", "r.yaml"]).stderr.contains("index-size"));
}

#[test]
fn pointers_of_git_lfs_are_told_for_what_they_are() {
    for file in [FIRST, "model.safetensors.index.json", "config.json"] {
        let space = sharded();
        space.write(&format!("a/{file}"), POINTER);
        refuses(&space, &[&format!("a/{file}"), "Git LFS", "git lfs pull"]);
    }
    let space = sharded();
    space.write("a/pytorch_model.bin", POINTER);
    fs::remove_file(space.path("a/model.safetensors.index.json")).unwrap();
    refuses(&space, &["a/pytorch_model.bin", "Git LFS"]);
}

#[test]
fn downloads_that_did_not_finish_are_told_of() {
    // Nothing but a part.
    let space = sharded();
    fs::rename(space.path("a").join(SECOND), space.path("a").join(format!("{SECOND}.part"))).unwrap();
    refuses(&space, &[SECOND, ".part does", "run it again", "names it as a shard"]);
    // A shard that is not there.
    let space = sharded();
    fs::remove_file(space.path("a").join(FIRST)).unwrap();
    refuses(&space, &[FIRST, "does not exist", "names it as a shard"]);
    // A link into a cache that was cleared.
    let space = sharded();
    fs::remove_file(space.path("a").join(FIRST)).unwrap();
    symlink("../../blobs/0a1b", space.path("a").join(FIRST)).unwrap();
    refuses(&space, &[FIRST, "a link to ../../blobs/0a1b", "download it again"]);
    // A file without bytes, and one with the first of them and a part beside it.
    let space = sharded();
    space.write(&format!("a/{FIRST}"), "");
    refuses(&space, &[FIRST, "it is empty", "download it again"]);
    let space = sharded();
    let bytes = fs::read(space.path("a").join(FIRST)).unwrap();
    space.write(&format!("a/{FIRST}"), &bytes[..bytes.len() - 3]);
    let hidden = format!("a/.cache/huggingface/download/{FIRST}.5f.incomplete");
    space.write(&hidden, "");
    refuses(&space, &[FIRST, "truncated", &hidden, "did not finish"]);
    // A model of which only the configuration came, and one of which it did not.
    for (missing, part) in
        [("model.safetensors", "model.safetensors.incomplete"), ("config.json", "config.json.part")]
    {
        let space = sharded();
        fs::remove_dir_all(space.path("a")).unwrap();
        Checkpoint::decoder(1, 1).write(&space.path("a"));
        fs::rename(space.path("a").join(missing), space.path("a").join(part)).unwrap();
        refuses(&space, &[part, "did not finish"]);
    }
    // A link to a whole model that was removed, before another format is tried.
    let space = sharded();
    symlink("gone", space.path("a/model.safetensors")).unwrap();
    refuses(&space, &["a/model.safetensors", "a link to gone"]);
}

#[test]
fn an_index_that_lies_is_an_error() {
    type Lie = fn(&mut Map<String, Value>, &str);
    let cases: [(Lie, &[&str]); 7] = [
        (
            |map, name| drop(map.insert(name.into(), "../whole/model.safetensors".into())),
            &["not a plain file name"],
        ),
        (
            |map, name| drop(map.insert(name.into(), "/etc/passwd".into())),
            &["/etc/passwd", "not a plain file name"],
        ),
        (
            |map, name| drop(map.insert(name.into(), "config.json".into())),
            &["`config.json`", "the name of a tensor file"],
        ),
        (|map, name| drop(map.insert(name.into(), SECOND.into())), &["places tensor", SECOND]),
        (
            |map, _| drop(map.insert("more".into(), FIRST.into())),
            &["places tensor `more`", "does not contain it"],
        ),
        (|map, name| drop(map.remove(name)), &["does not list tensor", FIRST]),
        (|map, _| map.clear(), &["lists no tensor"]),
    ];
    for (lie, words) in cases {
        let space = sharded();
        let mut index = index(&space);
        let map = index["weight_map"].as_object_mut().unwrap();
        let name = map.iter().find(|(_, shard)| *shard == FIRST).unwrap().0.clone();
        lie(map, &name);
        write_index(&space, &index);
        refuses(&space, &[&["model.safetensors.index.json"], words].concat());
    }
}

#[test]
fn no_shard_is_left_out_silently() {
    let space = sharded();
    let mut listed = index(&space);
    listed["weight_map"].as_object_mut().unwrap().retain(|_, shard| shard == FIRST);
    write_index(&space, &listed);
    refuses(&space, &["lists no tensors in", SECOND]);
    // Shards of another upload are none of this one's business.
    let space = sharded();
    fs::copy(space.path("a").join(FIRST), space.path("a/model-00001-of-00009.safetensors")).unwrap();
    fs::copy(space.path("a").join(FIRST), space.path("a/consolidated.safetensors")).unwrap();
    space.ok(&["build", "-q", "r.yaml", "--deny-warnings"]);
    // One tensor in two shards.
    let space = sharded();
    fs::copy(space.path("whole/model.safetensors"), space.path("a").join(SECOND)).unwrap();
    refuses(&space, &["contains it, too", FIRST, SECOND]);
}

#[test]
fn a_wrong_size_does_no_harm_and_is_noted() {
    for size in [json!(1), json!(u64::MAX)] {
        let space = sharded();
        let mut index = index(&space);
        index["metadata"]["total_size"] = size;
        write_index(&space, &index);
        let said = space.ok(&["check", "r.yaml", "--deny-warnings"]).stderr;
        assert!(said.contains("note[index-size]"), "{said}");
        space.ok(&["build", "-q", "r.yaml"]);
        assert_eq!(read(&space.path("merges/x")), read(&space.path("whole")));
    }
}

/// A pipe in a file's place would be waited for without end.
#[test]
fn pipes_are_not_read() {
    for file in [FIRST, "model.safetensors.index.json", "config.json"] {
        let space = sharded();
        let path = space.path("a").join(file);
        fs::remove_file(&path).unwrap();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        refuses(&space, &[file, "not a regular file"]);
    }
}
