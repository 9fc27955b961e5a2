//! What has been found of an adapter so far: changes of tensors, and what is wrong.

use std::collections::BTreeMap;

use super::change::{BaseTensor, Change, Changed};
use super::config::Config;
use super::folder::CONFIG;
use super::names::Names;
use crate::op::{Block, Role, Update, Vectors};
use crate::tensor::TensorSpec;

pub const A: Role = Role("A");
pub const B: Role = Role("B");
pub const MAGNITUDE: Role = Role("magnitude");

/// Names the first of some keys, and how many more there are.
pub fn listed(keys: &[&str]) -> Option<String> {
    match keys {
        [] => None,
        [key] => Some(format!("`{key}`")),
        [key, more @ ..] => Some(format!("`{key}` and {} more", more.len())),
    }
}

/// An adapter on its way onto a model.
pub struct Gathering<'a> {
    pub config: Config,
    /// The adapter's.
    pub tensors: &'a BTreeMap<String, TensorSpec>,
    pub names: Names<'a>,
    pub whole: BTreeMap<String, Changed>,
    /// Updates in the making, by the tensor that they change.
    pub updates: BTreeMap<String, Pending>,
    pub unmatched: Vec<&'a str>,
    pub not_targeted: Vec<&'a str>,
    pub errors: Vec<String>,
}

/// The tensors that make an update, by their names in the adapter.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    pub a: &'a str,
    pub b: &'a str,
    pub magnitude: Option<&'a str>,
    /// What the adapter has in place of the model's own tensor.
    pub beneath: Option<&'a str>,
}

/// An update to which one module after the other adds a block.
pub struct Pending {
    pub spec: TensorSpec,
    pub base: BaseTensor,
    pub vectors: Vectors,
    pub blocks: Vec<Block>,
    pub beside: Vec<(Role, String)>,
}

impl Pending {
    /// Adds an input; gives its number.
    pub fn input(&mut self, role: Role, key: &str) -> usize {
        self.beside.push((role, key.to_owned()));
        self.beside.len()
    }
}

impl<'a> Gathering<'a> {
    pub fn new(
        config: Config,
        tensors: &'a BTreeMap<String, TensorSpec>,
        names: Names<'a>,
        errors: Vec<String>,
    ) -> Self {
        Self {
            config,
            tensors,
            names,
            whole: BTreeMap::new(),
            updates: BTreeMap::new(),
            unmatched: Vec::new(),
            not_targeted: Vec::new(),
            errors,
        }
    }

    pub fn shape(&self, key: &str) -> &'a [usize] {
        &self.tensors[key].shape.0
    }

    /// How many elements a tensor of the adapter has.
    pub fn elements(&self, key: &str) -> usize {
        self.tensors[key].shape.elements()
    }

    pub fn half(&mut self, key: &str) {
        self.errors.push(format!("`{key}` lacks its other half"));
    }

    pub fn change(&mut self, target: String, changed: Changed) {
        if self.whole.contains_key(&target) || self.updates.contains_key(&target) {
            self.errors.push(format!("it changes the model's `{target}` in two ways"));
        }
        self.whole.insert(target, changed);
    }

    pub fn misfit(&mut self, key: &str, target: &str) {
        let found = &self.tensors[key].shape;
        let shape = &self.names.tensors[target].shape;
        self.errors.push(format!("`{key}` {found} does not fit the model's `{target}` {shape}"));
    }

    /// The update of a tensor, started by the first who adds to it.
    pub fn pending(
        &mut self,
        target: &str,
        spec: &TensorSpec,
        beneath: Option<&str>,
        vectors: Vectors,
    ) -> Option<&mut Pending> {
        let is_new = !self.updates.contains_key(target) && !self.whole.contains_key(target);
        let pending = self.updates.entry(target.to_owned()).or_insert_with(|| Pending {
            spec: spec.clone(),
            base: match beneath {
                Some(key) => BaseTensor::OfAdapter(key.to_owned()),
                None => BaseTensor::OfModel(target.to_owned()),
            },
            vectors,
            blocks: Vec::new(),
            beside: Vec::new(),
        });
        if !is_new && (pending.vectors != vectors || self.whole.contains_key(target)) {
            self.errors.push(format!("it changes the model's `{target}` in two ways"));
            return None;
        }
        Some(pending)
    }

    /// Checks the rank of a pair of factors with these dimensions.
    pub fn check_rank(
        &mut self,
        module: &str,
        Product { a, b, .. }: Product<'a>,
        [of_a, of_b]: [usize; 2],
    ) -> bool {
        let rank = self.config.rank(module);
        for (key, found) in [(a, of_a), (b, of_b)] {
            if found != rank {
                let shape = &self.tensors[key].shape;
                self.errors.push(format!(
                    "`{key}` {shape} has rank {found}, but {} gives its module rank {rank}",
                    CONFIG
                ));
                return false;
            }
        }
        rank > 0
    }

    pub fn finish(mut self) -> Result<BTreeMap<String, Changed>, Vec<String>> {
        if let Some(listed) = listed(&self.unmatched) {
            self.errors.push(format!("{listed}: no tensor of the model matches"));
        }
        if let Some(listed) = listed(&self.not_targeted) {
            self.errors.push(format!("{listed}: weights of a module that {} does not target", CONFIG));
        }
        for (target, pending) in &mut self.updates {
            pending.blocks.sort_by_key(|block| block.vectors.start);
            if pending.blocks.windows(2).any(|pair| pair[0].vectors.end > pair[1].vectors.start) {
                self.errors.push(format!("it changes the model's `{target}` in two ways"));
            }
            let no_float = pending
                .beside
                .iter()
                .map(|(_, key)| (key, &self.tensors[key]))
                .chain([(target, &pending.spec)]);
            for (name, spec) in no_float.filter(|(_, spec)| !spec.dtype.is_float()) {
                self.errors
                    .push(format!("`{name}` is stored as {}, which does not allow arithmetic", spec.dtype));
            }
        }
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        let finished = self.updates.into_iter().map(|(target, pending)| {
            let Pending { spec, base, vectors, blocks, beside } = pending;
            let update = Update { vectors, blocks };
            (target, Changed { spec, change: Change::Updated { base, update, beside } })
        });
        self.whole.extend(finished);
        Ok(self.whole)
    }
}
