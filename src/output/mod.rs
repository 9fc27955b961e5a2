//! The write side: a stage's result as a checkpoint directory that loads everywhere.
//!
//! A new version is made beside the old one and put in its place at once; a file that would come out the
//! same is taken over as it is.

pub mod card;
pub mod delivery;
mod extras;
pub mod lock;
pub mod locked;
pub mod sharding;
mod shards;
mod staging;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use delivery::Delivery;
use staging::Staging;

use crate::build::{Build, BuildError, spanned};
use crate::model::ModelError;
use crate::plan::StagePlan;
use crate::store::{Store, StoreError};

/// The file that marks a directory as lamarck's output and says what it was made of.
pub const LOCK_FILE: &str = "lamarck.lock.json";

/// The recipe as built.
pub const RECIPE_FILE: &str = "recipe.yaml";

/// Why an output directory could not be written. What was there is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} would not come out as its lock file says: {}", path.display(), shorten(differences))]
    NotLocked { path: PathBuf, differences: Vec<String> },
    #[error("cannot use {}: {problem}", path.display())]
    Lock { path: PathBuf, problem: String },
    #[error("{} holds files that lamarck did not write; it was left as it is", path.display())]
    Occupied { path: PathBuf },
}

/// The first differences, and how many more there are.
fn shorten(differences: &[String]) -> String {
    const SHOWN: usize = 5;
    let more = differences.len().saturating_sub(SHOWN);
    let shown = differences[..differences.len().min(SHOWN)].join("; ");
    if more > 0 { format!("{shown}; and {more} more") } else { shown }
}

impl OutputError {
    fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

impl From<ModelError> for OutputError {
    fn from(error: ModelError) -> Self {
        Self::Build(error.into())
    }
}

impl From<StoreError> for OutputError {
    fn from(error: StoreError) -> Self {
        Self::Build(error.into())
    }
}

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
    pub lock: String,
    /// Whether nothing that the store remembers of the directory is trusted.
    pub rehash: bool,
}

/// What writing came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub shards: usize,
    pub shards_written: usize,
    pub bytes_written: u64,
    /// Whether anything in the directory changed.
    pub changed: bool,
}

/// Refuses a directory that holds something other than an earlier output.
///
/// # Errors
/// If the directory is neither missing, nor empty, nor an earlier output of lamarck.
pub fn check_free(dir: &Path) -> Result<(), OutputError> {
    let occupied = || OutputError::Occupied { path: dir.to_owned() };
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(occupied()),
        Err(error) => Err(OutputError::io("read", dir)(error)),
        Ok(mut entries) => {
            let only_ours = entries.all(|entry| entry.is_ok_and(|entry| staging::is_ours(&entry.path())));
            if only_ours || dir.join(LOCK_FILE).is_file() { Ok(()) } else { Err(occupied()) }
        }
    }
}

impl Output<'_> {
    /// Brings the directory up to date with a settled build; `number` is the output's among the build's.
    pub fn write(
        &self,
        number: usize,
        delivery: &Delivery,
        build: &Build<'_>,
        store: &Store,
    ) -> Result<Written, OutputError> {
        let staging = delivery.staging(number);
        check_free(self.dir)?;
        let shards = sharding::cut(&self.stage.tensors, self.shard_bytes);
        let current = if self.rehash {
            vec![None; shards.len()]
        } else {
            shards::up_to_date(self, &shards, build, store)?
        };
        let files = self.files(&shards)?;
        let unchanged: Vec<bool> = files.iter().map(|(name, bytes)| self.holds(name, bytes)).collect();
        let others = self.others(&shards, &files)?;
        let mut written = Written { shards: shards.len(), ..Written::default() };
        let is_current = current.iter().all(Option::is_some) && unchanged.iter().all(|same| *same);
        if is_current && others.stale == 0 {
            store.hand_over(shards::delivered(self, build), Vec::new(), Vec::new())?;
            return Ok(written);
        }
        shards::rescue(self, &shards, &current, build, store)?;
        let staging = match staging {
            Some(staging) => staging,
            None => Staging::start(self.dir)?,
        };
        let keep = |name: &OsStr| staging.keep(name).map_err(OutputError::io("keep", &self.dir.join(name)));
        for name in &others.theirs {
            keep(name)?;
        }
        for ((name, bytes), same) in files.iter().zip(unchanged) {
            if same {
                keep(OsStr::new(name))?;
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
                    keep(OsStr::new(&shard.file))?;
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
        written.changed = true;
        shards::let_stamps_age(&identities);
        let dir = spanned(build.events(), "put output in place", "", || staging.publish())?;
        spanned(build.events(), "remember output", "", || {
            shards::remember(self, &dir, &shards, &identities, build, store)
        })?;
        Ok(written)
    }

    /// Every file but the shards, with its bytes.
    fn files(&self, shards: &[sharding::ShardPlan]) -> Result<Vec<(String, Vec<u8>)>, OutputError> {
        let mut files = extras::files(self)?;
        if let Some(index) = sharding::index(shards) {
            files.push((sharding::INDEX.to_owned(), index.into_bytes()));
        }
        let config = serde_json::to_string_pretty(&self.stage.config).expect("JSON values serialise");
        files.push(("config.json".to_owned(), (config + "\n").into_bytes()));
        files.push(("README.md".to_owned(), self.card.clone().into_bytes()));
        files.push((RECIPE_FILE.to_owned(), self.recipe.clone().into_bytes()));
        files.push((LOCK_FILE.to_owned(), self.lock.clone().into_bytes()));
        Ok(files)
    }

    fn holds(&self, name: &str, bytes: &[u8]) -> bool {
        fs::read(self.dir.join(name)).is_ok_and(|present| present == bytes)
    }

    /// Files of the directory that are not among those to be written.
    fn others(
        &self,
        shards: &[sharding::ShardPlan],
        files: &[(String, Vec<u8>)],
    ) -> Result<Others, OutputError> {
        let mut others = Others::default();
        let entries = match fs::read_dir(self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(others),
            Err(error) => return Err(OutputError::io("read", self.dir)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(OutputError::io("read", self.dir))?;
            let name = entry.file_name();
            let text = name.to_string_lossy();
            let is_new =
                shards.iter().any(|shard| shard.file == text) || files.iter().any(|(file, _)| *file == text);
            if is_new || entry.path().is_dir() {
                continue;
            }
            // Loaders would prefer an old index to a new single file.
            let is_shard = text.starts_with("model") && text.ends_with(".safetensors");
            if is_shard || text == sharding::INDEX || extras::is_copied(&text) {
                others.stale += 1;
            } else {
                others.theirs.push(name);
            }
        }
        Ok(others)
    }
}

/// Files that an output directory has besides its own.
#[derive(Default)]
struct Others {
    /// What an earlier output had and this one has not.
    stale: usize,
    /// What somebody else put there.
    theirs: Vec<OsString>,
}
