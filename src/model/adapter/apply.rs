//! What an adapter changes in a model, tensor by tensor, from names and shapes alone.

use std::collections::BTreeMap;

use serde_json::Value;

use super::change::{Change, Changed};
use super::config::{Config, ends_with};
use super::experts::Expert;
use super::folder::CONFIG;
use super::gathering::{B, Gathering, Product, listed};
use super::key::{Part, parse};
use super::names::Names;
use crate::model::view::View;
use crate::op::{Block, Factor, Rows, Vectors};
use crate::tensor::TensorSpec;

/// What an adapter is applied to.
#[derive(Clone, Copy, Debug)]
pub struct Base<'a> {
    pub tensors: &'a BTreeMap<String, TensorSpec>,
    /// Where tensors come from that are not stored under their name.
    pub views: &'a BTreeMap<String, View>,
    /// Its config.json.
    pub config: &'a Value,
}

/// Finds what an adapter's tensors do to a model's.
///
/// # Errors
/// Everything about it that is wrong, not understood, or made for another model, each with the key or tensor.
pub fn apply(
    base: Base<'_>,
    config: &Value,
    tensors: &BTreeMap<String, TensorSpec>,
) -> Result<BTreeMap<String, Changed>, Vec<String>> {
    let config =
        Config::read(config).map_err(|problems| problems.into_iter().map(in_config).collect::<Vec<_>>())?;
    let mut modules: BTreeMap<&str, BTreeMap<Part<'_>, &str>> = BTreeMap::new();
    let mut unknown = Vec::new();
    let mut errors = Vec::new();
    for name in tensors.keys() {
        let Some(key) = parse(name) else {
            unknown.push(name.as_str());
            continue;
        };
        if let Some(other) = modules.entry(key.module).or_default().insert(key.part, name) {
            errors.push(format!("`{other}` and `{name}` are the same part of the same module"));
        }
    }
    if let Some(listed) = listed(&unknown) {
        errors.push(format!("{listed}: unknown parts of an adapter"));
    }
    if tensors.is_empty() {
        errors.push("it contains no tensors".to_owned());
    }
    let mut gathering = Gathering::new(config, tensors, Names::new(base.tensors, base.views), errors);
    for (module, parts) in &modules {
        gathering.module(module, parts);
    }
    gathering.keep_head(base.config);
    gathering.finish()
}

fn in_config(problem: String) -> String {
    format!("{CONFIG} {problem}")
}

type Parts<'a> = BTreeMap<Part<'a>, &'a str>;

impl<'a> Gathering<'a> {
    fn module(&mut self, module: &str, parts: &Parts<'a>) {
        let get = |part: Part<'_>| parts.get(&part).copied();
        let (magnitude, beneath) = (get(Part::Magnitude), get(Part::Beneath("weight")));
        let product = |a, b| Product { a, b, magnitude, beneath };
        match (get(Part::A), get(Part::B)) {
            (Some(a), Some(b)) => self.product(module, product(a, b)),
            (Some(half), None) | (None, Some(half)) => self.half(half),
            (None, None) => {}
        }
        match (get(Part::EmbeddingA), get(Part::EmbeddingB)) {
            (Some(a), Some(b)) => self.embedding(module, product(a, b)),
            (Some(half), None) | (None, Some(half)) => self.half(half),
            (None, None) => {}
        }
        let has_product = [Part::A, Part::EmbeddingA].iter().any(|part| parts.contains_key(part));
        if let Some(key) = magnitude.filter(|_| !has_product) {
            self.half(key);
        }
        if let Some(key) = get(Part::BiasOfB) {
            self.bias(module, key, get(Part::Beneath("bias")));
        }
        if let Some(key) = get(Part::Tokens) {
            self.rows(module, key);
        }
        for (part, key) in parts {
            match part {
                Part::Beneath("weight") if has_product => {}
                Part::Beneath("bias") if parts.contains_key(&Part::BiasOfB) => {}
                Part::Beneath(tensor) | Part::Own(tensor) => self.own(&format!("{module}.{tensor}"), key),
                _ => {}
            }
        }
    }

    /// The factors of a linear layer, a convolution, a parameter or an expert.
    fn product(&mut self, module: &str, product: Product<'a>) {
        let weight = format!("{module}.weight");
        if let Some(target) = self.names.find(&weight) {
            // A parameter that is chosen by its own name goes by it.
            let as_parameter = self.config.target_parameters.iter().any(|name| ends_with(&weight, name));
            if !as_parameter && !self.config.targets(module) {
                return self.not_targeted.push(product.a);
            }
            let module = if as_parameter { weight.as_str() } else { module };
            return self.matrix(module, (target, target), product);
        }
        if !self.config.target_parameters.is_empty() && self.parameter(module, product) {
            return;
        }
        match (Expert::parse(module), self.names.tied_to(&weight)) {
            (Some(expert), _) if self.expert(module, expert, product) => {}
            (None, Some(_)) if self.config.keeps_ties => {}
            (None, Some(tied)) => self.matrix(module, (&weight, tied), product),
            _ => self.unmatched.push(product.a),
        }
    }

    /// An embedding that was trained as a whole leaves the head that it was tied to as it was, unless the two were
    /// kept one: the model has a head of its own then.
    fn keep_head(&mut self, config: &Value) {
        const HEAD: &str = "lm_head.weight";
        let architecture = config.pointer("/architectures/0").and_then(Value::as_str).unwrap_or_default();
        let has_head = ["ForCausalLM", "LMHeadModel"].iter().any(|ending| architecture.ends_with(ending));
        let is_tied = config.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(true);
        let Some(embedding) = self.names.tied_to(HEAD).filter(|_| has_head && is_tied) else { return };
        if self.whole.get(embedding).is_some_and(|changed| matches!(changed.change, Change::Whole { .. }))
            && !self.config.keeps_ties
            && !self.whole.contains_key(HEAD)
            && !self.updates.contains_key(HEAD)
        {
            let spec = self.names.tensors[embedding].clone();
            self.change(HEAD.to_owned(), Changed { spec, change: Change::OfModel(embedding.to_owned()) });
        }
    }

    /// A tensor that the adapter holds in full.
    fn own(&mut self, name: &str, key: &'a str) {
        let (target, like) = match (self.names.find(name), self.names.tied_to(name)) {
            (Some(target), _) => (target, target),
            (None, Some(_)) if self.config.keeps_ties => return,
            (None, Some(tied)) => (name, tied),
            (None, None) => return self.unmatched.push(key),
        };
        let spec = self.names.tensors[like].clone();
        if spec.shape.0 != self.shape(key) {
            let found = &self.tensors[key].shape;
            self.errors.push(format!("`{key}` is {found}, but the model's `{like}` is {}", spec.shape));
            return;
        }
        let change = Change::Whole { key: key.to_owned(), stored: self.tensors[key].clone() };
        self.change(target.to_owned(), Changed { spec, change });
    }

    /// New rows of an embedding.
    fn rows(&mut self, module: &str, key: &'a str) {
        let Some(target) = self.names.find(&format!("{module}.weight")) else {
            return self.unmatched.push(key);
        };
        let spec = self.names.tensors[target].clone();
        let Some(rows) = self.config.tokens(module) else {
            self.errors
                .push(format!("`{key}` has rows of tokens that `trainable_token_indices` does not list"));
            return;
        };
        let shape = self.shape(key);
        if shape.first() != Some(&rows.len()) || shape.get(1..) != spec.shape.0.get(1..) {
            let found = &self.tensors[key].shape;
            self.errors.push(format!(
                "`{key}` is {found}, which does not fit the rows that `trainable_token_indices` lists ({}) of the model's `{target}` {}",
                rows.len(),
                spec.shape
            ));
            return;
        }
        let Some(replace) = Rows::replacing(rows, spec.shape.clone()) else {
            self.errors.push(format!(
                "`trainable_token_indices` lists a row twice, or a row that the model's `{target}` {} does not have",
                spec.shape
            ));
            return;
        };
        let change = Change::Rows { base: target.to_owned(), rows: replace, from: key.to_owned() };
        self.change(target.to_owned(), Changed { spec, change });
    }

    /// What is added to a bias.
    fn bias(&mut self, module: &str, key: &'a str, beneath: Option<&'a str>) {
        let Some(target) = self.names.find(&format!("{module}.bias")) else {
            return self.unmatched.push(key);
        };
        let spec = self.names.tensors[target].clone();
        let [len] = spec.shape.0[..] else { return self.misfit(key, target) };
        if let Some(key) = [Some(key), beneath].into_iter().flatten().find(|key| self.shape(key) != [len]) {
            return self.misfit(key, target);
        }
        let scale = self.config.scale(module);
        let vectors = Vectors::Rows { count: 1, len };
        let Some(pending) = self.pending(target, &spec, beneath, vectors) else { return };
        let right = Factor { input: pending.input(B, key), first: 0, step: 1, rank_step: 0 };
        let block = Block { vectors: 0..1, left: None, right, rank: 1, scale, magnitude: None };
        pending.blocks.push(block);
    }
}
