//! A build that finds everything as an earlier one left it has nothing to do, which can be told without reading the
//! recipe, opening a model or planning anything.
//!
//! A build that has succeeded leaves a fingerprint in the store: what it was asked for, and how every file and folder
//! was that it looked at, its outputs among them. A later one that is asked for the same and finds the same ends where
//! it would have ended. Anything else takes the long way: what is not known for sure to be the same counts as changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::built::{OutputReport, Report};
use super::records::{file_id, now};
use super::settings::Project;
use crate::digest::Digest;
use crate::history::codec::Encoder;
use crate::history::{self, Variant};
use crate::identity::Sight;
use crate::model::locate::Places;
use crate::output::write::{Written, is_anything_left};
use crate::plan::models_needed;
use crate::recipe::{Finding, Recipe, Severity, Span, StageId, codes};
use crate::store::{Store, StoreError};

/// What a build is asked for, but for what the project says.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Which program is asked; another one may make other files of the same recipe.
    pub program: &'a str,
    /// The recipe's file, with its text.
    pub recipe: (&'a Path, &'a str),
    /// Variables that are set.
    pub sets: &'a [(String, String)],
    /// A seed that goes before the recipe's.
    pub seed: Option<u64>,
    /// Stages to build; the final ones if there are none.
    pub stages: &'a [String],
    /// Where the only stage goes.
    pub out: Option<&'a Path>,
    /// Whether warnings are errors.
    pub deny_warnings: bool,
}

/// The same as two digests: of what it is found by, and of everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    name: Digest,
    all: Digest,
}

/// What a build that succeeds is known by afterwards.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// What it was asked for.
    pub asked: Asked,
    /// All that it was made of, as it was before anything was read; `None` where that could not be told apart from what
    /// may come.
    pub sources: Option<Sight>,
    /// What was found in the recipe, as far as it was told of.
    pub findings: Vec<Finding>,
}

/// The row of the store.
#[derive(Serialize, Deserialize)]
struct Fingerprint {
    /// Of everything that was asked for.
    asked: String,
    /// The name under which it is noted when the build's variant was last used.
    used: Vec<u8>,
    sources: Sight,
    outputs: Vec<Left>,
    findings: Vec<Told>,
}

/// An output as it was left.
#[derive(Serialize, Deserialize)]
struct Left {
    stage: String,
    /// As the user wrote it, and without links.
    shown: PathBuf,
    dir: PathBuf,
    tensors: usize,
    bytes: u64,
    shards: usize,
    seen: Sight,
}

/// A finding.
#[derive(Serialize, Deserialize)]
struct Told {
    is_warning: bool,
    code: String,
    message: String,
    span: Option<(usize, usize)>,
    help: Vec<String>,
}

impl Told {
    fn of(finding: &Finding) -> Self {
        let Finding { severity, code, message, span, help } = finding.clone();
        let is_warning = severity == Severity::Warning;
        let span = span.map(|span| (span.start, span.end));
        Self { is_warning, code: code.to_owned(), message, span, help }
    }

    fn again(self) -> Option<Finding> {
        let Self { is_warning, code, message, span, help } = self;
        let severity = if is_warning { Severity::Warning } else { Severity::Note };
        let span = span.map(|(start, end)| Span { start, end });
        Some(Finding { severity, code: codes::find(&code)?.name, message, span, help })
    }
}

impl Project {
    /// What a build is asked for, with all that this project has to say to it.
    pub fn asked(&self, request: Request<'_>) -> Asked {
        let Request { program, recipe: (path, text), sets, seed, stages, out, deny_warnings } = request;
        let mut encoder = Encoder::default();
        encoder.text(&file_id(path));
        encoder.list(sets, |encoder, (name, value)| {
            encoder.text(name);
            encoder.text(value);
        });
        encoder.optional(seed);
        encoder.list(stages, |encoder, stage| encoder.text(stage));
        encode_path(&mut encoder, out);
        let name = Digest::of(&encoder.clone().finish());
        let Self {
            cache,
            merges,
            places,
            hub,
            streams,
            jobs,
            patient,
            cache_limit,
            policy,
            memory,
            shard_bytes,
            card,
            allow,
        } = self;
        let Places { roots, models, hub: hub_cache, pinned } = places;
        encoder.text(program);
        encoder.text(text);
        encode_path(&mut encoder, Some(path));
        // What is relative means something else elsewhere.
        encode_path(&mut encoder, fs::canonicalize(".").ok().as_deref());
        for folder in [Some(cache), Some(merges), hub_cache.as_ref()] {
            encode_path(&mut encoder, folder.map(PathBuf::as_path));
        }
        for folders in [roots, models] {
            encoder.list(folders, |encoder, folder| encode_path(encoder, Some(folder)));
        }
        let pinned: Vec<(&String, &String)> = pinned.iter().collect();
        encoder.list(&pinned, |encoder, (model, revision)| {
            encoder.text(model);
            encoder.text(revision);
        });
        encoder.text(hub.as_ref().and_then(|hub| hub.offline()).unwrap_or_default());
        for is_so in [*streams, *patient, deny_warnings] {
            encoder.number(is_so.into());
        }
        encoder.number(*jobs as u64);
        encoder.optional(*cache_limit);
        encoder.number(*policy as u64);
        encoder.number(*memory);
        encoder.number(*shard_bytes);
        encoder.text(&format!("{card:?}"));
        encoder.list(allow, |encoder, code| encoder.text(code));
        Asked { name, all: Digest::of(&encoder.finish()) }
    }

    /// How all is that targets are made of: their models, with every place where one could be that would go before, and
    /// the files that the recipe names. To be taken before anything of it is read. `None` where a change of it could go
    /// unnoticed.
    pub fn sources_seen(&self, recipe: &Recipe, targets: &[StageId]) -> Option<Sight> {
        let needed = models_needed(recipe, targets);
        let models =
            needed.iter().flat_map(|model| self.places.looked_at(&model.reference, model.is_adapter));
        Sight::of(models.chain(recipe.files.iter().cloned()))
    }

    /// The report of a build that finds everything as it was left, with what was found in the recipe. `None` if
    /// anything has changed, or cannot be told.
    pub fn unchanged(&self, asked: &Asked) -> Option<(Report, Vec<Finding>)> {
        let started = Instant::now();
        let store = Store::open_undisturbed(&self.cache).ok()??;
        let snapshot = store.index().snapshot().ok()?;
        let row = snapshot.fingerprint(&asked.name).ok()??;
        let Fingerprint { asked: then, used, sources, outputs, findings } =
            serde_json::from_slice(&row).ok()?;
        let is_same = then == asked.all.to_string()
            && outputs.iter().all(|output| output.seen.holds() && !is_anything_left(&output.dir))
            && sources.holds();
        let findings = findings.into_iter().map(Told::again).collect::<Option<_>>()?;
        if !is_same {
            return None;
        }
        if !history::is_noted(&snapshot, &used, now()).ok()? {
            drop(snapshot);
            drop(store);
            self.note_use(&used).ok()?;
        }
        let outputs = outputs.into_iter().map(Left::report).collect();
        let seconds = started.elapsed().as_secs_f64();
        Some((Report { outputs, seconds, ..Report::default() }, findings))
    }

    fn note_use(&self, used: &[u8]) -> Result<(), StoreError> {
        let store = Store::open(&self.cache, self.memory, crate::store::lock::Wait::Refuse)?;
        if !store.is_read_only() {
            store.index().set_used(used, now())?;
        }
        store.close()
    }
}

impl Left {
    /// Of a build that had nothing to do.
    fn report(self) -> OutputReport {
        let Self { stage, shown, tensors, bytes, shards, .. } = self;
        let written = Written { shards, ..Written::default() };
        OutputReport { stage, dir: shown, tensors, bytes, reused: tensors, cut_off: 0, rebuilt: 0, written }
    }
}

/// Leaves a fingerprint of a build that has succeeded, if all that it looked at is as it was before, and each output as
/// it was when it was found to be right.
pub(super) fn leave(
    store: &Store,
    sighting: &Sighting,
    variant: &Variant,
    outputs: Vec<(&OutputReport, &Path, Sight)>,
) -> Result<(), StoreError> {
    let Sighting { asked, sources, findings } = sighting;
    let Some(sources) = sources.as_ref().filter(|sources| sources.holds()) else { return Ok(()) };
    let left = |(report, dir, seen): (&OutputReport, &Path, Sight)| Left {
        stage: report.stage.clone(),
        shown: report.dir.clone(),
        dir: dir.to_owned(),
        tensors: report.tensors,
        bytes: report.bytes,
        shards: report.written.shards,
        seen,
    };
    let fingerprint = Fingerprint {
        asked: asked.all.to_string(),
        used: history::name_of_variant(variant),
        sources: sources.clone(),
        outputs: outputs.into_iter().map(left).collect(),
        findings: findings.iter().map(Told::of).collect(),
    };
    // A path that is no text has no fingerprint.
    let Ok(row) = serde_json::to_vec(&fingerprint) else { return Ok(()) };
    if store.index().snapshot()?.fingerprint(&asked.name)?.is_some_and(|there| there == row) {
        return Ok(());
    }
    store.index().set_fingerprint(&asked.name, &row)
}

fn encode_path(encoder: &mut Encoder, path: Option<&Path>) {
    use std::os::unix::ffi::OsStrExt;
    let parts: Vec<&Path> = path.into_iter().collect();
    encoder.list(&parts, |encoder, path| encoder.bytes(path.as_os_str().as_bytes()));
}
