//! How two models differ, tensor by tensor: checkpoints, which are read, or results of builds, which must be there.
//!
//! Each side is a stage of a recipe; a checkpoint is the one stage of a recipe that nobody wrote. What differs is
//! found by actions of a plan that takes just what it needs from both, so that it is computed, kept and found again
//! as all results are. Tensors whose digests are known to be equal are not part of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::error::ProjectError;
use super::kept::Kept;
use super::meeting::{Meeting, Met};
use super::planned::Planned;
use super::records::{stage_names, variant};
use super::settings::Project;
use crate::build::resolve::Resolution;
use crate::build::{BuildError, Context, Measured, Outcome, Storing, source_range, with_build};
use crate::digest::{ActionKey, Digest};
use crate::event::{Event, Events};
use crate::history::{self, Past, Record};
use crate::model::checkpoint::Checkpoint;
use crate::model::kinds::Kinds;
use crate::op::difference::Distance;
use crate::output::direct::DirectOutput;
use crate::plan::difference::{Compared, Offset, Pair, compare};
use crate::plan::{Model, Node, NodeId, Plan};
use crate::recipe::{Adapted, Recipe, Reference, Stage, StageId, single};
use crate::reference::ModelRef;
use crate::store::snapshot::Snapshot;
use crate::store::tiered::Tiered;
use crate::store::{Store, StoreError};
use crate::tensor::TensorSpec;

/// One of two models that are compared: a stage of a recipe.
#[derive(Debug)]
pub struct Side {
    /// How messages call it.
    pub name: String,
    /// Its recipe, which of a checkpoint nobody wrote.
    pub recipe: Recipe,
    /// The plan of the one stage.
    pub planned: Planned,
    /// Whether it is read or must have been built.
    pub origin: Origin,
}

/// Where a side's tensors come from.
#[derive(Debug)]
pub enum Origin {
    /// A checkpoint: whatever is not known of it is read.
    Checkpoint,
    /// Results of builds: what is not there is not made.
    Built {
        /// The build that must have made them, by its number; `None` for any.
        by: Option<Box<(u64, Record)>>,
        /// Tensors of the stage that builds of its recipe leave out, since no final stage needs them.
        unneeded: BTreeSet<String>,
        /// What makes them.
        command: String,
    },
}

/// How two models differ.
#[derive(Debug)]
pub struct Comparison {
    /// Tensors that both have in one shape, in the order of their names in the first.
    pub tensors: Vec<ComparedTensor>,
    /// Tensors that only the first has, and only the second.
    pub only: [Vec<(String, TensorSpec)>; 2],
    /// Tensors that the two have in other shapes.
    pub unlike: Vec<(String, [TensorSpec; 2])>,
    /// Tensors of each side that no build has made, since nothing needs them.
    pub unmade: [BTreeSet<String>; 2],
    /// Beginnings of names of the second model, and what the first calls them.
    pub renamed: Vec<(String, String)>,
    /// Where the tensors stand in the model.
    pub kinds: Kinds,
    /// Differences that were computed; the others were in the store, or needed no computing.
    pub ran: usize,
    /// Bytes of tensors of checkpoints that nobody had read before.
    pub bytes_hashed: u64,
}

/// A tensor that both have.
#[derive(Clone, Debug)]
pub struct ComparedTensor {
    /// By its name in the first model.
    pub name: String,
    /// As each has it. The shapes are the same.
    pub specs: [TensorSpec; 2],
    /// How the two differ.
    pub outcome: Likeness,
}

/// How two tensors of one shape differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Likeness {
    /// They hold the same bytes.
    Equal,
    /// They are numbers, and this far from one another.
    Distance(Distance),
    /// They hold other bytes, and are no floating-point numbers.
    OtherBytes,
}

impl Side {
    fn target(&self) -> StageId {
        self.planned.plan.targets[0]
    }

    /// A recipe for a checkpoint, as it is.
    pub fn of_model(name: &str, model: ModelRef, adapter: Option<ModelRef>) -> Recipe {
        let model = Reference::Model(model);
        let reference = match adapter {
            None => model,
            Some(adapter) => {
                let name = name.to_owned();
                Reference::Adapted(Arc::new(Adapted { of: model, adapter, name }))
            }
        };
        single::of_model(name, reference)
    }
}

impl Project {
    /// Compares two models. What is not known of checkpoints is read, once; of results of builds nothing is made.
    ///
    /// # Errors
    /// [`ProjectError::NotBuilt`] if results are not there. Else those of a build, which this is but for an output.
    pub fn diff(
        &self,
        sides: [Side; 2],
        (events, interrupted): (&dyn Events, &AtomicBool),
    ) -> Result<Comparison, ProjectError> {
        let store = self.open_to_build(events, interrupted)?;
        let compared = self.diff_in(&store, sides, (events, interrupted));
        let closed = store.close();
        let compared = compared?;
        closed?;
        Ok(compared)
    }

    fn diff_in(
        &self,
        store: &Store,
        sides: [Side; 2],
        (events, interrupted): (&dyn Events, &AtomicBool),
    ) -> Result<Comparison, ProjectError> {
        let tiers = Tiered::new(store);
        let snapshot = store.index().snapshot()?;
        let known = [known(&sides[0], &tiers, &snapshot)?, known(&sides[1], &tiers, &snapshot)?];
        let unmade =
            [check_built(&sides[0], &known[0], &snapshot)?, check_built(&sides[1], &known[1], &snapshot)?];
        let Meeting { met, only, unlike, renamed, kinds } = Meeting::new([0, 1].map(|side| {
            let stage = sides[side].planned.plan.stage(sides[side].target());
            let is_made = |(name, _): &(&String, &TensorSpec)| !unmade[side].contains(*name);
            (stage.tensors.iter().filter(is_made).collect(), &stage.config)
        }));
        let node = |side: usize, name: &str| sides[side].planned.plan.stage(sides[side].target()).nodes[name];
        let mut tensors = Vec::with_capacity(met.len());
        let (mut pairs, mut asked) = (Vec::new(), Vec::new());
        for Met { names, specs } in met {
            let nodes = [0, 1].map(|side| node(side, &names[side]));
            let digests = [0, 1].map(|side| known[side].state(nodes[side]).digest());
            let [name, _] = names;
            if specs[0] != specs[1] || digests[0].is_none() || digests[0] != digests[1] {
                asked.push(tensors.len());
                pairs.push(Pair { tensor: name.clone(), nodes });
            }
            tensors.push(ComparedTensor { name, specs, outcome: Likeness::Equal });
        }
        let offset =
            Offset { models: sides[0].planned.catalog.models.len(), stages: sides[0].recipe.stages.len() };
        let plans = [(&sides[0].planned.plan, Offset::default()), (&sides[1].planned.plan, offset)];
        let stage = StageId(offset.stages + sides[1].recipe.stages.len());
        let Compared { plan, sides: nodes, differences } = compare(plans, &pairs, stage);
        let checkpoints: Vec<Arc<Checkpoint>> =
            sides.iter().flat_map(|side| &side.planned.catalog.checkpoints).cloned().collect();
        let resolution =
            Resolution::new(&plan, Some(&tiers), |node| remembered(&plan, &checkpoints, &snapshot, node))?;
        let mut wanted: Vec<&Pair> = Vec::new();
        for (pair, difference) in pairs.iter().zip(&differences) {
            let Some(difference) = difference else { continue };
            let n_bytes = plan[*difference].spec().n_bytes() as u64;
            let is_kept = match resolution.state(*difference).digest() {
                Some(digest) => store.holds(&digest, n_bytes)?,
                None => false,
            };
            if !is_kept {
                wanted.push(pair);
            }
        }
        for (number, side) in sides.iter().enumerate() {
            let wanted: Vec<(&str, NodeId)> =
                wanted.iter().map(|pair| (pair.tensor.as_str(), pair.nodes[number])).collect();
            check_kept(self, side, &known[number], (store, &snapshot), &wanted)?;
        }
        drop((resolution, known));
        let (recipe, models, checkpoints) = joined(sides);
        let read = AtomicU64::new(0);
        let counted = |event: Event<'_>| {
            if let Event::Hashed { bytes, .. } = event {
                read.fetch_add(bytes, Ordering::Relaxed);
            }
            events.event(event);
        };
        let (threads, sink) = (self.threads()?, DirectOutput::none());
        let context = Context {
            recipe: &recipe,
            plan: &plan,
            models: &models,
            checkpoints: &checkpoints,
            store,
            tiers: &tiers,
            storing: &Storing::new(&recipe, self.policy, &Default::default()),
            sink: &sink,
            memory: self.memory,
            rehash: false,
            locked: Default::default(),
            threads: &threads,
            interrupted,
            events: &counted,
            measured: &Measured::default(),
        };
        let ran = with_build(context, |build| {
            build.resolve_all()?;
            let mut ran = 0;
            for ((place, difference), sides) in asked.iter().zip(&differences).zip(&nodes) {
                let ComparedTensor { specs, outcome, .. } = &mut tensors[*place];
                let [a, b] = sides.map(|node| build.resolved(node).digest);
                let Some(difference) = difference else {
                    *outcome = if a == b { Likeness::Equal } else { Likeness::OtherBytes };
                    continue;
                };
                ran += usize::from(build.outcome(*difference) == Outcome::Ran);
                if a != b || specs[0] != specs[1] {
                    let bytes = build.bytes(*difference)?.in_full().map_err(BuildError::from)?.into_owned();
                    let distance = Distance::read(&bytes).expect("a table was checked by its digest");
                    *outcome = Likeness::Distance(distance);
                }
            }
            Ok::<_, ProjectError>(ran)
        })?;
        let bytes_hashed = read.into_inner();
        Ok(Comparison { tensors, only, unlike, unmade, renamed, kinds, ran, bytes_hashed })
    }
}

/// What the store knows of a side.
fn known<'a>(
    side: &'a Side,
    tiers: &'a Tiered<'a>,
    snapshot: &Snapshot<'_>,
) -> Result<Resolution<'a>, StoreError> {
    let Planned { plan, catalog } = &side.planned;
    Resolution::new(plan, Some(tiers), |node| remembered(plan, &catalog.checkpoints, snapshot, node))
}

/// What a source was found to hold.
fn remembered(
    plan: &Plan,
    checkpoints: &[Arc<Checkpoint>],
    snapshot: &Snapshot<'_>,
    node: NodeId,
) -> Result<Option<Digest>, StoreError> {
    let Node::Source(source) = &plan[node] else { return Ok(None) };
    let range = source_range(&checkpoints[source.model.0], &source.tensor);
    Ok(snapshot.remembered(&range)?.map(|content| content.digest))
}

/// Makes sure that every tensor of results was made, and by the build that is asked for. Gives the names of those that
/// no build makes.
fn check_built(
    side: &Side,
    known: &Resolution<'_>,
    snapshot: &Snapshot<'_>,
) -> Result<BTreeSet<String>, ProjectError> {
    let mut unmade = BTreeSet::new();
    let Origin::Built { by, unneeded, command } = &side.origin else { return Ok(unmade) };
    let plan = &side.planned.plan;
    let mut then: HashMap<NodeId, Option<ActionKey>> = HashMap::new();
    if let Some((number, record)) = by.as_deref() {
        let past = Past::new(record.clone(), snapshot);
        for (node, action) in plan.actions() {
            let (stage, tensor) = (&side.recipe.stage(action.owner.stage).name, &action.owner.tensor);
            let key = past.key_of(stage, tensor)?;
            // Where no key is known, a model was not read since its files were touched.
            if key.zip(known.state(node).key()).is_some_and(|(then, now)| then != now) {
                let (number, stage, tensor) = (*number, stage.clone(), tensor.clone());
                return Err(ProjectError::OtherThanThen { number, stage, tensor });
            }
            then.insert(node, key);
        }
    }
    let mut missing = Vec::new();
    for (name, node) in &plan.stage(side.target()).nodes {
        let is_of_build = then.get(node).is_none_or(Option::is_some);
        let is_source = matches!(plan[*node], Node::Source(_));
        if is_source || is_of_build && known.state(*node).digest().is_some() {
            continue;
        }
        if unneeded.contains(name) {
            unmade.insert(name.clone());
        } else {
            missing.push(name);
        }
    }
    not_built(&side.name, &missing, command)?;
    Ok(unmade)
}

/// Makes sure that the bytes of results can still be had.
fn check_kept(
    project: &Project,
    side: &Side,
    known: &Resolution<'_>,
    (store, snapshot): (&Store, &Snapshot<'_>),
    wanted: &[(&str, NodeId)],
) -> Result<(), ProjectError> {
    let Origin::Built { by, command, .. } = &side.origin else { return Ok(()) };
    let Side { recipe, planned: Planned { plan, .. }, .. } = side;
    let last = match by.as_deref() {
        Some((_, record)) => Some(record.clone()),
        None => history::last_of(snapshot, &variant(recipe, plan), &stage_names(recipe, plan))?
            .map(|past| past.record),
    };
    let digest = |node| known.state(node).digest();
    let kept = Kept::new(project, (recipe, plan), (store, snapshot), &digest, last.as_ref());
    let mut lost = Vec::new();
    for (name, node) in wanted {
        let digest = digest(*node).expect("what was not built was found out before");
        if matches!(plan[*node], Node::Action(_)) && !kept.holds(*node, &digest)? {
            lost.push(*name);
        }
    }
    not_built(&side.name, &lost, command)
}

fn not_built<N: AsRef<str>>(side: &str, missing: &[N], command: &str) -> Result<(), ProjectError> {
    let Some(first) = missing.first() else { return Ok(()) };
    Err(ProjectError::NotBuilt {
        side: side.to_owned(),
        tensor: first.as_ref().to_owned(),
        more: missing.len() - 1,
        command: command.to_owned(),
    })
}

/// One recipe with the stages of both, and a last one for what differs, and the models of both.
fn joined(sides: [Side; 2]) -> (Recipe, Vec<Model>, Vec<Arc<Checkpoint>>) {
    let (mut stages, mut models, mut checkpoints) = (Vec::new(), Vec::new(), Vec::new());
    for Side { recipe, planned: Planned { catalog, .. }, .. } in sides {
        stages.extend(recipe.stages);
        models.extend(catalog.models);
        checkpoints.extend(catalog.checkpoints);
    }
    let nothing = ModelRef { path: String::new(), revision: None, hub_only: false };
    let mut recipe = single::of_model("difference", Reference::Model(nothing));
    stages.extend(recipe.stages.drain(..).map(|stage| Stage { cache: Some(true), ..stage }));
    (Recipe { stages, ..recipe }, models, checkpoints)
}
