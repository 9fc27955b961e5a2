//! `lamarck.toml`, the environment and the flags: each wins over the one before.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::args::{BuildArgs, RecipeArgs, size};
use super::error::CliError;
use crate::kernels::simd::{self, Level};
use crate::model::locate::Places;
use crate::project::Project;

const FILE: &str = "lamarck.toml";

/// A project's settings. Paths are relative to the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    models: Vec<PathBuf>,
    cache: Option<PathBuf>,
    merges: Option<PathBuf>,
    jobs: Option<u16>,
    memory: Option<String>,
    shard_size: Option<String>,
    cache_limit: Option<String>,
}

/// Flags that say where things are.
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
}

impl<'a> From<&'a RecipeArgs> for Flags<'a> {
    fn from(args: &'a RecipeArgs) -> Self {
        Self { models: &args.models, cache: args.cache.as_deref(), ..Self::default() }
    }
}

impl<'a> From<&'a BuildArgs> for Flags<'a> {
    fn from(args: &'a BuildArgs) -> Self {
        let BuildArgs { jobs, memory, shard_size, no_wait, .. } = *args;
        Self { jobs, memory, shard_size, no_wait, ..Self::from(&args.recipe) }
    }
}

/// Finds the settings that hold for a recipe, or for the working directory without one.
pub fn project(recipe: Option<&Path>, flags: Flags<'_>) -> Result<Project, CliError> {
    let near =
        recipe.and_then(Path::parent).filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (root, file) = nearest_file(near)?;
    let in_root = |path: &Path| root.join(path);
    let bytes = |text: &Option<String>, key: &str| {
        let read = |text: &String| {
            size(text).map_err(|problem| {
                CliError::Wrong(format!("{}: {key}: {problem}", in_root(Path::new(FILE)).display()))
            })
        };
        text.as_ref().map(read).transpose()
    };
    let from_environment = env::var_os("LAMARCK_CACHE").filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = flags
        .cache
        .map(Path::to_owned)
        .or(from_environment)
        .unwrap_or_else(|| in_root(file.cache.as_deref().unwrap_or(Path::new("cache"))));
    let models = flags.models.iter().cloned().chain(file.models.iter().map(|dir| in_root(dir))).collect();
    let hub = flags.hub.map(Path::to_owned).or_else(hub_cache);
    let places = Places { roots: vec![PathBuf::new(), near.to_owned()], models, hub };
    let memory = flags.memory.or(bytes(&file.memory, "memory")?).unwrap_or(Project::DEFAULT_MEMORY);
    let shard_bytes =
        flags.shard_size.or(bytes(&file.shard_size, "shard-size")?).unwrap_or(Project::DEFAULT_SHARD_BYTES);
    Ok(Project {
        cache,
        merges: flags
            .merges
            .map(Path::to_owned)
            .unwrap_or_else(|| in_root(file.merges.as_deref().unwrap_or(Path::new("merges")))),
        places,
        jobs: flags.jobs.or(file.jobs).unwrap_or(0).into(),
        patient: !flags.no_wait,
        cache_limit: bytes(&file.cache_limit, "cache-limit")?,
        memory,
        shard_bytes,
    })
}

/// The nearest folder with a `lamarck.toml`, from `near` upwards; else the working directory.
fn nearest_file(near: &Path) -> Result<(PathBuf, File), CliError> {
    let full = fs::canonicalize(near).unwrap_or_else(|_| near.to_owned());
    for (levels, dir) in full.ancestors().enumerate() {
        let path = dir.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let file = toml::from_str(&text)
                    .map_err(|error| CliError::Wrong(format!("{}: {error}", path.display())))?;
                return Ok((relative(near, dir, levels), file));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(CliError::Config { path: path.display().to_string(), source }),
        }
    }
    Ok((PathBuf::new(), File::default()))
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

fn hub_cache() -> Option<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("HF_HUB_CACHE")
        .or_else(|| variable("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/huggingface/hub")))
}

/// The recipe to work on: the one given, the only one in `recipes/`, or `lamarck.yaml`.
pub fn recipe_path(given: Option<&Path>) -> Result<PathBuf, CliError> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let is_recipe =
        |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let entries = fs::read_dir("recipes").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut recipes: Vec<PathBuf> = entries.filter(is_recipe).collect();
    recipes.sort();
    match recipes.as_slice() {
        [only] => Ok(only.clone()),
        [] if Path::new("lamarck.yaml").is_file() => Ok("lamarck.yaml".into()),
        [] => Err(CliError::Usage(
            "no recipe given, and there is neither recipes/*.yaml nor lamarck.yaml here".to_owned(),
        )),
        several => {
            let names: Vec<String> = several.iter().map(|path| format!("  {}", path.display())).collect();
            Err(CliError::Usage(format!("recipes/ holds several recipes; name one:\n{}", names.join("\n"))))
        }
    }
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
            return Err(CliError::Usage(format!("LAMARCK_SIMD is baseline, avx2 or avx512, not `{name}`")));
        }
    };
    simd::limit(level);
    Ok(())
}
