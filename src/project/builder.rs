//! Carrying a plan out: the build itself.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::built::Report;
use super::catalog::Catalog;
use super::delivery::{Delivery, Place, extras};
use super::error::ProjectError;
use super::fingerprint::{self, Sighting};
use super::forecast::Noting;
use super::planned::Planned;
use super::pledges::{self, check_repeated, check_results};
use super::recording::record;
use super::records::{now, variant};
use super::room::{self, Ask, Wanted};
use super::settings::Project;
use crate::build::status::Verdict;
use crate::build::{BuildError, Context, Measured, with_build};
use crate::disk;
use crate::event::{Event, Events, spanned, tell_nobody};
use crate::gc::{Limits, Removed, trim};
use crate::history::{self, Past, Record};
use crate::output::content::LeftOut;
use crate::output::destination;
use crate::output::direct::DirectOutput;
use crate::output::format::layout::OutputLayout;
use crate::output::write::recover;
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
    sighting: Option<&'a Sighting>,
    rehash: bool,
    ask: Ask,
    events: &'a dyn Events,
    interrupted: &'a AtomicBool,
}

/// For work that nobody stops.
static NEVER: AtomicBool = AtomicBool::new(false);

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
            sighting: None,
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

    /// What it is known by when it has succeeded, so that it need not be planned again while nothing changes.
    pub fn known_by(self, sighting: Option<&'a Sighting>) -> Self {
        Self { sighting, ..self }
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
        let is_roomy = self.check_room(&dirs, &layouts)?;
        let locks = if locked { pledges::locks(recipe, plan, &dirs)? } else { Vec::new() };
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
        let storing = project.storing(recipe, Some(&store.index().snapshot()?))?;
        let storing = if is_roomy { storing } else { storing.without_masks() };
        let context = Context {
            recipe,
            plan,
            models,
            checkpoints,
            store: &store,
            tiers: &tiers,
            storing: &storing,
            sink: &direct,
            memory: project.memory,
            rehash,
            locked,
            threads: &threads,
            measured: &measured,
            interrupted,
            events,
        };
        // What is on the hub may be another tomorrow.
        let is_here = planned.catalog.snapshots.iter().all(Option::is_none);
        let sighting = self.sighting.filter(|_| is_here && !store.is_read_only());
        let watches = sighting.is_some();
        let delivery = Delivery { project, recipe, planned, left_out: self.left_out, rehash, watches };
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
                    let (mut outputs, mut seen) = (Vec::new(), Vec::new());
                    let publishing = Instant::now();
                    let places = plan.targets.iter().zip(&dirs).zip(&layouts).enumerate();
                    for ((number, ((target, dir), layout)), extras) in places.zip(extras) {
                        let place = Place { number, dir, shown: self.output_dir(*target), layout };
                        let (report, left) = delivery.write(place, extras, &direct, build, &store)?;
                        outputs.push(report);
                        seen.extend(left);
                    }
                    let n_bytes = outputs.iter().map(|output| output.written.bytes_written).sum();
                    let seconds = publishing.elapsed().as_secs_f64() * threads.current_num_threads() as f64;
                    *noting.published.lock().expect("no thread panics with it") = Some((n_bytes, seconds));
                    let seconds = started.elapsed().as_secs_f64();
                    let mut report = Report { ran: build.executed(), outputs, seconds, ..Report::default() };
                    let did_something =
                        report.ran > 0 || report.outputs.iter().any(|output| output.written.changed);
                    // What was served from a read-only store cannot be noted in it.
                    if did_something && !store.is_read_only() {
                        spanned(events, "record build", "", || {
                            record(project, (recipe, plan), (build, &measured), &store, &mut report)
                        })?;
                    } else if !store.is_read_only() {
                        history::note_use(store.index(), &variant(recipe, plan), now())?;
                    }
                    if let Some(sighting) = sighting.filter(|_| seen.len() == dirs.len()) {
                        let left = report.outputs.iter().zip(dirs.iter().map(PathBuf::as_path)).zip(seen);
                        let left = left.map(|((report, dir), seen)| (report, dir, seen)).collect();
                        fingerprint::leave(&store, sighting, &variant(recipe, plan), left)?;
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

    /// Refuses to begin what does not fit on the disk. Tells whether there is room for all that could be kept, too.
    fn check_room(&self, dirs: &[PathBuf], layouts: &[OutputLayout]) -> Result<bool, ProjectError> {
        let Self { project, recipe, planned, ask, .. } = *self;
        let outputs: Vec<_> = dirs.iter().cloned().zip(layouts.iter().cloned()).collect();
        let storing = project.storing_now(recipe)?;
        let wanted = Wanted { storing: &storing, with_masks: true, plan: &planned.plan, outputs: &outputs };
        // Most often there is room for everything, whatever of it is there already.
        if room::check(&room::rooms(&project.cache, wanted, &|_| true, ask)).is_ok() {
            return Ok(true);
        }
        let wanted = Wanted { with_masks: false, ..wanted };
        let verdicts = project.status(recipe, planned)?.verdicts;
        room::check(&room::rooms(&project.cache, wanted, &|node| verdicts[node] == Verdict::Run, ask))?;
        Ok(false)
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
