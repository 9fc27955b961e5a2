//! What can be typed. The doc comments are the help texts.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{
    Args as ClapArgs, CommandFactory, Error, FromArgMatches, Parser, Subcommand, ValueEnum, ValueHint,
};
use clap_complete::Shell;

use super::examples;
use super::mergekit::MergeOptions;
use super::templates::Template;
use super::terminal::{Colour, width_of_stdout};

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

#[derive(Debug, ClapArgs)]
pub struct MergekitYamlArgs {
    /// The recipe
    pub config_file: PathBuf,
    /// Write the result here
    pub out_path: PathBuf,
    #[command(flatten)]
    pub options: MergeOptions,
}

#[derive(Debug, ClapArgs)]
pub struct MergekitMultiArgs {
    /// The recipe
    pub config_file: PathBuf,
    /// Write the unnamed stage here
    #[arg(long, value_name = "PATH")]
    pub out_path: Option<PathBuf>,
    /// Write every named stage here, each into its own folder
    #[arg(short = 'I', long, value_name = "PATH")]
    pub intermediate_dir: PathBuf,
    #[command(flatten)]
    pub lazy: Lazy,
    #[command(flatten)]
    pub options: MergeOptions,
}

/// Stages are looked at in any case.
#[derive(Clone, Copy, Debug, ClapArgs)]
pub struct Lazy {
    /// Reuse what is up to date, as lamarck always does
    #[arg(long, hide = true, overrides_with = "no_lazy")]
    pub lazy: bool,
    /// The same: what is out of date is never reused
    #[arg(long, hide = true, overrides_with = "lazy")]
    pub no_lazy: bool,
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

/// A recipe, and which of its stages are meant.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct RecipeArgs {
    /// The recipe [default: `recipe` in lamarck.toml, or the only one in recipes/, or lamarck.yaml]
    pub recipe: Option<PathBuf>,
    /// This stage instead of the final ones; can be repeated
    #[arg(long = "stage", value_name = "NAME")]
    pub stages: Vec<String>,
    /// Override a variable of the recipe; can be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub sets: Vec<(String, String)>,
    /// Treat warnings about the recipe as errors
    #[arg(long)]
    pub deny_warnings: bool,
}

/// Where a recipe's models are, and where results and headers are kept.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct PlaceArgs {
    /// Look for models in this folder, as org/name; can be repeated
    #[arg(long = "models", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub models: Vec<PathBuf>,
    /// The cache's folder [default: cache; environment: LAMARCK_CACHE]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub cache: Option<PathBuf>,
    /// Do not contact the hub; use what is on this machine [environment: HF_HUB_OFFLINE]
    #[arg(long)]
    pub offline: bool,
}

/// How much of the machine may be used.
#[derive(Clone, Copy, Debug, Default, ClapArgs)]
pub struct LimitArgs {
    /// Threads to use [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Memory for tensors, such as 512MB or 4GiB [default: 1GiB]. Plan and index take about 40 MB more, and 7 kB per
    /// action
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
}

#[derive(Debug, ClapArgs)]
pub struct CheckArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    #[command(flatten)]
    pub places: PlaceArgs,
}

#[derive(Debug, Default, ClapArgs)]
pub struct BuildArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    #[command(flatten)]
    pub places: PlaceArgs,
    /// Seed of the random methods [default: the recipe's]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Write the result here; needs a single stage to build [default: merges/NAME]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Largest shard to write, such as 2GB [default: 5GB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub shard_size: Option<u64>,
    /// Write an earlier build again, by its number in `lamarck log` or its tag, with the recipe as it was then
    #[arg(long, value_name = "BUILD", conflicts_with_all = ["recipe", "sets", "seed", "locked"])]
    pub from: Option<String>,
    /// Fail unless the result is exactly what the lockfile in the output folder says
    #[arg(long)]
    pub locked: bool,
    /// Read models of the hub over the network and keep nothing of them; only the tensors that are needed are fetched,
    /// each once
    #[arg(long)]
    pub stream: bool,
    /// Ignore time stamps: read and hash every source again, and rewrite the output
    #[arg(long)]
    pub rehash: bool,
    /// Fail with exit code 5 instead of waiting while another process removes results from the cache
    #[arg(long)]
    pub no_wait: bool,
    /// Write a trace of all threads, for chrome://tracing or ui.perfetto.dev
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub trace: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct FetchArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    #[command(flatten)]
    pub places: PlaceArgs,
    /// Fetch the revisions named by the lockfiles in the output folders
    #[arg(long)]
    pub locked: bool,
}

#[derive(Debug, ClapArgs)]
pub struct PlanArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    #[command(flatten)]
    pub places: PlaceArgs,
    /// Seed of the random methods [default: the recipe's]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Plan for `build --stream`
    #[arg(long)]
    pub stream: bool,
    /// Exit with code 10 if a build would run anything
    #[arg(long)]
    pub exit_code: bool,
}

#[derive(Debug, ClapArgs)]
pub struct WatchArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    #[command(flatten)]
    pub places: PlaceArgs,
    /// Seed of the random methods [default: the recipe's]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Build at the start, and again on every save
    #[arg(long)]
    pub build: bool,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Debug, ClapArgs)]
pub struct ExplainArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    #[command(flatten)]
    pub places: PlaceArgs,
    /// Seed of the random methods [default: the recipe's]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Explain the tensors whose names contain this text, one by one
    #[arg(long, value_name = "NAME")]
    pub tensor: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct GraphArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// The format
    #[arg(long, value_enum, default_value_t = GraphFormat::Text)]
    pub format: GraphFormat,
    /// Look for models in this folder, as org/name; can be repeated
    #[arg(long = "models", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub models: Vec<PathBuf>,
    /// The cache that holds the last build [default: cache; environment: LAMARCK_CACHE]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub cache: Option<PathBuf>,
    /// Seed of the random methods [default: the recipe's]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum GraphFormat {
    /// A tree: each final stage with its inputs
    Text,
    /// For Graphviz
    Dot,
    /// For Markdown, as on GitHub
    Mermaid,
    /// A picture for light and dark mode, with what a build would do if the models are on this machine
    Svg,
    /// A page with the picture and a table of the stages
    Html,
}

#[derive(Debug, ClapArgs)]
pub struct InspectArgs {
    /// A checkpoint's folder, or `org/name`
    pub model: String,
    /// Look for models in this folder, as org/name; can be repeated
    #[arg(long = "models", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub models: Vec<PathBuf>,
    /// Do not contact the hub; use what is on this machine [environment: HF_HUB_OFFLINE]
    #[arg(long)]
    pub offline: bool,
    /// Read every tensor and print its digest
    #[arg(long, conflicts_with = "stats")]
    pub digests: bool,
    /// Show what the merge did to every tensor of an output: how far it moved from the base, and towards which model
    #[arg(long)]
    pub stats: bool,
    /// The cache's folder [default: cache; environment: LAMARCK_CACHE]
    #[arg(long, value_name = "DIR", requires = "stats", value_hint = ValueHint::DirPath)]
    pub cache: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct DiffArgs {
    /// The model to start from
    pub a: String,
    /// The model to compare with it
    pub b: String,
    /// List this many of the tensors that moved furthest; -v lists all
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,
    /// Write an HTML page with heat maps and all tensors to this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub html: Option<PathBuf>,
    /// Exit with code 10 if the two differ
    #[arg(long)]
    pub exit_code: bool,
    #[command(flatten)]
    pub places: PlaceArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Debug, ClapArgs)]
pub struct LogArgs {
    /// List only builds of this recipe
    pub recipe: Option<PathBuf>,
    /// The cache's folder [default: cache; environment: LAMARCK_CACHE]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub cache: Option<PathBuf>,
    /// List at most this many builds
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

/// Write an HTML page with pictures of what a build did
///
/// The page is one file and needs no network. It shows the stages, what each did to every tensor and whose change that is,
/// where models conflict, parameters over the layers, what was rebuilt and why, and where the time went. The statistics are
/// kept in the cache: a second report measures nothing, and after an edit only what changed is measured again.
#[derive(Debug, ClapArgs)]
pub struct ReportArgs {
    /// The build's number or tag [default: the newest]
    pub build: Option<String>,
    /// Write the page to this file [default: lamarck-report-BUILD.html]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub places: PlaceArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Debug, ClapArgs)]
pub struct ShowArgs {
    /// The build's number or tag [default: the newest]
    pub build: Option<String>,
    /// The cache's folder [default: cache; environment: LAMARCK_CACHE]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub cache: Option<PathBuf>,
    /// Print only the recipe, as it was for this build
    #[arg(long)]
    pub recipe: bool,
}

/// Name a build, or list tags
///
/// A tag can be used wherever a build is named, and `cache gc` keeps the results of tagged builds.
#[derive(Debug, ClapArgs)]
pub struct TagArgs {
    /// The build's number, or a tag of it; without it, all tags are listed
    #[arg(requires = "name")]
    pub build: Option<String>,
    /// The tag
    pub name: Option<String>,
    /// A note
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, requires = "name")]
    pub note: String,
    /// Move the tag from the build that has it
    #[arg(long, requires = "name")]
    pub force: bool,
    /// Delete this tag; the build stays until `cache gc` finds it stale
    #[arg(long, value_name = "NAME", conflicts_with = "build")]
    pub delete: Option<String>,
    /// The cache's folder [default: cache; environment: LAMARCK_CACHE]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub cache: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct VerifyOutputArgs {
    /// The merged model's folder, with its lamarck.lock.json
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// Also build it again without the cache, and compare
    #[arg(long)]
    pub rebuild: bool,
    /// Rebuild from this recipe, for recipes with relative paths [default: the one in the folder]
    #[arg(long, value_name = "RECIPE")]
    pub recipe: Option<PathBuf>,
    /// Look for models in this folder, as org/name; can be repeated
    #[arg(long = "models", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub models: Vec<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct CacheArgs {
    #[command(subcommand)]
    pub command: CacheCommand,
    /// The cache's folder [default: cache; environment: LAMARCK_CACHE]
    #[arg(long, value_name = "DIR", global = true, value_hint = ValueHint::DirPath)]
    pub cache: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Show how much the cache holds, and for which stages
    #[command(after_help = examples::CACHE_STAT)]
    Stat,
    /// Remove results, least recently used first; without a limit, say what could go
    ///
    /// Records of these builds stay: tagged builds, the newest ones, the last build of every recipe for each set of --set,
    /// --seed and --stage (until 30 days after its last use if the recipe's file is gone), and, under a limit, builds that
    /// lose nothing by it.
    #[command(after_help = examples::CACHE_GC)]
    Gc(GcArgs),
    /// Check every result and every row of the index; the exit code is 3 if there is damage
    #[command(after_help = examples::CACHE_VERIFY)]
    Verify(VerifyArgs),
    /// Print the cache's path
    #[command(after_help = examples::CACHE_PATH)]
    Path,
}

#[derive(Clone, Copy, Debug, ClapArgs)]
pub struct GcArgs {
    /// Remove results until the rest takes no more than this, such as 50GB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_size: Option<u64>,
    /// Remove results unused for this long, such as 30d or 12h
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub max_age: Option<u64>,
    /// Keep the newest N builds, with all their results [default: 1]
    #[arg(long, value_name = "N")]
    pub keep_builds: Option<usize>,
    /// Remove results that belong to no recipe's last build and no tagged build
    #[arg(long)]
    pub stale: bool,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Fail with exit code 5 instead of waiting for running builds
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Clone, Copy, Debug, ClapArgs)]
pub struct VerifyArgs {
    /// Remove what is damaged; it is rebuilt when it is next needed
    #[arg(long)]
    pub repair: bool,
}

#[derive(Debug, ClapArgs)]
pub struct MethodsArgs {
    /// Explain this method: its formula and parameters
    pub name: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct NewArgs {
    /// The project's folder; created if it does not exist
    #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// The kind of recipe
    #[arg(short, long, value_enum, default_value_t = Template::Slerp)]
    pub template: Template,
}

#[derive(Debug, ClapArgs)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

#[derive(Debug, ClapArgs)]
pub struct ManArgs {
    /// Write them to this folder; created if it does not exist
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as name=value".to_owned()),
    }
}

/// Reads a number of bytes: decimal units (kB, MB, GB, TB) or binary ones (KiB, MiB, GiB, TiB).
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(format!("`{unit}` is not a unit of bytes; use MB, GB, MiB or GiB")),
    };
    let number: f64 = number.parse().map_err(|_| "write a size as 512MB or 4GiB".to_owned())?;
    let bytes = number * factor as f64;
    if (1.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err("the size is out of range".to_owned()) }
}

/// Reads an age in seconds: a number of seconds, minutes, hours, days or weeks (s, m, h, d, w).
pub fn age(text: &str) -> Result<u64, String> {
    let problem = || "write an age as 30d, 12h or 2w".to_owned();
    let unit = text.chars().last().ok_or_else(problem)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(problem()),
    };
    let number: u64 = text[..text.len() - 1].trim().parse().map_err(|_| problem())?;
    number.checked_mul(seconds).ok_or_else(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(size("512MB"), Ok(512_000_000));
        assert_eq!(size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(size("7"), Ok(7));
        assert_eq!((age("30d"), age("90s")), (Ok(2_592_000), Ok(90)));
        assert!(age("30").is_err() && age("d").is_err() && age("").is_err());
        assert!(size("x").is_err() && size("5 parsecs").is_err() && size("0").is_err());
    }
}
