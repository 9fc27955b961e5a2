//! Where an output goes, and whether it may.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::OutputError;
use super::format::layout::OutputLayout;
use super::names::{CARD_FILE, CONFIG_FILE, LOCKFILE, RECIPE_FILE};
use super::{format, workbench};
use crate::model::checkpoint::Checkpoint;
use crate::model::companions;

/// The real path of a directory, of which not all need be there yet: what is checked of it now must hold when it
/// is made.
///
/// # Errors
/// If it leads through a link to nothing, or back out of what is not there.
pub fn resolve(dir: &Path) -> Result<PathBuf, OutputError> {
    let unusable = |problem| OutputError::Unusable { path: dir.to_owned(), problem };
    let (mut part, mut rest) = (dir, Vec::new());
    loop {
        let there = if part.as_os_str().is_empty() { Path::new(".") } else { part };
        match fs::canonicalize(there) {
            Ok(real) => return Ok(rest.iter().rev().fold(real, |path, name| path.join(name))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(OutputError::io("look at", there)(error)),
        }
        if fs::symlink_metadata(there).is_ok() {
            return Err(unusable("the path contains a broken link"));
        }
        let (Some(name), Some(parent)) = (part.file_name(), part.parent()) else {
            return Err(unusable("`..` follows a folder that does not exist"));
        };
        rest.push(name);
        part = parent;
    }
}

/// Refuses to write two outputs into one directory.
///
/// # Errors
/// [`OutputError::Unusable`].
pub fn check_apart(dirs: &[PathBuf]) -> Result<(), OutputError> {
    for (i, dir) in dirs.iter().enumerate() {
        if dirs[..i].iter().any(|other| other == dir || is_same(other, dir)) {
            let problem = "another stage of this build is written there, too";
            return Err(OutputError::Unusable { path: dir.clone(), problem });
        }
    }
    Ok(())
}

/// Refuses a directory that cannot become an output: one that holds other things and no earlier output, or in
/// which a folder, pipe, socket or device has the name of a file to be written.
///
/// # Errors
/// [`OutputError::Occupied`], [`OutputError::InTheWay`], or if the directory cannot be read.
pub fn check_free(dir: &Path, layout: &OutputLayout) -> Result<(), OutputError> {
    let occupied = || OutputError::Occupied { path: dir.to_owned() };
    let own = [CONFIG_FILE, CARD_FILE, RECIPE_FILE, LOCKFILE];
    let copied = companions::copied();
    let others = format::entry_names().chain(copied).chain(own).map(|name| dir.join(name));
    for path in layout.names().map(|name| dir.join(name)).chain(others) {
        match fs::symlink_metadata(&path).map(|metadata| metadata.file_type()) {
            Ok(kind) if !kind.is_file() && !kind.is_symlink() => {
                return Err(OutputError::InTheWay { path });
            }
            _ => {}
        }
    }
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(occupied()),
        Err(error) => Err(OutputError::io("read", dir)(error)),
        Ok(mut entries) => {
            let only_ours = entries.all(|entry| entry.is_ok_and(|entry| workbench::is_one(&entry.path())));
            if only_ours || dir.join(LOCKFILE).is_file() { Ok(()) } else { Err(occupied()) }
        }
    }
}

/// Refuses to write a directory that a build reads models from, however its path is spelled.
///
/// # Errors
/// [`OutputError::IsSource`].
pub fn check_not_read<'a>(
    dir: &Path,
    mut sources: impl Iterator<Item = &'a Checkpoint>,
) -> Result<(), OutputError> {
    // The files may be links that lead here from elsewhere; what is none is in the folder that it is named in.
    let leads_here = |file: &Path| {
        let is_link = fs::symlink_metadata(file).is_ok_and(|metadata| metadata.is_symlink());
        let real = if is_link { fs::canonicalize(file).ok() } else { None };
        real.is_some_and(|real| real.parent().is_some_and(|parent| is_same(parent, dir)))
    };
    let is_read = |source: &Checkpoint| {
        let named = companions::copied().chain(format::entry_names()).chain([CONFIG_FILE]);
        is_same(&source.dir, dir)
            || source.shards.iter().any(|shard| leads_here(shard.path()))
            || named.map(|name| source.dir.join(name)).any(|file| leads_here(&file))
    };
    match sources.find(|source| is_read(source)) {
        Some(source) => Err(OutputError::IsSource { path: dir.to_owned(), model: source.dir.clone() }),
        None => Ok(()),
    }
}

/// Refuses to write into a cache.
///
/// # Errors
/// [`OutputError::InCache`].
pub fn check_outside(dir: &Path, cache: &Path) -> Result<(), OutputError> {
    let Ok(cache) = fs::canonicalize(cache) else { return Ok(()) };
    if dir.starts_with(&cache) {
        return Err(OutputError::InCache { path: dir.to_owned(), cache });
    }
    Ok(())
}

/// Whether two paths lead to one folder.
fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_followed_as_far_as_there_is_anything() {
        let space = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(space.path()).unwrap();
        fs::create_dir(root.join("a")).unwrap();
        std::os::unix::fs::symlink("a", root.join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("dangling")).unwrap();
        assert_eq!(resolve(&root.join("link/../link/new/out")).unwrap(), root.join("a/new/out"));
        assert_eq!(resolve(&root.join("a/..")).unwrap(), root);
        assert!(resolve(&root.join("nope/..")).unwrap_err().to_string().contains("`..`"));
        assert!(resolve(&root.join("dangling/x")).unwrap_err().to_string().contains("broken link"));
    }
}
