//! Which stages' results a build does not store, and what that saves.

use std::collections::{HashMap, HashSet};

use super::error::ProjectError;
use super::planned::Planned;
use super::records::file_id;
use super::settings::Project;
use super::status::Status;
use crate::build::reasons::Reason;
use crate::build::status::Verdict;
use crate::build::{Policy, Storing, Why};
use crate::history;
use crate::op::Access;
use crate::plan::{NodeId, Plan};
use crate::recipe::{Recipe, StageId};
use crate::store::snapshot::Snapshot;
use crate::store::{Store, StoreError};

/// A stage whose results a build will not store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unstored {
    /// The stage's name.
    pub stage: String,
    /// Bytes of results that are made and not stored.
    pub bytes: u64,
    /// Who decided that.
    pub why: Why,
}

impl Project {
    /// What becomes of the results of a recipe's stages, as things stand.
    pub(super) fn storing(
        &self,
        recipe: &Recipe,
        snapshot: Option<&Snapshot<'_>>,
    ) -> Result<Storing, StoreError> {
        let changing = match snapshot {
            Some(snapshot) if self.policy == Policy::Auto => {
                let names: Vec<&str> = recipe.stages.iter().map(|stage| stage.name.as_str()).collect();
                history::changing(snapshot, &file_id(recipe.name.as_ref()), &names)?
            }
            _ => HashSet::new(),
        };
        let stages = recipe.stages.iter().enumerate();
        let changing = stages.filter(|(_, stage)| changing.contains(&stage.name));
        Ok(Storing::new(recipe, self.policy, &changing.map(|(number, _)| StageId(number)).collect()))
    }

    /// The same, of a store that is not open yet.
    pub(super) fn storing_now(&self, recipe: &Recipe) -> Result<Storing, StoreError> {
        let store = match self.policy {
            Policy::Auto => Store::open_existing(&self.cache)?,
            Policy::All | Policy::Named => None,
        };
        let snapshot = store.as_ref().map(|store| store.index().snapshot()).transpose()?;
        self.storing(recipe, snapshot.as_ref())
    }

    /// The stages whose results a build would make and not store, in the order in which they depend on one another.
    ///
    /// # Errors
    /// [`ProjectError::Store`] if the store cannot be read.
    pub fn unstored(
        &self,
        recipe: &Recipe,
        planned: &Planned,
        status: &Status,
    ) -> Result<Vec<Unstored>, ProjectError> {
        let storing = self.storing_now(recipe)?;
        let plan = &planned.plan;
        let mut bytes: HashMap<StageId, u64> = HashMap::new();
        for node in for_store(plan) {
            let stage = plan.action(node).owner.stage;
            let n_bytes = plan[node].spec().n_bytes() as u64;
            let is_made = matches!(status.verdicts[node], Verdict::Run | Verdict::RunIfChanged);
            let again = status.reasons.get(&node) == Some(&Reason::Forgotten);
            if is_made && !storing.holds(stage, n_bytes, again) {
                *bytes.entry(stage).or_default() += n_bytes;
            }
        }
        let of = |stage: &StageId| {
            let (bytes, why) = (*bytes.get(stage)?, storing.why_not(*stage)?);
            Some(Unstored { stage: recipe.stage(*stage).name.clone(), bytes, why })
        };
        Ok(plan.order.iter().filter_map(of).collect())
    }
}

/// The actions whose results only the store could hold: they have bytes of their own, and no single output holds
/// those.
pub(super) fn for_store(plan: &Plan) -> impl Iterator<Item = NodeId> {
    let mut holders: HashMap<NodeId, usize> = HashMap::new();
    plan.outputs().for_each(|node| *holders.entry(node).or_default() += 1);
    plan.actions().map(|(node, _)| node).filter(move |node| {
        // What is rows of others, or one of its inputs, has no bytes of its own.
        let makes_bytes = !matches!(plan.action(*node).op.access(), Access::Rows(_) | Access::Digests);
        makes_bytes && holders.get(node) != Some(&1)
    })
}
