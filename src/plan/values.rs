//! The values that a stage's parameters have for each of its tensors, for whoever wants to look at them.

use std::collections::BTreeMap;

use super::arguments::Site;
use super::catalog::Model;
use super::order::needed;
use super::segments::Segment;
use super::shapes;
use super::stage_shape::StageShape;
use crate::methods::Value;
use crate::recipe::{Recipe, StageId};

/// A parameter of a stage, or of one of its inputs, as it is resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterValues {
    pub stage: StageId,
    pub param: &'static str,
    /// The input that it is set for; `None` where it is shared.
    pub input: Option<String>,
    /// By output tensor: numbers, and 0 and 1 for flags.
    pub values: BTreeMap<String, f64>,
    /// Output layers that are a slice by themselves, to which a gradient gives its last value.
    pub alone: Vec<usize>,
}

/// Every parameter of every needed stage that some place in the recipe gives a value.
pub fn parameter_values(recipe: &Recipe, models: &[Model], targets: &[StageId]) -> Vec<ParameterValues> {
    let order = needed(recipe, targets);
    let Some(shapes) = shapes::shape_all(recipe, models, &order, &mut Vec::new()) else { return Vec::new() };
    let shaped = order.iter().filter_map(|id| Some((*id, shapes[id.0].as_ref()?)));
    shaped.flat_map(|(id, shape)| of_stage(recipe, id, shape)).collect()
}

fn of_stage(recipe: &Recipe, id: StageId, shape: &StageShape<'_>) -> Vec<ParameterValues> {
    let is_alone = |segment: &&Segment<'_>| segment.layers == 1;
    let alone: Vec<usize> =
        shape.segments.iter().filter(is_alone).map(|segment| segment.first_layer).collect();
    let mut all: Vec<ParameterValues> = Vec::new();
    let mut given: Vec<(&'static str, Option<String>)> = Vec::new();
    let mut add = |param, input: Option<String>, tensor: &str, value: Value| {
        let found = all.iter().position(|of| of.param == param && of.input == input);
        let number = found.unwrap_or_else(|| {
            let values = BTreeMap::new();
            let (input, alone) = (input.clone(), alone.clone());
            all.push(ParameterValues { stage: id, param, input, values, alone });
            all.len() - 1
        });
        all[number].values.insert(tensor.to_owned(), number_of(value));
    };
    for (name, output) in &shape.outputs {
        if output.copied || !output.spec.dtype.is_float() {
            continue;
        }
        let site = Site { recipe, id, name, output, segment: &shape.segments[output.segment] };
        // What cannot be resolved is an error of the plan, which there is none of.
        let Ok(resolved) = site.arguments() else { continue };
        let label = |input: usize| site.label(&output.parts[input]).to_owned();
        for (param, input, _) in resolved.origins {
            let of = (param, input.map(label));
            if !given.contains(&of) {
                given.push(of);
            }
        }
        for (param, value) in resolved.arguments.shared.all() {
            add(param, None, name, value);
        }
        for (number, input) in resolved.arguments.inputs.iter().enumerate() {
            for (param, value) in input.values.all() {
                add(param, Some(label(number)), name, value);
            }
        }
    }
    all.retain(|values| {
        let is_inert = recipe.stage(id).method.spec().param(values.param).is_some_and(|param| param.inert);
        !is_inert && given.iter().any(|(param, input)| *param == values.param && *input == values.input)
    });
    all
}

fn number_of(value: Value) -> f64 {
    match value {
        Value::Number(number) => number,
        Value::Integer(number) => number as f64,
        Value::Flag(flag) => f64::from(u8::from(flag)),
    }
}
