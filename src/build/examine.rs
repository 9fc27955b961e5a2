//! One pass over bytes: their digest, their checksums, and whether they hold NaN or infinity.

use std::sync::Arc;

use rayon::prelude::*;

use super::bytes::{Bytes, READ_BYTES};
use super::error::BuildError;
use crate::digest::{Checksums, Digest};
use crate::event::Span;
use crate::kernels::convert;
use crate::tensor::Dtype;

/// What one pass over some bytes tells of them.
pub struct Examined {
    pub digest: Digest,
    pub finite: bool,
    pub checksums: Arc<Checksums>,
}

/// How bytes are looked through.
pub struct Examination<'a> {
    /// Whether all of rayon's threads share the work.
    pub wide: bool,
    /// Called between blocks; an error ends the pass.
    pub proceed: &'a dyn Fn() -> Result<(), BuildError>,
    /// Told how far the pass is.
    pub span: Option<&'a Span<'a>>,
}

impl Examination<'_> {
    /// Looks through bytes, for NaN and infinity too if they are of a type that has them.
    pub fn of(&self, bytes: &Bytes, dtype: Option<Dtype>) -> Result<Examined, BuildError> {
        let float = dtype.filter(|dtype| dtype.is_float());
        let is_finite = |piece: &[u8]| float.is_none_or(|dtype| convert::is_finite(dtype, piece));
        let mut hasher = blake3::Hasher::new();
        let mut finite = true;
        let mut checksums = Checksums::default();
        if self.wide {
            bytes.large_blocks(|block| {
                (self.proceed)()?;
                finite &= block.par_chunks(READ_BYTES).all(is_finite);
                checksums.0.par_extend(block.par_chunks(Checksums::BLOCK).map(Checksums::of));
                hasher.update_rayon(block);
                self.span.inspect(|span| span.progress(block.len() as u64));
                Ok::<(), BuildError>(())
            })?;
        } else {
            bytes.blocks(|_, block| {
                (self.proceed)()?;
                // All three look at a piece while it is in the core's cache.
                for piece in block.chunks(Checksums::BLOCK) {
                    finite &= is_finite(piece);
                    checksums.0.push(Checksums::of(piece));
                    hasher.update(piece);
                }
                Ok::<(), BuildError>(())
            })?;
        }
        let checksums = Arc::new(checksums);
        Ok(Examined { digest: hasher.finalize().into(), finite, checksums })
    }
}
