//! Models that are where others are looked for: what a name that was not found may have meant.

use std::fs;
use std::path::{Path, PathBuf};

use super::checkpoint::is_checkpoint;
use super::locate::Places;

/// The names of models beside the place that a name leads to, in the folders of models and in the Hugging Face
/// cache, as recipes would write them.
pub fn names(places: &Places, path: &str) -> Vec<String> {
    let mut names = Vec::new();
    let prefix = path.rfind('/').map_or("", |slash| &path[..=slash]);
    for root in &places.roots {
        for (name, dir) in folders(&root.join(prefix)) {
            if is_checkpoint(&dir) {
                names.push(format!("{prefix}{name}"));
            }
        }
    }
    for folder in &places.models {
        for (owner, dir) in folders(folder) {
            let of_owner = folders(&dir).into_iter().filter(|(_, dir)| is_checkpoint(dir));
            names.extend(of_owner.map(|(name, _)| format!("{owner}/{name}")));
        }
    }
    for (name, _) in places.hub.iter().flat_map(|hub| folders(hub)) {
        names.extend(name.strip_prefix("models--").map(|name| name.replacen("--", "/", 1)));
    }
    names.sort();
    names.dedup();
    names
}

/// The folders in a folder, none if it cannot be read.
fn folders(dir: &Path) -> Vec<(String, PathBuf)> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let folder = |entry: fs::DirEntry| {
        let path = entry.path();
        path.is_dir().then(|| entry.file_name().into_string().ok().map(|name| (name, path))).flatten()
    };
    entries.filter_map(folder).collect()
}
