//! A checkpoint directory: its shards, its tensors and its config.json.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::ModelError;
use super::shard::Shard;
use crate::tensor::TensorSpec;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const PICKLED: [&str; 2] = ["pytorch_model.bin", "pytorch_model.bin.index.json"];

/// An open checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    pub dir: PathBuf,
    pub config: Value,
    pub shards: Vec<Arc<Shard>>,
    /// Each tensor with the number of its shard.
    tensors: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens every shard and reads every header; no tensor is read.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let config = read_json(&dir.join("config.json"))?;
        let (shards, tensors) = match shard_files(dir)? {
            ShardFiles::Single(path) => {
                let shard = Shard::open(&path)?;
                let tensors = shard.tensors.keys().map(|name| (name.clone(), 0)).collect();
                (vec![Arc::new(shard)], tensors)
            }
            ShardFiles::Indexed { path, weight_map } => open_indexed(dir, &path, weight_map)?,
        };
        Ok(Self { dir: dir.to_owned(), config, shards, tensors })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.tensors.keys().map(String::as_str)
    }

    /// The shard that holds a tensor.
    pub fn shard_of(&self, tensor: &str) -> Option<&Arc<Shard>> {
        self.tensors.get(tensor).map(|number| &self.shards[*number])
    }

    pub fn spec(&self, tensor: &str) -> Option<&TensorSpec> {
        Some(&self.shard_of(tensor)?.tensors[tensor].spec)
    }
}

/// Whether a directory looks like a checkpoint at all.
pub fn is_checkpoint(dir: &Path) -> bool {
    dir.join("config.json").is_file()
        || [SINGLE, INDEX].iter().chain(&PICKLED).any(|name| dir.join(name).is_file())
}

enum ShardFiles {
    Single(PathBuf),
    Indexed { path: PathBuf, weight_map: BTreeMap<String, String> },
}

fn shard_files(dir: &Path) -> Result<ShardFiles, ModelError> {
    let single = dir.join(SINGLE);
    if single.is_file() {
        return Ok(ShardFiles::Single(single));
    }
    let path = dir.join(INDEX);
    if path.is_file() {
        let Index { weight_map } = serde_json::from_value(read_json(&path)?).map_err(|error| {
            ModelError::Layout { path: path.clone(), problem: format!("is not a safetensors index: {error}") }
        })?;
        return Ok(ShardFiles::Indexed { path, weight_map });
    }
    let pickled = PICKLED.iter().any(|name| dir.join(name).is_file());
    let problem = if pickled {
        "holds a pickled checkpoint (pytorch_model.bin), which lamarck does not read; convert it to safetensors".to_owned()
    } else {
        format!("holds neither {SINGLE} nor {INDEX}")
    };
    Err(ModelError::Layout { path: dir.to_owned(), problem })
}

type Opened = (Vec<Arc<Shard>>, BTreeMap<String, usize>);

fn open_indexed(
    dir: &Path,
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
        shards.push(Arc::new(Shard::open(&dir.join(file))?));
    }
    let mut tensors = BTreeMap::new();
    for (name, file) in &weight_map {
        let number = files.binary_search(&file).expect("files holds every value of the map");
        if !shards[number].tensors.contains_key(name) {
            return Err(problem(format!("places tensor `{name}` in {file}, which does not hold it")));
        }
        tensors.insert(name.clone(), number);
    }
    for shard in &shards {
        if let Some(name) = shard.tensors.keys().find(|name| !weight_map.contains_key(*name)) {
            let path = shard.path.display();
            return Err(problem(format!("does not list tensor `{name}`, which {path} holds")));
        }
    }
    Ok((shards, tensors))
}

fn read_json(path: &Path) -> Result<Value, ModelError> {
    let text = std::fs::read(path).map_err(ModelError::io(path))?;
    serde_json::from_slice(&text).map_err(|error| ModelError::Layout {
        path: path.to_owned(),
        problem: format!("is not valid JSON: {error}"),
    })
}
