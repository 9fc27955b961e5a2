//! Builds that are killed or interrupted, and builds side by side.

use std::fs::{self, File};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::harness::{FULL, Space, project_text, scaled};

const OUT: &str = "merges/lamarck-14b-finalize";

fn start(space: &Space, args: &[&str]) -> Child {
    let mut command: Command = space.command(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(status.expect("kill is there").success());
}

/// What a process says on standard error, up to the line in which it says that it waits.
fn told(child: &mut Child) -> String {
    let mut line = Vec::new();
    let stderr = child.stderr.as_mut().expect("it is a pipe");
    while line.last() != Some(&b'\n') || !String::from_utf8_lossy(&line).contains("waiting for") {
        let mut byte = [0];
        stderr.read_exact(&mut byte).expect("the process says something");
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("it is text")
}

fn edited() -> String {
    project_text(FULL).replacen("weight:        0.90", "weight:        0.85", 1)
}

/// Kills builds at times all over their length. What is there afterwards is the model from before or the
/// one from after, whole, and the next build ends as an undisturbed one.
#[test]
fn a_killed_build_leaves_the_old_model_or_the_new_one() {
    let reference = Space::with_full_recipe();
    reference.ok(&["build", "-q", "recipe.yaml"]);
    let first = reference.files(OUT);
    reference.write("recipe.yaml", edited());
    let started = Instant::now();
    reference.ok(&["build", "-q", "recipe.yaml", "--cache", "cold", "--out", "cold-out"]);
    let length = started.elapsed();
    reference.ok(&["build", "-q", "recipe.yaml"]);
    let second = reference.files(OUT);

    let n_kills = scaled(12, 300);
    for i in 0..n_kills {
        let space = Space::with_full_recipe();
        // Half of them are killed in their first build, half in one that replaces a model.
        let replaces = i % 2 == 1;
        if replaces {
            space.ok(&["build", "-q", "recipe.yaml"]);
            space.write("recipe.yaml", edited());
        }
        let mut child = start(&space, &["build", "-q", "recipe.yaml"]);
        sleep(length.mul_f64(f64::from(i + 1) / f64::from(n_kills)));
        let _ = child.kill();
        child.wait().unwrap();
        let after = space.files(OUT);
        let expected = if replaces { &second } else { &first };
        let before_is_whole = if replaces { after == first } else { after.is_empty() };
        assert!(before_is_whole || after == *expected, "kill {i} left {:?}", after.keys());
        space.ok(&["log"]);
        assert!(
            matches!(space.run(&["cache", "verify"]), run if run.code == 0),
            "kill {i} damaged the cache"
        );
        space.ok(&["build", "-q", "recipe.yaml"]);
        assert!(space.files(OUT) == *expected, "kill {i}");
        assert!(space.files("cache/v2/tmp").is_empty(), "kill {i} left temporary files");
        let left = fs::read_dir(space.path("merges")).unwrap().count();
        assert_eq!(left, 1, "kill {i} left a folder beside the output");
    }
}

#[test]
fn an_interrupted_build_says_so_and_goes_on_where_it_stopped() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let space = Space::with_full_recipe();
        // Its output is a pipe that nobody reads and that does not hold all of it, so that the build stops
        // in the middle and cannot end before the signal.
        let child = start(&space, &["build", "--json", "recipe.yaml"]);
        // Interrupt when something was kept.
        let kept = || {
            let stat = space.run(&["cache", "stat", "--json"]);
            let stat: serde_json::Value = serde_json::from_str(&stat.stdout).unwrap_or_default();
            stat["actions"].as_u64().unwrap_or(0) > 0
        };
        while !kept() {
            sleep(Duration::from_millis(5));
        }
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains("interrupted") && error.contains("build again to continue"), "{error}");
        assert!(!space.path(OUT).exists());
        let rest = space.build(&["recipe.yaml"]).ran.len();
        assert!(rest > 0 && rest < 3252, "{rest} actions were left");
    }
}

#[test]
fn builds_side_by_side_all_finish() {
    let reference = Space::with_full_recipe();
    reference.ok(&["build", "-q", "recipe.yaml"]);
    let model = fs::read(reference.path(OUT).join("model.safetensors")).unwrap();
    let space = Space::with_full_recipe();
    space.write("other.yaml", edited());
    for round in 0..scaled(1, 50) {
        let cache = format!("cache-{round}");
        let builds: Vec<Child> = (0..8)
            .map(|i| {
                let recipe = if i % 4 == 3 { "other.yaml" } else { "recipe.yaml" };
                // Some write to one folder at once.
                let out = format!("out-{round}-{}", if i < 2 { 0 } else { i });
                start(&space, &["build", "-q", recipe, "--cache", &cache, "--out", &out, "--jobs", "1"])
            })
            .collect();
        for (i, build) in builds.into_iter().enumerate() {
            let output = build.wait_with_output().unwrap();
            assert!(output.status.success(), "{i}: {}", String::from_utf8_lossy(&output.stderr));
        }
        for i in [0, 2, 4, 5, 6] {
            let made = fs::read(space.path(&format!("out-{round}-{i}/model.safetensors"))).unwrap();
            assert!(made == model, "{i} differs");
        }
        assert!(space.ok(&["cache", "verify", "--cache", &cache]).stdout.contains("all sound"));
        let again = space.build(&["recipe.yaml", "--cache", &cache, "--out", &format!("out-{round}-0")]);
        assert_eq!(again.ran.len(), 0);
    }
}

#[test]
fn looking_works_while_a_build_runs_and_removing_waits_for_it() {
    let space = Space::with_full_recipe();
    space.ok(&["build", "-q", "recipe.yaml"]);
    // A build holds the store's lock shared; so does this test.
    let lock = File::options().write(true).open(space.path("cache/v2/lock")).unwrap();
    lock.lock_shared().unwrap();
    for command in [&["plan", "recipe.yaml"][..], &["log"], &["cache", "stat"], &["cache", "verify"]] {
        space.ok(command);
    }
    space.ok(&["build", "-q", "recipe.yaml", "--no-wait"]);
    let error = space.fails(5, &["cache", "gc", "--stale", "--no-wait"]);
    assert!(error.contains("locked"), "{error}");
    let mut waiting = start(&space, &["cache", "gc", "--stale"]);
    assert_eq!(told(&mut waiting), "waiting for running builds\n");
    // A build that starts now goes after it.
    assert!(space.fails(5, &["build", "recipe.yaml", "--no-wait"]).contains("locked"));
    lock.unlock().unwrap();
    assert!(waiting.wait_with_output().unwrap().status.success());

    // What removes results has the store to itself.
    lock.lock().unwrap();
    assert!(space.fails(5, &["build", "recipe.yaml", "--no-wait"]).contains("locked"));
    let mut interrupted = start(&space, &["build", "recipe.yaml"]);
    assert!(told(&mut interrupted).contains("waiting for another process"));
    signal(&interrupted, "INT");
    assert_eq!(interrupted.wait().unwrap().code(), Some(130));
    let mut waiting = start(&space, &["build", "recipe.yaml"]);
    assert!(told(&mut waiting).contains("waiting for another process"));
    lock.unlock().unwrap();
    assert!(waiting.wait_with_output().unwrap().status.success());
}
