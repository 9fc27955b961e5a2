//! Settings that have no effect, as far as tensor names and layer counts tell.

use std::collections::HashSet;

use super::catalog::{Inventory, Model};
use super::segments::Segment;
use super::stage_shape::{OutputTensor, Shapes, StageShape, inventory_of};
use crate::methods::Scope;
use crate::recipe::{Finding, Parameters, Recipe, Reference, Setting, Stage, StageId};

/// Warns of filters that match no tensor, or only a piece of one, and of gradients over a single layer.
pub fn check(
    recipe: &Recipe,
    models: &[Model],
    order: &[StageId],
    shapes: &Shapes<'_>,
    findings: &mut Vec<Finding>,
) {
    for id in order {
        let stage = recipe.stage(*id);
        let shape = shapes[id.0].as_ref().expect("every stage of the order is shaped");
        // Levels above a slice are many slices', and looked at once.
        let mut seen: HashSet<*const Parameters> = HashSet::new();
        let mut levels: Vec<&Parameters> = Vec::new();
        for segment in &shape.segments {
            let own = segment.sources.iter().filter_map(|source| source.parameters);
            let all = own.chain(segment.levels.iter().copied());
            levels.extend(all.filter(|level| seen.insert(std::ptr::from_ref(*level))));
            if segment.layers == 1 {
                gradients_over_one_layer(stage, segment, findings);
            }
        }
        for level in levels {
            filters_without_match(stage, shape, level, findings);
            filters_of_pieces(
                stage,
                shape,
                level,
                &|reference| inventory_of(models, shapes, reference),
                findings,
            );
        }
    }
}

fn filters_without_match(
    stage: &Stage,
    shape: &StageShape<'_>,
    level: &Parameters,
    findings: &mut Vec<Finding>,
) {
    for (name, setting) in level {
        let Setting::Filtered(clauses) = &setting.value else { continue };
        let shared = stage.method.spec().param(name).is_some_and(|param| param.scope == Scope::Shared);
        for clause in clauses {
            let Some(filter) = &clause.filter else { continue };
            let matches = shape.outputs.iter().any(|(output, tensor)| {
                if shared {
                    output.contains(filter.as_str())
                } else {
                    tensor.parts.iter().any(|part| part.tensor.contains(filter.as_str()))
                }
            });
            if !matches {
                let message =
                    format!("stage `{}`: the filter `{filter}` of `{name}` matches no tensor", stage.name);
                let finding = Finding::warning("filter-without-match", clause.span, message).help(
                    "a filter is a plain substring of a tensor name; `lamarck inspect` lists the names",
                );
                push_once(findings, finding);
            }
        }
    }
}

/// Warns of filters that match what a file calls some experts, but not the tensor that they are merged as.
fn filters_of_pieces<'i>(
    stage: &Stage,
    shape: &StageShape<'_>,
    level: &Parameters,
    inventory: &dyn Fn(&Reference) -> &'i Inventory,
    findings: &mut Vec<Finding>,
) {
    let is_piece = |output: &OutputTensor<'_>, filter: &str| {
        let segment = &shape.segments[output.segment];
        let is_of_all = segment.levels.iter().any(|of_all| std::ptr::eq(*of_all, level));
        output.parts.iter().any(|part| {
            let source = &segment.sources[part.source];
            let is_own = source.parameters.is_some_and(|own| std::ptr::eq(own, level));
            let of = inventory(source.reference);
            (is_of_all || is_own)
                && !part.tensor.contains(filter)
                && of.pieces(&part.tensor).iter().any(|piece| piece.contains(filter))
        })
    };
    for (name, setting) in level {
        let Setting::Filtered(clauses) = &setting.value else { continue };
        for clause in clauses {
            let Some(filter) = &clause.filter else { continue };
            let Some((joined, _)) = shape.outputs.iter().find(|(_, output)| is_piece(output, filter)) else {
                continue;
            };
            let message = format!(
                "stage `{}`: the filter `{filter}` of `{name}` does not match experts, which are merged together as `{joined}`",
                stage.name
            );
            let finding = Finding::warning("filter-of-experts", clause.span, message)
                .help("use a filter such as `experts.gate_up_proj` or `experts.down_proj`");
            push_once(findings, finding);
        }
    }
}

fn gradients_over_one_layer(stage: &Stage, segment: &Segment<'_>, findings: &mut Vec<Finding>) {
    // Settings above the slice span other slices too, where they may well have an effect.
    let own =
        segment.sources.iter().filter_map(|source| source.parameters).chain(segment.levels.first().copied());
    for (name, setting) in own.filter(|level| !std::ptr::eq(*level, &stage.parameters)).flatten() {
        if let Setting::Plain(gradient) = &setting.value
            && gradient.0.len() > 1
        {
            let message = format!(
                "stage `{}`: `{name}` is a gradient over a single layer, which takes its last value",
                stage.name
            );
            push_once(findings, Finding::warning("gradient-over-one-layer", setting.span, message));
        }
    }
}

fn push_once(findings: &mut Vec<Finding>, finding: Finding) {
    if !findings.contains(&finding) {
        findings.push(finding);
    }
}
