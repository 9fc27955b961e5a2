//! Brings a directory up to date with a resolved build, touching only what is not as it should be.

use std::fs;
use std::path::{Path, PathBuf};

use super::content::Output;
use super::direct::DirectOutput;
use super::error::OutputError;
use super::files::parent_of;
use super::leaving::Leaving;
use super::ownership::Owned;
use super::staging::Staging;
use super::{destination, format, publish, shards, workbench};
use crate::build::{Build, BuildError};
use crate::event::{Events, spanned};
use crate::identity::Identity;
use crate::store::Store;
use crate::store::commit::NewOutput;

/// What writing came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub shards: usize,
    pub shards_written: usize,
    pub bytes_written: u64,
    /// Whether anything in the directory changed.
    pub changed: bool,
    /// Files of somebody else's that made room for others of their names, as they are called now.
    pub kept_aside: Vec<PathBuf>,
}

/// Finishes or undoes what killed builds left of a directory, once no other process puts one beside it.
///
/// # Errors
/// If an update can neither be finished nor undone, or those of `proceed`, which is asked while waiting.
pub fn recover(
    dir: &Path,
    events: &dyn Events,
    proceed: &dyn Fn() -> Result<(), BuildError>,
) -> Result<(), OutputError> {
    if !publish::is_anything_left(dir) {
        return Ok(());
    }
    let _turn = workbench::take_turn(parent_of(dir), proceed)?;
    publish::recover(dir, events)
}

/// Whether there is anything that `recover` would look at.
pub fn is_anything_left(dir: &Path) -> bool {
    publish::is_anything_left(dir)
}

impl Output<'_> {
    /// Whether the directory is up to date with a resolved build.
    ///
    /// # Errors
    /// If the index or the directory cannot be read.
    pub fn is_current(&self, build: &Build<'_>, store: &Store) -> Result<bool, OutputError> {
        Ok(self.compare(build, store)?.is_current())
    }

    /// Brings the directory up to date with a resolved build; `number` is the output's among the build's.
    ///
    /// # Errors
    /// If it cannot be read or written, or something in it is in the way.
    pub fn write(
        &self,
        number: usize,
        direct: &DirectOutput,
        build: &Build<'_>,
        store: &Store,
    ) -> Result<Written, OutputError> {
        let staging = direct.staging(number);
        // Where nothing came for it there is most often nothing to do, and nobody is waited for.
        if staging.is_none() && !self.rehash && self.compare(build, store)?.is_current() {
            return self.leave(build, store);
        }
        let parent = parent_of(self.dir);
        fs::create_dir_all(parent).map_err(OutputError::io("create", parent))?;
        let _turn = workbench::take_turn(parent, &|| build.check_interrupted())?;
        // Another build may have been killed since this one began.
        publish::recover(self.dir, build.events())?;
        destination::check_free(self.dir, self.layout)?;
        self.replace(staging, build, store)
    }

    /// Leaves the directory as it is.
    fn leave(&self, build: &Build<'_>, store: &Store) -> Result<Written, OutputError> {
        store.hand_over(&NewOutput { rows: shards::delivered(self, build), ..NewOutput::default() })?;
        Ok(Written { shards: self.layout.shards.len(), ..Written::default() })
    }

    /// Writes a new version and puts it in the old one's place, unless that is as it should be.
    fn replace(
        &self,
        staging: Option<Staging>,
        build: &Build<'_>,
        store: &Store,
    ) -> Result<Written, OutputError> {
        let mut written = Written { shards: self.layout.shards.len(), changed: true, ..Written::default() };
        // Before anything is read of it: what is edited from here on is not taken for lamarck's.
        let owned = Owned::of(self.dir, &store.index().snapshot()?)?;
        let comparison = self.compare(build, store)?;
        if !self.rehash && comparison.is_current() {
            return self.leave(build, store);
        }
        let Comparison { mut current, files, unchanged, .. } = comparison;
        if self.rehash {
            current.fill(None);
        }
        let leaving = Leaving::of(self, &current, build, store)?;
        let mut staging = match staging {
            Some(staging) => staging,
            None => Staging::start(self.dir)?,
        };
        let mut kept = Vec::new();
        for ((name, bytes), same) in files.iter().zip(unchanged) {
            if same {
                kept.push(name);
            } else {
                staging.write(name, bytes).map_err(OutputError::io("write", &self.dir.join(name)))?;
            }
        }
        let mut identities = Vec::new();
        for (shard, current) in self.layout.shards.iter().zip(current) {
            identities.push(match current {
                Some(identity) => {
                    // What came for it anyway is the same.
                    let _ = fs::remove_file(staging.path(&shard.file));
                    kept.push(&shard.file);
                    identity
                }
                None => {
                    written.shards_written += 1;
                    written.bytes_written += shard.n_bytes;
                    let path = staging.path(&shard.file);
                    spanned(build.events(), "fill and sync shard", &shard.file, || {
                        shards::write(self, shard, &path, build)
                    })?
                }
            });
        }
        // Last, since a link moves a stamp, by which the store knows what a file holds.
        for name in kept {
            staging.keep(name).map_err(OutputError::io("keep", &self.dir.join(name)))?;
        }
        // What is stored only later would not be given up for being in the output.
        build.settle()?;
        shards::let_stamps_age(&identities);
        let publish = || staging.publish(&owned, &|file| leaving.take(file), build.events());
        written.kept_aside = spanned(build.events(), "put output in place", "", publish)?;
        spanned(build.events(), "remember output", "", || {
            shards::remember(self, &identities, build, store, leaving.into_packed())
        })?;
        Ok(written)
    }

    /// Compares what is in the directory with what should be.
    fn compare(&self, build: &Build<'_>, store: &Store) -> Result<Comparison, OutputError> {
        let current = shards::up_to_date(self, build, store)?;
        let files = self.files()?;
        let unchanged = files.iter().map(|(name, bytes)| self.holds(name, bytes)).collect();
        let shadows = format::shadows(&|name| self.layout.has(name));
        let is_shadowed = shadows.into_iter().any(|name| self.dir.join(name).exists());
        Ok(Comparison { current, files, unchanged, is_shadowed })
    }
}

/// What is in a directory, beside what should be.
struct Comparison {
    /// The identity of every shard that is as it should be.
    current: Vec<Option<Identity>>,
    /// Every other file with its bytes, and whether they are there.
    files: Vec<(String, Vec<u8>)>,
    unchanged: Vec<bool>,
    /// Whether loaders would take something else for the model.
    is_shadowed: bool,
}

impl Comparison {
    /// Whether nothing is to be done. An unchanged lockfile lists the same files, so none of them is left over.
    fn is_current(&self) -> bool {
        !self.is_shadowed
            && self.current.iter().all(Option::is_some)
            && self.unchanged.iter().all(|unchanged| *unchanged)
    }
}
