//! Why actions are not up to date: typed, for others to render.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::digest::Digest;
use crate::history::{Past, Record, Variant};
use crate::manifest::{self, Change};
use crate::plan::{Action, Node, NodeId, Plan, key};
use crate::recipe::changes::{FieldChange, changes};
use crate::recipe::{LoadOptions, Recipe, Span, load};
use crate::store::StoreError;

/// Why one action must run, or ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No build of this recipe has made the tensor.
    New,
    /// Fields of its key differ from the last build's.
    Changed(Vec<Difference>),
    /// The key is that of the last build, but the store no longer knows its result.
    Forgotten,
}

/// One field that differs, in a person's words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The key's field, such as `inputs[1].weight`.
    pub field: String,
    /// The parameter or what else changed, such as `weight of org/model`.
    pub what: String,
    pub old: Option<String>,
    pub new: Option<String>,
    /// Where the recipe gives the new value.
    pub span: Option<Span>,
    /// Whether it only follows from another difference.
    pub derived: bool,
}

impl Difference {
    /// Whether bytes that are read changed, rather than something that the recipe says.
    pub fn is_input(&self) -> bool {
        self.field.ends_with(".digest")
    }

    /// `weight of org/model 0.9 -> 0.85`.
    pub fn text(&self) -> String {
        if self.is_input() || (&self.old, &self.new) == (&None, &None) {
            self.what.clone()
        } else {
            format!("{} {}", self.what, self.old_to_new())
        }
    }

    /// `0.9 -> 0.85`.
    pub fn old_to_new(&self) -> String {
        // Keys leave out what cannot matter, such as a density of 1.
        let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "not used".to_owned());
        format!("{} -> {}", side(&self.old), side(&self.new))
    }
}

/// The build to compare with, and what was edited in the recipe since.
pub struct Last<'a> {
    past: &'a Past<'a>,
    recipe: &'a Recipe,
    /// Found when something turns out to have changed.
    edits: OnceLock<Vec<FieldChange>>,
}

impl<'a> Last<'a> {
    pub fn new(past: &'a Past<'a>, recipe: &'a Recipe) -> Self {
        Self { past, recipe, edits: OnceLock::new() }
    }

    fn edits(&self) -> Result<&[FieldChange], StoreError> {
        if let Some(edits) = self.edits.get() {
            return Ok(edits);
        }
        let text = self.past.recipe_text()?.unwrap_or_default();
        Ok(self.edits.get_or_init(|| {
            let Record { variant: Variant { recipe: name, sets, seed, .. }, .. } = &self.past.record;
            let options = LoadOptions { name: name.clone(), sets: sets.clone(), seed: *seed };
            // A recipe that this version no longer reads leaves only keys to compare.
            let old = load(&text, &options).recipe;
            old.map_or_else(Vec::new, |old| changes(&old, self.recipe))
        }))
    }

    /// The edits that show in an action's key, as differences of the recipe's own fields, and behind them what
    /// only follows from them.
    fn in_recipes_words(&self, stage: &str, found: Vec<Difference>) -> Result<Vec<Difference>, StoreError> {
        let of_stage = |edit: &&FieldChange| edit.stage.as_deref().is_none_or(|of| of == stage);
        let edits: Vec<&FieldChange> = self.edits()?.iter().filter(of_stage).collect();
        let is_plain = |difference: &Difference| !difference.is_input();
        // What is set shows under its own name; a list, a method or a type shows in anything.
        let shows_in = |edit: &FieldChange| {
            found.iter().find(|difference| {
                let of = edit.model.as_ref().is_none_or(|model| difference.what.ends_with(model.as_str()));
                edit.param.is_some_and(|param| of && split(&difference.field).1 == param)
            })
        };
        let mut shown: Vec<&FieldChange> =
            edits.iter().filter(|edit| edit.param.is_none() || shows_in(edit).is_some()).copied().collect();
        if shown.is_empty() && found.iter().any(is_plain) {
            shown = edits;
        }
        if shown.is_empty() {
            return Ok(found);
        }
        let is_structural = shown.iter().any(|edit| edit.param.is_none());
        let told: Vec<Difference> = shown
            .iter()
            .map(|edit| Difference {
                field: shows_in(edit)
                    .map_or_else(|| edit.what.clone(), |difference| difference.field.clone()),
                what: edit.what.clone(),
                old: edit.old.clone(),
                new: edit.new.clone(),
                span: edit.span,
                derived: false,
            })
            .collect();
        let rest: Vec<Difference> = found
            .into_iter()
            .filter(|difference| !told.iter().any(|edit| edit.what == difference.what))
            .map(|difference| Difference { derived: is_structural || !difference.is_input(), ..difference })
            .collect();
        Ok(told.into_iter().chain(rest).collect())
    }
}

/// Compares an action whose inputs are known with what the last build made.
pub fn reason(
    plan: &Plan,
    recipe: &Recipe,
    node: NodeId,
    inputs: &[Digest],
    last: Option<&Last<'_>>,
) -> Result<Reason, StoreError> {
    let Node::Action(action) = &plan[node] else { unreachable!("only actions have reasons") };
    let stage = &recipe.stage(action.owner.stage).name;
    let Some(last) = last else { return Ok(Reason::New) };
    let Some(old) = last.past.manifest(stage, &action.owner.tensor)? else { return Ok(Reason::New) };
    let changes = manifest::diff(&old, &key::action_manifest(plan, node, inputs));
    if changes.is_empty() {
        return Ok(Reason::Forgotten);
    }
    let found = changes.into_iter().map(|change| describe(plan, recipe, action, change)).collect();
    Ok(Reason::Changed(last.in_recipes_words(stage, found)?))
}

fn describe(plan: &Plan, recipe: &Recipe, action: &Action, change: Change) -> Difference {
    let Change { field, old, new } = change;
    let (input, name) = split(&field);
    let read = input.and_then(|input| action.inputs.get(input));
    let label = read.map(|input| input.label.as_str());
    let is_action = read.is_some_and(|input| matches!(plan[input.node], Node::Action(_)));
    let what = match (name, label) {
        ("digest", Some(label)) if is_action => format!("the result of {label} changed"),
        ("digest", Some(label)) => format!("the tensor in {label} changed"),
        ("digest", None) => "an input is gone".to_owned(),
        ("stream", Some(label)) => format!("random stream of {label}"),
        (name, Some(label)) => format!("{name} of {label}"),
        (name, None) => match input {
            Some(input) => format!("{name} of input {input}"),
            None => name.to_owned(),
        },
    };
    let origin = action.origins.iter().find(|origin| origin.param == name && origin.input == input);
    let stage = recipe.stage(action.owner.stage);
    let span = origin.map(|origin| origin.span).or(match name {
        "method" | "method.version" => Some(stage.span),
        "compute" => stage.dtype.as_ref().map(|dtype| dtype.span),
        "output.dtype" => stage.out_dtype.as_ref().or(stage.dtype.as_ref()).map(|dtype| dtype.span),
        _ => None,
    });
    Difference { field, what, old, new, span, derived: false }
}

/// Splits `inputs[1].weight` into 1 and `weight`.
fn split(field: &str) -> (Option<usize>, &str) {
    let input = field.strip_prefix("inputs[").and_then(|rest| rest.split_once("]."));
    match input.and_then(|(number, name)| Some((number.parse().ok()?, name))) {
        Some((number, name)) => (Some(number), name),
        None => (None, field),
    }
}

/// The differences behind many reasons that the recipe or the sources made themselves, each with its
/// stage, once, in the order of the first tensor. Changes that follow from those upstream are left out.
pub fn roots<'a>(reasons: impl Iterator<Item = (&'a str, &'a Reason)>) -> Vec<(String, usize)> {
    let mut order: Vec<String> = Vec::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (stage, reason) in reasons {
        let Reason::Changed(differences) = reason else { continue };
        for difference in differences.iter().filter(|difference| !difference.derived) {
            let text = match difference.is_input() {
                true if difference.what.starts_with("the tensor in") => difference.what.clone(),
                true => continue,
                false if difference.what == "seed" => difference.text(),
                false => format!("{stage} {}", difference.text()),
            };
            *counts.entry(text.clone()).or_insert_with(|| {
                order.push(text.clone());
                0
            }) += 1;
        }
    }
    order.into_iter().map(|text| (text.clone(), counts[&text])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_inputs_are_split() {
        assert_eq!(split("inputs[12].weight"), (Some(12), "weight"));
        assert_eq!(split("lambda"), (None, "lambda"));
    }

    #[test]
    fn roots_leave_out_what_follows_from_upstream() {
        let difference = |field: &str, what: &str| Difference {
            field: field.to_owned(),
            what: what.to_owned(),
            old: Some("1".to_owned()),
            new: Some("2".to_owned()),
            span: None,
            derived: false,
        };
        let weight = Reason::Changed(vec![difference("inputs[1].weight", "weight of a")]);
        let below = Reason::Changed(vec![difference("inputs[0].digest", "the result of x changed")]);
        let source = Reason::Changed(vec![difference("inputs[0].digest", "the tensor in m changed")]);
        let reasons = [("x", &weight), ("x", &weight), ("y", &below), ("x", &source)];
        let roots = roots(reasons.into_iter());
        assert_eq!(
            roots,
            [("x weight of a 1 -> 2".to_owned(), 2), ("the tensor in m changed".to_owned(), 1)]
        );
    }
}
