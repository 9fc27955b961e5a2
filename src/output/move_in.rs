//! A new version's files renamed into the old version's folder, one by one.
//!
//! config.json goes first and comes back last, so that a mixture of two versions never loads as a model. Nothing
//! is renamed onto anything: what makes room is moved to a folder of the bench and looked at there, where nobody
//! else writes; it is removed if it is lamarck's, and comes back as `NAME.yours` if it is not.
//!
//! Cut short at any step, the same steps, taken again, finish it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::files::{Take, inode, rename_if_free, rename_to_free, sync_folder};
use super::format;
use super::names::{CARD_FILE, CONFIG_FILE as CONFIG, LOCKFILE, RECIPE_FILE};
use super::ownership::Owned;
use crate::disk;

/// A change of a directory, at whatever step it is.
pub(super) struct MoveIn<'a> {
    /// The new version's files that are not in their places yet.
    pub model: &'a Path,
    /// What made room for them.
    pub displaced: &'a Path,
    pub target: &'a Path,
    /// The new version's files in the order in which they are moved.
    pub files: &'a [String],
    /// Those of them that are the old version's.
    pub kept: &'a [String],
    pub old: &'a Owned,
    pub new: &'a Owned,
    /// What is lamarck's and goes is offered to this first.
    pub take: Take<'a>,
    /// What was kept under another name.
    pub kept_aside: &'a mut Vec<PathBuf>,
}

/// How far a change has come.
pub(super) enum Progress {
    /// Every file of the new version is here or in its place.
    Under,
    /// None of those that were moved is in its place: this is not the directory that they were moved to.
    Elsewhere,
    /// Some are in their places, and others are nowhere.
    Torn,
}

/// A version's files in the order in which they are moved: weights, everything else, config.json, the lockfile.
pub(super) fn in_order(model: &Path) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(model)? {
        files.push(entry?.file_name().to_string_lossy().into_owned());
    }
    files.sort_by_key(|name| (name == LOCKFILE, name == CONFIG, !format::is_weights(name), name.clone()));
    Ok(files)
}

impl MoveIn<'_> {
    pub fn progress(&self) -> Progress {
        let moved: Vec<&String> =
            self.files.iter().filter(|name| inode(&self.model.join(name)).is_none()).collect();
        let n_there = moved.iter().filter(|name| self.new.holds(self.target, name)).count();
        match n_there {
            n if n == moved.len() => Progress::Under,
            0 => Progress::Elsewhere,
            _ => Progress::Torn,
        }
    }

    /// Takes all steps that are left.
    ///
    /// # Errors
    /// If one fails. The next build goes on from there.
    pub fn finish(&mut self) -> io::Result<()> {
        self.resolve()?;
        let stale: Vec<&str> = self.old.names().filter(|name| !self.is_new(name)).collect();
        let is_told = |name: &str| [CARD_FILE, RECIPE_FILE, LOCKFILE].contains(&name);
        let changes_model =
            self.files.iter().any(|name| !is_told(name) && !self.is_there(name)) || !stale.is_empty();
        if changes_model && self.model.join(CONFIG).exists() {
            self.unload()?;
        }
        for name in self.files.iter().filter(|name| *name != CONFIG && *name != LOCKFILE) {
            self.place(name)?;
        }
        for name in stale {
            self.displace(name)?;
        }
        for name in format::shadows(&|name| self.is_new(name)) {
            self.displace(name)?;
        }
        sync_folder(self.target)?;
        self.place(CONFIG)?;
        sync_folder(self.target)?;
        // In one step, since a folder without one is somebody else's.
        if self.old.holds(self.target, LOCKFILE) && inode(&self.model.join(LOCKFILE)).is_some() {
            disk::fail_point("rename", self.target)?;
            fs::rename(self.model.join(LOCKFILE), self.target.join(LOCKFILE))?;
        }
        self.place(LOCKFILE)?;
        sync_folder(self.target)
    }

    /// Takes config.json away, without which nothing loads.
    pub fn unload(&mut self) -> io::Result<()> {
        self.displace(CONFIG)?;
        sync_folder(self.target)
    }

    fn is_new(&self, name: &str) -> bool {
        self.files.iter().any(|file| file == name)
    }

    /// Whether a file of the new version is in its place, if only by one of its names.
    fn is_there(&self, name: &str) -> bool {
        match inode(&self.model.join(name)) {
            Some(new) => inode(&self.target.join(name)) == Some(new),
            None => self.new.holds(self.target, name),
        }
    }

    /// Renames a file of the new version to its place.
    fn place(&mut self, name: &str) -> io::Result<()> {
        let (from, to) = (self.model.join(name), self.target.join(name));
        if inode(&from).is_none() {
            return Ok(());
        }
        // What was to stay and has been replaced meanwhile is not lamarck's business any more.
        let is_replaced = self.kept.iter().any(|kept| kept == name) && inode(&to).is_some();
        if self.is_there(name) || is_replaced {
            return fs::remove_file(from);
        }
        // Somebody may put something there again, but not for ever.
        for _ in 0..100 {
            self.displace(name)?;
            match rename_if_free(&from, &to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => return result,
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Makes sure that there is nothing at a place, without losing anything.
    fn displace(&mut self, name: &str) -> io::Result<()> {
        let (from, to) = (self.target.join(name), self.displaced.join(name));
        disk::fail_point("rename", &from)?;
        match fs::rename(from, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.and_then(|()| self.resolve()),
        }
    }

    /// Removes what was displaced and is lamarck's; the rest comes back under a name of its own.
    fn resolve(&mut self) -> io::Result<()> {
        for entry in fs::read_dir(self.displaced)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default();
            let is_ours = name.to_str().is_some_and(|name| {
                let is_link = inode(&path).is_some() && inode(&path) == inode(&self.model.join(name));
                is_link || self.old.holds(self.displaced, name) || self.new.holds(self.displaced, name)
            });
            if is_ours {
                if !(self.take)(&path) {
                    fs::remove_file(&path)?;
                }
            } else {
                self.kept_aside.push(rename_to_free(&path, &self.target.join(name))?);
            }
        }
        Ok(())
    }
}
