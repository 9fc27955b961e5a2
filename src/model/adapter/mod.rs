//! Low-rank adapters as PEFT keeps them: a folder with adapter_config.json and one file of tensors.
//!
//! Which tensors of a model an adapter changes, and how, follows from its configuration and from the names and shapes
//! of its tensors; none is read for it.

mod apply;
mod change;
mod config;
mod experts;
mod folder;
mod gathering;
mod key;
mod matrices;
mod names;
mod problems;
mod stacked;

pub use apply::{Base, apply};
pub use change::{BaseTensor, Change, Changed};
pub use folder::{is_adapter, is_whole, open};
pub use problems::in_short;
