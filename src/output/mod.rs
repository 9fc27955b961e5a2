//! The write side: a stage's result as a checkpoint directory that loads everywhere.
//!
//! Everything is written beside its place first and renamed in at the end, the lock file last; a file
//! that would come out the same is not touched.

pub mod card;
mod extras;
pub mod lock;
pub mod sharding;
mod shards;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::atomic;
use crate::build::{Build, BuildError};
use crate::plan::StagePlan;
use crate::store::{Store, StoreError};

/// The file that marks a directory as lamarck's output and says what it was made of.
pub const LOCK_FILE: &str = "lamarck.lock.json";

/// The recipe as built.
pub const RECIPE_FILE: &str = "recipe.yaml";

/// Why an output directory could not be written. What was there is as it was, unless a rename failed.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} holds files that lamarck did not write; it was left as it is", path.display())]
    Occupied { path: PathBuf },
}

impl OutputError {
    fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
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
            let ours = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(".lamarck-");
            let only_ours = entries.all(|entry| entry.is_ok_and(|entry| ours(&entry.file_name())));
            if only_ours || dir.join(LOCK_FILE).is_file() { Ok(()) } else { Err(occupied()) }
        }
    }
}

impl Output<'_> {
    /// Brings the directory up to date with a settled build.
    pub fn write(&self, build: &Build<'_>, store: &Store) -> Result<Written, OutputError> {
        check_free(self.dir)?;
        fs::create_dir_all(self.dir).map_err(OutputError::io("create", self.dir))?;
        self.remove_leftovers()?;
        let shards = sharding::cut(&self.stage.tensors, self.shard_bytes);
        let mut written = shards::write(self, &shards, build, store)?;
        let mut files = extras::files(self)?;
        if let Some(index) = sharding::index(&shards) {
            files.push((sharding::INDEX.to_owned(), index.into_bytes()));
        }
        let config = serde_json::to_string_pretty(&self.stage.config).expect("JSON values serialise");
        files.push(("config.json".to_owned(), (config + "\n").into_bytes()));
        files.push(("README.md".to_owned(), self.card.clone().into_bytes()));
        files.push((RECIPE_FILE.to_owned(), self.recipe.clone().into_bytes()));
        let kept: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        written.changed |= self.remove_stale(&shards, &kept)?;
        files.push((LOCK_FILE.to_owned(), self.lock.clone().into_bytes()));
        for (name, bytes) in files {
            let path = self.dir.join(name);
            written.changed |=
                atomic::write_if_changed(&path, &bytes).map_err(OutputError::io("write", &path))?;
        }
        if written.changed {
            atomic::sync_folder(self.dir).map_err(OutputError::io("sync", self.dir))?;
        }
        Ok(written)
    }

    /// Removes temporary files of an earlier run that was cut short.
    fn remove_leftovers(&self) -> Result<(), OutputError> {
        self.remove_where(|name| name.starts_with(".lamarck-") && name.ends_with(".tmp")).map(|_| ())
    }

    /// Removes shards, indexes and copied files of an earlier output that this one does not have:
    /// loaders would prefer an old index to a new single file.
    fn remove_stale(&self, shards: &[sharding::ShardPlan], kept: &[&str]) -> Result<bool, OutputError> {
        self.remove_where(|name| {
            let is_shard = name.starts_with("model") && name.ends_with(".safetensors");
            let stale_shard = is_shard && shards.iter().all(|shard| shard.file != name);
            let copied = name == sharding::INDEX || extras::is_copied(name);
            stale_shard || (copied && !kept.contains(&name))
        })
    }

    fn remove_where(&self, is_stale: impl Fn(&str) -> bool) -> Result<bool, OutputError> {
        let mut removed = false;
        for entry in fs::read_dir(self.dir).map_err(OutputError::io("read", self.dir))? {
            let entry = entry.map_err(OutputError::io("read", self.dir))?;
            if is_stale(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path()).map_err(OutputError::io("remove", &entry.path()))?;
                removed = true;
            }
        }
        Ok(removed)
    }
}
