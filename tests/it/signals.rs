//! Ctrl-C: whatever the build is at, it ends, and what was finished is kept.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::Space;

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(status.expect("kill is there").success());
}

fn start(space: &Space, args: &[&str]) -> Child {
    let mut command = space.command(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary starts")
}

/// Reads events up to the first `n` of a kind. The rest is read, too, so that nothing waits for it to be.
fn wait_for(child: &mut Child, event: &str, n: usize) {
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let is_one = |line: &String| serde_json::from_str::<Value>(line).expect("it is JSON")["event"] == event;
    for _ in 0..n {
        lines.by_ref().map(|line| line.expect("it is text")).find(is_one).expect("there are enough events");
    }
    std::thread::spawn(move || lines.for_each(drop));
}

/// Whether a process has not computed anything for a while.
#[cfg(target_os = "linux")]
fn is_stuck(child: &Child) -> bool {
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("it runs");
        let fields: Vec<String> = stat.rsplit(')').next().unwrap().split(' ').map(str::to_owned).collect();
        (fields[12].clone(), fields[13].clone())
    };
    let before = ticks();
    std::thread::sleep(Duration::from_millis(300));
    ticks() == before
}

/// Exit code, and what was said.
fn ended(mut child: Child) -> (i32, String) {
    let mut told = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut told).expect("it is text");
    let code = child.wait().expect("it ends").code();
    (code.unwrap_or(-1), told)
}

/// Two models of one tensor of a gigabyte, of which the disk holds next to nothing.
fn huge() -> Space {
    const ROWS: u64 = 1 << 15;
    let space = Space::new();
    let n_bytes = ROWS * (1 << 14) * 2;
    let header =
        json!({ "w.weight": { "dtype": "BF16", "shape": [ROWS, 1 << 14], "data_offsets": [0, n_bytes] } });
    let header = header.to_string();
    for model in ["a", "b"] {
        space.write(&format!("{model}/config.json"), r#"{"architectures": ["X"], "num_hidden_layers": 1}"#);
        space.write(
            &format!("{model}/model.safetensors"),
            [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat(),
        );
        let file = File::options().write(true).open(space.path(model).join("model.safetensors")).unwrap();
        file.set_len(8 + header.len() as u64 + n_bytes).unwrap();
    }
    space.write(
        "recipe.yaml",
        "name: out\nmerge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {weight: 0.5}\n",
    );
    space
}

#[test]
fn a_huge_tensor_does_not_hold_it_up() {
    let space = huge();
    for (n_hashed, name, code) in [(1, "INT", 130), (2, "TERM", 143)] {
        let mut child = start(&space, &["build", "--json", "--memory", "64MB", "recipe.yaml"]);
        // Behind the first it hashes the second, behind both it merges them.
        wait_for(&mut child, "hashed", n_hashed);
        signal(&child, name);
        let (found, told) = ended(child);
        assert_eq!(found, code, "{told}");
        // What ends sooner than it is seen to be asked says only that.
        let told = told.trim_start_matches("stopping...\n");
        assert!(told.starts_with("error: interrupted") && told.contains("build again to continue"), "{told}");
        assert!(!space.path("merges/out").exists());
        // The second needs the source anew that was hashed by then.
        fs::remove_dir_all(space.path("cache")).unwrap();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_second_signal_ends_it_at_once_and_quiet_says_errors_alone() {
    let space = Space::with_full_recipe();
    // What it prints is not read, so that it cannot come to an end by itself.
    let mut child = start(&space, &["build", "--json", "recipe.yaml"]);
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let is_run = |line: &std::io::Result<String>| line.as_ref().is_ok_and(|line| line.contains("\"ran\""));
    assert!(lines.any(|line| is_run(&line)), "something runs");
    while !is_stuck(&child) {}
    signal(&child, "INT");
    let mut told = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    told.read_line(&mut line).unwrap();
    assert_eq!(line, "stopping...\n");
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));

    let mut child = start(&space, &["build", "--json", "-q", "recipe.yaml"]);
    wait_for(&mut child, "ran", 1);
    signal(&child, "INT");
    let (code, told) = ended(child);
    assert!(code == 130 && told.starts_with("error: interrupted") && told.lines().count() == 1, "{told}");
}

#[test]
fn what_an_interrupted_build_measured_tells_how_long_the_rest_takes() {
    let space = Space::with_full_recipe();
    let plan = || space.document(&["plan", "recipe.yaml"]);
    let before = plan();
    assert!(before["seconds"].is_null() && before["seconds_at_most"].is_null(), "nothing is made up");
    assert!(!space.ok(&["plan", "recipe.yaml"]).stdout.contains("time: "));
    let needed = |plan: &Value| -> u64 {
        let disk = plan["disk"].as_array().expect("it is a list").iter();
        disk.map(|room| room["bytes_needed"].as_u64().expect("it is a number")).sum()
    };
    assert!(needed(&before) > 5_000_000);
    let mut child = start(&space, &["build", "--json", "recipe.yaml"]);
    wait_for(&mut child, "ran", 1500);
    signal(&child, "INT");
    let (code, told) = ended(child);
    assert_eq!(code, 130, "{told}");
    let between = plan();
    let left = between["seconds"].as_f64().expect("it was measured");
    assert!(left > 0.0 && needed(&between) < needed(&before));
    space.ok(&["build", "-q", "recipe.yaml"]);
    let after = plan();
    assert_eq!((&after["seconds"], &after["seconds_at_most"], needed(&after)), (&json!(0.0), &json!(0.0), 0));
    // All of it takes longer than the rest did.
    fs::rename(space.path("recipe.yaml"), space.path("other.yaml")).unwrap();
    let again = space.document(&["plan", "other.yaml", "--seed", "5"]);
    let [least, most] = ["seconds", "seconds_at_most"].map(|key| again[key].as_f64().unwrap());
    assert!(least > 0.0 && most >= least, "{least} {most}");
    assert!(space.ok(&["plan", "other.yaml", "--seed", "5"]).stdout.contains("time: about "));
}
