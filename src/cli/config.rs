//! `lamarck.toml`, the environment and the flags: each wins over the one before.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::{BuildArgs, DiffArgs, LimitArgs, PlaceArgs, ReportArgs};
use super::error::CliError;
use super::findings::Source;
use super::hub;
use super::machine;
use super::settings::{self, Settings};
use crate::hub::Hub;
use crate::kernels::simd::{self, Level};
use crate::model::locate::Places;
use crate::project::Project;

/// What a project's settings are called.
pub const FILE: &str = "lamarck.toml";

/// Flags that say where things are, and how much may be used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags<'a> {
    pub models: &'a [PathBuf],
    pub cache: Option<&'a Path>,
    pub jobs: Option<u16>,
    pub memory: Option<u64>,
    pub shard_size: Option<u64>,
    pub no_wait: bool,
    /// Where outputs go.
    pub merges: Option<&'a Path>,
    /// Where downloaded models are.
    pub hub: Option<&'a Path>,
    /// Whether nothing may be asked of the hub.
    pub offline: bool,
    /// Whether models of the hub are read without being kept.
    pub stream: bool,
    /// Seed of the random methods, before the recipe's.
    pub seed: Option<u64>,
}

impl<'a> From<&'a PlaceArgs> for Flags<'a> {
    fn from(args: &'a PlaceArgs) -> Self {
        let PlaceArgs { models, cache, offline } = args;
        Self { models, cache: cache.as_deref(), offline: *offline, ..Self::default() }
    }
}

impl<'a> From<(&'a PlaceArgs, LimitArgs)> for Flags<'a> {
    fn from((places, LimitArgs { jobs, memory }): (&'a PlaceArgs, LimitArgs)) -> Self {
        Self { jobs, memory, ..Self::from(places) }
    }
}

impl<'a> From<&'a BuildArgs> for Flags<'a> {
    fn from(args: &'a BuildArgs) -> Self {
        let BuildArgs { limits, shard_size, no_wait, stream, seed, .. } = *args;
        Self { shard_size, no_wait, stream, seed, ..Self::from((&args.places, limits)) }
    }
}

impl<'a> From<&'a DiffArgs> for Flags<'a> {
    fn from(args: &'a DiffArgs) -> Self {
        Self::from((&args.places, args.limits))
    }
}

impl<'a> From<&'a ReportArgs> for Flags<'a> {
    fn from(args: &'a ReportArgs) -> Self {
        Self::from((&args.places, args.limits))
    }
}

/// Finds the settings that hold for a recipe, or for the working directory without one.
pub fn project(recipe: Option<&Path>, flags: Flags<'_>) -> Result<Project, CliError> {
    let near =
        recipe.and_then(Path::parent).filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (root, file) = nearest_file(near)?;
    let in_root = |path: &Path| root.join(path);
    if let Some(dir) = flags.models.iter().find(|dir| !dir.is_dir()) {
        let what = if dir.exists() { "is a file" } else { "does not exist" };
        let message = format!(
            "--models {dir} names a folder that holds org/name, and {dir} {what}",
            dir = dir.display()
        );
        return Err(CliError::Usage(message));
    }
    let from_environment = env::var_os("LAMARCK_CACHE").filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = flags
        .cache
        .map(Path::to_owned)
        .or(from_environment)
        .unwrap_or_else(|| in_root(file.cache.as_deref().unwrap_or(Path::new("cache"))));
    let models = flags.models.iter().cloned().chain(file.models.iter().map(|dir| in_root(dir))).collect();
    let settings = hub::settings(flags.hub.map(Path::to_owned), flags.offline);
    let cache_of_hub = settings.cache.clone();
    let hub = Hub::new(settings, Arc::default());
    let mut roots = vec![PathBuf::new()];
    roots.extend((near != Path::new(".")).then(|| near.to_owned()));
    let places = Places { roots, models, hub: cache_of_hub, ..Places::default() };
    let memory = flags.memory.or(file.memory).unwrap_or_else(machine::default_memory);
    let shard_bytes = flags.shard_size.or(file.shard_size).unwrap_or(Project::DEFAULT_SHARD_BYTES);
    Ok(Project {
        cache,
        merges: flags
            .merges
            .map(Path::to_owned)
            .unwrap_or_else(|| in_root(file.merges.as_deref().unwrap_or(Path::new("merges")))),
        places,
        hub: Some(Arc::new(hub)),
        streams: flags.stream || file.stream,
        jobs: flags.jobs.or(file.jobs).unwrap_or(0).into(),
        patient: !flags.no_wait,
        cache_limit: file.cache_limit,
        policy: file.store,
        memory,
        shard_bytes,
        card: file.card,
        allow: file.allow,
    })
}

/// The nearest folder with a `lamarck.toml`, from `near` upwards; else the working directory.
fn nearest_file(near: &Path) -> Result<(PathBuf, Settings), CliError> {
    let full = fs::canonicalize(near).unwrap_or_else(|_| near.to_owned());
    for (levels, dir) in full.ancestors().enumerate() {
        let path = dir.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let (settings, findings) = settings::read(&text);
                let root = relative(near, dir, levels);
                if findings.is_empty() {
                    return Ok((root, settings));
                }
                let name = root.join(FILE).display().to_string();
                return Err(CliError::Settings { file: Source { name, text }, findings });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(CliError::Config { path: path.display().to_string(), source }),
        }
    }
    Ok((PathBuf::new(), Settings::default()))
}

/// Names a project's folder as briefly as it can be, for messages.
fn relative(near: &Path, dir: &Path, levels: usize) -> PathBuf {
    let here = env::current_dir().and_then(fs::canonicalize);
    if here.is_ok_and(|here| here == dir) {
        PathBuf::new()
    } else if levels == 0 {
        near.to_owned()
    } else {
        dir.to_owned()
    }
}

/// The recipe to work on: the one given, that of `lamarck.toml`, the only one in `recipes/`, or `lamarck.yaml`.
pub fn recipe_path(given: Option<&Path>) -> Result<PathBuf, CliError> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let (root, settings) = nearest_file(Path::new("."))?;
    if let Some(recipe) = settings.recipe {
        return Ok(root.join(recipe));
    }
    let recipes = recipes_in(Path::new("recipes"));
    match recipes.as_slice() {
        [only] => Ok(only.clone()),
        [] if Path::new("lamarck.yaml").is_file() => Ok("lamarck.yaml".into()),
        [] => Err(CliError::Usage(
            "no recipe given, and none found: there is no recipes/*.yaml and no lamarck.yaml here, and lamarck.toml names none"
                .to_owned(),
        )),
        several => {
            let names: Vec<String> = several.iter().map(|path| format!("  {}", path.display())).collect();
            Err(CliError::Usage(format!(
                "recipes/ contains several recipes; name one on the command line, or as `recipe` in lamarck.toml:\n{}",
                names.join("\n")
            )))
        }
    }
}

/// The recipes in a folder, by name.
pub fn recipes_in(folder: &Path) -> Vec<PathBuf> {
    let is_recipe =
        |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut recipes: Vec<PathBuf> = entries.filter(is_recipe).collect();
    recipes.sort();
    recipes
}

/// Holds loops to the vectors that `LAMARCK_SIMD` names, for comparing them; the best there are otherwise.
pub fn limit_vectors() -> Result<(), CliError> {
    let Some(name) = env::var_os("LAMARCK_SIMD").filter(|value| !value.is_empty()) else { return Ok(()) };
    let level = match name.to_str() {
        Some("baseline") => Level::Baseline,
        Some("avx2") => Level::Avx2,
        Some("avx512") => Level::Avx512,
        _ => {
            let name = name.to_string_lossy();
            return Err(CliError::Usage(format!(
                "LAMARCK_SIMD must be baseline, avx2 or avx512, not `{name}`"
            )));
        }
    };
    simd::limit(level);
    Ok(())
}
