//! Rules in config.json by which layers are of one kind or another, and stacks that do not follow them.
//!
//! `attn_layer_period` or `first_k_dense_replace` cannot say of a stack what its layers are, as a list can. A loader then
//! finds tensors missing, and others that it does not want.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::catalog::Inventory;
use super::stage_shape::OutputTensor;
use crate::model::layout::Position;
use crate::recipe::{Body, Finding, Stage};

/// Endings of keys that tell kinds of layers by rule.
const RULES: [&str; 9] = [
    "_period",
    "_interval",
    "_offset",
    "_step",
    "_start_index",
    "first_k_dense_replace",
    "num_dense_layers",
    "first_k_dense",
    "n_dense_layers",
];

/// Warns of a stack whose layers have other tensors than the donor's layers of the same numbers, where rules tell kinds.
pub fn check(
    stage: &Stage,
    donor: &Inventory,
    outputs: &BTreeMap<String, OutputTensor<'_>>,
) -> Option<Finding> {
    if matches!(stage.body, Body::Models(_)) {
        return None;
    }
    let rules = rules(&donor.config);
    let rule = rules.first()?;
    let (was, is) = (kinds(donor, donor.tensors.keys()), kinds(donor, outputs.keys()));
    let ((module, layer), _) =
        is.iter().find(|(place, kind)| was.get(place).is_some_and(|was| was != *kind))?;
    let message = format!(
        "stage `{}`: layer {layer} of {} has other tensors than a rule in config.json says (`{rule}`)",
        stage.name, donor.layout.modules[*module].name
    );
    let help = "choose slices that keep the order of the kinds of layers, or loaders will miss tensors";
    Some(Finding::warning("layers-by-rule", stage.span, message).help(help))
}

fn rules(config: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    for (key, value) in config.as_object().into_iter().flatten() {
        if value.as_u64().is_some_and(|value| value > 0) && RULES.iter().any(|rule| key.ends_with(rule)) {
            found.push(key.as_str());
        }
        found.extend(rules(value));
    }
    found
}

/// Of every layer of a module, what its tensors are called behind its number.
fn kinds<'n>(
    donor: &Inventory,
    names: impl Iterator<Item = &'n String>,
) -> BTreeMap<(usize, usize), BTreeSet<&'n str>> {
    let mut kinds: BTreeMap<(usize, usize), BTreeSet<&str>> = BTreeMap::new();
    for name in names {
        if let (module, Position::Layer(layer)) = donor.layout.place(name) {
            let behind = &name[donor.layout.modules[module].prefix.len() + 1..];
            let suffix = behind.trim_start_matches(|c: char| c.is_ascii_digit());
            kinds.entry((module, layer)).or_default().insert(suffix);
        }
    }
    kinds
}
