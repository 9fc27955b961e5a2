//! Lockfiles read back, to hold a build or a directory to them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::FORMAT;
use crate::digest::Digest;
use crate::output::error::OutputError;
use crate::output::names::LOCKFILE;
use crate::plan::{Model, ModelId};
use crate::recipe::Recipe;

/// What a lockfile says.
#[derive(Clone, Debug, Deserialize)]
pub struct Lockfile {
    pub format: u64,
    /// Variables and a seed that the command line set.
    pub set: BTreeMap<String, String>,
    pub seed: Option<u64>,
    pub stage: String,
    /// Every stage with its resolved parameters, as the recipe's layer describes them.
    pub stages: Value,
    /// Every other file by its digest; a shard by its header's.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    pub sources: BTreeMap<String, LockedModel>,
    pub tensors: BTreeMap<String, LockedTensor>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct LockedModel {
    /// The commit of a model of the hub, or the revision that a recipe named.
    pub revision: Option<String>,
    pub tensors: BTreeMap<String, LockedTensor>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LockedTensor {
    pub dtype: String,
    pub shape: Vec<usize>,
    pub blake3: String,
}

impl Lockfile {
    /// Reads the lockfile of an output directory.
    ///
    /// # Errors
    /// If there is none, if it is none of lamarck's, or if it is of another format.
    pub fn read(dir: &Path) -> Result<Self, OutputError> {
        let path = dir.join(LOCKFILE);
        let text = fs::read(&path).map_err(OutputError::io("read", &path))?;
        let unreadable = |problem: String| OutputError::Lockfile { path: path.clone(), problem };
        let value: Value = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        // The format says how to read the rest, so it comes first.
        match value["format"].as_u64() {
            Some(FORMAT) => {}
            Some(other) => {
                return Err(unreadable(format!(
                    "it has format {other}, but this version of lamarck reads format {FORMAT}"
                )));
            }
            None => return Err(unreadable("it is not a lamarck lockfile".to_owned())),
        }
        serde_json::from_value(value).map_err(|error| unreadable(error.to_string()))
    }

    /// The digest that every source tensor must have, by model and tensor.
    pub fn source_digests(
        &self,
        recipe: &Recipe,
        models: &[Model],
    ) -> HashMap<(ModelId, &str), Option<Digest>> {
        let source = |model: &Model| {
            // Older lockfiles name models as the recipe does, by absolute paths too.
            let names = [recipe.portable.key_of(&model.reference), model.reference.to_string()];
            names.iter().find_map(|name| self.sources.get(name))
        };
        let sources = models.iter().enumerate().filter_map(|(id, model)| Some((ModelId(id), source(model)?)));
        sources
            .flat_map(|(id, source)| {
                let tensors = source.tensors.iter();
                tensors.map(move |(name, tensor)| ((id, name.as_str()), Digest::from_hex(&tensor.blake3)))
            })
            .collect()
    }
}

/// Every place at which two descriptions differ, as `path: old -> new`.
pub fn differences(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", old, new, &mut found);
    found
}

fn compare(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&path, &of(old), &of(new), found);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for i in 0..old.len().max(new.len()) {
                let of = |list: &[Value]| list.get(i).cloned().unwrap_or_default();
                let name = |list: &[Value]| list.get(i)?["name"].as_str().map(str::to_owned);
                // Stages are known by their names.
                let path = match name(new).or_else(|| name(old)) {
                    Some(name) if path.is_empty() => name,
                    _ => format!("{path}[{i}]"),
                };
                compare(&path, &of(old), &of(new), found);
            }
        }
        (old, new) if old == new => {}
        (old, new) => found.push(format!("{path}: {old} -> {new}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_named_by_stage_and_parameter() {
        let old = json!([{"name": "a", "parameters": {"weight": 0.5, "t": 1}}, {"name": "b"}]);
        let new = json!([{"name": "a", "parameters": {"weight": 0.6, "t": 1, "new": 2}}]);
        assert_eq!(
            differences(&old, &new),
            ["a.parameters.weight: 0.5 -> 0.6", "a.parameters.new: null -> 2", "b: {\"name\":\"b\"} -> null"]
        );
        assert_eq!(differences(&old, &old), Vec::<String>::new());
    }
}
