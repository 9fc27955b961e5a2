//! A file that is wanted of the hub, and whether what comes can be it.

use std::ops::Range;

use super::error::HubError;
use super::file::HubFile;
use super::http::Answer;
use super::snapshot::Snapshot;

/// A file that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Want<'a> {
    pub snapshot: &'a Snapshot,
    pub file: &'a HubFile,
}

impl Want<'_> {
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.snapshot.id, self.file.path)
    }

    pub(super) fn link(&self) -> Result<(), HubError> {
        self.snapshot.folder.link(&self.snapshot.commit, self.file)
    }

    /// Whether its blob is there.
    pub(super) fn has_blob(&self) -> bool {
        let blob = self.snapshot.folder.blob(self.file.etag());
        blob.metadata().is_ok_and(|metadata| metadata.len() == self.file.size)
    }

    /// The error of a file that is longer or shorter than the hub's list says.
    pub(super) fn of_length(&self, got: u64) -> HubError {
        let (model, file) = (self.snapshot.id.clone(), self.file.path.clone());
        HubError::Length { model, file, said: self.file.size, got }
    }

    /// The bytes that an answer brings to the question for some of them: those, or all.
    pub(super) fn brought(&self, answer: &Answer, asked: &Range<u64>) -> Result<Range<u64>, HubError> {
        let size = self.file.size;
        match &answer.part {
            Some((_, of)) if *of != size => Err(self.of_length(*of)),
            Some((range, _)) if range.start == asked.start && range.end <= asked.end => Ok(range.clone()),
            Some(_) => {
                let problem = format!("a part of {} other than the one requested", self.name());
                Err(HubError::Malformed { address: answer.address().to_owned(), problem })
            }
            None => match answer.n_bytes {
                Some(n_bytes) if n_bytes != size => Err(self.of_length(n_bytes)),
                _ => Ok(0..size),
            },
        }
    }
}
