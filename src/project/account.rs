//! What a build took, stage by stage, for its record.

use std::path::Path;

use super::settings::Project;
use crate::build::{Build, Measured, Outcome, Work};
use crate::history::{Account, Effort, Piece, StageAccount};
use crate::plan::{Node, Plan};
use crate::recipe::{Recipe, StageId};

/// The account of a build that took so many seconds, on so many threads.
pub(super) fn account(
    project: &Project,
    (recipe, plan): (&Recipe, &Plan),
    build: &Build<'_>,
    measured: &Measured,
    whole: (f64, usize),
) -> Account {
    let work = measured.all();
    let effort = |stage: Option<StageId>| {
        let is_of = |work: &&Work| match &plan[work.node] {
            Node::Source(_) => stage.is_none(),
            Node::Action(action) => stage == Some(action.owner.stage),
        };
        let piece = |work: &Work| Piece {
            bytes: plan[work.node].spec().n_bytes() as u64,
            threads: work.threads,
            began: work.began.as_secs_f64(),
            ended: (work.began + work.took).as_secs_f64(),
        };
        Effort::of(work.iter().filter(is_of).map(piece), whole)
    };
    let stages = plan.order.iter().map(|id| {
        let mut stage = StageAccount {
            name: recipe.stage(*id).name.clone(),
            ran: effort(Some(*id)),
            ..StageAccount::default()
        };
        for (node, action) in plan.actions().filter(|(_, action)| action.owner.stage == *id) {
            stage.actions += 1;
            stage.bytes += action.output.n_bytes() as u64;
            match build.outcome(node) {
                Outcome::Reused => stage.reused += 1,
                Outcome::CutOff => stage.cut_off += 1,
                Outcome::Ran => {}
            }
        }
        stage
    });
    Account {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        threads: whole.1 as u64,
        models: project.places.models.iter().map(|folder| absolute(folder)).collect(),
        hashed: effort(None),
        stages: stages.collect(),
    }
}

fn absolute(folder: &Path) -> String {
    let path = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    path.to_string_lossy().into_owned()
}
