//! What the commands take that set things up.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueHint};
use clap_complete::Shell;

use crate::cli::templates::Template;

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
