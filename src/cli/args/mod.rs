//! What can be typed. The doc comments are the help texts.
//!
//! | file | whose options |
//! | --- | --- |
//! | `shared`, `values` | those of several commands; how values are read |
//! | `build` | of `build`, `fetch`, `plan`, `watch`, `explain`, `check` |
//! | `look` | of `graph`, `inspect`, `diff`, `report`, `verify`, `methods` |
//! | `history` | of `log`, `show`, `tag` |
//! | `cache` | of `cache` |
//! | `start` | of `new`, `completions`, `man` |
//! | `mergekit` | of `mergekit-yaml` and its like |

mod build;
mod cache;
mod history;
mod look;
mod mergekit;
mod shared;
mod start;
mod values;

use clap::error::ErrorKind;
use clap::{CommandFactory, Error, FromArgMatches, Parser, Subcommand};

use super::examples;
use super::terminal::{Colour, width_of_stdout};

pub use build::{BuildArgs, CheckArgs, ExplainArgs, FetchArgs, PlanArgs, WatchArgs};
pub use cache::{CacheArgs, CacheCommand, GcArgs, VerifyArgs};
pub use history::{LogArgs, ShowArgs, TagArgs};
pub use look::{DiffArgs, GraphArgs, GraphFormat, InspectArgs, MethodsArgs, ReportArgs, VerifyOutputArgs};
pub use mergekit::{MergekitMultiArgs, MergekitYamlArgs};
pub use shared::{LimitArgs, PlaceArgs, RecipeArgs};
pub use start::{CompletionsArgs, ManArgs, NewArgs};
pub use values::size;

/// Build model merges from mergekit recipes, and rebuild only what changed.
///
/// A recipe consists of merge stages that feed one another. lamarck keeps every tensor that a stage makes in a cache, knows
/// what it was made from, and after an edit computes only what the edit can reach.
///
/// Exit codes: 0 done; 1 the recipe or the data is wrong; 2 usage error; 3 damage found; 4 no space or an I/O failure;
/// 5 another process holds the cache's lock (`--no-wait`); 6 the hub cannot be reached or sent something unusable;
/// 10 `plan --exit-code` found work, or `diff --exit-code` a difference; 130 and 143 interrupted. Treat any other code as
/// a failure.
#[derive(Debug, Parser)]
#[command(version, after_help = examples::LAMARCK)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
    /// Print one JSON document instead of text; `build` and `watch` print one line per event
    #[arg(long, global = true)]
    pub json: bool,
    /// Print errors only; output for programs (such as --json) is still printed
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print more: notes on the recipe, every action of a build
    #[arg(short, long, global = true, conflicts_with = "quiet", overrides_with = "verbose")]
    pub verbose: bool,
    /// When to use colour [environment: NO_COLOR, CLICOLOR, CLICOLOR_FORCE]
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Colour::Auto)]
    pub color: Colour,
}

/// Help is not set wider than this.
const HELP_WIDTH: usize = 100;

impl Args {
    /// Reads the process's arguments.
    ///
    /// # Errors
    /// What is wrong with them; help and version, which are asked for, too.
    pub fn read() -> Result<Self, Error> {
        // Where help goes to no terminal, it is not wrapped either.
        let width = width_of_stdout().map_or(0, |width| width.min(HELP_WIDTH));
        let matches = Self::command().term_width(width).try_get_matches()?;
        Self::from_arg_matches(&matches)
    }
}

/// Whether an error is that the version was asked for.
pub fn is_version(error: &Error) -> bool {
    error.kind() == ErrorKind::DisplayVersion
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build a recipe's final stages, or the given ones, into merges/NAME
    #[command(after_help = examples::BUILD)]
    Build(BuildArgs),
    /// Download the models that a recipe needs
    #[command(after_help = examples::FETCH)]
    Fetch(FetchArgs),
    /// Show what a build would run and reuse, and why
    #[command(after_help = examples::PLAN)]
    Plan(PlanArgs),
    /// Show the plan whenever the recipe is saved; build at the press of a key
    ///
    /// Errors are shown as well, and saving lamarck.toml counts too. Enter builds, r writes the report of the last build,
    /// q and Ctrl-C quit. The keys work only if standard input is a terminal.
    #[command(after_help = examples::WATCH)]
    Watch(WatchArgs),
    /// Explain why tensors are or are not up to date: which field, old -> new, and where in the recipe
    #[command(after_help = examples::EXPLAIN)]
    Explain(ExplainArgs),
    /// Check a recipe, and the types and shapes of its models, without building
    #[command(after_help = examples::CHECK)]
    Check(CheckArgs),
    /// Draw the stages of a recipe
    #[command(after_help = examples::GRAPH)]
    Graph(GraphArgs),
    /// Show a checkpoint's layers, tensors and tokenizer
    #[command(after_help = examples::INSPECT)]
    Inspect(InspectArgs),
    /// Compare two models, builds, stages or recipes, tensor by tensor
    ///
    /// A and B are each a folder or a file of tensors, `org/name`, `model+adapter`, a build (its number in `lamarck log`, or
    /// its tag), a recipe, which stands for its final stage, or a stage: `recipe.yaml#stage`, `12#stage`. An existing folder
    /// takes precedence over a build of that number; write `build:12` for the build. Checkpoints are read, each tensor once;
    /// results of builds are taken from the cache and never rebuilt. The differences are kept in the cache, so that asking
    /// again reads nothing.
    #[command(after_help = examples::DIFF)]
    Diff(DiffArgs),
    /// List builds, newest first, with what changed between them
    #[command(after_help = examples::LOG)]
    Log(LogArgs),
    /// Show everything recorded of a build
    #[command(after_help = examples::SHOW)]
    Show(ShowArgs),
    /// Write an HTML page with pictures of what a build did
    #[command(after_help = examples::REPORT)]
    Report(ReportArgs),
    /// Name a build, or list tags
    #[command(after_help = examples::TAG)]
    Tag(TagArgs),
    /// Check a merged model against its lockfile; the exit code is 3 if they disagree
    #[command(after_help = examples::VERIFY)]
    Verify(VerifyOutputArgs),
    /// Inspect, shrink and check the cache
    #[command(after_help = examples::CACHE)]
    Cache(CacheArgs),
    /// List the merge methods, or explain one
    #[command(after_help = examples::METHODS)]
    Methods(MethodsArgs),
    /// Print the JSON Schema of recipes, for editors
    #[command(after_help = examples::SCHEMA)]
    Schema,
    /// Start a project: a commented recipe, lamarck.toml, .gitignore
    #[command(after_help = examples::NEW)]
    New(NewArgs),
    /// Print a shell's completion script; stages, builds, tags and recipes are completed too
    #[command(after_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Write the manual pages, one per command
    #[command(after_help = examples::MAN)]
    Man(ManArgs),
    /// Build a recipe with the command line of `mergekit-yaml`
    #[command(after_help = examples::MERGEKIT_YAML)]
    MergekitYaml(MergekitYamlArgs),
    /// Build a recipe of several stages with the command line of `mergekit-multi`
    #[command(after_help = examples::MERGEKIT_MULTI)]
    MergekitMulti(MergekitMultiArgs),
    /// Merge state dicts with the command line of `mergekit-pytorch`
    #[command(after_help = examples::MERGEKIT_PYTORCH)]
    MergekitPytorch(MergekitYamlArgs),
}

impl Command {
    /// Whether it builds, and so tells with `--json` what happens line by line.
    pub fn is_build(&self) -> bool {
        matches!(
            self,
            Self::Build(_)
                | Self::Watch(_)
                | Self::MergekitYaml(_)
                | Self::MergekitMulti(_)
                | Self::MergekitPytorch(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
