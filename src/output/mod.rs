//! The write side: a stage's result as a checkpoint directory that loads everywhere.
//!
//! A new version is made beside the old one and put in its place at once; a file that would come out the
//! same is taken over as it is.

pub mod card;
pub mod content;
pub mod destination;
pub mod direct;
mod error;
pub mod extras;
mod files;
pub mod format;
mod leaving;
pub mod lockfile;
mod move_in;
mod names;
mod ownership;
mod publish;
mod shards;
mod staging;
pub mod workbench;
pub mod write;

pub use error::OutputError;
pub use names::RECIPE_FILE;
pub use publish::is_half_published;
