//! What the commands take that are about builds so far.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueHint};

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
