//! What a build would do, and why.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::error::ProjectError;
use super::kept::Kept;
use super::planned::Planned;
use super::records::{stage_names, variant};
use super::settings::Project;
use crate::build::reasons::{Last, Reason, reason};
use crate::build::resolve::Resolution;
use crate::build::source_range;
use crate::build::status::{Verdict, Verdicts, mark_removed, verdicts};
use crate::history::{self, Costs};
use crate::plan::{Node, NodeId};
use crate::recipe::Recipe;
use crate::store::tiered::Tiered;
use crate::store::{ActionCache, Store, StoreError};

/// What a build would do.
pub struct Status {
    /// Of every node of the plan, sources included.
    pub verdicts: Verdicts,
    /// Of every action that must run.
    pub reasons: BTreeMap<NodeId, Reason>,
    /// Whether there was an earlier build to compare with.
    pub compared: bool,
    /// What work took before.
    pub(super) costs: Costs,
}

impl Project {
    /// Tells what a build would do, without doing it.
    pub fn status(&self, recipe: &Recipe, planned: &Planned) -> Result<Status, ProjectError> {
        let Planned { plan, catalog } = planned;
        let store = Store::open_existing(&self.cache)?;
        let snapshot = store.as_ref().map(|store| store.index().snapshot()).transpose()?;
        let last = match &snapshot {
            Some(snapshot) => history::last_of(snapshot, &variant(recipe, plan), &stage_names(recipe, plan))?,
            None => None,
        };
        let remembered = |node: NodeId| match (&snapshot, &plan[node]) {
            (Some(snapshot), Node::Source(source)) => {
                let range = source_range(&catalog.checkpoints[source.model.0], &source.tensor);
                Ok(snapshot.remembered(&range)?.map(|content| content.digest))
            }
            _ => Ok(None),
        };
        let tiers = store.as_ref().map(Tiered::new);
        let cache = tiers.as_ref().map(|tiers| tiers as &dyn ActionCache);
        let resolution = Resolution::new(plan, cache, remembered)?;
        let mut verdicts = verdicts(plan, recipe, &resolution, last.as_ref())?;
        let since = last.as_ref().map(|last| Last::new(last, recipe));
        let to_run: Vec<NodeId> =
            plan.actions().map(|(node, _)| node).filter(|node| verdicts[*node] == Verdict::Run).collect();
        let why = |node: NodeId| -> Result<(NodeId, Reason), StoreError> {
            let reason = match (&snapshot, resolution.inputs(node)) {
                (Some(_), Some(inputs)) => reason(plan, recipe, node, &inputs, since.as_ref())?,
                _ => Reason::New,
            };
            Ok((node, reason))
        };
        let mut reasons: BTreeMap<NodeId, Reason> =
            to_run.into_par_iter().map(why).collect::<Result<_, _>>()?;
        if let (Some(store), Some(snapshot)) = (&store, &snapshot) {
            let digest = |node| resolution.state(node).digest();
            let last = last.as_ref().map(|last| &last.record);
            let kept = Kept::new(self, (recipe, plan), (store, snapshot), &digest, last);
            let removed =
                mark_removed(plan, &resolution, &mut verdicts, |node, digest| kept.holds(node, digest))?;
            reasons.extend(
                removed
                    .into_iter()
                    .filter(|node| verdicts[*node] == Verdict::Run)
                    .map(|node| (node, Reason::Forgotten)),
            );
        }
        let compared = last.is_some();
        let costs = snapshot.as_ref().map(Costs::read).transpose()?.unwrap_or_default();
        Ok(Status { verdicts, reasons, compared, costs })
    }
}
