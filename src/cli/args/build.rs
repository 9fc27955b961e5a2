//! What `build`, `watch`, `plan` and their like take.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueHint};

use super::shared::{LimitArgs, PlaceArgs, RecipeArgs};
use super::values::size;

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
pub struct CheckArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    #[command(flatten)]
    pub places: PlaceArgs,
}
