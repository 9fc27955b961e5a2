//! The store: blobs named by digest, and an index from action keys to digests.
//!
//! The store knows digests and bytes, never recipes or tensors. Invariants:
//!
//! - A blob appears under its name complete and durable, and never changes afterwards.
//! - A key is committed only after the blob it names is durable. A crash at any instant leaves the
//!   old state or the new one, plus temporary files that the next opening removes.
//! - The index is never the truth about bytes: a hit is a key and a blob of the right size, checked when it is
//!   read, against its digest or against checksums taken with it. Anything less is a miss.
//! - No bytes are held twice: results that a source or a finished output holds have no blob, only a
//!   note of where they are. Where that file is gone or changed, the result is made again.
//! - What only an output held that is replaced comes into the store with the output's file, as a pack; see
//!   [`packs`].
//! - Results are asked for and handed over through [`ActionCache`] and [`Cas`], which tiers elsewhere can
//!   offer as well as the local store; see [`tiered`].
//!
//! On disk, below the cache directory: `CACHEDIR.TAG`, `.gitignore`, and `v2/` with `index.redb`,
//! `blobs/ab/abcd...` (raw bytes, read-only), `packs/` (files that were outputs', read-only) and `tmp/` (one locked folder per process).

pub mod blob;
pub mod catch_panic;
pub mod commit;
mod error;
mod folder;
pub mod index;
pub mod listing;
mod local;
pub mod lock;
#[cfg(test)]
mod memory;
pub mod packs;
pub mod range;
pub mod rewrite;
mod rows;
pub mod session;
pub mod snapshot;
mod tables;
pub mod tier;
pub mod tiered;

pub use error::StoreError;
pub use local::Store;
pub use tier::{ActionCache, Cas};
