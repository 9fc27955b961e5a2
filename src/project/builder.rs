//! Carrying a plan out: the build itself, its outputs, its record.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::account::account;
use super::catalog::Catalog;
use super::error::ProjectError;
use super::forecast::Noting;
use super::planned::Planned;
use super::records::{now, stage_names, variant};
use super::room::{self, Ask, Wanted};
use super::settings::Project;
use crate::build::reasons::{Last, Reason, reason, roots};
use crate::build::status::Verdict;
use crate::build::{Build, BuildError, Context, Measured, Outcome, with_build};
use crate::digest::Digest;
use crate::disk;
use crate::event::{Event, Events, spanned, tell_nobody};
use crate::gc::{Limits, Removed, trim};
use crate::history::{self, Draft, Origin, OutputRecord, Past, Record, Recorder};
use crate::model::checkpoint::Checkpoint;
use crate::output::OutputError;
use crate::output::card::{Card, Declared};
use crate::output::content::{LeftOut, Output};
use crate::output::destination;
use crate::output::direct::DirectOutput;
use crate::output::extras::Extras;
use crate::output::format::layout::OutputLayout;
use crate::output::lockfile::reading::{Lockfile, differences};
use crate::output::lockfile::writing as lockfile;
use crate::output::write::{Written, recover};
use crate::plan::{Action, Node, NodeId, Owner, Plan, StagePlan, key, models_needed};
use crate::recipe::as_mergekit::as_mergekit;
use crate::recipe::{Recipe, StageId};
use crate::store::lock::Wait;
use crate::store::tiered::Tiered;
use crate::store::{Store, StoreError};

/// What to build, and how it is followed.
#[derive(Clone, Copy)]
pub struct Builder<'a> {
    project: &'a Project,
    recipe: &'a Recipe,
    planned: &'a Planned,
    outs: &'a [(String, PathBuf)],
    left_out: LeftOut,
    locked: bool,
    repeats: Option<&'a (u64, Record)>,
    rehash: bool,
    ask: Ask,
    events: &'a dyn Events,
    interrupted: &'a AtomicBool,
}

/// For work that nobody stops.
static NEVER: AtomicBool = AtomicBool::new(false);

/// What a build did.
#[derive(Debug)]
pub struct Report {
    /// `None` if nothing changed, so that there is nothing to record.
    pub number: Option<u64>,
    /// In the order of the plan's targets.
    pub outputs: Vec<OutputReport>,
    /// Actions that were run, those whose results the store had lost included.
    pub ran: usize,
    /// Rows of the store's index that were damaged, and so counted as missing.
    pub damaged_rows: usize,
    /// What was removed to keep the store within its standing limit.
    pub trimmed: Option<Removed>,
    /// What changed, with the number of actions that ran for it.
    pub reasons: Vec<(String, usize)>,
    /// From the start of the build until its outputs were in place.
    pub seconds: f64,
}

/// One output directory.
#[derive(Debug)]
pub struct OutputReport {
    /// The target that it holds, by name.
    pub stage: String,
    /// As the user wrote it, not resolved.
    pub dir: PathBuf,
    /// All that the model has; `reused`, `cut_off` and `rebuilt` add up to it.
    pub tensors: usize,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Tensors that took no work: sources, and results of earlier builds.
    pub reused: usize,
    /// Tensors below something that was computed again with equal bytes.
    pub cut_off: usize,
    /// Tensors that were computed, lost results that were made again included.
    pub rebuilt: usize,
    /// What of the directory had to be written; nothing if it was up to date.
    pub written: Written,
}

impl<'a> Builder<'a> {
    /// Every target of the plan, each into its place in the project.
    pub fn new(project: &'a Project, recipe: &'a Recipe, planned: &'a Planned) -> Self {
        Self {
            project,
            recipe,
            planned,
            outs: &[],
            left_out: LeftOut::default(),
            locked: false,
            repeats: None,
            rehash: false,
            ask: disk::space,
            events: &tell_nobody,
            interrupted: &NEVER,
        }
    }

    /// Replaces the places of targets, by name.
    pub fn outs(self, outs: &'a [(String, PathBuf)]) -> Self {
        Self { outs, ..self }
    }

    /// What is not written beside the weights.
    pub fn leave_out(self, left_out: LeftOut) -> Self {
        Self { left_out, ..self }
    }

    fn output_dir(&self, target: StageId) -> PathBuf {
        let name = &self.recipe.stage(target).name;
        let out = self.outs.iter().find(|(stage, _)| stage == name).map(|(_, dir)| dir.as_path());
        self.project.output_dir(self.recipe, target, out)
    }

    /// Whether each output must come out as the lockfile in its place says.
    pub fn locked(self, locked: bool) -> Self {
        Self { locked, ..self }
    }

    /// An earlier build, with its number, that this one must repeat.
    pub fn repeats(self, build: Option<&'a (u64, Record)>) -> Self {
        Self { repeats: build, ..self }
    }

    /// Whether sources are read even where the store remembers what they held.
    pub fn rehash(self, rehash: bool) -> Self {
        Self { rehash, ..self }
    }

    /// Who is told of the work, and what stops it when it becomes true.
    pub fn follow(self, events: &'a dyn Events, interrupted: &'a AtomicBool) -> Self {
        Self { events, interrupted, ..self }
    }

    /// Carries the plan out and writes every target.
    ///
    /// Where the store's index turns out to be damaged it is put aside, and the build starts over.
    ///
    /// # Errors
    /// Whatever stops it. What was finished by then is kept, and the old outputs are as they were.
    pub fn build(&self) -> Result<Report, ProjectError> {
        match self.try_build() {
            Err(error) if error.damage().is_some() => {
                let problem = error.damage().unwrap_or_default();
                self.events.event(Event::IndexDamaged { problem });
                Store::set_index_aside(&self.project.cache)?;
                self.try_build()
            }
            result => result,
        }
    }

    fn try_build(&self) -> Result<Report, ProjectError> {
        let Self { project, recipe, planned, locked, repeats, rehash, events, interrupted, .. } = *self;
        let started = Instant::now();
        let measured = Measured::default();
        let Planned { plan, catalog: Catalog { models, checkpoints, .. } } = planned;
        // From here on only these are used, so that what is checked is what is written.
        let dirs: Vec<PathBuf> = (plan.targets.iter())
            .map(|target| destination::resolve(&self.output_dir(*target)))
            .collect::<Result<_, _>>()?;
        destination::check_apart(&dirs)?;
        let proceed = || match interrupted.load(Ordering::Relaxed) {
            true => Err(BuildError::Interrupted),
            false => Ok(()),
        };
        let layouts: Vec<OutputLayout> =
            plan.targets.iter().map(|target| project.lay_out(plan, *target)).collect();
        for (dir, layout) in dirs.iter().zip(&layouts) {
            destination::check_free(dir, layout)?;
            destination::check_not_read(dir, checkpoints.iter().map(AsRef::as_ref))?;
            destination::check_outside(dir, &project.cache)?;
            recover(dir, events, &proceed)?;
        }
        self.check_room(&dirs, &layouts)?;
        let locks: Vec<Lockfile> = if locked {
            dirs.iter().map(|dir| Lockfile::read(dir)).collect::<Result<_, _>>()?
        } else {
            Vec::new()
        };
        for ((target, dir), locked) in plan.targets.iter().zip(&dirs).zip(&locks) {
            let found = differences(&locked.stages, &lockfile::stages(recipe, plan, *target));
            let as_written = || lockfile::stages_as_written(recipe, plan, *target);
            if !found.is_empty() && !differences(&locked.stages, &as_written()).is_empty() {
                return Err(OutputError::NotLocked { path: dir.clone(), differences: found }.into());
            }
        }
        let extras: Vec<Vec<(String, Vec<u8>)>> = plan
            .targets
            .iter()
            .zip(&dirs)
            .map(|(target, dir)| extras(plan.stage(*target), checkpoints, dir))
            .collect::<Result<_, _>>()?;
        let store = project.open_to_build(events, interrupted)?;
        let threads = project.threads()?;
        let locked: HashMap<_, _> =
            locks.iter().flat_map(|lock| lock.source_digests(recipe, models)).collect();
        // From a read-only store nothing can be kept, so nothing can have to be delivered.
        let direct = if store.is_read_only() {
            DirectOutput::none()
        } else {
            DirectOutput::new(plan, &dirs, &layouts)
        };
        let tiers = Tiered::new(&store);
        let context = Context {
            recipe,
            plan,
            models,
            checkpoints,
            store: &store,
            tiers: &tiers,
            sink: &direct,
            memory: project.memory,
            rehash,
            locked,
            threads: &threads,
            measured: &measured,
            interrupted,
            events,
        };
        let published = Mutex::default();
        let noting = Noting { planned, measured: &measured, store: &store, published };
        let report: Result<Report, ProjectError> = noting.beside(|| {
            with_build(context, |build| {
                // Its threads take nodes; they share the pool's for what is large.
                build.resolve_all()?;
                threads.install(|| {
                    if let Some((number, record)) = repeats {
                        let snapshot = store.index().snapshot()?;
                        let past = Past::new(record.clone(), &snapshot);
                        check_repeated(*number, &past, (recipe, plan.actions()), build)?;
                    }
                    for ((target, dir), locked) in plan.targets.iter().zip(&dirs).zip(&locks) {
                        check_results(dir, locked, |tensor| {
                            plan.stage(*target).nodes.get(tensor).map(|node| build.resolved(*node).digest)
                        })?;
                    }
                    let mut outputs = Vec::new();
                    let publishing = Instant::now();
                    for (number, (place, extras)) in dirs.iter().zip(&layouts).zip(extras).enumerate() {
                        outputs.push(self.write(number, place, extras, &direct, build, &store)?);
                    }
                    let n_bytes = outputs.iter().map(|output| output.written.bytes_written).sum();
                    let seconds = publishing.elapsed().as_secs_f64() * threads.current_num_threads() as f64;
                    *noting.published.lock().expect("no thread panics with it") = Some((n_bytes, seconds));
                    let mut report = Report {
                        number: None,
                        damaged_rows: 0,
                        trimmed: None,
                        ran: build.executed(),
                        reasons: Vec::new(),
                        outputs,
                        seconds: started.elapsed().as_secs_f64(),
                    };
                    let did_something =
                        report.ran > 0 || report.outputs.iter().any(|output| output.written.changed);
                    // What was served from a read-only store cannot be noted in it.
                    if did_something && !store.is_read_only() {
                        spanned(events, "record build", "", || {
                            self.record(build, &store, &measured, &mut report)
                        })?;
                    } else if !store.is_read_only() {
                        history::note_use(store.index(), &variant(recipe, plan), now())?;
                    }
                    report.damaged_rows = store.index().damaged_rows();
                    Ok(report)
                })
            })
        });
        let closed = store.close();
        let mut report = report?;
        closed?;
        if report.ran > 0 {
            report.trimmed = trim_to_limit(project)?;
        }
        Ok(report)
    }

    /// Refuses to begin what does not fit on the disk.
    fn check_room(&self, dirs: &[PathBuf], layouts: &[OutputLayout]) -> Result<(), ProjectError> {
        let Self { project, recipe, planned, ask, .. } = *self;
        let outputs: Vec<_> = dirs.iter().cloned().zip(layouts.iter().cloned()).collect();
        let wanted = Wanted { recipe, plan: &planned.plan, outputs: &outputs };
        // Most often there is room for everything, whatever of it is there already.
        if room::check(&room::rooms(&project.cache, wanted, &|_| true, ask)).is_ok() {
            return Ok(());
        }
        let verdicts = project.status(recipe, planned)?.verdicts;
        room::check(&room::rooms(&project.cache, wanted, &|node| verdicts[&node] == Verdict::Run, ask))
    }

    fn write(
        &self,
        number: usize,
        (dir, layout): (&PathBuf, &OutputLayout),
        extras: Vec<(String, Vec<u8>)>,
        direct: &DirectOutput<'_>,
        build: &Build<'_>,
        store: &Store,
    ) -> Result<OutputReport, ProjectError> {
        let Self { project, recipe, planned, rehash, .. } = *self;
        let Planned { plan, catalog: Catalog { models, checkpoints, .. } } = planned;
        let target = plan.targets[number];
        let stage = plan.stage(target);
        let stages = lockfile::needed_by(recipe, plan, target);
        // Of all that the recipe names, what this target is made of.
        let needed = models_needed(recipe, &[target]);
        let used: Vec<usize> = (0..models.len())
            .filter(|model| needed.iter().any(|needed| needed.reference == models[*model].reference))
            .collect();
        let card = Card {
            recipe,
            target,
            stages: &stages,
            models: used.iter().map(|model| &models[*model]).collect(),
            declared: used.iter().map(|model| Declared::read(&checkpoints[*model].dir)).collect(),
            settings: recipe.stage(target).card.over(&recipe.card).over(&project.card),
            config: &stage.config,
        };
        // What the recipe asks for is written in any case.
        let leaves_tokenizer = self.left_out.tokenizer
            && recipe.stage(target).tokenizer.is_none()
            && stage.chat_template.is_none();
        let output = Output {
            dir,
            stage,
            layout,
            extras: if leaves_tokenizer { Vec::new() } else { extras },
            card: card.text(),
            picture: card.picture(),
            recipe: recipe.portable.text.clone(),
            mergekit: as_mergekit(recipe).filter(|_| !stage.config.is_null()),
            lockfile: lockfile::of(recipe, models, plan, target, build),
            left_out: self.left_out,
            rehash,
        };
        let written = output.write(number, direct, build, store)?;
        let of = |outcome| stage.nodes.values().filter(|node| build.outcome(**node) == outcome).count();
        Ok(OutputReport {
            stage: recipe.stage(target).name.clone(),
            // As the user wrote it.
            dir: self.output_dir(target),
            tensors: stage.nodes.len(),
            bytes: stage.nodes.values().map(|node| plan[*node].spec().n_bytes() as u64).sum(),
            reused: of(Outcome::Reused),
            cut_off: of(Outcome::CutOff),
            rebuilt: of(Outcome::Ran),
            written,
        })
    }

    fn record(
        &self,
        build: &Build<'_>,
        store: &Store,
        measured: &Measured,
        report: &mut Report,
    ) -> Result<(), ProjectError> {
        let Self { project, recipe, planned: Planned { plan, .. }, .. } = *self;
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
}

/// Keeps the store within its standing limit, unless others are building: they will.
fn trim_to_limit(project: &Project) -> Result<Option<Removed>, ProjectError> {
    let Some(max_bytes) = project.cache_limit else { return Ok(None) };
    let store = match Store::open_alone(&project.cache, Wait::Refuse) {
        Ok(Some(store)) => store,
        Ok(None) | Err(StoreError::Locked { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let limits = Limits { max_bytes: Some(max_bytes), max_age: None, keep_builds: 1 };
    Ok(Some(trim(&store, &limits, now())?))
}

/// The files of an output that come from other checkpoints, which can be used as they are to be written. A bare
/// state dict has none.
fn extras(
    stage: &StagePlan,
    checkpoints: &[Arc<Checkpoint>],
    dir: &Path,
) -> Result<Vec<(String, Vec<u8>)>, OutputError> {
    if stage.config.is_null() {
        return Ok(Vec::new());
    }
    let extras = Extras {
        tokenizer: &checkpoints[stage.tokenizer.0].dir,
        donor: &checkpoints[stage.donor.0].dir,
        tokens: stage.tokens.as_deref(),
        generation: stage.generation.as_ref(),
        chat_template: stage.chat_template.as_deref(),
    };
    let files = extras.files()?;
    extras.check(&files, dir)?;
    Ok(files)
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

/// Holds a build to an earlier one, whose actions it must have under the same keys.
pub(super) fn check_repeated<'p>(
    number: u64,
    past: &Past<'_>,
    (recipe, actions): (&Recipe, impl Iterator<Item = (NodeId, &'p Action)>),
    build: &Build<'_>,
) -> Result<(), ProjectError> {
    for (node, action) in actions {
        let stage = &recipe.stage(action.owner.stage).name;
        if past.key_of(stage, &action.owner.tensor)? != build.resolved(node).key {
            let (stage, tensor) = (stage.clone(), action.owner.tensor.clone());
            return Err(ProjectError::NotRepeated { number, stage, tensor });
        }
    }
    Ok(())
}

/// Holds an output's tensors to its lockfile.
pub(super) fn check_results(
    dir: &Path,
    locked: &Lockfile,
    digest: impl Fn(&str) -> Option<Digest>,
) -> Result<(), OutputError> {
    let differences: Vec<String> = (locked.tensors.iter())
        .filter_map(|(name, tensor)| {
            let now = digest(name).map_or_else(|| "nothing".to_owned(), |digest| digest.to_string());
            (now != tensor.blake3).then(|| format!("tensor {name}: {} -> {now}", tensor.blake3))
        })
        .collect();
    if differences.is_empty() {
        return Ok(());
    }
    Err(OutputError::NotLocked { path: dir.to_owned(), differences })
}
