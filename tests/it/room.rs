//! Disks that are too small for a build, which is told before it begins. A disk of one's own takes root.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::Space;

/// A file system of a size, in memory.
struct Disk(PathBuf);

impl Disk {
    /// `None` where it cannot be had.
    fn new(path: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&path);
        let output = mount.output().ok()?;
        output.status.success().then_some(Self(path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_build_that_does_not_fit_is_refused_before_it_begins() {
    let space = Space::with_full_recipe();
    for (small, other) in [("cache", "merges"), ("merges", "cache")] {
        let Some(disk) = Disk::new(space.path(small), "1m") else { return };
        let error = space.fails(4, &["build", "recipe.yaml"]);
        assert!(error.contains("too little space") && error.contains("bytes"), "{error}");
        assert!(error.contains(small) && error.contains("help: free some space"), "{error}");
        assert!(space.files(small).is_empty() && space.files(other).is_empty(), "nothing was begun");
        let document = space.run(&["build", "--json", "recipe.yaml"]);
        assert!(document.code == 4 && document.stdout.contains("\"kind\":\"system\""), "{document:?}");
        let plan = space.ok(&["plan", "recipe.yaml"]).stdout;
        assert!(
            plan.contains(&format!("to write to {small}")) && plan.contains("only 1.0 MB free"),
            "{plan}"
        );
        drop(disk);
    }
    // What fits is built, and what already exists needs nothing.
    let Some(_disk) = Disk::new(space.path("merges"), "6m") else { return };
    space.ok(&["build", "-q", "recipe.yaml"]);
    space.write("merges/filler", vec![7; 3_200_000]);
    space.ok(&["build", "-q", "recipe.yaml"]);
    // Its only shard is made anew beside the old one.
    space.replace("recipe.yaml", "[ 0.60, 0.40 ]", "[ 0.60, 0.45 ]");
    let error = space.fails(4, &["build", "recipe.yaml"]);
    assert!(error.contains("too little space"), "{error}");
    std::fs::remove_file(space.path("merges/filler")).unwrap();
    space.ok(&["build", "-q", "recipe.yaml"]);
}
