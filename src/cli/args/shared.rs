//! What several commands take: a recipe, places, limits.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueHint};

use super::values::{name_and_value, size};

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
    /// Memory for tensors, such as 512MB or 4GiB [default: a quarter of the machine's, at least 1GiB]. Plan and index
    /// take about 40 MB more, and 7 kB per action
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
}
