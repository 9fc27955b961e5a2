//! What the commands take that show models and builds.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum, ValueHint};

use super::shared::{LimitArgs, PlaceArgs, RecipeArgs};

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
pub struct MethodsArgs {
    /// Explain this method: its formula and parameters
    pub name: Option<String>,
}
