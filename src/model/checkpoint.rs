//! A checkpoint: its shards, its tensors and, but for a bare state dict, its config.json.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::index::{Index, Shards};
use super::source_file::SourceFile;
use super::view::View;
use super::{ModelError, download, json, pickled, safetensors};
use crate::tensor::TensorSpec;

/// A format that checkpoints store tensors in.
struct StoredFormat {
    name: &'static str,
    /// The file of a checkpoint that has but one.
    single: &'static str,
    /// The file that says which of several holds which tensor.
    index: &'static str,
    /// How names of such files end.
    extensions: &'static [&'static str],
    open: fn(&Path) -> Result<Arc<dyn SourceFile>, ModelError>,
}

/// Formats that are read, those that are preferred first. A new one is a file beside this one and a line here.
const FORMATS: [StoredFormat; 2] = [
    StoredFormat {
        name: "safetensors",
        single: "model.safetensors",
        index: "model.safetensors.index.json",
        extensions: &["safetensors"],
        open: safetensors::open,
    },
    StoredFormat {
        name: "pickled",
        single: "pytorch_model.bin",
        index: "pytorch_model.bin.index.json",
        extensions: &["bin", "pt", "pth", "ckpt"],
        open: pickled::open,
    },
];

/// Opens one file that holds tensors, in the format that its name tells.
///
/// # Errors
/// Also if the name tells none that is read.
pub fn open_file(path: &Path) -> Result<Arc<dyn SourceFile>, ModelError> {
    let format = format_of(path).ok_or_else(|| {
        let known: Vec<String> =
            FORMATS.iter().flat_map(|format| format.extensions).map(|ending| format!(".{ending}")).collect();
        let problem = format!("is no file of tensors by its name; those end in {}", known.join(", "));
        ModelError::Layout { path: path.to_owned(), problem }
    })?;
    (format.open)(path)
}

fn format_of(path: &Path) -> Option<&'static StoredFormat> {
    let extension = path.extension()?.to_str()?;
    FORMATS.iter().find(|format| format.extensions.contains(&extension))
}

/// An open checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder that it is in.
    pub dir: PathBuf,
    /// Null for a bare state dict, of which nothing is known but its tensors.
    pub config: Value,
    pub shards: Vec<Arc<dyn SourceFile>>,
    /// Each tensor with the number of its shard.
    tensors: BTreeMap<String, usize>,
    /// What is odd about it, and does no harm.
    pub remark: Option<String>,
}

impl Checkpoint {
    /// Opens every shard and reads every header; no tensor is read. A file of tensors, and a folder that holds
    /// tensors and no config.json, are bare state dicts.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        if path.is_file() {
            let dir = path.parent().unwrap_or(Path::new("")).to_owned();
            let (shards, tensors) = single(open_file(path)?);
            return Ok(Self { dir, config: Value::Null, shards, tensors, remark: None });
        }
        let files = shard_files(path);
        let config_path = path.join("config.json");
        let is_coming = || download::has_name(&config_path) || download::unfinished(&config_path).is_some();
        let is_bare = files.is_ok() && !is_coming();
        let config = if is_bare { Value::Null } else { json::read(&config_path)? };
        if !is_bare && !config.is_object() {
            let problem = "is not a JSON object, as a model's configuration must be".to_owned();
            return Err(ModelError::Layout { path: config_path, problem });
        }
        let files = files?;
        let (shards, tensors) = match &files {
            ShardFiles::Single(format, file) => single((format.open)(file)?),
            ShardFiles::Indexed(format, index) => index.open(format.extensions, format.open)?,
        };
        let mut opened = Self { dir: path.to_owned(), config, shards, tensors, remark: None };
        if let ShardFiles::Indexed(_, index) = &files {
            let specs = opened.names().filter_map(|name| opened.spec(name));
            opened.remark = index.remark(specs.map(|spec| spec.n_bytes() as u64).sum());
        }
        Ok(opened)
    }

    /// One file with its configuration.
    pub fn of_file(dir: &Path, config: Value, file: Arc<dyn SourceFile>) -> Self {
        let tensors = file.tensors().keys().map(|name| (name.clone(), 0)).collect();
        Self { dir: dir.to_owned(), config, shards: vec![file], tensors, remark: None }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.tensors.keys().map(String::as_str)
    }

    /// The shard that holds a tensor.
    pub fn shard_of(&self, tensor: &str) -> Option<&Arc<dyn SourceFile>> {
        self.tensors.get(tensor).map(|number| &self.shards[*number])
    }

    /// A tensor's dtype and shape, as it is meant.
    pub fn spec(&self, tensor: &str) -> Option<&TensorSpec> {
        let shard = self.shard_of(tensor)?;
        Some(shard.views().get(tensor).map_or(&shard.tensors()[tensor].spec, |meant| &meant.spec))
    }

    /// What makes a tensor that is not stored in its own order.
    pub fn view(&self, tensor: &str) -> Option<&View> {
        Some(&self.shard_of(tensor)?.views().get(tensor)?.view)
    }
}

/// Whether a directory, or a file, looks like a checkpoint at all.
pub fn is_checkpoint(dir: &Path) -> bool {
    (dir.is_file() && format_of(dir).is_some())
        || dir.join("config.json").is_file()
        || FORMATS
            .iter()
            .flat_map(|format| [format.single, format.index])
            .any(|name| download::has_name(&dir.join(name)))
        || lone_file(dir).is_some()
}

enum ShardFiles {
    Single(&'static StoredFormat, PathBuf),
    Indexed(&'static StoredFormat, Index),
}

fn shard_files(dir: &Path) -> Result<ShardFiles, ModelError> {
    for format in &FORMATS {
        let single = dir.join(format.single);
        if download::has_name(&single) {
            return Ok(ShardFiles::Single(format, single));
        }
        let index = dir.join(format.index);
        if download::has_name(&index) {
            return Ok(ShardFiles::Indexed(format, Index::read(&index, format.name)?));
        }
    }
    if let Some((format, file)) = lone_file(dir) {
        return Ok(ShardFiles::Single(format, file));
    }
    let names: Vec<&str> = FORMATS.iter().flat_map(|format| [format.single, format.index]).collect();
    let mut problem = format!("holds none of {}", names.join(", "));
    if let Some(part) = download::unfinished_in(dir) {
        problem += &format!("; {} lies there: the download did not finish, run it again", part.display());
    }
    Err(ModelError::Layout { path: dir.to_owned(), problem })
}

/// The only file of tensors in a folder that says nothing else of itself: that of a bare state dict.
fn lone_file(dir: &Path) -> Option<(&'static StoredFormat, PathBuf)> {
    if ["config.json", "adapter_config.json"].iter().any(|name| dir.join(name).exists()) {
        return None;
    }
    let files = std::fs::read_dir(dir).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found =
        files.filter_map(|file| Some((format_of(&file)?, file))).filter(|(_, file)| file.is_file());
    let only = found.next();
    only.filter(|_| found.next().is_none())
}

fn single(shard: Arc<dyn SourceFile>) -> Shards {
    let tensors = shard.tensors().keys().map(|name| (name.clone(), 0)).collect();
    (vec![shard], tensors)
}
