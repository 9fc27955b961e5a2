//! `lamarck.lock.json`: what an output was made of, enough to make it again and to prove it the same.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::build::Build;
use crate::methods::{Default, ParamSpec, Value as Setting};
use crate::plan::{Model, Node, NodeId, Plan};
use crate::recipe::{
    Body, Gradient, Input, ModuleBody, Parameters, Recipe, Setting as Written, Slice, Stage, StageId,
};
use crate::tensor::TensorSpec;

/// Raised whenever fields change their meaning.
pub(super) const FORMAT: u64 = 1;

/// The file's content.
#[derive(Clone, Serialize)]
pub struct Lock<'a> {
    format: u64,
    lamarck: &'static str,
    /// The command line's part in what was built.
    set: BTreeMap<&'a str, &'a str>,
    seed: Option<u64>,
    stage: &'a str,
    stages: Value,
    /// Every other file by its digest; a shard by its header's, since its tensors are listed.
    files: BTreeMap<String, String>,
    /// By model reference.
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

impl Lock<'_> {
    /// The lock with the files that it stands beside, as text: one line a tensor, so that two locks can be
    /// compared by `diff`.
    pub(super) fn text(mut self, files: BTreeMap<String, String>) -> String {
        self.files = files;
        serde_json::to_string_pretty(&self).expect("a lock serialises") + "\n"
    }
}

/// The lock of one target.
pub fn of<'a>(
    recipe: &'a Recipe,
    models: &'a [Model],
    plan: &'a Plan,
    target: StageId,
    build: &Build<'_>,
) -> Lock<'a> {
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
                .entry(reference.to_string())
                .or_insert_with(|| Source { revision, tensors: BTreeMap::new() });
            entry.tensors.insert(&source.tensor, line(&source.spec, node));
        }
    }
    Lock {
        format: FORMAT,
        lamarck: env!("CARGO_PKG_VERSION"),
        set: recipe.sets.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
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
    needed_by(recipe, plan, target).into_iter().map(|id| describe(recipe, recipe.stage(id))).collect()
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

/// A stage with every parameter, those left to their defaults too.
fn describe(recipe: &Recipe, stage: &Stage) -> Value {
    let spec = stage.method.spec();
    let input = |input: &Input| {
        let mut entry =
            json!({ "model": recipe.name_of(&input.model.value), "parameters": written(&input.parameters) });
        if let Some(range) = &input.layer_range {
            entry["layer_range"] = json!([range.value.0, range.value.1]);
        }
        entry
    };
    let slice = |slice: &Slice| {
        let base = slice.base.as_ref().map(|base| recipe.name_of(&base.value));
        let sources: Vec<Value> = slice.sources.iter().map(input).collect();
        json!({ "sources": sources, "base_model": base, "parameters": written(&slice.parameters) })
    };
    let inputs = |inputs: &[Input]| inputs.iter().map(input).collect::<Vec<_>>();
    let slices = |slices: &[Slice]| slices.iter().map(slice).collect::<Vec<_>>();
    let body = match &stage.body {
        Body::Models(listed) => json!({ "models": inputs(listed) }),
        Body::Slices(listed) => json!({ "slices": slices(listed) }),
        Body::Modules(modules) => {
            let modules: Map<String, Value> = modules
                .iter()
                .map(|module| {
                    let body = match &module.body {
                        ModuleBody::Models(listed) => {
                            json!({ "models": inputs(listed), "parameters": written(&module.parameters) })
                        }
                        ModuleBody::Slices(listed) => {
                            json!({ "slices": slices(listed), "parameters": written(&module.parameters) })
                        }
                    };
                    (module.name.value.clone(), body)
                })
                .collect();
            json!({ "modules": modules })
        }
    };
    let mut parameters = Map::new();
    for param in spec.params.iter().filter(|param| !param.inert) {
        if let Some(default) = default(param) {
            parameters.insert(param.name.to_owned(), default);
        }
    }
    parameters.extend(written(&stage.parameters));
    let mut described = json!({
        "name": stage.name,
        "method": spec.name,
        "method_version": spec.version,
        "base_model": stage.base.as_ref().map(|base| recipe.name_of(&base.value)),
        "dtype": stage.dtype.as_ref().map(|dtype| dtype.value.name()),
        "out_dtype": stage.out_dtype.as_ref().map(|dtype| dtype.value.name()),
        "seed": stage.seed,
        "parameters": parameters,
    });
    if let (Some(described), Value::Object(body)) = (described.as_object_mut(), body) {
        described.extend(body);
    }
    described
}

fn default(param: &ParamSpec) -> Option<Value> {
    match param.default {
        Default::Is(value) => Some(plain(value)),
        Default::Required | Default::Absent => None,
    }
}

fn written(parameters: &Parameters) -> Map<String, Value> {
    let setting = |setting: &Written| match setting {
        Written::Plain(values) => gradient(values),
        Written::Filtered(clauses) => clauses
            .iter()
            .map(|clause| json!({ "filter": clause.filter, "value": gradient(&clause.value) }))
            .collect(),
    };
    parameters.iter().map(|(name, located)| ((*name).to_owned(), setting(&located.value))).collect()
}

fn gradient(gradient: &Gradient) -> Value {
    match gradient.0.as_slice() {
        [value] => plain(*value),
        values => values.iter().map(|value| plain(*value)).collect(),
    }
}

fn plain(value: Setting) -> Value {
    match value {
        Setting::Number(number) => json!(number),
        Setting::Flag(flag) => json!(flag),
    }
}
