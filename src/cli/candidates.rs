//! What a shell can complete: recipes, their stages and variables, builds, models, methods. Nothing here writes, asks
//! the hub, or tells of what goes wrong.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter};

use super::config::{self, Flags};
use super::words::ago;
use crate::methods;
use crate::project::Project;

/// Builds that are offered, the newest first.
const BUILDS: usize = 20;

/// Recipes of the project, and files on the way to others.
pub fn recipes(current: &OsStr) -> Vec<CompletionCandidate> {
    let is_recipe =
        |path: &Path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let typed = current.to_string_lossy();
    let own = config::recipes_in(Path::new("recipes")).into_iter();
    let mut found: Vec<CompletionCandidate> = own
        .filter(|path| !typed.contains('/') && path.to_string_lossy().starts_with(&*typed))
        .map(|path| CompletionCandidate::new(path.into_os_string()))
        .collect();
    found.extend(PathCompleter::any().filter(is_recipe).complete(current));
    found
}

/// The stages of the recipe that was typed, or of the one that would be taken.
pub fn stages(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some((path, text)) = recipe() else { return Vec::new() };
    let loaded = project(Some(&path)).map(|project| project.load(&path, &text, &[], None));
    let names: Vec<String> = match loaded.and_then(|loaded| loaded.recipe) {
        Some(recipe) => recipe.stages.into_iter().map(|stage| stage.name).collect(),
        // What is wrong with a recipe need not be with its names.
        None => text.lines().filter_map(|line| line.strip_prefix("name:")).map(first_word).collect(),
    };
    starting(current, names.into_iter().map(CompletionCandidate::new))
}

/// `NAME=` of the recipe's variables.
pub fn variables(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some((_, text)) = recipe() else { return Vec::new() };
    let vars = text.lines().skip_while(|line| !line.starts_with("vars:")).skip(1);
    let vars = vars.take_while(|line| line.starts_with(' ') || line.starts_with('#') || line.is_empty());
    let names = vars.filter_map(|line| Some(line.trim_start().split_once(':')?.0.to_owned()));
    let plain = names.filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)));
    starting(current, plain.map(|name| CompletionCandidate::new(format!("{name}="))))
}

/// Tags, and the numbers of builds.
pub fn builds_and_tags(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut found = tags(current);
    let builds =
        project(None).and_then(|project| project.builds(None, BUILDS).ok()).map(|(builds, _)| builds);
    let candidates = builds.unwrap_or_default().into_iter().map(|build| {
        let recipe =
            Path::new(&build.record.variant.recipe).file_name().unwrap_or_default().to_string_lossy();
        let help = format!("{recipe}, {}", ago(build.record.time));
        CompletionCandidate::new(build.number.to_string()).help(Some(help.into()))
    });
    found.extend(starting(current, candidates));
    found
}

pub fn tags(current: &OsStr) -> Vec<CompletionCandidate> {
    let tags = project(None).and_then(|project| project.tags().ok()).unwrap_or_default();
    let candidates = tags.into_iter().map(|tag| {
        let help = format!("build {}{}{}", tag.build, if tag.note.is_empty() { "" } else { ": " }, tag.note);
        CompletionCandidate::new(tag.name).help(Some(help.into()))
    });
    starting(current, candidates)
}

/// Models of the project by `org/name`, and folders.
pub fn models(current: &OsStr) -> Vec<CompletionCandidate> {
    let roots = project(None).map(|project| project.places.models).unwrap_or_default();
    let below = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    let mut names = Vec::new();
    for root in roots {
        for model in below(&root).iter().flat_map(|org| below(org)) {
            let name = model.strip_prefix(&root).expect("it is below").as_os_str().to_owned();
            names.extend(model.join("config.json").is_file().then(|| CompletionCandidate::new(name)));
        }
    }
    names.sort_by(|a, b| a.get_value().cmp(b.get_value()));
    let mut found = starting(current, names.into_iter());
    found.extend(PathCompleter::dir().complete(current));
    found
}

/// Whatever can be compared.
pub fn sides(current: &OsStr) -> Vec<CompletionCandidate> {
    [builds_and_tags(current), models(current), recipes(current)].into_iter().flatten().collect()
}

/// Merge methods.
pub fn methods(current: &OsStr) -> Vec<CompletionCandidate> {
    let specs = methods::all().iter().map(|method| method.spec());
    starting(
        current,
        specs.map(|spec| CompletionCandidate::new(spec.name).help(Some(spec.summary.to_owned().into()))),
    )
}

fn starting(
    current: &OsStr,
    candidates: impl Iterator<Item = CompletionCandidate>,
) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    candidates.filter(|candidate| candidate.get_value().to_string_lossy().starts_with(&*current)).collect()
}

/// The words typed so far, behind those that the shell's script puts first.
fn typed() -> Vec<String> {
    env::args_os().skip_while(|word| word != "--").skip(2).map(|word| word.to_string_lossy().into()).collect()
}

/// What was typed behind an option.
fn option(name: &str) -> Option<PathBuf> {
    let words = typed();
    let with_value = format!("{name}=");
    words.iter().enumerate().find_map(|(i, word)| match word.strip_prefix(&with_value) {
        Some(value) => Some(value.into()),
        None if word == name => words.get(i + 1).map(PathBuf::from),
        None => None,
    })
}

fn recipe() -> Option<(PathBuf, String)> {
    let is_recipe = |word: &&String| word.ends_with(".yaml") || word.ends_with(".yml");
    let typed = typed().iter().find(is_recipe).map(PathBuf::from);
    let path = config::recipe_path(typed.as_deref()).ok()?;
    let text = fs::read_to_string(&path).ok()?;
    Some((path, text))
}

fn project(recipe: Option<&Path>) -> Option<Project> {
    let cache = option("--cache");
    config::project(recipe, Flags { cache: cache.as_deref(), ..Flags::default() }).ok()
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().trim_matches(['"', '\'']).to_owned()
}
