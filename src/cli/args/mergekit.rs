//! What mergekit's command lines take.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use crate::cli::mergekit::MergeOptions;

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
