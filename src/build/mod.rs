//! Carries out a plan: looks every action up, runs what is missing, keeps the results.
//!
//! | file | what it is |
//! | --- | --- |
//! | `resolve` | the walk: what is known, what is missing |
//! | `status`, `reasons` | what a build would do, and why; nothing is run |
//! | `schedule` | which node is next; knows no bytes |
//! | `workers`, `task` | threads, and the work on one node |
//! | `reading` | what a node is computed from, checked |
//! | `measured` | how long the work on each node took |
//! | `warm`, `prefetch`, `outside` | bytes at hand, bytes to come, bytes outside the store |
//! | `spill` | bytes at hand go to a file |
//! | `bytes`, `examine` | a tensor's bytes wherever they are; one pass over them |
//! | `compute`, `geometry` | an operation, leaf by leaf |
//! | `buffers`, `masks` | what a thread holds of inputs; what is drawn for a tensor |
//! | `kept_masks` | masks of earlier builds |
//! | `ranking` | ranks in a whole tensor, by a sample and one pass |
//! | `storing` | which stages' results are kept at all |
//! | `committer`, `sink` | keeping results, in the background, in the store or where the output has them |
//! | `engine` | a build from the first look-up to the last commit |

mod buffers;
mod bytes;
mod committer;
pub mod compute;
mod context;
mod engine;
mod error;
mod examine;
mod geometry;
mod kept_masks;
mod masks;
mod measured;
mod outside;
mod prefetch;
mod ranking;
mod reading;
pub mod reasons;
pub mod resolve;
mod schedule;
mod shared;
mod sink;
mod spill;
pub mod status;
mod storing;
mod task;
mod warm;
mod workers;

pub use bytes::{Bytes, Run};
pub use context::{Context, Outcome, Resolved};
pub use engine::{Build, with_build};
pub use error::BuildError;
pub use masks::Masks;
pub use measured::{Measured, Work};
pub use outside::source_range;
pub use sink::{FileSlice, OutputSink};
pub use storing::{Policy, Storing, Why};
