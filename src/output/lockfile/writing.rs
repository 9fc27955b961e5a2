//! The lockfile of a resolved build.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::FORMAT;
use crate::build::Build;
use crate::plan::{Model, Node, NodeId, Plan};
use crate::recipe::{Recipe, Reference, StageId, describe};
use crate::tensor::TensorSpec;

/// The file's content.
#[derive(Clone, Serialize)]
pub struct NewLockfile<'a> {
    format: u64,
    lamarck: &'static str,
    /// The command line's part in what was built.
    set: BTreeMap<&'a str, &'a str>,
    seed: Option<u64>,
    stage: &'a str,
    stages: Value,
    /// Every other file by its digest; a shard by its header's, since its tensors are listed.
    files: BTreeMap<String, String>,
    /// By model reference, none of them an absolute path.
    sources: BTreeMap<String, Source<'a>>,
    tensors: BTreeMap<&'a str, Box<RawValue>>,
}

#[derive(Clone, Serialize)]
struct Source<'a> {
    /// The commit, where the model came from a Hugging Face cache; else the revision that the recipe names.
    revision: Option<&'a str>,
    tensors: BTreeMap<&'a str, Box<RawValue>>,
}

/// A tensor's type and digest.
#[derive(Serialize)]
struct Tensor<'a> {
    dtype: &'static str,
    shape: &'a [usize],
    blake3: String,
}

impl NewLockfile<'_> {
    /// Its text, with the files that it stands beside: one line a tensor, so that two can be compared by
    /// `diff`.
    pub(in crate::output) fn text(mut self, files: BTreeMap<String, String>) -> String {
        self.files = files;
        serde_json::to_string_pretty(&self).expect("a lockfile serialises") + "\n"
    }
}

/// The lockfile of one target.
pub fn of<'a>(
    recipe: &'a Recipe,
    models: &'a [Model],
    plan: &'a Plan,
    target: StageId,
    build: &Build<'_>,
) -> NewLockfile<'a> {
    let stage = plan.stage(target);
    let line = |spec: &TensorSpec, node: NodeId| {
        let blake3 = build.resolved(node).digest.to_string();
        let tensor = Tensor { dtype: spec.dtype.name(), shape: &spec.shape.0, blake3 };
        serde_json::value::to_raw_value(&tensor).expect("a tensor's entry serialises")
    };
    let mut sources: BTreeMap<String, Source<'_>> = BTreeMap::new();
    for node in plan.reached(stage.nodes.values().copied()) {
        if let Node::Source(source) = &plan[node] {
            let Model { reference, commit, .. } = &models[source.model.0];
            let revision = commit.as_deref().or(reference.revision.as_deref());
            let entry = sources
                .entry(recipe.portable.key_of(reference))
                .or_insert_with(|| Source { revision, tensors: BTreeMap::new() });
            entry.tensors.insert(&source.tensor, line(&source.spec, node));
        }
    }
    NewLockfile {
        format: FORMAT,
        lamarck: env!("CARGO_PKG_VERSION"),
        set: recipe.portable.sets.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        seed: recipe.seed,
        stage: &recipe.stage(target).name,
        stages: stages(recipe, plan, target),
        files: BTreeMap::new(),
        sources,
        tensors: (stage.nodes.iter())
            .map(|(name, node)| (name.as_str(), line(&stage.tensors[name], *node)))
            .collect(),
    }
}

/// The target and every stage that it needs, with all parameters.
pub fn stages(recipe: &Recipe, plan: &Plan, target: StageId) -> Value {
    described(recipe, plan, target, &|reference| recipe.portable_name(reference))
}

/// The same as lockfiles had it that named models as the recipe does, by absolute paths too.
pub fn stages_as_written(recipe: &Recipe, plan: &Plan, target: StageId) -> Value {
    described(recipe, plan, target, &|reference| recipe.name_of(reference).to_owned())
}

fn described(recipe: &Recipe, plan: &Plan, target: StageId, name: &dyn Fn(&Reference) -> String) -> Value {
    needed_by(recipe, plan, target).into_iter().map(|id| describe::stage(recipe, id, name)).collect()
}

/// The stages that a target needs, itself last.
pub fn needed_by(recipe: &Recipe, plan: &Plan, target: StageId) -> Vec<StageId> {
    let mut needed = vec![target];
    for id in plan.order.iter().rev() {
        if needed.iter().any(|reader| recipe.stage(*reader).stages_read().any(|read| read == *id))
            && !needed.contains(id)
        {
            needed.push(*id);
        }
    }
    needed.reverse();
    needed
}
