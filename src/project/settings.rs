//! Where a project's things are, and how much may be used.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::error::ProjectError;
use crate::build::Policy;
use crate::hub::{Hub, is_commit};
use crate::model::locate::Places;
use crate::output::format;
use crate::output::format::layout::OutputLayout;
use crate::output::lockfile::reading::Lockfile;
use crate::plan::{Plan, final_stages};
use crate::recipe::chat_template::ChatTemplate;
use crate::recipe::{CardSettings, Finding, LoadOptions, Loaded, Recipe, StageId, load};
use crate::store::lock::Wait;

/// Where things are and how much may be used.
#[derive(Clone, Debug)]
pub struct Project {
    /// The cache directory.
    pub cache: PathBuf,
    /// Where outputs go, each into a folder of its stage's name.
    pub merges: PathBuf,
    /// Where models are looked for.
    pub places: Places,
    /// Whom models that are nowhere on this machine are asked of.
    pub hub: Option<Arc<Hub>>,
    /// Whether models of the hub are read where they are, and nothing of them is kept.
    pub streams: bool,
    /// Threads to use; 0 for one a core.
    pub jobs: usize,
    /// Whether to wait for another process that has the store to itself.
    pub patient: bool,
    /// The most bytes that results may take in the store, less what the last build needs.
    pub cache_limit: Option<u64>,
    /// Which stages' results are stored where the recipe does not say.
    pub policy: Policy,
    /// Bytes of memory to use at most.
    pub memory: u64,
    /// The most bytes of a shard, but for a tensor that is larger by itself.
    pub shard_bytes: u64,
    /// What model cards say, unless a recipe says otherwise.
    pub card: CardSettings,
    /// Codes of findings that need not be told of any recipe; for [`allow::apply`](crate::recipe::allow::apply).
    pub allow: Vec<&'static str>,
}

impl Project {
    /// Bytes of memory to use at most, unless somebody says otherwise.
    pub const DEFAULT_MEMORY: u64 = 1 << 30;

    /// The most bytes of a shard, unless somebody says otherwise.
    pub const DEFAULT_SHARD_BYTES: u64 = 5_000_000_000;

    /// A project with its cache and its outputs in a folder, and with models that are looked for in the
    /// working directory and below others as `org/name`.
    pub fn new(folder: &Path, models: Vec<PathBuf>) -> Self {
        Self {
            cache: folder.join("cache"),
            merges: folder.join("merges"),
            places: Places { roots: vec![PathBuf::new()], models, ..Places::default() },
            hub: None,
            streams: false,
            jobs: 0,
            patient: true,
            cache_limit: None,
            policy: Policy::All,
            memory: Self::DEFAULT_MEMORY,
            shard_bytes: Self::DEFAULT_SHARD_BYTES,
            card: CardSettings::default(),
            allow: Vec::new(),
        }
    }

    /// Reads a recipe's text, and the chat templates that it names by their files.
    pub fn load(&self, path: &Path, text: &str, sets: &[(String, String)], seed: Option<u64>) -> Loaded {
        let name = path.to_string_lossy().into_owned();
        let mut loaded = load(text, &LoadOptions { name, sets: sets.to_vec(), seed });
        let Some(recipe) = &mut loaded.recipe else { return loaded };
        let folder = path.parent().unwrap_or(Path::new(""));
        for template in recipe.stages.iter_mut().filter_map(|stage| stage.chat_template.as_mut()) {
            let ChatTemplate::File(file) = &template.value else { continue };
            let path = folder.join(file);
            let text = read_template(&path);
            recipe.files.push(path);
            match text {
                Ok(text) => template.value = ChatTemplate::Jinja(text),
                Err(message) => {
                    let help = "the path is relative to the recipe; a name or a Jinja template also works";
                    loaded
                        .findings
                        .push(Finding::error("missing-chat-template", template.span, message).help(help));
                }
            }
        }
        if loaded.findings.iter().any(Finding::is_error) {
            loaded.recipe = None;
        }
        loaded
    }

    /// How a target's weights are laid out in files.
    pub(super) fn lay_out(&self, plan: &Plan, target: StageId) -> OutputLayout {
        format::usual().lay_out(&plan.stage(target).tensors, self.shard_bytes)
    }

    /// Where a target is written.
    pub fn output_dir(&self, recipe: &Recipe, target: StageId, out: Option<&Path>) -> PathBuf {
        out.map_or_else(|| self.merges.join(&recipe.stage(target).name), Path::to_owned)
    }

    /// Has models of the hub be those that lockfiles in the places of outputs name.
    ///
    /// # Errors
    /// If there is no lockfile in one of them.
    pub fn pin(
        &mut self,
        recipe: &Recipe,
        targets: &[StageId],
        out: Option<&Path>,
    ) -> Result<(), ProjectError> {
        let targets = if targets.is_empty() { final_stages(recipe) } else { targets.to_vec() };
        for target in targets {
            let locked = Lockfile::read(&self.output_dir(recipe, target, out))?;
            let revisions = locked.sources.into_iter();
            let pinned = revisions.filter_map(|(model, source)| Some((model, source.revision?)));
            self.places.pinned.extend(pinned.filter(|(_, revision)| is_commit(revision)));
        }
        Ok(())
    }

    /// What to do while another process has the store to itself.
    pub fn wait<'a>(&self, tell: &'a dyn Fn(), interrupted: &'a AtomicBool) -> Wait<'a> {
        if self.patient { Wait::Telling(tell, interrupted) } else { Wait::Refuse }
    }
}

/// A template's text; on failure says what is wrong with the file.
fn read_template(path: &Path) -> Result<String, String> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Err(format!("the chat template {} is empty", path.display())),
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("the chat template {} does not exist", path.display()))
        }
        Err(error) => Err(format!("the chat template {} cannot be read: {error}", path.display())),
    }
}
