//! Many edits, one after the other, with accidents in between: every model is the one that a build from
//! nothing makes.

use std::fs;
use std::process::Stdio;

use crate::checkpoints::Checkpoint;
use crate::harness::{Space, scaled};

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A recipe of three stages with settings from a small set, so that earlier states come back.
fn recipe(random: &mut Random) -> String {
    let weight =
        random.pick(&["0.3", "0.5", "0.9", "[0.2, 0.8]", "[{filter: mlp, value: 0.4}, {value: 0.6}]"]);
    let density = random.pick(&["0.4", "0.7", "1"]);
    let method = random.pick(&["ties", "dare_ties", "della", "breadcrumbs"]);
    let t = random.pick(&["0", "0.4", "[0, 0.5]", "1"]);
    let last = random.pick(&["linear", "task_arithmetic"]);
    let model = random.pick(&["./b", "./c"]);
    let dtype = random.pick(&["float32", "bfloat16"]);
    let epsilon = if method == "della" { ", epsilon: 0.1" } else { "" };
    let base = if last == "linear" { "" } else { "base_model: ./a\n" };
    format!(
        "name: first\nmerge_method: {method}\nbase_model: ./a\nmodels: [{{model: ./b}}, {{model: ./c}}]\n\
         parameters: {{weight: {weight}, density: {density}{epsilon}}}\ndtype: {dtype}\n---\n\
         name: second\nmerge_method: slerp\nbase_model: ./a\nmodels: [{{model: first}}]\nparameters: {{t: {t}}}\n---\n\
         name: third\nmerge_method: {last}\n{base}models: [{{model: second}}, {{model: {model}}}]\n\
         parameters: {{weight: 0.5}}\n"
    )
}

/// Something that happens to caches and outputs.
fn accident(space: &Space, random: &mut Random) {
    let blobs: Vec<_> = space.files("cache/v2/blobs").into_keys().collect();
    let packs: Vec<_> = space.files("cache/v2/packs").into_keys().collect();
    match random.below(10) {
        0 if !blobs.is_empty() => {
            let path = space.path("cache/v2/blobs").join(&blobs[random.below(blobs.len())]);
            let mut bytes = fs::read(&path).unwrap();
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
        }
        1 if !blobs.is_empty() => {
            fs::remove_file(space.path("cache/v2/blobs").join(&blobs[random.below(blobs.len())])).unwrap();
        }
        2 => drop(fs::remove_dir_all(space.path("merges"))),
        3 => drop(fs::remove_file(space.path("cache/v2/index.redb"))),
        4 => drop(space.ok(&["cache", "gc", "--max-size", "2kB", "--keep-builds", "0"])),
        5 => {
            let model = random.pick(&["a", "b", "c"]);
            Checkpoint::decoder(2, random.below(4) as u64).write(&space.path(model));
        }
        6 => {
            let path = space.path("merges/third/model.safetensors");
            if let Ok(mut bytes) = fs::read(&path) {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
                fs::write(&path, bytes).unwrap();
            }
        }
        7 => {
            let mut build =
                space.command(&["build", "-q", "recipe.yaml"]).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(random.below(40) as u64));
            let _ = build.kill();
            build.wait().unwrap();
        }
        8 if !packs.is_empty() => {
            let path = space.path("cache/v2/packs").join(&packs[random.below(packs.len())]);
            let mut bytes = fs::read(&path).unwrap();
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
        }
        _ => {}
    }
}

#[test]
fn every_model_is_what_a_build_from_nothing_makes() {
    let space = Space::new();
    for (i, name) in ["a", "b", "c"].iter().enumerate() {
        Checkpoint::decoder(2, i as u64).write(&space.path(name));
    }
    let mut random = Random(0x5eed_1234_5678_9abc);
    for round in 0..scaled(40, 2000) {
        let text = recipe(&mut random);
        space.write("recipe.yaml", &text);
        accident(&space, &mut random);
        space.ok(&["build", "-q", "recipe.yaml"]);
        let _ = fs::remove_dir_all(space.path("fresh"));
        space.ok(&["build", "-q", "recipe.yaml", "--cache", "fresh/cache", "--out", "fresh/out"]);
        for file in ["model.safetensors", "config.json", "lamarck.lock.json"] {
            let read = |folder: &str| fs::read(space.path(folder).join(file)).unwrap();
            assert!(read("merges/third") == read("fresh/out"), "round {round}: {file} differs\n{text}");
        }
    }
}

/// Removing and checking while builds come and go harms none of them.
#[test]
fn builds_and_upkeep_get_along() {
    let space = Space::new();
    for (i, name) in ["a", "b", "c"].iter().enumerate() {
        Checkpoint::decoder(2, i as u64).write(&space.path(name));
    }
    let mut random = Random(7);
    for i in 0..4 {
        space.write(&format!("{i}.yaml"), recipe(&mut random));
    }
    for _ in 0..scaled(5, 100) {
        let mut running = Vec::new();
        for i in 0..4 {
            let (recipe, out) = (format!("{i}.yaml"), format!("out-{i}"));
            running.push(
                space
                    .command(&["build", "-q", &recipe, "--out", &out])
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap(),
            );
            let upkeep: &[&str] = if i % 2 == 0 {
                &["cache", "gc", "-q", "--max-size", "1"]
            } else {
                &["cache", "verify", "-q"]
            };
            running.push(space.command(upkeep).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        }
        for process in running {
            let output = process.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    for i in 0..4 {
        let (recipe, out, fresh) = (format!("{i}.yaml"), format!("out-{i}"), format!("fresh-{i}"));
        space.ok(&["build", "-q", &recipe, "--cache", &format!("cache-{i}"), "--out", &fresh]);
        let read = |folder: &str| fs::read(space.path(folder).join("model.safetensors")).unwrap();
        assert!(read(&out) == read(&fresh));
    }
}
