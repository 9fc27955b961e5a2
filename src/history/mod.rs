//! Records of builds, kept in the store's index: what was built from what, and how it went.
//!
//! A record is a small row, found by its number or as the last one of its recipe or of a variant of it. What
//! the actions of each stage were lies in blocks that are named by their digests, so that builds share what
//! did not change between them: tensor names, keys, and the fields of the keys by columns.

mod account;
mod attached;
mod builds;
mod changing;
pub mod codec;
mod costs;
mod past;
mod record;
mod recorder;
mod sheet;
mod tags;

pub use account::{Account, Effort, Piece, StageAccount};
pub use attached::attach;
pub use builds::{
    add, find, is_noted, last_of, name_of_variant, names, newest, newest_of_recipe, note_use, used_name,
};
pub use changing::changing;
pub use costs::Costs;
pub use past::{Past, read_keys};
pub use record::{Draft, OutputRecord, Record, Variant};
pub use recorder::{Origin, Recorder};
pub use tags::{Tag, problem_of_name, set_tag, tag, tags};
