//! What `cache` takes.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueHint};

use super::values::{age, size};
use crate::cli::examples;

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
