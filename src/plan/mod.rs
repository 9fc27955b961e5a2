//! The plan: from a recipe and the checkpoints' headers to a graph of per-tensor actions.
//!
//! A pure function: no I/O, no clock, no environment. From the catalog of models, stages are shaped first (which
//! tensors each has, made of what, with whose vocabulary and config), then lowered on demand from the targets,
//! so that what nothing reaches is not in the graph at all.
//!
//! | step | makes |
//! | --- | --- |
//! | `catalog` | models, and what is known of each without reading a tensor |
//! | `adapted` | what adapters change in them, and in stages |
//! | `order` | the stages that the targets need |
//! | `bare` | whether a stage merges models, or bare state dicts |
//! | `segments`, `slots` | runs of layers, and the names of a stage's tensors |
//! | `shapes` | `stage_shape`: parts, dtype and shape of every tensor, with `vocabulary` and `config` |
//! | `token_plan`, `rows`, `token_ids` | tokens that get other places: embeddings, heads, and ids in configs |
//! | `layer_rules` | whether a stack's layers are of the kinds that config.json tells by rule |
//! | `lint` | findings about settings without effect |
//! | `arguments`, `params` | a method's values for one tensor |
//! | `lower` | `graph`: sources and actions |
//! | `difference` | a plan of how tensors of two others differ |
//! | `statistics` | more actions, that tell what a stage did |
//! | `values` | a method's values for every tensor, to be looked at |
//! | `key` | what of an action can change its bytes |

use crate::recipe::{Finding, Recipe, Reference, Span, StageId};
use crate::reference::ModelRef;

mod adapted;
mod arguments;
mod bare;
mod catalog;
mod config;
pub mod difference;
mod fp8;
mod graph;
pub mod key;
mod layer_rules;
mod lint;
mod lower;
mod order;
mod params;
mod rows;
mod segments;
mod shapes;
mod slots;
mod stage_shape;
mod statistics;
mod token_ids;
mod token_plan;
mod values;
mod vocabulary;

pub use adapted::AdaptedInventory;
pub use catalog::{Inventory, Model, ModelId};
pub use graph::{Action, Input, Node, NodeId, Owner, Plan, Source, StagePlan};
pub use order::{final_stages, needed};
pub use rows::RowCount;
pub use statistics::{add_ancestry, add_changes, add_conflicts, add_statistics};
pub use values::{ParameterValues, parameter_values};

/// Every stage, each behind those it reads.
pub fn stages_in_order(recipe: &Recipe) -> Vec<StageId> {
    needed(recipe, &final_stages(recipe))
}

/// A folder that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    pub reference: ModelRef,
    /// Whether it must hold an adapter, not a model.
    pub is_adapter: bool,
    /// A place that names it.
    pub span: Span,
}

/// The models and adapters that the targets (or, without any, all final stages) need, in the order of the recipe.
pub fn models_needed(recipe: &Recipe, targets: &[StageId]) -> Vec<Needed> {
    let targets = if targets.is_empty() { final_stages(recipe) } else { targets.to_vec() };
    let mut stages = order::needed(recipe, &targets);
    stages.sort_unstable();
    let mut models: Vec<Needed> = Vec::new();
    let mut need = |reference: &ModelRef, is_adapter, span| {
        if models.iter().all(|known| known.reference != *reference || known.is_adapter != is_adapter) {
            models.push(Needed { reference: reference.clone(), is_adapter, span });
        }
    };
    for stage in stages.into_iter().map(|id| recipe.stage(id)) {
        let tokenizer = stage.tokenizer.as_ref().map_or(stage.span, |tokenizer| tokenizer.span);
        let named = stage.references().into_iter().map(|spanned| (&spanned.value, spanned.span));
        let tokenizer = stage.tokenizer_models().map(|reference| (reference, tokenizer));
        for (reference, span) in named.chain(tokenizer) {
            if let Reference::Model(model) = reference.plain() {
                need(model, false, span);
            }
            if let Reference::Adapted(adapted) = reference {
                need(&adapted.adapter, true, span);
            }
        }
    }
    models
}

/// Plans what it takes to have the targets, or every final stage if none is given.
///
/// Returns the plan unless there is an error among the findings.
pub fn plan(recipe: &Recipe, models: &[Model], targets: &[StageId]) -> (Option<Plan>, Vec<Finding>) {
    let targets = if targets.is_empty() { final_stages(recipe) } else { targets.to_vec() };
    let order = order::needed(recipe, &targets);
    let mut findings = Vec::new();
    let shapes = shapes::shape_all(recipe, models, &order, &mut findings);
    let plan = shapes.map(|shapes| {
        lint::check(recipe, models, &order, &shapes, &mut findings);
        lower::lower(recipe, models, &order, &targets, shapes, &mut findings)
    });
    let has_error = findings.iter().any(Finding::is_error);
    (plan.filter(|_| !has_error), findings)
}
