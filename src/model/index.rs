//! The index of a checkpoint in several files: which shard holds which tensor.
//!
//! It comes from a stranger like everything else. What it says is held against what the shards hold, both ways, so that
//! no tensor is lost or read from elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use super::place::{OpenFile, Place};
use super::source_file::SourceFile;
use super::{ModelError, json};

/// An index that was read.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    weight_map: BTreeMap<String, String>,
    /// How many bytes it says that all tensors take.
    total_size: Option<u64>,
}

/// Open shards, and the number of the one that holds each tensor.
pub type Shards = (Vec<Arc<dyn SourceFile>>, BTreeMap<String, usize>);

#[derive(Deserialize)]
struct Written {
    weight_map: BTreeMap<String, String>,
    #[serde(default)]
    metadata: Value,
}

impl Index {
    /// Reads the index of a checkpoint in a format of this name.
    pub fn read(path: &Path, format: &str) -> Result<Self, ModelError> {
        let problem = |problem| ModelError::Layout { path: path.to_owned(), problem };
        let Written { weight_map, metadata } = serde_json::from_value(json::read(path)?)
            .map_err(|error| problem(format!("is not a {format} index: {error}")))?;
        if weight_map.is_empty() {
            return Err(problem("lists no tensors".to_owned()));
        }
        let total_size = metadata.get("total_size").and_then(Value::as_u64);
        Ok(Self { path: path.to_owned(), weight_map, total_size })
    }

    /// Whether all shards are in the index's folder.
    pub fn is_whole(&self) -> bool {
        let dir = self.path.parent().unwrap_or(Path::new(""));
        self.weight_map.values().collect::<BTreeSet<_>>().into_iter().all(|file| dir.join(file).exists())
    }

    /// Opens every shard, all of whose names must end as the format's do.
    ///
    /// # Errors
    /// Says where the index and the shards do not agree.
    pub fn open(
        &self,
        extensions: &[&str],
        place: &dyn Place,
        local: OpenFile,
    ) -> Result<Shards, ModelError> {
        let dir = self.path.parent().unwrap_or(Path::new(""));
        let mut files: Vec<&str> = self.weight_map.values().map(String::as_str).collect();
        files.sort_unstable();
        files.dedup();
        for file in &files {
            // A shard's name comes from the file; it must not lead out of the directory.
            let mut parts = Path::new(file).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                return Err(self.problem(format!("names shard `{file}`, which is not a plain file name")));
            }
            if !ends_in(Path::new(file), extensions) {
                let known: Vec<String> = extensions.iter().map(|ending| format!(".{ending}")).collect();
                return Err(self.problem(format!(
                    "names shard `{file}`, which does not have the name of a tensor file; those end in {}",
                    known.join(", ")
                )));
            }
        }
        if let Some(file) = unlisted(dir, &files, extensions) {
            return Err(self.problem(format!(
                "lists no tensors in {file}, although that has the name of a shard; if the model needs it, get the matching index; otherwise remove it"
            )));
        }
        let shards: Vec<_> = files
            .par_iter()
            .map(|file| self.open_shard(&dir.join(file), place, local))
            .collect::<Result<_, _>>()?;
        let mut tensors = BTreeMap::new();
        for (name, file) in &self.weight_map {
            let number = files.binary_search(&file.as_str()).expect("files holds every value of the map");
            if !shards[number].tensors().contains_key(name) {
                return Err(
                    self.problem(format!("places tensor `{name}` in {file}, which does not contain it"))
                );
            }
            tensors.insert(name.clone(), number);
        }
        for (number, shard) in shards.iter().enumerate() {
            let path = shard.path().display();
            for name in shard.tensors().keys() {
                match tensors.get(name) {
                    None => {
                        let problem = format!("does not list tensor `{name}`, which {path} contains");
                        return Err(self.problem(problem));
                    }
                    Some(other) if *other != number => {
                        let listed = files[*other];
                        let problem =
                            format!("places tensor `{name}` in {listed}, but {path} contains it, too");
                        return Err(self.problem(problem));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok((shards, tensors))
    }

    fn open_shard(
        &self,
        path: &Path,
        place: &dyn Place,
        local: OpenFile,
    ) -> Result<Arc<dyn SourceFile>, ModelError> {
        place.open(path, local).map_err(|error| match error {
            ModelError::Header { problem, .. } if !path.exists() => ModelError::Header {
                path: path.to_owned(),
                problem: format!("{problem}; {} names it as a shard of the model", self.path.display()),
            },
            error => error,
        })
    }

    /// Tells where the size that the index gives is not that of the tensors.
    pub fn remark(&self, held: u64) -> Option<String> {
        let said = self.total_size.filter(|said| *said != held)?;
        let path = self.path.display();
        Some(format!("{path} gives the size of the tensors as {said} bytes, but it is {held}"))
    }

    fn problem(&self, problem: String) -> ModelError {
        ModelError::Layout { path: self.path.clone(), problem }
    }
}

fn ends_in(path: &Path, extensions: &[&str]) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|ending| extensions.contains(&ending))
}

/// A file in the folder that is called one of as many shards as those that are listed, and is not listed.
fn unlisted(dir: &Path, files: &[&str], extensions: &[&str]) -> Option<String> {
    let sets: Vec<(&str, &str)> = files.iter().filter_map(|file| set_of(file)).collect();
    let entries = fs::read_dir(dir).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    entries
        .filter(|name| set_of(name).is_some_and(|set| sets.contains(&set)))
        .filter(|name| ends_in(Path::new(name), extensions) && !files.contains(&name.as_str()))
        .min()
}

/// What all shards of a checkpoint have in their names: what is before and behind the number in
/// `model-00001-of-00002.safetensors`.
fn set_of(name: &str) -> Option<(&str, &str)> {
    let (before, behind) = name.rsplit_once("-of-")?;
    let (before, number) = before.rsplit_once('-')?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then_some((before, behind))
}
