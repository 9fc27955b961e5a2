//! Operations: everything that an action can be, one file each.
//!
//! A new kind of work is a file here that implements [`Op`], and its line below. Keys, the walk over the graph,
//! the schedule and the store know operations by this trait alone.

mod compared;
mod concat;
pub mod conflicts;
mod contract;
mod convert;
mod dequantise;
pub mod difference;
mod from_q8;
mod identical;
mod low_rank;
mod mean;
mod mean_row;
mod merge;
mod offset;
mod rows;
pub mod statistics;
mod strided;
mod zeros;

pub use concat::Concat;
pub use conflicts::Conflicts;
pub use contract::{Access, Beside, Op, Role, RowRun, Streaming, Tensor, Whole, not_finite};
pub use convert::Convert;
pub use dequantise::{Blocks, Dequantise};
pub use difference::Difference;
pub use from_q8::FromQ8;
pub use identical::Identical;
pub use low_rank::{Block, Factor, LowRank, Update, Vectors};
pub use mean::Mean;
pub use mean_row::MeanRow;
pub use merge::Merge;
pub use offset::Offset;
pub use rows::Rows;
pub use statistics::Statistics;
pub use strided::Strided;
pub use zeros::Zeros;
