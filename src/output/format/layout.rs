//! What a format says of an output before a byte of it is known: which file holds which tensor, and where.
//!
//! A layout is made once from a stage's tensors. Results go straight to the places that it names, what is
//! left is filled in by it, and the lockfile lists its files.

use std::collections::BTreeMap;

use crate::tensor::TensorSpec;

/// A way to write a model's weights.
pub trait Format: Sync {
    /// Lays out a model's tensors in shards of at most `shard_bytes` bytes of data, but for a tensor that is
    /// larger by itself. Equal tensors give equal layouts.
    fn lay_out(&self, tensors: &BTreeMap<String, TensorSpec>, shard_bytes: u64) -> OutputLayout;

    /// Whether a file of this name holds weights in this format.
    fn is_weights(&self, name: &str) -> bool;

    /// The names by which loaders find the weights.
    fn entry_names(&self) -> &'static [&'static str];

    /// Names that loaders would prefer to the files that there are.
    fn shadows(&self, has: &dyn Fn(&str) -> bool) -> &'static [&'static str];
}

/// All files of a model's weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputLayout {
    pub shards: Vec<ShardLayout>,
    /// Files beside the shards that say what is in them, with their bytes.
    pub beside: Vec<(String, Vec<u8>)>,
}

impl OutputLayout {
    /// Whether a file of this name is one of the model's weights, or says what is in them.
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|own| own == name)
    }

    /// The names of all files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let shards = self.shards.iter().map(|shard| shard.file.as_str());
        shards.chain(self.beside.iter().map(|(name, _)| name.as_str()))
    }
}

/// One file of weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardLayout {
    /// Its name.
    pub file: String,
    /// Everything before the first tensor's bytes.
    pub header: Vec<u8>,
    /// In the order of the file, without gaps or overlaps.
    pub tensors: Vec<PlacedTensor>,
    /// The size of the whole file.
    pub n_bytes: u64,
}

/// A tensor's place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedTensor {
    pub name: String,
    pub spec: TensorSpec,
    /// From the start of the file, in bytes.
    pub offset: u64,
}
