//! The facade: from a recipe's file to a plan, its status, a build and its record.
//!
//! Wires the layers together and knows where things are; it does not print, and it takes from its
//! caller whatever comes from the environment.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::build::reasons::{Reason, reason, roots};
use crate::build::status::{Verdict, verdicts};
use crate::build::{Build, BuildError, Context, Event, Events, Outcome, with_build};
use crate::digest::Digest;
use crate::history::{self, OutputRecord, Record};
use crate::model::ModelError;
use crate::model::checkpoint::Checkpoint;
use crate::model::experts;
use crate::model::layout::Layout;
use crate::model::locate::{Places, commit_of, is_hub_id};
use crate::model::tokenizer::{chat_template, vocabularies};
use crate::output::card::{Card, license_of};
use crate::output::{Output, OutputError, Written, check_free, lock};
use crate::plan::{self, Inventory, Model, NodeId, Plan, models_needed};
use crate::recipe::chat_template::ChatTemplate;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{LoadOptions, Loaded, Recipe, Stage, StageId, load};
use crate::store::lock::Wait;
use crate::store::{Store, StoreError};
use crate::upkeep::{Limits, Swept, sweep};

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    #[error("cannot read {}", path.display())]
    Recipe { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("cannot start {jobs} threads")]
    Threads { jobs: usize, source: rayon::ThreadPoolBuildError },
}

impl From<BuildError> for WorkspaceError {
    fn from(error: BuildError) -> Self {
        Self::Output(error.into())
    }
}

impl WorkspaceError {
    /// What is wrong with the store's index, if that is the trouble.
    pub fn damage(&self) -> Option<&str> {
        match self {
            Self::Store(error) | Self::Output(OutputError::Build(BuildError::Store(error))) => match error {
                StoreError::Damaged { problem, .. } => Some(problem),
                _ => None,
            },
            _ => None,
        }
    }
}

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

/// What a build did.
#[derive(Debug)]
pub struct Report {
    /// `None` if nothing changed, so that there is nothing to record.
    pub number: Option<u64>,
    pub outputs: Vec<OutputReport>,
    pub ran: usize,
    /// Rows of the store's index that were damaged, and so counted as missing.
    pub damaged_rows: usize,
    /// What was removed to keep the store within its standing limit.
    pub swept: Option<Swept>,
    /// What changed, with the number of actions that ran for it.
    pub reasons: Vec<(String, usize)>,
    pub seconds: f64,
}

/// One output directory.
#[derive(Debug)]
pub struct OutputReport {
    pub stage: String,
    pub dir: PathBuf,
    pub tensors: usize,
    /// Tensors that took no work: sources, and results of earlier builds.
    pub reused: usize,
    /// Tensors below something that was computed again with equal bytes.
    pub cut_off: usize,
    pub rebuilt: usize,
    pub written: Written,
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
        let mut checkpoints = Vec::new();
        let needed = models_needed(recipe, targets);
        for (reference, span) in &needed {
            match self.places.find(reference) {
                Ok(dir) => checkpoints.push(Arc::new(Checkpoint::open(&dir)?)),
                Err(missing) => {
                    let tried: Vec<String> =
                        missing.tried.iter().map(|dir| format!("\n  {}", dir.display())).collect();
                    let message = format!("model `{}` was not found", reference.path);
                    let help = if tried.is_empty() {
                        "no place to look in fits the name".to_owned()
                    } else {
                        format!("looked in:{}\n{}", tried.concat(), how_to_get(&reference.path))
                    };
                    findings.push(Diagnostic::error("missing-model", *span, message).help(help));
                }
            }
        }
        if !findings.is_empty() {
            return Ok((None, findings));
        }
        let dirs: Vec<&Path> = checkpoints.iter().map(|checkpoint| checkpoint.dir.as_path()).collect();
        let with_tokenizer = recipe.stages.iter().any(|stage| stage.tokenizer.is_some());
        let vocabularies = if with_tokenizer { vocabularies(&dirs)? } else { vec![None; dirs.len()] };
        let is_auto = |stage: &Stage| matches!(&stage.chat_template, Some(template) if template.value == ChatTemplate::Auto);
        let templates = if recipe.stages.iter().any(is_auto) {
            dirs.iter().map(|dir| chat_template(dir)).collect::<Result<_, _>>()?
        } else {
            vec![None; dirs.len()]
        };
        let models: Vec<Model> = needed
            .into_iter()
            .zip(&checkpoints)
            .zip(vocabularies.into_iter().zip(templates))
            .map(|(((reference, _), checkpoint), (vocabulary, template))| Model {
                reference,
                commit: commit_of(&checkpoint.dir),
                inventory: inventory(checkpoint, vocabulary, template),
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
        let verdicts = verdicts(plan, recipe, checkpoints, snapshot.as_ref(), last.as_ref())?;
        let mut reasons = BTreeMap::new();
        for (node, _) in plan.actions().filter(|(node, _)| verdicts[node] == Verdict::Run) {
            let known = |input: &NodeId| match verdicts[input] {
                Verdict::Reuse { digest, .. } => Some(digest),
                _ => None,
            };
            let inputs: Option<Vec<Digest>> = plan.inputs(node).iter().map(known).collect();
            let reason = match (&snapshot, inputs) {
                (Some(snapshot), Some(inputs)) => {
                    reason(plan, recipe, node, &inputs, last.as_ref(), snapshot)?
                }
                _ => Reason::New,
            };
            reasons.insert(node, reason);
        }
        let compared = last.is_some();
        Ok(Status { verdicts, reasons, compared })
    }

    /// Where a target is written.
    pub fn output_dir(&self, recipe: &Recipe, target: StageId, out: Option<&Path>) -> PathBuf {
        out.map_or_else(|| self.merges.join(&recipe.stage(target).name), Path::to_owned)
    }

    /// Carries a plan out and writes every target; `out` replaces the place of the only one.
    ///
    /// Where the store's index turns out to be damaged it is put aside, and the build starts over.
    pub fn build(
        &self,
        recipe: &Recipe,
        planned: &Planned,
        out: Option<&Path>,
        events: &dyn Events,
        interrupted: &AtomicBool,
    ) -> Result<Report, WorkspaceError> {
        match self.try_build(recipe, planned, out, events, interrupted) {
            Err(error) if error.damage().is_some() => {
                events.event(Event::IndexDamaged { problem: error.damage().unwrap_or_default() });
                Store::set_index_aside(&self.cache)?;
                self.try_build(recipe, planned, out, events, interrupted)
            }
            result => result,
        }
    }

    fn try_build(
        &self,
        recipe: &Recipe,
        planned: &Planned,
        out: Option<&Path>,
        events: &dyn Events,
        interrupted: &AtomicBool,
    ) -> Result<Report, WorkspaceError> {
        let started = Instant::now();
        let Planned { plan, checkpoints, .. } = planned;
        for target in &plan.targets {
            check_free(&self.output_dir(recipe, *target, out))?;
        }
        let wait = || events.event(Event::Waiting);
        let store = Store::open(&self.cache, self.wait(&wait))?;
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(self.jobs)
            .build()
            .map_err(|source| WorkspaceError::Threads { jobs: self.jobs, source })?;
        let context =
            Context { recipe, plan, checkpoints, store: &store, memory: self.memory, interrupted, events };
        let report: Result<Report, WorkspaceError> = threads.install(|| {
            with_build(context, |build| {
                build.settle_all()?;
                let mut outputs = Vec::new();
                for target in &plan.targets {
                    let dir = self.output_dir(recipe, *target, out);
                    outputs.push(self.write(recipe, planned, *target, &dir, build, &store)?);
                }
                let mut report = Report {
                    number: None,
                    damaged_rows: 0,
                    swept: None,
                    ran: build.executed(),
                    reasons: Vec::new(),
                    outputs,
                    seconds: started.elapsed().as_secs_f64(),
                };
                let did_something =
                    report.ran > 0 || report.outputs.iter().any(|output| output.written.changed);
                // What was served from a read-only store cannot be noted in it.
                if did_something && !store.is_read_only() {
                    self.record(recipe, plan, build, &store, &mut report)?;
                } else if !store.is_read_only() {
                    history::note_use(store.index(), &recipe_id(recipe), now())?;
                }
                report.damaged_rows = store.index().damaged_rows();
                Ok(report)
            })
        });
        drop(store);
        let mut report = report?;
        if report.ran > 0 {
            report.swept = self.sweep_to_limit()?;
        }
        Ok(report)
    }

    /// Keeps the store within its standing limit, unless others are building: they will.
    fn sweep_to_limit(&self) -> Result<Option<Swept>, WorkspaceError> {
        let Some(max_bytes) = self.cache_limit else { return Ok(None) };
        let store = match Store::open_alone(&self.cache, Wait::Refuse) {
            Ok(Some(store)) => store,
            Ok(None) | Err(StoreError::Locked { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let limits = Limits { max_bytes: Some(max_bytes), max_age: None, keep_builds: 1 };
        Ok(Some(sweep(&store, &limits, now(), false)?))
    }

    /// What to do while another process has the store to itself.
    pub fn wait<'a>(&self, tell: &'a dyn Fn()) -> Wait<'a> {
        if self.patient { Wait::Telling(tell) } else { Wait::Refuse }
    }

    fn write(
        &self,
        recipe: &Recipe,
        planned: &Planned,
        target: StageId,
        dir: &Path,
        build: &Build<'_>,
        store: &Store,
    ) -> Result<OutputReport, WorkspaceError> {
        let Planned { plan, models, checkpoints } = planned;
        let stage = plan.stage(target);
        let stages = lock::needed_by(recipe, plan, target);
        let licenses: Vec<Option<String>> =
            checkpoints.iter().map(|checkpoint| license_of(&checkpoint.dir)).collect();
        let license = licenses.first().and_then(Option::as_deref);
        let agreed = license.filter(|license| licenses.iter().all(|other| other.as_deref() == Some(license)));
        let card = Card { recipe, target, stages: &stages, models, license: agreed };
        let output = Output {
            dir,
            stage,
            shard_bytes: self.shard_bytes,
            donor: &checkpoints[stage.donor.0].dir,
            tokenizer: &checkpoints[stage.tokenizer.0].dir,
            card: card.text(),
            recipe: recipe.text.to_string(),
            lock: lock::text(recipe, models, plan, target, build),
        };
        let written = output.write(build, store)?;
        let of =
            |outcome| stage.nodes.values().filter(|node| build.settled(**node).outcome == outcome).count();
        Ok(OutputReport {
            stage: recipe.stage(target).name.clone(),
            dir: dir.to_owned(),
            tensors: stage.nodes.len(),
            reused: of(Outcome::Reused),
            cut_off: of(Outcome::CutOff),
            rebuilt: of(Outcome::Ran),
            written,
        })
    }

    fn record(
        &self,
        recipe: &Recipe,
        plan: &Plan,
        build: &Build<'_>,
        store: &Store,
        report: &mut Report,
    ) -> Result<(), WorkspaceError> {
        let snapshot = store.index().snapshot()?;
        let last = history::last_of(&snapshot, &recipe_id(recipe), &stage_names(recipe, plan))?;
        let mut reasons: Vec<(&str, Reason)> = Vec::new();
        let mut actions: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (node, action) in plan.actions() {
            let settled = build.settled(node);
            let stage = &recipe.stage(action.stage).name;
            let key = settled.key.expect("actions have keys");
            actions.entry(stage.clone()).or_default().insert(action.tensor.clone(), key.to_string());
            if settled.outcome == Outcome::Ran {
                let inputs: Vec<Digest> =
                    plan.inputs(node).into_iter().map(|input| build.settled(input).digest).collect();
                reasons.push((stage, reason(plan, recipe, node, &inputs, last.as_ref(), &snapshot)?));
            }
        }
        report.reasons = roots(reasons.iter().map(|(stage, reason)| (*stage, reason)));
        let lost = report.ran - reasons.len();
        if lost > 0 {
            report.reasons.push(("results that the cache no longer had".to_owned(), lost));
        }
        let outputs = report.outputs.iter().map(|output| OutputRecord {
            stage: output.stage.clone(),
            dir: output.dir.to_string_lossy().into_owned(),
            tensors: output.tensors,
            reused: output.reused,
            cut_off: output.cut_off,
            rebuilt: output.rebuilt,
        });
        let record = Record {
            time: now(),
            recipe: recipe_id(recipe),
            recipe_text: recipe.text.to_string(),
            sets: recipe.sets.clone(),
            seconds: report.seconds,
            outputs: outputs.collect(),
            ran: report.ran,
            reasons: report.reasons.iter().map(|(text, _)| text.clone()).collect(),
            actions,
        };
        report.number = Some(history::add(store.index(), &record)?);
        Ok(())
    }
}

fn how_to_get(path: &str) -> String {
    let folder = "name the folder that holds it with --models";
    if is_hub_id(path) && path.contains('/') {
        format!("{folder}, or fetch it from the hub with `hf download {path}`")
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
    let (joined, pieces) = experts::join(&mut tensors);
    let layout = Layout::infer(tensors.keys().map(String::as_str), &checkpoint.config);
    let config = checkpoint.config.clone();
    Inventory { tensors, joined, pieces, layout, config, vocabulary, chat_template }
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
