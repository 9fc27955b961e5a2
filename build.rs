//! Notes the commit that the binary is made of, for `lamarck --version`. Without git, or in another repository than
//! its own, nothing is noted.

use std::path::Path;
use std::process::Command;

fn main() {
    // What makes the crate compile anyway, and nothing else: a commit alone does not.
    for path in ["build.rs", "src", "Cargo.toml", "Cargo.lock", ".cargo_vcs_info.json"] {
        if Path::new(path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    if let Some(commit) = of_package().or_else(of_checkout) {
        println!("cargo:rustc-env=LAMARCK_COMMIT={commit}");
    }
    for (name, of) in [("LAMARCK_TARGET", "TARGET"), ("LAMARCK_PROFILE", "PROFILE")] {
        println!("cargo:rustc-env={name}={}", std::env::var(of).expect("cargo sets it"));
    }
}

/// The commit that cargo notes in what it packs for a registry.
fn of_package() -> Option<String> {
    let text = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    let commit = rest.split('"').nth(1)?;
    let is_dirty = text.contains("\"dirty\": true");
    Some(format!("{}{}", commit.get(..9)?, if is_dirty { ", changed since" } else { "" }))
}

/// The commit that is checked out, its date, and whether files were changed since.
fn of_checkout() -> Option<String> {
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let same = std::fs::canonicalize(top).ok()? == std::fs::canonicalize(".").ok()?;
    let commit = git(&["log", "-1", "--abbrev=9", "--date=short", "--format=%h %cd"]).filter(|_| same)?;
    let is_dirty =
        !git(&["status", "--porcelain", "--untracked-files=no", "--", "src", "Cargo.toml", "Cargo.lock"])?
            .is_empty();
    Some(if is_dirty { format!("{commit}, changed since") } else { commit })
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
