//! What many builds cost those that come after: a no-op, `plan` and `log` after 5 builds and after 5,000, in one
//! run, and the size of the index before and after `cache gc`.
//!
//! `cargo bench --bench history [-- BUILDS]`

#![allow(clippy::print_stdout)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Of so many runs the quickest counts.
const RUNS: usize = 9;

fn run(dir: &Path, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_lamarck"))
        .args(args)
        .current_dir(dir)
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("results are text")
}

fn quickest(dir: &Path, args: &[&str]) -> Duration {
    let timed = |_| {
        let started = Instant::now();
        run(dir, args);
        started.elapsed()
    };
    (0..RUNS).map(timed).min().expect("there are several runs")
}

/// A model of four small tensors.
fn write_model(dir: &Path, seed: u8) {
    let names =
        ["model.embed_tokens.weight", "model.layers.0.q.weight", "model.norm.weight", "lm_head.weight"];
    let entry = |(i, name): (usize, &&str)| {
        format!(r#""{name}":{{"dtype":"F32","shape":[8,8],"data_offsets":[{},{}]}}"#, i * 256, (i + 1) * 256)
    };
    let entries: Vec<String> = names.iter().enumerate().map(entry).collect();
    let header = format!("{{{}}}", entries.join(","));
    let values = (0..256u32).map(|i| ((i * 37 + u32::from(seed) * 11) % 101) as f32 / 50.0 - 1.0);
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes().chain(values.flat_map(f32::to_le_bytes)));
    fs::create_dir_all(dir).expect("there is room");
    fs::write(dir.join("model.safetensors"), file).expect("there is room");
    fs::write(dir.join("config.json"), r#"{"num_hidden_layers":1}"#).expect("there is room");
}

fn main() {
    let most: usize = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(5000);
    let space = tempfile::tempdir().expect("there is room");
    let dir = space.path();
    write_model(&dir.join("a"), 1);
    write_model(&dir.join("b"), 2);
    let build = |i: usize| {
        let recipe = format!(
            "name: mean\nmerge_method: linear\nmodels: [{{model: ./a}}, {{model: ./b}}]\nparameters: {{weight: {}.5, normalize: false}}\n",
            i + 1
        );
        fs::write(dir.join("r.yaml"), recipe).expect("there is room");
        run(dir, &["build", "-q", "r.yaml"]);
    };
    let mut before: Option<[Duration; 3]> = None;
    let mut done = 0;
    for n in [5, most] {
        (done..n).for_each(build);
        done = n;
        let commands: [&[&str]; 3] = [&["build", "-q", "r.yaml"], &["plan", "r.yaml"], &["log"]];
        let times = commands.map(|args| quickest(dir, args));
        let stat: Value = serde_json::from_str(&run(dir, &["cache", "stat", "--json"])).expect("it is JSON");
        let [noop, plan, log] = times.map(|time| time.as_secs_f64() * 1e3);
        println!(
            "{n} builds: no-op {noop:.1} ms, plan {plan:.1} ms, log {log:.1} ms; index {} bytes, {} actions",
            stat["index_bytes"], stat["actions"]
        );
        if let Some(before) = before {
            let ratio = |i: usize| times[i].as_secs_f64() / before[i].as_secs_f64();
            println!("ratio: no-op {:.2}, plan {:.2}, log {:.2}", ratio(0), ratio(1), ratio(2));
        }
        before = Some(times);
    }
    run(dir, &["cache", "gc"]);
    let stat: Value = serde_json::from_str(&run(dir, &["cache", "stat", "--json"])).expect("it is JSON");
    println!(
        "after gc: index {} bytes, {} actions, {} builds",
        stat["index_bytes"], stat["actions"], stat["builds"]
    );
}
