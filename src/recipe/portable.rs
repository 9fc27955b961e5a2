//! What models are called away from this machine.

use std::collections::BTreeMap;

use crate::reference::ModelRef;

/// A recipe's text and names that tell of no folder of this machine.
#[derive(Clone, Debug, Default)]
pub struct Portable {
    /// The recipe's text, with the name of a stage that takes its file's.
    pub text: String,
    /// Variables that the command line set.
    pub sets: Vec<(String, String)>,
    /// Names for absolute paths.
    pub(super) names: BTreeMap<String, String>,
    /// What pictures and cards call models that are no hub's.
    pub(super) labels: BTreeMap<String, String>,
}

impl Portable {
    /// How lockfiles name a model.
    pub fn key_of(&self, model: &ModelRef) -> String {
        ModelRef { path: self.path_of(model).to_owned(), ..model.clone() }.to_string()
    }

    /// A model's path, or the name that stands for an absolute one.
    pub fn path_of<'a>(&'a self, model: &'a ModelRef) -> &'a str {
        self.names.get(&model.path).map_or(&model.path, String::as_str)
    }

    /// How pictures and cards name a model: without the folders that it lies in.
    pub fn label<'a>(&'a self, model: &'a ModelRef) -> &'a str {
        self.labels.get(&model.path).map_or_else(|| self.path_of(model), String::as_str)
    }
}
