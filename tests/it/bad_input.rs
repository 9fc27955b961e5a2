//! Bad input gets one clear error, and everything stays as it was.

use std::fs;

use serde_json::json;

use crate::checkpoints::Checkpoint;
use crate::harness::Space;

const MERGE: &str =
    "name: mean\nmerge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {weight: 0.5}\n";

/// Two models and a recipe that merges them.
fn two_models() -> Space {
    let space = Space::new();
    Checkpoint::decoder(1, 1).write(&space.path("a"));
    Checkpoint::decoder(1, 2).write(&space.path("b"));
    space.write("recipe.yaml", MERGE);
    space
}

/// A build must fail with an exit code and one error that holds all the words, and change nothing.
#[track_caller]
fn refuses(space: &Space, code: i32, args: &[&str], words: &[&str]) {
    let before = space.files("");
    let error = space.fails(code, &[&["build"], args].concat());
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
    let errors = error.lines().filter(|line| line.starts_with("error")).count();
    let summaries = error.lines().filter(|line| line.ends_with("nothing was built")).count();
    assert_eq!(errors - summaries, 1, "{error}");
    let after = space.files("");
    let kept = |path: &std::path::Path| !path.starts_with("cache");
    let names = |files: &std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>| {
        files.keys().filter(|path| kept(path)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(&before), names(&after));
    assert!(before.iter().filter(|(path, _)| kept(path)).all(|(path, bytes)| after[path] == *bytes));
}

#[test]
fn a_missing_model_is_named_with_the_places_looked_in() {
    let space = two_models();
    space.use_models(&space.path("folder"));
    space.write("recipe.yaml", MERGE.replace("./b", "org/name"));
    let hub = space.path("hf/hub/models--org--name");
    refuses(
        &space,
        1,
        &["recipe.yaml"],
        &[
            "missing-model",
            "`org/name`",
            "recipe.yaml:3:32",
            "folder/org/name",
            hub.to_str().unwrap(),
            "--models",
        ],
    );
    assert!(!space.path("cache").exists());
}

/// A safetensors file with a header of one's own.
fn shard(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

#[test]
fn hostile_shards_are_refused() {
    let one = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let two = |first: &str, second: &str| {
        format!(
            r#"{{"x":{{"dtype":"F32","shape":[2],"data_offsets":{first}}},"y":{{"dtype":"F32","shape":[2],"data_offsets":{second}}}}}"#
        )
    };
    let data = [0; 16];
    let mut huge = shard("{}", &data);
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut past_the_end = shard("{}", &[]);
    past_the_end[..8].copy_from_slice(&4096_u64.to_le_bytes());
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("shorter than a length", vec![1, 0, 0]),
        ("a length beyond any header", huge),
        ("a header past the end", past_the_end),
        ("no JSON", shard("{\"x\": nonsense", &data)),
        ("JSON nested without end", shard(&nested, &data)),
        ("an unknown dtype", shard(&one("F33", "[4]", "[0,16]"), &data)),
        ("offsets past the end", shard(&one("F32", "[8]", "[0,32]"), &data)),
        ("offsets backwards", shard(&one("F32", "[4]", "[16,0]"), &data)),
        ("a shape that is no size", shard(&one("F32", "[3]", "[0,16]"), &data)),
        ("a shape that overflows", shard(&one("F32", "[4294967296,4294967296,4]", "[0,16]"), &data)),
        ("a negative shape", shard(&one("F32", "[-4]", "[0,16]"), &data)),
        ("overlapping tensors", shard(&two("[0,8]", "[4,12]"), &data)),
        ("a hole between tensors", shard(&two("[0,8]", "[12,20]"), &[0; 20])),
        ("bytes that belong to no tensor", shard(&one("F32", "[2]", "[0,8]"), &data)),
        (
            "a tensor given twice",
            shard(
                r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"x":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#,
                &data,
            ),
        ),
    ] {
        let space = two_models();
        space.write("b/model.safetensors", &bytes);
        let run = space.run(&["build", "recipe.yaml"]);
        assert_eq!(run.code, 1, "{what}: {}", run.stderr);
        refuses(&space, 1, &["recipe.yaml"], &["b/model.safetensors"]);
    }
}

#[test]
fn a_truncated_shard_is_refused() {
    let space = two_models();
    let bytes = fs::read(space.path("b/model.safetensors")).unwrap();
    space.write("b/model.safetensors", &bytes[..bytes.len() - 1]);
    refuses(&space, 1, &["recipe.yaml"], &["b/model.safetensors", "truncated"]);
}

#[test]
fn an_index_must_be_right() {
    for (shards, word) in [
        (json!({"x": "../a/model.safetensors"}), "../a/model.safetensors"),
        (json!({"x": "/etc/passwd"}), "/etc/passwd"),
        (json!({"x": "missing.safetensors"}), "missing.safetensors"),
        (json!({"no_such_tensor": "part.safetensors"}), "no_such_tensor"),
    ] {
        let space = two_models();
        fs::rename(space.path("b/model.safetensors"), space.path("b/part.safetensors")).unwrap();
        space.write("b/model.safetensors.index.json", json!({"weight_map": shards}).to_string());
        let error = space.fails(1, &["build", "recipe.yaml"]);
        assert!(error.contains(word), "{error}");
        assert!(!space.path("merges").exists());
    }
}

#[test]
fn a_folder_that_is_no_checkpoint_is_refused() {
    let space = two_models();
    space.write("b/config.json", "{\"hidden_size\": 4");
    refuses(&space, 1, &["recipe.yaml"], &["b/config.json"]);
    fs::remove_file(space.path("b/config.json")).unwrap();
    refuses(&space, 1, &["recipe.yaml"], &["state-dict-mixed", "`./b`", "config.json"]);
    fs::remove_file(space.path("b/model.safetensors")).unwrap();
    refuses(&space, 1, &["recipe.yaml"], &["missing-model", "./b"]);
}

#[test]
fn shapes_that_disagree_are_named() {
    let space = two_models();
    let mut b = Checkpoint::decoder(1, 2);
    b.random("model.layers.0.mlp.up_proj.weight", &[7, 4], 2);
    b.write(&space.path("b"));
    refuses(
        &space,
        1,
        &["recipe.yaml"],
        &["shape-mismatch", "`mean`", "model.layers.0.mlp.up_proj.weight", "[6, 4]", "[7, 4]", "./a", "./b"],
    );
}

#[test]
fn a_tensor_missing_in_one_model_is_named() {
    let space = two_models();
    let mut b = Checkpoint::decoder(1, 2);
    b.remove("model.layers.0.mlp.up_proj.weight");
    b.write(&space.path("b"));
    refuses(
        &space,
        1,
        &["recipe.yaml"],
        &["tensor-missing", "`mean`", "model.layers.0.mlp.up_proj.weight", "./b", "recipe.yaml:3:"],
    );
}

#[test]
fn no_merge_makes_numbers_of_nan_and_infinity() {
    for (value, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "infinity")] {
        let space = two_models();
        let mut b = Checkpoint::decoder(1, 2);
        let name = "model.layers.0.input_layernorm.weight";
        b.f32(name, &[4], &[1.0, value, 1.0, 1.0]);
        b.write(&space.path("b"));
        refuses(&space, 1, &["recipe.yaml"], &[name, "./b", word]);
        // A merge that leaves the tensor out is not concerned.
        space.write("recipe.yaml", MERGE.replace("{model: ./b}", "{model: ./b, parameters: {weight: 0}}"));
        space.ok(&["build", "recipe.yaml"]);
    }
}

#[test]
fn sums_of_weights_that_vanish_are_told_of() {
    let space = two_models();
    space.write(
        "recipe.yaml",
        "name: mean\nmerge_method: linear\nmodels:\n- {model: ./a, parameters: {weight: 1}}\n\
         - {model: ./b, parameters: {weight: -1}}\n",
    );
    let error = space.fails(1, &["build", "recipe.yaml"]);
    assert!(error.contains("`mean`") && error.contains("weight"), "{error}");
}

#[test]
fn a_folder_that_holds_something_else_is_not_written_to() {
    let space = two_models();
    space.write("merges/mean/notes.txt", "precious");
    refuses(&space, 1, &["recipe.yaml"], &["merges/mean", "--out"]);
    refuses(
        &space,
        1,
        &["recipe.yaml", "--out", "a"],
        &["a contains files that lamarck did not write", "--out"],
    );
    refuses(&space, 1, &["recipe.yaml", "--out", "recipe.yaml"], &["recipe.yaml"]);
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let space = two_models();
    space.write("file", "no folder");
    refuses(&space, 4, &["recipe.yaml", "--cache", "file"], &["file", "--cache"]);
    refuses(&space, 4, &["recipe.yaml", "--cache", "/proc/lamarck"], &["/proc/lamarck", "--cache"]);
}

/// The kernel refuses to let any file grow beyond a limit, as a full disk would.
#[test]
fn a_write_that_fails_leaves_the_model_that_was_there() {
    let space = two_models();
    let mut large = Checkpoint::decoder(1, 1);
    large.random("model.layers.0.mlp.up_proj.weight", &[600, 100], 1);
    large.write(&space.path("a"));
    large.random("model.layers.0.mlp.up_proj.weight", &[600, 100], 2);
    large.write(&space.path("b"));
    space.build(&["recipe.yaml"]);
    let before = space.files("merges");
    space.write("recipe.yaml", MERGE.replace("0.5", "[0.5, 0.5, 0.4]"));
    let limited =
        format!("trap '' XFSZ; ulimit -f 100; exec {} build recipe.yaml", env!("CARGO_BIN_EXE_lamarck"));
    let mut command = std::process::Command::new("sh");
    let output = command.args(["-c", &limited]).current_dir(space.path("")).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert_eq!(error.lines().filter(|line| line.starts_with("error")).count(), 1, "{error}");
    assert_eq!(space.files("merges"), before);
    // With room again the build finishes, and what it makes is what an undisturbed one makes.
    space.build(&["recipe.yaml"]);
    space.ok(&["build", "recipe.yaml", "--cache", "fresh", "--out", "fresh-out"]);
    let made = |folder: &str| fs::read(space.path(folder).join("model.safetensors")).unwrap();
    assert!(made("merges/mean") == made("fresh-out"));
}

/// However many results wait for the disk, few files are open at once: with them, and with the model that
/// another one replaces.
#[test]
fn few_files_are_open_at_once() {
    let space = Space::with_full_recipe();
    let limited = format!("ulimit -n 400; exec {} build -q recipe.yaml", env!("CARGO_BIN_EXE_lamarck"));
    for edit in [None, Some(("lambda:            0.95", "lambda:            0.50"))] {
        if let Some((old, new)) = edit {
            space.replace("recipe.yaml", old, new);
        }
        let mut command = std::process::Command::new("sh");
        let output = command.args(["-c", &limited]).current_dir(space.path("")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn usage_errors_end_with_code_2() {
    let space = two_models();
    for (args, word) in [
        (&["build", "recipe.yaml", "--jobs", "many"][..], "--jobs"),
        (&["build", "recipe.yaml", "--memory", "5 parsecs"], "parsecs"),
        (&["build", "recipe.yaml", "--stage", "nowhere"], "mean"),
        (&["build"], "no recipe"),
        (&["frobnicate"], "frobnicate"),
        (&["methods", "slrep"], "slerp"),
    ] {
        let error = space.fails(2, args);
        assert!(error.contains(word), "{error}");
    }
    let error = space.fails(1, &["build", "nowhere.yaml"]);
    assert!(error.contains("nowhere.yaml"), "{error}");
}

#[test]
fn a_project_file_is_checked_too() {
    let space = two_models();
    space.write("lamarck.toml", "model = ['x']\n");
    let error = space.fails(1, &["build", "recipe.yaml"]);
    assert!(error.contains("lamarck.toml") && error.contains("model"), "{error}");
}

#[test]
fn values_that_a_parameter_does_not_take_are_shown_in_the_recipe() {
    let space = two_models();
    let recipe = |gamma: &str| {
        format!(
            "name: crumbs\nmerge_method: breadcrumbs\nbase_model: ./a\nmodels:\n- model: ./b\n  parameters:\n    \
             weight: 0.5\n    density: 0.5\n    gamma: {gamma}\n"
        )
    };
    for gamma in ["1.5", "[0.5, 1.5]", "[{filter: mlp, value: 1.5}, {value: 0}]"] {
        space.write("recipe.yaml", recipe(gamma));
        refuses(
            &space,
            1,
            &["recipe.yaml"],
            &["parameter-value", "`gamma` must be between 0 and 1, not 1.5", "recipe.yaml:9:"],
        );
    }
    space.write("recipe.yaml", recipe("1"));
    space.build(&["recipe.yaml"]);
}
