//! A checkpoint: its shards, its tensors and, but for a bare state dict, its config.json.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::index::{Index, Shards};
use super::place::{OnDisk, OpenFile, Place};
use super::source_file::SourceFile;
use super::tokenizer::TOKENIZER;
use super::view::View;
use super::{ModelError, download, gguf, json, pickled, safetensors};
use crate::tensor::TensorSpec;

/// A format that checkpoints store tensors in.
struct StoredFormat {
    name: &'static str,
    /// How the files of a checkpoint are called; `None` where any name will do.
    files: Option<Files>,
    /// How names of such files end.
    extensions: &'static [&'static str],
    open: OpenFile,
    /// The configuration of a file that says something of its own model, given the config.json beside it.
    config: Option<OwnConfig>,
}

#[derive(Clone, Copy)]
struct Files {
    /// The file of a checkpoint that has but one.
    single: &'static str,
    /// The file that says which of several holds which tensor.
    index: &'static str,
}

/// Formats that are read, those that are preferred first. A new one is a file beside this one and a line here.
const FORMATS: [StoredFormat; 3] = [
    StoredFormat {
        name: "safetensors",
        files: Some(Files { single: "model.safetensors", index: "model.safetensors.index.json" }),
        extensions: &["safetensors"],
        open: safetensors::open,
        config: None,
    },
    StoredFormat {
        name: "pickled",
        files: Some(Files { single: "pytorch_model.bin", index: "pytorch_model.bin.index.json" }),
        extensions: &["bin", "pt", "pth", "ckpt"],
        open: pickled::open,
        config: None,
    },
    StoredFormat {
        name: "GGUF",
        files: None,
        extensions: &["gguf"],
        open: gguf::open,
        config: Some(gguf::config),
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
        let problem = format!("does not have the name of a tensor file; those end in {}", known.join(", "));
        ModelError::Layout { path: path.to_owned(), problem }
    })?;
    (format.open)(path)
}

fn format_of(path: &Path) -> Option<&'static StoredFormat> {
    let extension = path.extension()?.to_str()?;
    FORMATS.iter().find(|format| format.extensions.contains(&extension))
}

type OwnConfig = fn(&Path, Option<Value>) -> Result<Value, ModelError>;

/// What is worth knowing about a checkpoint.
#[derive(Debug)]
pub enum Remark {
    /// Its index gives another size than its tensors have.
    IndexSize(String),
    /// It is this file, which has no tokenizer's files beside it.
    NoTokenizer(PathBuf),
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
    /// What is worth knowing about it, and does no harm.
    pub remark: Option<Remark>,
}

impl Checkpoint {
    /// Opens every shard and reads every header; no tensor is read. A file of tensors, and a folder that holds
    /// tensors and no config.json, are bare state dicts.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::open_at(path, &OnDisk)
    }

    /// The same, where not all files may be in the folder.
    pub fn open_at(path: &Path, place: &dyn Place) -> Result<Self, ModelError> {
        if path.is_file() {
            if let Some(StoredFormat { open, config: Some(config), .. }) = format_of(path) {
                return Self::of_model_file(path, *open, *config);
            }
            return Ok(Self::of_file(folder_of(path), Value::Null, open_file(path)?));
        }
        let files = shard_files(path, place);
        if let Ok(ShardFiles::Single(StoredFormat { open, config: Some(config), .. }, file)) = &files {
            return Self::of_model_file(file, *open, *config);
        }
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
            ShardFiles::Single(format, file) => single(place.open(file, format.open)?),
            ShardFiles::Indexed(format, index) => index.open(format.extensions, place, format.open)?,
        };
        let mut opened = Self { dir: path.to_owned(), config, shards, tensors, remark: None };
        if let ShardFiles::Indexed(_, index) = &files {
            let specs = opened.names().filter_map(|name| opened.spec(name));
            let remark = index.remark(specs.map(|spec| spec.n_bytes() as u64).sum());
            opened.remark = remark.map(Remark::IndexSize);
        }
        Ok(opened)
    }

    /// A file that says something of its own model.
    fn of_model_file(path: &Path, open: OpenFile, config: OwnConfig) -> Result<Self, ModelError> {
        let dir = folder_of(path);
        let file = open(path)?;
        let config = config(path, json::read_if_there(&dir.join("config.json"))?)?;
        let has_tokenizer =
            [TOKENIZER, "tokenizer.model", "vocab.json"].iter().any(|name| dir.join(name).exists());
        let remark = (!has_tokenizer).then(|| Remark::NoTokenizer(path.to_owned()));
        Ok(Self { remark, ..Self::of_file(dir, config, file) })
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
        || names().any(|name| download::has_name(&dir.join(name)))
        || lone_file(dir).is_some()
}

/// Whether every file of tensors that a checkpoint's folder speaks of is in it.
pub fn is_whole(dir: &Path) -> bool {
    match shard_files(dir, &OnDisk) {
        Ok(ShardFiles::Single(_, file)) => file.exists(),
        Ok(ShardFiles::Indexed(_, index)) => index.is_whole(),
        Err(_) => false,
    }
}

/// Files that say which of several files of tensors holds which.
pub fn indexes() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().filter_map(|format| Some(format.files?.index))
}

enum ShardFiles {
    Single(&'static StoredFormat, PathBuf),
    Indexed(&'static StoredFormat, Index),
}

fn shard_files(dir: &Path, place: &dyn Place) -> Result<ShardFiles, ModelError> {
    for format in &FORMATS {
        let Some(Files { single, index }) = format.files else { continue };
        let single = dir.join(single);
        if place.has(&single) {
            return Ok(ShardFiles::Single(format, single));
        }
        let index = dir.join(index);
        if place.has(&index) {
            return Ok(ShardFiles::Indexed(format, Index::read(&index, format.name)?));
        }
    }
    if let Some((format, file)) = lone_file(dir) {
        return Ok(ShardFiles::Single(format, file));
    }
    let mut problem = format!("contains none of {}", names().collect::<Vec<_>>().join(", "));
    if let [(_, first), _, ..] = &lone_files(dir)[..] {
        problem +=
            &format!(", but several single-file models; name one of them, for example {}", first.display());
    }
    if let Some(part) = download::unfinished_in(dir) {
        problem += &format!("; {} is there: the download did not finish; run it again", part.display());
    }
    Err(ModelError::Layout { path: dir.to_owned(), problem })
}

/// Names that a checkpoint's files have.
fn names() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().filter_map(|format| format.files).flat_map(|Files { single, index }| [single, index])
}

/// The only one of the files of tensors that may be called anything.
fn lone_file(dir: &Path) -> Option<(&'static StoredFormat, PathBuf)> {
    let mut files = lone_files(dir);
    files.pop().filter(|_| files.is_empty())
}

/// Files of tensors in a folder that says nothing else of itself, which are bare state dicts, and files that say
/// something of their own model.
fn lone_files(dir: &Path) -> Vec<(&'static StoredFormat, PathBuf)> {
    let is_model = dir.join("config.json").exists();
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    if dir.join("adapter_config.json").exists() {
        return Vec::new();
    }
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<_> = files
        .filter_map(|file| Some((format_of(&file)?, file)))
        .filter(|(format, file)| (!is_model || format.config.is_some()) && file.is_file())
        .collect();
    files.sort_by(|(_, a), (_, b)| a.cmp(b));
    files
}

fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

fn single(shard: Arc<dyn SourceFile>) -> Shards {
    let tensors = shard.tensors().keys().map(|name| (name.clone(), 0)).collect();
    (vec![shard], tensors)
}
