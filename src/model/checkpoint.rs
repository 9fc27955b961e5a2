//! A checkpoint: its shards, its tensors and, but for a bare state dict, its config.json.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::source_file::SourceFile;
use super::view::View;
use super::{ModelError, json, pickled, safetensors};
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
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens every shard and reads every header; no tensor is read. A file of tensors, and a folder that holds
    /// tensors and no config.json, are bare state dicts.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        if path.is_file() {
            let dir = path.parent().unwrap_or(Path::new("")).to_owned();
            let (shards, tensors) = single(open_file(path)?);
            return Ok(Self { dir, config: Value::Null, shards, tensors });
        }
        let files = shard_files(path);
        let config_path = path.join("config.json");
        let is_bare = files.is_ok() && !config_path.exists();
        let config = if is_bare { Value::Null } else { json::read(&config_path)? };
        if !is_bare && !config.is_object() {
            let problem = "is not a JSON object, as a model's configuration must be".to_owned();
            return Err(ModelError::Layout { path: config_path, problem });
        }
        let (shards, tensors) = match files? {
            ShardFiles::Single(format, file) => single((format.open)(&file)?),
            ShardFiles::Indexed { format, path: index, weight_map } => {
                open_indexed(path, format, &index, weight_map)?
            }
        };
        Ok(Self { dir: path.to_owned(), config, shards, tensors })
    }

    /// One file with its configuration.
    pub fn of_file(dir: &Path, config: Value, file: Arc<dyn SourceFile>) -> Self {
        let tensors = file.tensors().keys().map(|name| (name.clone(), 0)).collect();
        Self { dir: dir.to_owned(), config, shards: vec![file], tensors }
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
            .any(|name| dir.join(name).is_file())
        || lone_file(dir).is_some()
}

enum ShardFiles {
    Single(&'static StoredFormat, PathBuf),
    Indexed { format: &'static StoredFormat, path: PathBuf, weight_map: BTreeMap<String, String> },
}

fn shard_files(dir: &Path) -> Result<ShardFiles, ModelError> {
    for format in &FORMATS {
        let single = dir.join(format.single);
        if single.is_file() {
            return Ok(ShardFiles::Single(format, single));
        }
        let path = dir.join(format.index);
        if path.is_file() {
            let Index { weight_map } = serde_json::from_value(json::read(&path)?).map_err(|error| {
                let problem = format!("is not a {} index: {error}", format.name);
                ModelError::Layout { path: path.clone(), problem }
            })?;
            return Ok(ShardFiles::Indexed { format, path, weight_map });
        }
    }
    if let Some((format, file)) = lone_file(dir) {
        return Ok(ShardFiles::Single(format, file));
    }
    let names: Vec<&str> = FORMATS.iter().flat_map(|format| [format.single, format.index]).collect();
    let problem = format!("holds none of {}", names.join(", "));
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

fn single(shard: Arc<dyn SourceFile>) -> Opened {
    let tensors = shard.tensors().keys().map(|name| (name.clone(), 0)).collect();
    (vec![shard], tensors)
}

type Opened = (Vec<Arc<dyn SourceFile>>, BTreeMap<String, usize>);

fn open_indexed(
    dir: &Path,
    format: &StoredFormat,
    index_path: &Path,
    weight_map: BTreeMap<String, String>,
) -> Result<Opened, ModelError> {
    let problem = |problem| ModelError::Layout { path: index_path.to_owned(), problem };
    let mut files: Vec<&String> = weight_map.values().collect();
    files.sort_unstable();
    files.dedup();
    let mut shards = Vec::new();
    for file in &files {
        // A shard's name comes from the file; it must not lead out of the directory.
        let mut parts = Path::new(file).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(problem(format!("names shard `{file}`, which is not a plain file name")));
        }
        shards.push((format.open)(&dir.join(file))?);
    }
    let mut tensors = BTreeMap::new();
    for (name, file) in &weight_map {
        let number = files.binary_search(&file).expect("files holds every value of the map");
        if !shards[number].tensors().contains_key(name) {
            return Err(problem(format!("places tensor `{name}` in {file}, which does not hold it")));
        }
        tensors.insert(name.clone(), number);
    }
    for shard in &shards {
        if let Some(name) = shard.tensors().keys().find(|name| !weight_map.contains_key(*name)) {
            let path = shard.path().display();
            return Err(problem(format!("does not list tensor `{name}`, which {path} holds")));
        }
    }
    Ok((shards, tensors))
}
