//! The facade: from a recipe's file to a plan, its status, a build and its record.
//!
//! Wires the layers together and knows where things are; it does not print, and it takes from its
//! caller whatever comes from the environment.

mod building;
mod error;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod guests;
mod kept;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use rayon::prelude::*;

use crate::build::reasons::{Last, Reason, reason};
use crate::build::resolve::Resolution;
use crate::build::source_range;
use crate::build::status::{Verdict, mark_removed, verdicts};
use crate::history;
use crate::model::checkpoint::Checkpoint;
use crate::model::experts;
use crate::model::layout::Layout;
use crate::model::locate::{Places, commit_of};
use crate::model::tokenizer::{chat_template, vocabularies};
use crate::plan::{self, Inventory, Model, Node, NodeId, Plan, models_needed};
use crate::recipe::chat_template::ChatTemplate;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{LoadOptions, Loaded, Recipe, Stage, StageId, load};
use crate::reference::ModelRef;
use crate::store::lock::Wait;
use crate::store::tiered::Tiered;
use crate::store::{ActionCache, Store};

use kept::Kept;

pub use building::{OutputReport, Report, Request};
pub use error::WorkspaceError;

/// Where things are and how much may be used.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The cache directory.
    pub cache: PathBuf,
    /// Where outputs go, each into a folder of its stage's name.
    pub merges: PathBuf,
    pub places: Places,
    /// Threads to use; 0 for one a core.
    pub jobs: usize,
    /// Whether to wait for another process that has the store to itself.
    pub patient: bool,
    /// The most bytes that results may take in the store, less what the last build needs.
    pub cache_limit: Option<u64>,
    /// Bytes of memory to use at most.
    pub memory: u64,
    pub shard_bytes: u64,
}

/// A plan with the checkpoints it was made from.
#[derive(Debug)]
pub struct Planned {
    pub plan: Plan,
    pub models: Vec<Model>,
    pub checkpoints: Vec<Arc<Checkpoint>>,
}

/// What a build would do.
pub struct Status {
    pub verdicts: HashMap<NodeId, Verdict>,
    /// Of every action that must run.
    pub reasons: BTreeMap<NodeId, Reason>,
    /// Whether there was an earlier build to compare with.
    pub compared: bool,
}

impl Workspace {
    /// Reads a recipe's text.
    pub fn load(&self, path: &Path, text: &str, sets: &[(String, String)], seed: Option<u64>) -> Loaded {
        let name = path.to_string_lossy().into_owned();
        load(text, &LoadOptions { name, sets: sets.to_vec(), seed })
    }

    /// Opens what the targets need and plans them; without targets, every final stage.
    pub fn plan(
        &self,
        recipe: &Recipe,
        targets: &[StageId],
    ) -> Result<(Option<Planned>, Vec<Diagnostic>), WorkspaceError> {
        let mut findings = Vec::new();
        let mut dirs = Vec::new();
        let needed = models_needed(recipe, targets);
        for (reference, span) in &needed {
            match self.places.find(reference) {
                Ok(dir) => dirs.push(dir),
                Err(missing) => {
                    let tried: Vec<String> =
                        missing.tried.iter().map(|dir| format!("\n  {}", dir.display())).collect();
                    let message = format!("model `{}` was not found", reference.path);
                    let help = if tried.is_empty() {
                        "no place to look in fits the name".to_owned()
                    } else {
                        format!("looked in:{}\n{}", tried.concat(), how_to_get(reference))
                    };
                    findings.push(Diagnostic::error("missing-model", *span, message).help(help));
                }
            }
        }
        if !findings.is_empty() {
            return Ok((None, findings));
        }
        let checkpoints: Vec<Arc<Checkpoint>> =
            dirs.par_iter().map(|dir| Checkpoint::open(dir).map(Arc::new)).collect::<Result<_, _>>()?;
        let dirs: Vec<&Path> = checkpoints.iter().map(|checkpoint| checkpoint.dir.as_path()).collect();
        let with_tokenizer = recipe.stages.iter().any(|stage| stage.tokenizer.is_some());
        let vocabularies = if with_tokenizer { vocabularies(&dirs)? } else { vec![None; dirs.len()] };
        let is_auto = |stage: &Stage| matches!(&stage.chat_template, Some(template) if template.value == ChatTemplate::Auto);
        let templates = if recipe.stages.iter().any(is_auto) {
            dirs.iter().map(|dir| chat_template(dir)).collect::<Result<_, _>>()?
        } else {
            vec![None; dirs.len()]
        };
        let inventories: Vec<Inventory> = checkpoints
            .par_iter()
            .zip(vocabularies.into_par_iter().zip(templates))
            .map(|(checkpoint, (vocabulary, template))| inventory(checkpoint, vocabulary, template))
            .collect();
        let models: Vec<Model> = needed
            .into_iter()
            .zip(&checkpoints)
            .zip(inventories)
            .map(|(((reference, _), checkpoint), inventory)| Model {
                reference,
                commit: commit_of(&checkpoint.dir),
                inventory,
            })
            .collect();
        let (plan, findings) = plan::plan(recipe, &models, targets);
        Ok((plan.map(|plan| Planned { plan, models, checkpoints }), findings))
    }

    /// Tells what a build would do, without doing it.
    pub fn status(&self, recipe: &Recipe, planned: &Planned) -> Result<Status, WorkspaceError> {
        let Planned { plan, checkpoints, .. } = planned;
        let store = Store::open_existing(&self.cache)?;
        let snapshot = store.as_ref().map(|store| store.index().snapshot()).transpose()?;
        let last = match &snapshot {
            Some(snapshot) => history::last_of(snapshot, &recipe_id(recipe), &stage_names(recipe, plan))?,
            None => None,
        };
        let remembered = |node: NodeId| match (&snapshot, &plan[node]) {
            (Some(snapshot), Node::Source(source)) => {
                let range = source_range(&checkpoints[source.model.0], &source.tensor);
                Ok(snapshot.remembered(&range)?.map(|content| content.digest))
            }
            _ => Ok(None),
        };
        let tiers = store.as_ref().map(Tiered::new);
        let cache = tiers.as_ref().map(|tiers| tiers as &dyn ActionCache);
        let resolution = Resolution::new(plan, cache, remembered)?;
        let mut verdicts = verdicts(plan, recipe, &resolution, last.as_ref());
        let since = last.as_ref().map(|last| Last::new(last, recipe));
        let mut reasons = BTreeMap::new();
        for (node, _) in plan.actions().filter(|(node, _)| verdicts[node] == Verdict::Run) {
            let reason = match (&snapshot, resolution.inputs(node)) {
                (Some(snapshot), Some(inputs)) => {
                    reason(plan, recipe, node, &inputs, since.as_ref(), snapshot)?
                }
                _ => Reason::New,
            };
            reasons.insert(node, reason);
        }
        if let (Some(store), Some(snapshot)) = (&store, &snapshot) {
            let kept = Kept::new(self, (recipe, plan), (store, snapshot), &verdicts, last.as_ref());
            let removed = mark_removed(plan, &mut verdicts, |node, digest| kept.holds(node, digest))?;
            reasons.extend(
                removed
                    .into_iter()
                    .filter(|node| verdicts[node] == Verdict::Run)
                    .map(|node| (node, Reason::Forgotten)),
            );
        }
        let compared = last.is_some();
        Ok(Status { verdicts, reasons, compared })
    }

    /// Where a target is written.
    pub fn output_dir(&self, recipe: &Recipe, target: StageId, out: Option<&Path>) -> PathBuf {
        out.map_or_else(|| self.merges.join(&recipe.stage(target).name), Path::to_owned)
    }

    /// What to do while another process has the store to itself.
    pub fn wait<'a>(&self, tell: &'a dyn Fn(), interrupted: &'a AtomicBool) -> Wait<'a> {
        if self.patient { Wait::Telling(tell, interrupted) } else { Wait::Refuse }
    }
}

fn how_to_get(model: &ModelRef) -> String {
    let folder = "name the folder that holds it with --models";
    if model.is_hub_id() && model.path.contains('/') {
        format!("{folder}, or fetch it from the hub with `hf download {}`", model.path)
    } else {
        folder.to_owned()
    }
}

fn inventory(
    checkpoint: &Checkpoint,
    vocabulary: Option<String>,
    chat_template: Option<String>,
) -> Inventory {
    let spec = |name: &str| (name.to_owned(), checkpoint.spec(name).expect("the name is listed").clone());
    let mut tensors = checkpoint.names().map(spec).collect();
    let views = experts::join(&mut tensors);
    let layout = Layout::infer(tensors.keys().map(String::as_str), &checkpoint.config);
    let config = checkpoint.config.clone();
    Inventory { tensors, views, layout, config, vocabulary, chat_template }
}

/// Seconds since the epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What a recipe's builds are found by: its file, wherever the command is run from.
fn recipe_id(recipe: &Recipe) -> String {
    fs::canonicalize(&recipe.name)
        .map_or_else(|_| recipe.name.clone(), |path| path.to_string_lossy().into_owned())
}

fn stage_names<'a>(recipe: &'a Recipe, plan: &Plan) -> Vec<&'a str> {
    plan.order.iter().map(|stage| recipe.stage(*stage).name.as_str()).collect()
}
