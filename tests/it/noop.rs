//! Builds that find everything as an earlier one left it: they plan nothing, and are never wrong about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::checkpoints::Checkpoint;
use crate::harness::{Run, Space, settle};
use crate::lora::{config, queries, write_adapter};

const RECIPE: &str = "vars: {share: 0.5}
---
name: mean
merge_method: linear
models:
  - {model: org/base, parameters: {weight: \"${share}\"}}
  - {model: org/sharded, parameters: {weight: 0.25}}
  - {model: org/hubbed, parameters: {weight: 0.25}}
  - {model: org/base+./adapter, parameters: {weight: 0.5}}
---
name: thinned
merge_method: dare_linear
base_model: org/base
models: [{model: mean, parameters: {weight: 1, density: 0.5, densty_of: 3}}]
chat_template: template.jinja
";

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const HUB: &str = "hf/hub/models--org--hubbed";

/// The recipe, built when its models were at rest.
fn built() -> Space {
    let space = made();
    settle();
    space.ok(&["build", "recipe.yaml"]);
    space
}

/// A recipe of two stages whose models are everywhere where models can be.
fn made() -> Space {
    let space = Space::new();
    space.write("lamarck.toml", "models = ['first', 'models']\n");
    space.write("recipe.yaml", RECIPE);
    space.write("template.jinja", "{% for m in messages %}one{% endfor %}");
    fs::create_dir(space.path("first")).unwrap();
    let base = space.path("models/org/base");
    Checkpoint::decoder(2, 1).write(&base);
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"},
    });
    for (name, text) in [
        ("tokenizer.json", tokenizer.to_string()),
        ("tokenizer_config.json", r#"{"bos_token": "a", "eos_token": "b"}"#.to_owned()),
        ("generation_config.json", r#"{"bos_token_id": 0}"#.to_owned()),
        ("README.md", "---\nlicense: mit\n---\n".to_owned()),
    ] {
        fs::write(base.join(name), text).unwrap();
    }
    write_sharded(&Checkpoint::decoder(2, 2), &space.path("models/org/sharded"));
    let snapshot = space.path(HUB).join("snapshots").join(COMMIT);
    Checkpoint::decoder(2, 3).write(&snapshot);
    fs::create_dir_all(space.path(HUB).join("blobs")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::rename(snapshot.join(name), space.path(HUB).join("blobs").join(name)).unwrap();
        symlink(format!("../../blobs/{name}"), snapshot.join(name)).unwrap();
    }
    space.write(&format!("{HUB}/refs/main"), COMMIT);
    write_adapter(&space.path("adapter"), config(4.0), &queries());
    space
}

/// Writes a checkpoint as two shards with their index.
fn write_sharded(checkpoint: &Checkpoint, dir: &Path) {
    let names: BTreeSet<String> = checkpoint.names().map(str::to_owned).collect();
    let mut map = BTreeMap::new();
    for number in [1, 2] {
        let file = format!("model-0000{number}-of-00002.safetensors");
        let mut part = checkpoint.clone();
        for (i, name) in names.iter().enumerate() {
            if i % 2 == number - 1 {
                map.insert(name.clone(), file.clone());
            } else {
                part.remove(name);
            }
        }
        part.write(dir);
        fs::rename(dir.join("model.safetensors"), dir.join(file)).unwrap();
    }
    let index = json!({"metadata": {}, "weight_map": map});
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

/// When a build last had a folder in the store of its own, which those have that take the long way.
fn last_long(space: &Space) -> Option<(i64, i64)> {
    let folder = fs::metadata(space.path("cache/v2/tmp")).ok()?;
    Some((folder.mtime(), folder.mtime_nsec()))
}

/// Builds, and says whether that took the long way.
#[track_caller]
fn build(space: &Space, args: &[&str]) -> (Run, bool) {
    let before = last_long(space);
    let run = space.run(&[&["build", "recipe.yaml"], args].concat());
    (run, last_long(space) != before)
}

#[track_caller]
fn assert_short(space: &Space, args: &[&str]) -> Run {
    let (run, is_long) = build(space, args);
    assert_eq!((run.code, is_long), (0, false), "{}", run.stderr);
    run
}

/// The output must be what the long way leaves of it, and what a build makes that knows nothing.
#[track_caller]
fn assert_right(space: &Space, args: &[&str], out: &str) {
    let line = &space.build(&[&["recipe.yaml"], args].concat()).finished[0];
    assert_eq!((&line["ran"], &line["shards_written"]), (&json!(0), &json!(0)), "{line}");
    let mut fresh: Vec<&str> = args.to_vec();
    if let Some(at) = fresh.iter().position(|arg| *arg == "--out") {
        fresh.drain(at..at + 2);
    }
    let _ = fs::remove_dir_all(space.path("fresh"));
    let fresh_args = ["build", "-q", "recipe.yaml", "--cache", "fresh/cache", "--out", "fresh/out"];
    space.ok(&[&fresh_args, fresh.as_slice()].concat());
    let [theirs, ours] = ["fresh/out", out].map(|folder| space.files(folder));
    for (name, bytes) in theirs {
        assert!(ours.get(&name) == Some(&bytes), "{} is not as a new build makes it", name.display());
    }
    fs::remove_dir_all(space.path("fresh")).unwrap();
}

/// A line without the time that it tells.
fn timeless(text: &str) -> String {
    let words = text.split_whitespace().filter(|word| word.parse::<f64>().is_err());
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_build_that_finds_everything_as_it_was_says_what_the_long_way_says() {
    let space = built();
    let short = assert_short(&space, &[]);
    let (long, is_long) = build(&space, &["--trace", "trace.json"]);
    assert!(is_long);
    assert_eq!(timeless(&short.stderr), timeless(&long.stderr));
    assert!(short.stderr.contains("densty_of"), "warnings are told again: {}", short.stderr);
    assert!(
        short.stderr.contains("built thinned: ") && short.stderr.contains(" 0 rebuilt"),
        "{}",
        short.stderr
    );
    assert_eq!((short.stdout.as_str(), long.stdout.as_str()), ("", ""));
    let quiet = assert_short(&space, &["-q"]);
    assert_eq!(quiet.stderr, "");
    assert_right(&space, &[], "merges/thinned");
    assert_short(&space, &[]);
}

#[test]
fn whoever_asks_for_more_takes_the_long_way() {
    let space = built();
    for args in [&["--json"][..], &["--rehash"], &["--locked"], &["--trace", "t.json"], &["--from", "1"]] {
        assert_short(&space, &[]);
        let before = last_long(&space);
        let recipe: &[&str] = if args[0] == "--from" { &[] } else { &["recipe.yaml"] };
        space.ok(&[&["build"], recipe, args].concat());
        assert_ne!(last_long(&space), before, "{args:?}");
        // What was written anew has a fingerprint of its own.
        space.ok(&["build", "recipe.yaml"]);
    }
}

/// Something that changes after a build.
struct Change {
    what: &'static str,
    act: fn(&Space),
    args: &'static [&'static str],
    out: &'static str,
    /// Whether the build fails of it.
    fails: bool,
}

const fn change(what: &'static str, act: fn(&Space)) -> Change {
    Change { what, act, args: &[], out: "merges/thinned", fails: false }
}

const fn argument(what: &'static str, args: &'static [&'static str], out: &'static str) -> Change {
    Change { what, act: |_| (), args, out, fails: false }
}

fn nothing_but_a_byte(space: &Space, path: &str, at: u64) {
    // Size and modification time stay: only the time of the change tells.
    let path = space.path(path);
    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    let stamp: SystemTime = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    // Digits stay digits, so that text stays text.
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    file.set_modified(stamp).unwrap();
}

/// Flips the lowest bit of the last byte, which is part of a tensor.
fn flip_last(space: &Space, path: &str) {
    let size = fs::metadata(space.path(path)).unwrap().len();
    nothing_but_a_byte(space, path, size - 4);
}

fn flip_at(space: &Space, path: &str, text: &str) {
    let at = space.read(path).find(text).unwrap();
    nothing_but_a_byte(space, path, at as u64 + text.len() as u64 - 1);
}

const CHANGES: [Change; 45] = [
    change("a number of the recipe", |s| flip_at(s, "recipe.yaml", "weight: 0.25")),
    change("a comment in the recipe", |s| s.write("recipe.yaml", format!("# x\n{RECIPE}"))),
    change("the recipe's default of a variable", |s| flip_at(s, "recipe.yaml", "share: 0.5")),
    argument("a variable", &["--set", "share=0.75"], "merges/thinned"),
    argument("the seed", &["--seed", "7"], "merges/thinned"),
    argument("another stage", &["--stage", "mean"], "merges/mean"),
    argument("another folder", &["--out", "elsewhere"], "elsewhere"),
    argument("the size of shards", &["--shard-size", "1kB"], "merges/thinned"),
    change("the chat template", |s| flip_at(s, "template.jinja", "one")),
    change("the last byte of a model", |s| flip_last(s, "models/org/base/model.safetensors")),
    change("the last byte of a shard", |s| {
        flip_last(s, "models/org/sharded/model-00002-of-00002.safetensors");
    }),
    change("the last byte of a blob of the hub's cache", |s| {
        flip_last(s, &format!("{HUB}/blobs/model.safetensors"));
    }),
    change("the last byte of an adapter", |s| flip_last(s, "adapter/adapter_model.safetensors")),
    change("a number of an adapter's settings", |s| {
        s.write("adapter/adapter_config.json", config(3.0).to_string());
    }),
    change("another file in the place of a model's", |s| {
        let path = s.path("models/org/base/model.safetensors");
        let (bytes, stamp) = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
        let new = path.with_extension("new");
        fs::write(&new, bytes).unwrap();
        fs::File::options().write(true).open(&new).unwrap().set_modified(stamp).unwrap();
        fs::rename(new, path).unwrap();
    }),
    change("a model's configuration", |s| {
        let path = "models/org/base/config.json";
        s.write(path, s.read(path).replace("qwen2", "qwen3"));
    }),
    change("a model's tokenizer", |s| flip_at(s, "models/org/base/tokenizer.json", "\"version\":\"1.0")),
    change("a model's tokenizer settings", |s| {
        s.write("models/org/base/tokenizer_config.json", r#"{"bos_token": "b", "eos_token": "a"}"#);
    }),
    change("how a model generates", |s| {
        flip_at(s, "models/org/base/generation_config.json", "\"bos_token_id\": 0");
    }),
    change("a model's licence", |s| s.write("models/org/base/README.md", "---\nlicense: wtf\n---\n")),
    change("a file of the tokenizer that was not there", |s| {
        s.write("models/org/base/special_tokens_map.json", "{}");
    }),
    change("a model's chat template", |s| s.write("models/org/base/chat_template.jinja", "mine")),
    Change {
        fails: true,
        ..change("an index beside a single file", |s| {
            s.write("models/org/sharded/model.safetensors", "no tensors");
        })
    },
    change("an index that lists another order", |s| {
        let path = "models/org/sharded/model.safetensors.index.json";
        s.write(path, s.read(path).replace("\"metadata\":{}", "\"metadata\":{\"total_size\":1}"));
    }),
    Change {
        fails: true,
        ..change("a shard that is gone", |s| {
            fs::remove_file(s.path("models/org/sharded/model-00001-of-00002.safetensors")).unwrap();
        })
    },
    Change {
        fails: true,
        ..change("a model that is gone", |s| {
            fs::remove_dir_all(s.path("models/org/base")).unwrap();
        })
    },
    change("a model in an earlier folder", |s| {
        Checkpoint::decoder(2, 9).write(&s.path("first/org/base"));
    }),
    change("a model in the working directory", |s| Checkpoint::decoder(2, 9).write(&s.path("org/sharded"))),
    change("a model in a folder that goes before the hub's cache", |s| {
        Checkpoint::decoder(2, 9).write(&s.path("models/org/hubbed"));
    }),
    change("another commit", |s| {
        let other = COMMIT.replace('0', "f");
        Checkpoint::decoder(2, 8).write(&s.path(HUB).join("snapshots").join(&other));
        s.write(&format!("{HUB}/refs/main"), other);
    }),
    change("the settings", |s| {
        s.write("lamarck.toml", "models = ['first', 'models']\n[card]\ntitle = 'Another'\n");
    }),
    change("the order of models folders", |s| {
        Checkpoint::decoder(2, 9).write(&s.path("third/org/base"));
        s.write("lamarck.toml", "models = ['third', 'first', 'models']\n");
    }),
    change("a byte of the output's tensors", |s| flip_last(s, "merges/thinned/model.safetensors")),
    change("an output's shard that is gone", |s| {
        fs::remove_file(s.path("merges/thinned/model.safetensors")).unwrap();
    }),
    change("an output's shard that was touched", |s| {
        let shard = fs::File::options().write(true).open(s.path("merges/thinned/model.safetensors")).unwrap();
        shard.set_modified(SystemTime::now()).unwrap();
    }),
    change("an index in the output", |s| s.write("merges/thinned/model.safetensors.index.json", "{}")),
    change("a file of somebody's in the output", |s| s.write("merges/thinned/notes.txt", "mine")),
    change("the output's configuration", |s| {
        let path = "merges/thinned/config.json";
        s.write(path, s.read(path).replace("qwen2", "qwen3"));
    }),
    change("the output's lockfile", |s| flip_at(s, "merges/thinned/lamarck.lock.json", "\"format\": 1")),
    change("the output's recipe", |s| flip_at(s, "merges/thinned/recipe.yaml", "share: 0.5")),
    change("an output that is gone", |s| fs::remove_dir_all(s.path("merges")).unwrap()),
    change("what a killed build left beside the output", |s| {
        s.write("merges/.lamarck-thinned-abcdef/lock", "");
    }),
    change("a cache that is gone", |s| fs::remove_dir_all(s.path("cache")).unwrap()),
    change("a cache that was cleaned", |s| drop(s.ok(&["cache", "gc", "--stale"]))),
    change("a cache that was emptied", |s| drop(s.ok(&["cache", "gc", "--max-size", "1B"]))),
];

#[test]
fn whatever_changes_is_noticed_and_the_result_is_right() {
    let mut wrong = Vec::new();
    let spaces: Vec<Space> = CHANGES.iter().map(|_| made()).collect();
    settle();
    for (Change { what, act, args, out, fails }, space) in CHANGES.iter().zip(spaces) {
        space.ok(&["build", "recipe.yaml"]);
        assert_short(&space, &[]);
        std::thread::sleep(Duration::from_millis(5));
        act(&space);
        let (run, is_long) = build(&space, args);
        if !is_long && !fails {
            wrong.push(format!("{what}: it was not noticed"));
        } else if (run.code != 0) != *fails {
            wrong.push(format!("{what}: exit code {}, {}", run.code, run.stderr));
        } else if !fails {
            assert_right(&space, args, out);
        } else {
            assert!(!run.stderr.contains("built "), "{what}: {}", run.stderr);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn another_program_takes_the_long_way() {
    let space = built();
    assert_short(&space, &[]);
    let copy = space.path("lamarck");
    fs::copy(env!("CARGO_BIN_EXE_lamarck"), &copy).unwrap();
    let before = last_long(&space);
    let mut command = space.command(&["build", "-q", "recipe.yaml"]);
    let mut other = Command::new(&copy);
    other.args(command.get_args()).current_dir(command.get_current_dir().unwrap());
    other.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert_eq!(Run::of(&mut other).code, 0);
    assert_ne!(last_long(&space), before, "it may write other files");
    let before = last_long(&space);
    assert_eq!(Run::of(&mut command).code, 0);
    assert_ne!(last_long(&space), before, "the fingerprint is the other's");
}

#[test]
fn a_damaged_fingerprint_is_none() {
    let space = built();
    let index = space.path("cache/v2/index.redb");
    let bytes = fs::read(&index).unwrap();
    let word = b"models/org/base/config.json";
    let places: Vec<usize> =
        (0..bytes.len() - word.len()).filter(|at| bytes[*at..].starts_with(word)).collect();
    assert!(!places.is_empty(), "the fingerprint names the files that it is of");
    let file = fs::File::options().write(true).open(&index).unwrap();
    for at in places {
        file.write_all_at(b"M", at as u64).unwrap();
    }
    let (run, is_long) = build(&space, &[]);
    assert_eq!((run.code, is_long), (0, true), "{}", run.stderr);
    assert_short(&space, &[]);
    assert_right(&space, &[], "merges/thinned");
}

/// Every path that a run of the binary looks at, and those of folders that it lists; `None` where that cannot be seen.
fn looked_at(space: &Space, args: &[&str]) -> Option<(BTreeSet<PathBuf>, BTreeSet<PathBuf>)> {
    let log = space.path("strace.log");
    let inner = space.command(&[&["build", "recipe.yaml"], args].concat());
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-s", "4096", "-e", "trace=%file", "-o"]).arg(&log);
    strace.arg(inner.get_program()).args(inner.get_args()).current_dir(space.path(""));
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    if !strace.output().is_ok_and(|output| output.status.success()) {
        return None;
    }
    let (mut paths, mut listed) = (BTreeSet::new(), BTreeSet::new());
    let text = fs::read_to_string(&log).unwrap();
    // What is named from an open folder is removed, or is the session's.
    let is_from_folder =
        |line: &str| line.split_once('(').is_some_and(|(_, rest)| rest.starts_with(char::is_numeric));
    for line in text.lines().filter(|line| !line.contains("execve(") && !is_from_folder(line)) {
        let Some(path) = line.split('"').nth(1).filter(|path| !path.is_empty()) else { continue };
        let path = space.path("").join(path);
        if line.contains("O_DIRECTORY") {
            listed.insert(path.clone());
        }
        paths.insert(path);
    }
    Some((paths, listed))
}

#[test]
fn nothing_is_looked_at_in_planning_that_is_not_looked_at_again() {
    let space = built();
    let root = fs::canonicalize(space.path("")).unwrap();
    let Some((planned, _)) = looked_at(&space, &["--trace", "trace.json"]) else { return };
    let before = last_long(&space);
    let (again, listed) = looked_at(&space, &[]).unwrap();
    assert_eq!(last_long(&space), before);
    // Who follows a link has looked at what it leads to.
    let real: Vec<PathBuf> = again.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
    let again: BTreeSet<PathBuf> = again.into_iter().chain(real).collect();
    let is_own = |path: &Path| {
        ["cache", "trace.json"].iter().any(|own| path.starts_with(root.join(own))) || !path.starts_with(&root)
    };
    let is_covered = |path: &Path| {
        again.contains(path)
            || path.parent().is_some_and(|folder| listed.contains(folder))
            || again.iter().any(|seen| seen.starts_with(path) || path.starts_with(seen) && !seen.exists())
    };
    let clean = |path: &PathBuf| path.components().collect::<PathBuf>();
    let forgotten: Vec<PathBuf> =
        planned.iter().map(clean).filter(|path| !is_own(path) && !is_covered(path)).collect();
    assert!(planned.iter().any(|path| path.ends_with("models/org/base/config.json")), "{planned:?}");
    assert!(forgotten.is_empty(), "{forgotten:#?}");
}
