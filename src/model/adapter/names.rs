//! Finds the tensor of a model that an adapter means: by its name, or by what other versions of transformers call it.

use std::collections::{BTreeMap, HashMap};

use crate::model::layout::{bare, is_head, is_token_embedding};
use crate::model::view::View;
use crate::tensor::TensorSpec;

/// The names of a model's tensors.
pub struct Names<'a> {
    pub tensors: &'a BTreeMap<String, TensorSpec>,
    /// By the name in the file, where that is another one.
    stored: HashMap<&'a str, &'a str>,
    /// By their names without words that come and go; `None` where several have one.
    bare: HashMap<String, Option<&'a str>>,
    /// Whether linear layers are stored as inputs by outputs, as GPT-2 does.
    pub is_transposed: bool,
}

impl<'a> Names<'a> {
    pub fn new(tensors: &'a BTreeMap<String, TensorSpec>, views: &'a BTreeMap<String, View>) -> Self {
        let renamed = |(name, view): (&'a String, &'a View)| match view {
            View::Stored(stored) => Some((stored.as_str(), name.as_str())),
            View::Made { .. } => None,
        };
        let mut bare_names = HashMap::new();
        for name in tensors.keys() {
            bare_names.entry(bare(name)).and_modify(|known| *known = None).or_insert(Some(name.as_str()));
        }
        Self {
            tensors,
            stored: views.iter().filter_map(renamed).collect(),
            bare: bare_names,
            is_transposed: is_transposed(tensors),
        }
    }

    /// The tensor of a name.
    pub fn find(&self, name: &str) -> Option<&'a str> {
        if let Some((name, _)) = self.tensors.get_key_value(name) {
            return Some(name);
        }
        self.stored.get(name).copied().or_else(|| self.bare.get(&bare(name)).copied().flatten())
    }

    /// The embedding that a head of this name is tied to, where the model stores no such head.
    pub fn tied_to(&self, head: &str) -> Option<&'a str> {
        let has_head = || self.tensors.keys().any(|name| is_head(name));
        if !is_head(head) || has_head() {
            return None;
        }
        self.tensors.keys().find(|name| is_token_embedding(name)).map(String::as_str)
    }
}

/// Whether biases have as many elements as their weights have columns.
fn is_transposed(tensors: &BTreeMap<String, TensorSpec>) -> bool {
    tensors.iter().any(|(name, weight)| {
        let bias = name.strip_suffix("weight").and_then(|stem| tensors.get(&format!("{stem}bias")));
        match (weight.shape.0.as_slice(), bias.map(|bias| bias.shape.0.as_slice())) {
            ([rows, columns], Some([n])) => rows != columns && columns == n,
            _ => false,
        }
    })
}
