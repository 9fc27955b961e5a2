//! The record of a build that did something.

use super::account::account;
use super::built::Report;
use super::error::ProjectError;
use super::records::{now, stage_names, variant};
use super::settings::Project;
use crate::build::reasons::{Last, Reason, reason, roots};
use crate::build::{Build, Measured, Outcome};
use crate::digest::Digest;
use crate::history::{self, Draft, Origin, OutputRecord, Recorder};
use crate::plan::{Action, Node, NodeId, Owner, Plan, key};
use crate::recipe::Recipe;
use crate::store::Store;

/// Records a build, and adds to its report what changed and under which number.
pub(super) fn record(
    project: &Project,
    (recipe, plan): (&Recipe, &Plan),
    (build, measured): (&Build<'_>, &Measured),
    store: &Store,
    report: &mut Report,
) -> Result<(), ProjectError> {
    let snapshot = store.index().snapshot()?;
    let last = history::last_of(&snapshot, &variant(recipe, plan), &stage_names(recipe, plan))?;
    let last = last.as_ref().map(|last| Last::new(last, recipe));
    let mut reasons: Vec<(&str, Reason)> = Vec::new();
    let mut recorder = Recorder::default();
    for (node, action) in plan.actions() {
        let resolved = build.resolved(node);
        let stage = &recipe.stage(action.owner.stage).name;
        let key = resolved.key.expect("actions have keys");
        let inputs = || action.inputs.iter().map(|input| input.node);
        let digests: Vec<Digest> = inputs().map(|input| build.resolved(input).digest).collect();
        let origins: Vec<Origin<'_>> = inputs().map(|input| origin(recipe, plan, input)).collect();
        recorder.action((stage, &action.owner.tensor), key, &origins, |sink| {
            key::write(plan, node, &digests, sink)
        });
        if resolved.outcome == Outcome::Ran {
            reasons.push((stage, reason(plan, recipe, node, &digests, last.as_ref())?));
        }
    }
    report.reasons = roots(reasons.iter().map(|(stage, reason)| (*stage, reason)));
    let lost = report.ran - reasons.len();
    if lost > 0 {
        report.reasons.push(("results no longer in the cache".to_owned(), lost));
    }
    let outputs = report.outputs.iter().map(|output| OutputRecord {
        stage: output.stage.clone(),
        dir: output.dir.to_string_lossy().into_owned(),
        tensors: output.tensors,
        reused: output.reused,
        cut_off: output.cut_off,
        rebuilt: output.rebuilt,
        bytes: output.bytes,
        written: output.written.bytes_written,
    });
    let whole = (report.seconds, build.threads());
    let draft = Draft {
        time: now(),
        variant: variant(recipe, plan),
        recipe_text: recipe.text.to_string(),
        seconds: report.seconds,
        outputs: outputs.collect(),
        ran: report.ran,
        reasons: report.reasons.iter().map(|(text, _)| text.clone()).collect(),
        account: account(project, (recipe, plan), build, measured, whole),
    };
    report.number = Some(history::add(store.index(), draft, recorder)?);
    Ok(())
}

/// Where a node's bytes come from, as the record names it.
fn origin<'a>(recipe: &'a Recipe, plan: &'a Plan, node: NodeId) -> Origin<'a> {
    match &plan[node] {
        Node::Source(_) => Origin::Source,
        Node::Action(Action { owner: Owner { stage, tensor }, .. }) => {
            Origin::Result { stage: &recipe.stage(*stage).name, tensor }
        }
    }
}
