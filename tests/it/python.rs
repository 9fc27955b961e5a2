//! The cache of the hub, shared with Python's tools: what lamarck fetched is read by `huggingface_hub` and `transformers`
//! offline, and the reverse.
//!
//! `LAMARCK_PYTHON` names an interpreter that has both; without it these tests say so and pass.

use std::fs;
use std::io::Write;
use std::process::Command;

use crate::harness::{Run, Space, TWO_STAGES, project};
use crate::hub::{MODELS, hub, local, space};
use crate::hub_server::HubServer;

/// Runs a script beside a space's cache; `None` without an interpreter.
fn python(space: &Space, hub: Option<&HubServer>, script: &str) -> Option<String> {
    let Some(python) = std::env::var_os("LAMARCK_PYTHON") else {
        // Where nobody listens, nobody is told.
        let _ = writeln!(std::io::stderr(), "skipped: LAMARCK_PYTHON names no interpreter");
        return None;
    };
    let mut command = Command::new(python);
    command.args(["-c", script]).args(MODELS).env("HF_HOME", space.path("hf")).env("HF_HUB_DISABLE_XET", "1");
    match hub {
        Some(hub) => command.env("HF_ENDPOINT", &hub.endpoint),
        None => command.env("HF_HUB_OFFLINE", "1"),
    };
    let run = Run::of(&mut command);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    Some(run.stdout)
}

#[test]
fn python_reads_what_was_fetched() {
    let hub = hub(&MODELS);
    let space = space(TWO_STAGES);
    hub.ok(&space, &["build", "recipe.yaml"]);
    let script = "
import os, sys
from huggingface_hub import scan_cache_dir, snapshot_download
from transformers import AutoConfig, AutoTokenizer
from safetensors import safe_open
info = scan_cache_dir()
assert not info.warnings, info.warnings
assert sorted(repo.repo_id for repo in info.repos) == sorted(sys.argv[1:]), info.repos
for model in sys.argv[1:]:
    folder = snapshot_download(model)
    assert AutoConfig.from_pretrained(model).num_hidden_layers == 48
    assert AutoTokenizer.from_pretrained(model)('the quick brown fox')['input_ids']
    files = [name for name in os.listdir(folder) if name.endswith('.safetensors')]
    print(sum(len(list(safe_open(os.path.join(folder, name), 'np').keys())) for name in files))
";
    if let Some(counts) = python(&space, None, script) {
        assert_eq!(counts.split_whitespace().collect::<Vec<_>>(), ["579"; 3]);
    }
}

#[test]
fn what_python_fetched_is_read() {
    let hub = hub(&MODELS);
    let space = space(TWO_STAGES);
    let script = "
import sys
from huggingface_hub import snapshot_download
for model in sys.argv[1:]:
    print(snapshot_download(model))
";
    if python(&space, Some(&hub), script).is_none() {
        return;
    }
    hub.requests();
    hub.ok(&space, &["build", "recipe.yaml"]);
    assert!(hub.requests().is_empty(), "nothing is asked of the hub");
    let built = fs::read(space.path("merges/blend/model.safetensors")).expect("there is an output");
    assert_eq!(built, local(TWO_STAGES, "merges/blend"));
    let lock = space.json("merges/blend/lamarck.lock.json");
    for id in MODELS {
        assert_eq!(lock["sources"][id]["revision"].as_str().map(str::len), Some(40));
        assert!(project("recipes/ancestors").join(id).is_dir());
    }
}
