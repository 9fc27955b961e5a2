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

/// Build model merges from mergekit recipes, again and again, computing only what changed.
///
/// A recipe names merge stages that feed one another. lamarck keeps every tensor that a stage makes in a
/// cache, knows what each was made of, and computes again only what a change can reach.
///
/// Exit codes: 0 done; 1 the recipe or the data is wrong; 2 usage; 3 the cache is damaged; 4 no space or
/// an I/O failure; 5 a lock is held (`--no-wait`); 6 the hub cannot be
/// reached, or gives what cannot be used; 10 `plan --exit-code` found work, `diff --exit-code` a difference; 130 and 143 interrupted.
/// Treat any other as a failure.
#[derive(Debug, Parser)]
#[command(version, after_help = examples::LAMARCK)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
    /// Print one JSON document (for `build` and `watch`, one line an event) instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Print errors only; what is for programs is printed all the same
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print more: notes on the recipe, and every action of a build
    #[arg(short, long, global = true, conflicts_with = "quiet", overrides_with = "verbose")]
    pub verbose: bool,
    /// When to colour text [environment: NO_COLOR, CLICOLOR, CLICOLOR_FORCE]
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
    /// Build a recipe's final stages, or those given, into merges/NAME
    #[command(after_help = examples::BUILD)]
    Build(BuildArgs),
    /// Fetch the models that a recipe needs from the hub, ahead of a build
    #[command(after_help = examples::FETCH)]
    Fetch(FetchArgs),
    /// Show what a build would run and reuse, and why; runs nothing
    #[command(after_help = examples::PLAN)]
    Plan(PlanArgs),
    /// Show the plan whenever the recipe is saved, and build it when a key is pressed
    ///
    /// What is wrong is shown as well, and a save of lamarck.toml counts, too. Enter builds, r writes the report of the
    /// last build, q and Ctrl-C end. Where standard input is no terminal there are no keys.
    #[command(after_help = examples::WATCH)]
    Watch(WatchArgs),
    /// Say why tensors are or are not up to date: which field, old -> new, and where in the recipe
    #[command(after_help = examples::EXPLAIN)]
    Explain(ExplainArgs),
    /// Check a recipe and the headers of its models without building
    #[command(after_help = examples::CHECK)]
    Check(CheckArgs),
    /// Print the graph of a recipe's stages
    #[command(after_help = examples::GRAPH)]
    Graph(GraphArgs),
    /// Show a checkpoint's layers, tensors and tokenizer
    #[command(after_help = examples::INSPECT)]
    Inspect(InspectArgs),
    /// Tell how two models differ, tensor by tensor: checkpoints, builds or stages
    ///
    /// A and B are each a folder or file of tensors, `org/name`, `model+adapter`, a build (its number in `lamarck log` or
    /// its tag), a recipe, which stands for its final stage, or `recipe.yaml#stage` and `12#stage`. A folder that is there
    /// goes before a build of that number, which is `build:12` then. Checkpoints are read, each tensor once; results of
    /// builds are taken from the cache and never made. What was computed is kept in the cache, so that asking again reads
    /// nothing.
    #[command(after_help = examples::DIFF)]
    Diff(DiffArgs),
    /// List the builds so far, newest first
    #[command(after_help = examples::LOG)]
    Log(LogArgs),
    /// Show everything that is recorded of a build
    #[command(after_help = examples::SHOW)]
    Show(ShowArgs),
    /// Write a page of pictures of what a build did
    #[command(after_help = examples::REPORT)]
    Report(ReportArgs),
    /// Name a build, or list the names
    #[command(after_help = examples::TAG)]
    Tag(TagArgs),
    /// Prove a merged model against its lockfile; ends with exit code 3 if it is not as it should be
    #[command(after_help = examples::VERIFY)]
    Verify(VerifyOutputArgs),
    /// Look after the cache
    #[command(after_help = examples::CACHE)]
    Cache(CacheArgs),
    /// List the merge methods, or describe one
    #[command(after_help = examples::METHODS)]
    Methods(MethodsArgs),
    /// Print the JSON Schema of recipes, by which editors complete and check them
    #[command(after_help = examples::SCHEMA)]
    Schema,
    /// Start a project: a folder with a recipe to edit, settings, and what editors need
    #[command(after_help = examples::NEW)]
    New(NewArgs),
    /// Print the script by which a shell completes lamarck's commands, stages, builds and recipes
    #[command(after_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Write manual pages, one for each command
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
    /// Write the stage without a name here
    #[arg(long, value_name = "PATH")]
    pub out_path: Option<PathBuf>,
    /// Write every stage with a name here, into a folder of its own
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
    /// Reuse what is up to date, as is always done
    #[arg(long, hide = true, overrides_with = "no_lazy")]
    pub lazy: bool,
    /// The same, for what is out of date is never reused
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
    /// The recipe [default: lamarck.toml's, or the only one in recipes/, or lamarck.yaml]
    pub recipe: Option<PathBuf>,
    /// Work on this stage instead of the final ones; can be repeated
    #[arg(long = "stage", value_name = "NAME")]
    pub stages: Vec<String>,
    /// Give a variable of the recipe another value; can be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub sets: Vec<(String, String)>,
    /// Treat warnings about the recipe as errors
    #[arg(long)]
    pub deny_warnings: bool,
}

/// Where a recipe's models are, and where results and headers are kept.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct PlaceArgs {
    /// Look for models (`org/name`) in this folder; can be repeated
    #[arg(long = "models", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub models: Vec<PathBuf>,
    /// Keep results, and headers of models on the hub, in this folder [default: cache; environment: LAMARCK_CACHE]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub cache: Option<PathBuf>,
    /// Ask nothing of the hub: use what is on this machine [environment: HF_HUB_OFFLINE]
    #[arg(long)]
    pub offline: bool,
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
    /// Write the result here; only with a single stage to build [default: merges/NAME]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Threads to use [default: one a core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Memory that tensors may take, such as 512MB or 4GiB [default: 1GiB]. The plan and the index come on top: about
    /// 40 MB, and 7 kB an action
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
    /// Largest shard to write, such as 2GB [default: 5GB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub shard_size: Option<u64>,
    /// Write out an earlier build again, by its number in `lamarck log` or its tag, with the recipe as it was then
    #[arg(long, value_name = "BUILD", conflicts_with_all = ["recipe", "sets", "seed", "locked"])]
    pub from: Option<String>,
    /// Fail unless everything comes out as the lockfile in the output's place says
    #[arg(long)]
    pub locked: bool,
    /// Read models of the hub straight into the build and keep nothing of them; fetches only the tensors that are needed,
    /// each once
    #[arg(long)]
    pub stream: bool,
    /// Trust no file's stamps: read and hash every source anew, and write the output anew
    #[arg(long)]
    pub rehash: bool,
    /// Fail with exit code 5 rather than wait while another process removes results from the cache
    #[arg(long)]
    pub no_wait: bool,
    /// Write down which thread did what when, for chrome://tracing or ui.perfetto.dev
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub trace: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct FetchArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    #[command(flatten)]
    pub places: PlaceArgs,
    /// Fetch the revisions that the lockfiles in the outputs' places name
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
    /// Count on models being streamed, as `build --stream` does
    #[arg(long)]
    pub stream: bool,
    /// End with exit code 10 if a build would run anything
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
    /// Build at once, and again on every save
    #[arg(long)]
    pub build: bool,
    /// Threads to use [default: one a core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Memory that tensors may take, such as 512MB or 4GiB [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
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
    /// Explain tensors whose name holds this text, one by one
    #[arg(long, value_name = "NAME")]
    pub tensor: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct GraphArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// How to print it
    #[arg(long, value_enum, default_value_t = GraphFormat::Text)]
    pub format: GraphFormat,
    /// Look for models (`org/name`) in this folder; can be repeated
    #[arg(long = "models", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub models: Vec<PathBuf>,
    /// The cache of the builds to compare with [default: cache; environment: LAMARCK_CACHE]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub cache: Option<PathBuf>,
    /// Seed of the random methods [default: the recipe's]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum GraphFormat {
    /// A tree: each final stage with what it is made of
    Text,
    /// For Graphviz
    Dot,
    /// For Markdown on GitHub and elsewhere
    Mermaid,
    /// A picture, for light and dark; with what a build would do, where the models are on this machine
    Svg,
    /// A page with the picture and a table of the stages
    Html,
}

#[derive(Debug, ClapArgs)]
pub struct InspectArgs {
    /// A checkpoint's folder, or `org/name`
    pub model: String,
    /// Look for models (`org/name`) in this folder; can be repeated
    #[arg(long = "models", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub models: Vec<PathBuf>,
    /// Ask nothing of the hub: use what is on this machine [environment: HF_HUB_OFFLINE]
    #[arg(long)]
    pub offline: bool,
    /// Read every tensor and print its digest
    #[arg(long, conflicts_with = "stats")]
    pub digests: bool,
    /// Tell what the merge did to every tensor of an output: how far it moved from the base, and towards which model
    #[arg(long)]
    pub stats: bool,
    /// The cache that keeps the statistics [default: cache; environment: LAMARCK_CACHE]
    #[arg(long, value_name = "DIR", requires = "stats", value_hint = ValueHint::DirPath)]
    pub cache: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct DiffArgs {
    /// The model to start from
    pub a: String,
    /// The model to compare with it
    pub b: String,
    /// List this many of the tensors that moved farthest; -v lists all
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,
    /// Write a page with heat maps and all tensors into this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub html: Option<PathBuf>,
    /// End with exit code 10 if the two differ
    #[arg(long)]
    pub exit_code: bool,
    #[command(flatten)]
    pub places: PlaceArgs,
    /// Threads to use [default: one a core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Memory that tensors may take, such as 512MB or 4GiB [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
}

#[derive(Debug, ClapArgs)]
pub struct LogArgs {
    /// List the builds of this recipe alone
    pub recipe: Option<PathBuf>,
    /// The cache whose builds to list [default: cache; environment: LAMARCK_CACHE]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub cache: Option<PathBuf>,
    /// List this many builds at most, the newest first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

/// Writes one self-contained HTML page: what each stage did to every tensor and whose doing it was, where models were
/// at odds, parameters over the layers, what was rebuilt and why, and where the time went. The numbers are kept in the
/// cache, so that a second page takes no time, and after an edit only what changed is measured again.
#[derive(Debug, ClapArgs)]
pub struct ReportArgs {
    /// The number of the build, or its tag [default: the newest]
    pub build: Option<String>,
    /// Write the page here [default: lamarck-report-BUILD.html]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub places: PlaceArgs,
    /// Threads to use [default: one a core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Memory that tensors may take, such as 512MB or 4GiB [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
}

#[derive(Debug, ClapArgs)]
pub struct ShowArgs {
    /// The number of the build, or its tag [default: the newest]
    pub build: Option<String>,
    /// The cache that it is recorded in [default: cache; environment: LAMARCK_CACHE]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub cache: Option<PathBuf>,
    /// Print the recipe as it was for this build, and nothing else
    #[arg(long)]
    pub recipe: bool,
}

/// Names a build. A tag stands for its build wherever one is named, and `cache gc` keeps the results of tagged
/// builds.
#[derive(Debug, ClapArgs)]
pub struct TagArgs {
    /// The number of the build, or a tag that it has; without it, all tags are listed
    #[arg(requires = "name")]
    pub build: Option<String>,
    /// The tag
    pub name: Option<String>,
    /// What is worth knowing of the build
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, requires = "name")]
    pub note: String,
    /// Take the tag from the build that has it
    #[arg(long, requires = "name")]
    pub force: bool,
    /// Delete this tag; the build stays, until `cache gc` finds it stale
    #[arg(long, value_name = "NAME", conflicts_with = "build")]
    pub delete: Option<String>,
    /// The cache that the builds are recorded in [default: cache; environment: LAMARCK_CACHE]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub cache: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct VerifyOutputArgs {
    /// The merged model's folder, with its lamarck.lock.json
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// Also build it again, with nothing from the cache, and compare
    #[arg(long)]
    pub rebuild: bool,
    /// Build it again from this recipe, for recipes with relative paths [default: the one in the folder]
    #[arg(long, value_name = "RECIPE")]
    pub recipe: Option<PathBuf>,
    /// Look for models (`org/name`) in this folder; can be repeated
    #[arg(long = "models", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub models: Vec<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct CacheArgs {
    #[command(subcommand)]
    pub command: CacheCommand,
    /// The cache to look after [default: cache; environment: LAMARCK_CACHE]
    #[arg(long, value_name = "DIR", global = true, value_hint = ValueHint::DirPath)]
    pub cache: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Show how much the cache holds, and for which stages
    #[command(after_help = examples::CACHE_STAT)]
    Stat,
    /// Remove results, least recently used first, and what the index needs no more
    ///
    /// Records stay of the newest builds, of the last build of every recipe and set of --set, --seed and --stage
    /// (until 30 days after its last use, if the recipe's file is gone), and under a limit of those that lose
    /// nothing by it. Without limits, results go that no such build has.
    #[command(after_help = examples::CACHE_GC)]
    Gc(GcArgs),
    /// Check every result and every row of the index; ends with exit code 3 if there is damage
    #[command(after_help = examples::CACHE_VERIFY)]
    Verify(VerifyArgs),
    /// Print where the cache is
    #[command(after_help = examples::CACHE_PATH)]
    Path,
}

#[derive(Clone, Copy, Debug, ClapArgs)]
pub struct GcArgs {
    /// Remove until the results take no more than this, such as 50GB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_size: Option<u64>,
    /// Remove what was not used for this long, such as 30d or 12h
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub max_age: Option<u64>,
    /// Keep everything that the newest N builds have, and their records [default: 1]
    #[arg(long, value_name = "N")]
    pub keep_builds: Option<usize>,
    /// Remove the results that no recipe's last build has, nor a tagged one
    #[arg(long)]
    pub stale: bool,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Fail with exit code 5 rather than wait for running builds
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Clone, Copy, Debug, ClapArgs)]
pub struct VerifyArgs {
    /// Remove what is damaged, so that it is made again when it is next wanted
    #[arg(long)]
    pub repair: bool,
}

#[derive(Debug, ClapArgs)]
pub struct MethodsArgs {
    /// Describe this method: its formula and parameters
    pub name: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct NewArgs {
    /// The project's folder, which is made if need be
    #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// What its recipe is a start for
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
    /// Where to write them; the folder is made if need be
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
        _ => return Err(format!("`{unit}` is no unit of bytes; use MB, GB, MiB or GiB")),
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
