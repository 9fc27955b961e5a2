//! Power cuts and failing system calls, for real. They need root, loop devices, `xfs_io` and `strace`, so
//! they run only where `LAMARCK_FULL_TESTS` is set.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::harness::{Space, is_full, project};

const RECIPE: &str = crate::harness::TWO_STAGES;

fn must(program: &str, args: &[&str]) {
    let output =
        Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A space with two recipes and the models that they make.
fn two_recipes() -> (Space, [Vec<u8>; 2]) {
    let space = Space::new();
    space.use_models(&project("recipes/ancestors"));
    space.write("0.yaml", RECIPE);
    space.write("1.yaml", RECIPE.replace("t: 0.3", "t: 0.6"));
    let models = [0, 1].map(|i| {
        let (recipe, out) = (format!("{i}.yaml"), format!("reference-{i}"));
        space.ok(&["build", "-q", &recipe, "--cache", "reference", "--out", &out]);
        fs::read(space.path(&out).join("model.safetensors")).unwrap()
    });
    (space, models)
}

/// The file system is stopped in the middle of a build and loses whatever was not synced. What a build
/// had finished is still there, nothing half-written is, and the output is the old model or the new one.
#[test]
fn power_cuts() {
    if !is_full() {
        return;
    }
    let (space, models) = two_recipes();
    let (image, mount) = (space.path("image"), space.path("mount"));
    let (image, mount) = (image.to_str().unwrap(), mount.to_str().unwrap());
    fs::create_dir(mount).unwrap();
    let (cache, out) = (format!("{mount}/cache"), format!("{mount}/out"));
    let model = || fs::read(format!("{out}/model.safetensors")).ok();
    for i in 0..100_u64 {
        let file_system = if i % 2 == 0 { "ext4" } else { "xfs" };
        let _ = fs::remove_file(image);
        must("truncate", &["-s", "600M", image]);
        must(&format!("mkfs.{file_system}"), &["-q", image]);
        must("mount", &["-o", "loop", image, mount]);
        let replaces = i % 4 < 2;
        if replaces {
            space.ok(&["build", "-q", "0.yaml", "--cache", &cache, "--out", &out]);
        }
        let mut build = space
            .command(&["build", "-q", "1.yaml", "--cache", &cache, "--out", &out])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        sleep(Duration::from_millis(i * 7919 % 500));
        must("xfs_io", &["-x", "-c", "shutdown", mount]);
        build.wait().unwrap();
        must("umount", &[mount]);
        must("mount", &["-o", "loop", image, mount]);
        let after = model();
        let before = if replaces { Some(&models[0]) } else { None };
        assert!(after.as_ref() == before || after.as_ref() == Some(&models[1]), "cut {i}, {file_system}");
        space.ok(&["cache", "verify", "--cache", &cache]);
        space.ok(&["build", "-q", "1.yaml", "--cache", &cache, "--out", &out]);
        assert!(model().as_ref() == Some(&models[1]), "cut {i}, {file_system}");
        must("umount", &[mount]);
    }
}

/// System calls fail one at a time.
#[test]
fn failing_system_calls() {
    if !is_full() {
        return;
    }
    let (space, models) = two_recipes();
    let model = || fs::read(space.path("out/model.safetensors")).ok();
    for (call, error) in [
        ("pwrite64", "ENOSPC"),
        ("pwrite64", "EIO"),
        ("fsync", "EIO"),
        ("fdatasync", "EIO"),
        ("syncfs", "EIO"),
        ("rename", "EACCES"),
        ("renameat2", "EIO"),
        ("renameat2", "EINVAL"),
        ("openat", "EMFILE"),
        ("openat", "EACCES"),
        ("fallocate", "ENOSPC"),
        ("ftruncate", "ENOSPC"),
        ("mkdir", "ENOSPC"),
        ("unlink", "EIO"),
        ("fchmod", "EIO"),
    ] {
        for when in (1..20).chain([40, 80, 160]) {
            let _ = fs::remove_dir_all(space.path("cache"));
            let _ = fs::remove_dir_all(space.path("out"));
            space.ok(&["build", "-q", "0.yaml", "--out", "out"]);
            let inject = format!("inject={call}:error={error}:when={when}");
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
            command.args([env!("CARGO_BIN_EXE_lamarck"), "build", "1.yaml", "--out", "out"]);
            let output = command.current_dir(space.path("")).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let what = format!("{inject}: {said}");
            // The loader may be hit before the program starts.
            assert!(matches!(output.status.code(), Some(0 | 1 | 3 | 4 | 127)), "{what}");
            assert!(!said.contains("panicked"), "{what}");
            let is_new = model().as_ref() == Some(&models[1]);
            assert!(is_new || (!output.status.success() && model().as_ref() == Some(&models[0])), "{what}");
            space.ok(&["build", "-q", "1.yaml", "--out", "out"]);
            assert!(model().as_ref() == Some(&models[1]), "{what}");
            space.ok(&["cache", "verify"]);
        }
    }
}
