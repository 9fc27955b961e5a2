//! Files that never came, or came in part: how they are known, and what to do.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// How programs that download call a file that is not whole, behind its own name.
const PARTS: [&str; 5] = [".incomplete", ".part", ".partial", ".aria2", ".crdownload"];

/// Where the tools of the Hugging Face hub keep parts, below a model's folder.
pub const PARTS_FOLDER: &str = ".cache/huggingface/download";

/// What every file starts with that Git LFS puts in the place of another.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/v1";

/// The longest that such a file is.
pub const MAX_LFS_BYTES: u64 = 1024;

/// What to do where Git LFS has not fetched a file, if that is what these first bytes of it say.
pub fn lfs_pointer(start: &[u8]) -> Option<String> {
    start
        .starts_with(LFS)
        .then(|| "is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository".to_owned())
}

/// What is said of a file that is not there, or is a link that leads nowhere.
pub fn absent(path: &Path) -> String {
    if let Ok(target) = fs::read_link(path) {
        return format!(
            "is a link to {}, which does not exist: the download did not finish or was removed; download it again",
            target.display()
        );
    }
    match unfinished(path) {
        Some(part) => {
            format!("does not exist, but {} does: the download did not finish; run it again", part.display())
        }
        None => "does not exist".to_owned(),
    }
}

/// What a download of a file has left that did not finish.
pub fn unfinished(path: &Path) -> Option<PathBuf> {
    let (folder, name) = (path.parent()?, path.file_name()?.to_str()?);
    let beside = |part: &&str| folder.join(format!("{name}{part}"));
    // Those of the hub have a hash in their names.
    PARTS.iter().map(beside).find(|part| part.exists()).or_else(|| {
        let parts = fs::read_dir(folder.join(PARTS_FOLDER)).ok()?;
        let is_part = |part: &PathBuf| {
            let part = part.file_name().and_then(OsStr::to_str).unwrap_or_default();
            part.strip_prefix(name).is_some_and(|rest| rest.starts_with('.') && rest.ends_with(PARTS[0]))
        };
        parts.filter_map(|part| Some(part.ok()?.path())).filter(is_part).min()
    })
}

/// The first file in a folder that is a part of one.
pub fn unfinished_in(folder: &Path) -> Option<PathBuf> {
    let is_part = |path: &PathBuf| {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        PARTS.iter().any(|part| name.ends_with(part))
    };
    let in_folder = |folder: &Path| {
        let files = fs::read_dir(folder).ok()?;
        files.filter_map(|file| Some(file.ok()?.path())).filter(is_part).min()
    };
    in_folder(folder).or_else(|| in_folder(&folder.join(PARTS_FOLDER)))
}

/// Whether something has the name, be it a link that leads nowhere.
pub fn has_name(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_where_downloads_leave_them() {
        let space = tempfile::tempdir().unwrap();
        let file = space.path().join("model.safetensors");
        assert_eq!((unfinished(&file), unfinished_in(space.path())), (None, None));
        let hidden = space.path().join(".cache/huggingface/download");
        fs::create_dir_all(&hidden).unwrap();
        let part = hidden.join("model.safetensors.0a1b.incomplete");
        fs::write(&part, "").unwrap();
        assert_eq!((unfinished(&file), unfinished_in(space.path())), (Some(part.clone()), Some(part)));
        assert_eq!(unfinished(&space.path().join("model.safe")), None);
        let part = space.path().join("model.safetensors.part");
        fs::write(&part, "").unwrap();
        assert_eq!((unfinished(&file), unfinished_in(space.path())), (Some(part.clone()), Some(part)));
    }

    #[test]
    fn links_that_lead_nowhere_are_told_of() {
        let space = tempfile::tempdir().unwrap();
        let link = space.path().join("model.safetensors");
        assert!(!has_name(&link) && absent(&link) == "does not exist");
        std::os::unix::fs::symlink("../../blobs/abc", &link).unwrap();
        assert!(has_name(&link) && absent(&link).contains("a link to ../../blobs/abc"));
    }
}
