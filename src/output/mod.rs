//! The write side: a stage's result as a checkpoint directory that loads everywhere.
//!
//! A new version is made beside the old one and put in its place at once; a file that would come out the
//! same is taken over as it is.

pub mod card;
pub mod destination;
pub mod direct;
mod error;
mod extras;
pub mod lock;
pub mod locked;
mod move_in;
mod names;
mod ownership;
mod publish;
pub mod sharding;
mod shards;
mod staging;
pub mod workbench;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use direct::DirectOutput;
use names::{CARD_FILE, CONFIG_FILE};
use ownership::Owned;
use staging::Staging;

use crate::build::{Build, BuildError};
use crate::digest::Digest;
use crate::event::{Events, spanned};
use crate::identity::Identity;
use crate::plan::StagePlan;
use crate::store::Store;

pub use error::OutputError;
pub use names::{LOCKFILE, RECIPE_FILE};
pub use publish::is_half_published;

/// A directory to be written.
pub struct Output<'a> {
    pub dir: &'a Path,
    pub stage: &'a StagePlan,
    /// The most bytes of a shard, but for a tensor that is larger by itself.
    pub shard_bytes: u64,
    /// Directories that config-like files and tokenizer files are copied from.
    pub donor: &'a Path,
    pub tokenizer: &'a Path,
    /// Files with their whole text: the model card, the recipe, the lock.
    pub card: String,
    pub recipe: String,
    pub lock: lock::Lock<'a>,
    /// Whether nothing that the store remembers of the directory is trusted.
    pub rehash: bool,
}

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
    let _turn = workbench::take_turn(staging::parent_of(dir), proceed)?;
    publish::recover(dir, events)
}

impl Output<'_> {
    /// Brings the directory up to date with a settled build; `number` is the output's among the build's.
    pub fn write(
        self,
        number: usize,
        direct: &DirectOutput,
        build: &Build<'_>,
        store: &Store,
    ) -> Result<Written, OutputError> {
        let staging = direct.staging(number);
        let shards = sharding::cut(&self.stage.tensors, self.shard_bytes);
        // Where nothing came for it there is most often nothing to do, and nobody is waited for.
        if staging.is_none() && !self.rehash && self.compare(&shards, build, store)?.is_current() {
            return self.leave(&shards, build, store);
        }
        let parent = staging::parent_of(self.dir);
        fs::create_dir_all(parent).map_err(OutputError::io("create", parent))?;
        let _turn = workbench::take_turn(parent, &|| build.check_interrupted())?;
        // Another build may have been killed since this one began.
        publish::recover(self.dir, build.events())?;
        destination::check_free(self.dir, self.stage, self.shard_bytes)?;
        self.replace(staging, &shards, build, store)
    }

    /// Leaves the directory as it is.
    fn leave(
        &self,
        shards: &[sharding::ShardPlan],
        build: &Build<'_>,
        store: &Store,
    ) -> Result<Written, OutputError> {
        store.hand_over(shards::delivered(self, build), Vec::new(), Vec::new())?;
        Ok(Written { shards: shards.len(), ..Written::default() })
    }

    /// Writes a new version and puts it in the old one's place, unless that is as it should be.
    fn replace(
        self,
        staging: Option<Staging>,
        shards: &[sharding::ShardPlan],
        build: &Build<'_>,
        store: &Store,
    ) -> Result<Written, OutputError> {
        let mut written = Written { shards: shards.len(), changed: true, ..Written::default() };
        // Before anything is read of it: what is edited from here on is not taken for lamarck's.
        let owned = Owned::of(self.dir, &store.index().snapshot()?)?;
        let comparison = self.compare(shards, build, store)?;
        if !self.rehash && comparison.is_current() {
            return self.leave(shards, build, store);
        }
        let Comparison { mut current, files, unchanged, .. } = comparison;
        if self.rehash {
            current.fill(None);
        }
        shards::rescue(&self, shards, &current, build, store)?;
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
        for (shard, current) in shards.iter().zip(current) {
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
                        shards::write(&self, shard, &path, build)
                    })?
                }
            });
        }
        // Last, since a link moves a stamp, by which the store knows what a file holds.
        for name in kept {
            staging.keep(name).map_err(OutputError::io("keep", &self.dir.join(name)))?;
        }
        shards::let_stamps_age(&identities);
        let publish = || staging.publish(&owned, build.events());
        written.kept_aside = spanned(build.events(), "put output in place", "", publish)?;
        spanned(build.events(), "remember output", "", || {
            shards::remember(&self, self.dir, shards, &identities, build, store)
        })?;
        Ok(written)
    }

    /// Compares what is in the directory with what should be.
    fn compare(
        &self,
        shards: &[sharding::ShardPlan],
        build: &Build<'_>,
        store: &Store,
    ) -> Result<Comparison, OutputError> {
        let current = shards::up_to_date(self, shards, build, store)?;
        let files = self.files(shards)?;
        let unchanged = files.iter().map(|(name, bytes)| self.holds(name, bytes)).collect();
        let is_shadowed = shards.len() > 1 && self.dir.join(sharding::SINGLE).exists();
        Ok(Comparison { current, files, unchanged, is_shadowed })
    }

    /// Every file but the shards, with its bytes.
    fn files(&self, shards: &[sharding::ShardPlan]) -> Result<Vec<(String, Vec<u8>)>, OutputError> {
        let mut files = extras::files(self)?;
        if let Some(index) = sharding::index(shards) {
            files.push((sharding::INDEX.to_owned(), index.into_bytes()));
        }
        let config = serde_json::to_string_pretty(&self.stage.config).expect("JSON values serialise");
        files.push((CONFIG_FILE.to_owned(), (config + "\n").into_bytes()));
        files.push((RECIPE_FILE.to_owned(), self.recipe.clone().into_bytes()));
        files.push((CARD_FILE.to_owned(), self.card.clone().into_bytes()));
        let mut listed: BTreeMap<String, String> = files
            .iter()
            .map(|(name, bytes)| (name.clone(), ownership::digest_of(name, bytes).to_string()))
            .collect();
        listed.extend(shards.iter().map(|shard| (shard.file.clone(), Digest::of(&shard.header).to_string())));
        if let Some(card) = files.iter_mut().find(|(name, _)| name == CARD_FILE) {
            card.1 = self.card_beside(self.present(CARD_FILE));
        }
        files.push((LOCKFILE.to_owned(), self.lock.clone().text(listed).into_bytes()));
        Ok(files)
    }

    /// The card, with what its author has written around the one that is there.
    fn card_beside(&self, present: Option<Vec<u8>>) -> Vec<u8> {
        match present.map(String::from_utf8) {
            Some(Ok(present)) => card::renewed(&present, &self.card).into_bytes(),
            Some(Err(no_text)) => no_text.into_bytes(),
            None => self.card.clone().into_bytes(),
        }
    }

    fn holds(&self, name: &str, bytes: &[u8]) -> bool {
        self.present(name).is_some_and(|present| present == bytes)
    }

    /// A file of the directory that can be read and is neither a link nor a pipe.
    fn present(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.dir.join(name);
        ownership::regular(&path)?;
        fs::read(path).ok()
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
    /// Whether nothing is to be done. An unchanged lock lists the same files, so none of them is left over.
    fn is_current(&self) -> bool {
        !self.is_shadowed
            && self.current.iter().all(Option::is_some)
            && self.unchanged.iter().all(|unchanged| *unchanged)
    }
}
