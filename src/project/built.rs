//! What a build did.

use std::path::PathBuf;

use crate::gc::Removed;
use crate::output::write::Written;

/// What a build did.
#[derive(Debug, Default)]
pub struct Report {
    /// `None` if nothing changed, so that there is nothing to record.
    pub number: Option<u64>,
    /// In the order of the plan's targets.
    pub outputs: Vec<OutputReport>,
    /// Actions that were run, those whose results the store had lost included.
    pub ran: usize,
    /// Rows of the store's index that were damaged, and so counted as missing.
    pub damaged_rows: usize,
    /// What was removed to keep the store within its standing limit.
    pub trimmed: Option<Removed>,
    /// What changed, with the number of actions that ran for it.
    pub reasons: Vec<(String, usize)>,
    /// From the start of the build until its outputs were in place.
    pub seconds: f64,
}

/// One output directory.
#[derive(Debug)]
pub struct OutputReport {
    /// The target that it holds, by name.
    pub stage: String,
    /// As the user wrote it, not resolved.
    pub dir: PathBuf,
    /// All that the model has; `reused`, `cut_off` and `rebuilt` add up to it.
    pub tensors: usize,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Tensors that took no work: sources, and results of earlier builds.
    pub reused: usize,
    /// Tensors below something that was computed again with equal bytes.
    pub cut_off: usize,
    /// Tensors that were computed, lost results that were made again included.
    pub rebuilt: usize,
    /// What of the directory had to be written; nothing if it was up to date.
    pub written: Written,
}
