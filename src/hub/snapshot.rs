//! What a model on the hub holds at one commit.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::cache::{ModelFolder, is_commit};
use super::error::HubError;
use super::file::{HubFile, is_inside};
use super::http::Http;

/// A model on the hub at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// `org/name`.
    pub id: String,
    pub commit: String,
    pub folder: ModelFolder,
    /// By path.
    pub files: BTreeMap<String, HubFile>,
}

impl Snapshot {
    /// The folder with those of its files that were fetched.
    pub fn dir(&self) -> PathBuf {
        self.folder.snapshot(&self.commit)
    }

    /// The address of a file.
    pub fn address(&self, http: &Http, file: &HubFile) -> String {
        let parts = self.id.split('/').chain(["resolve", self.commit.as_str()]);
        http.address(parts.chain(file.path.split('/')))
    }
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

/// What a model was found to hold at what a revision meant when it was last asked for.
pub fn known(folder: &ModelFolder, id: &str, revision: &str) -> Option<Snapshot> {
    let commit = folder.commit(revision).filter(|_| is_inside(revision))?;
    let files = folder.tree(&commit)?;
    Some(snapshot(id, &commit, folder.clone(), files))
}

/// Asks what a model holds at a revision.
///
/// # Errors
/// If there is no such model or revision, or the hub cannot be asked.
pub fn look_up(http: &Http, folder: ModelFolder, id: &str, revision: &str) -> Result<Snapshot, HubError> {
    if !is_inside(revision) {
        return Err(HubError::NoRevision { model: id.to_owned(), revision: revision.to_owned() });
    }
    let commit = match folder.commit(revision) {
        Some(commit) => commit,
        None => {
            // The slashes of a revision, unlike those of an id, are part of its name.
            let address = http.address(api(id).chain(["revision", revision]));
            let (text, _) = http.text(&address, id).map_err(|error| of_revision(error, revision))?;
            let Revision { sha } = parse(&address, &text)?;
            sha
        }
    };
    if !is_commit(&commit) {
        let problem = format!("`{commit}` as the commit of {id}");
        return Err(HubError::Malformed { address: http.address([]), problem });
    }
    let files = list(http, id, &commit).map_err(|error| of_revision(error, revision))?;
    folder.note(revision, &commit, &files)?;
    Ok(snapshot(id, &commit, folder, files))
}

fn api(id: &str) -> impl Iterator<Item = &str> {
    ["api", "models"].into_iter().chain(id.split('/'))
}

fn snapshot(id: &str, commit: &str, folder: ModelFolder, files: Vec<HubFile>) -> Snapshot {
    let files = files.into_iter().map(|file| (file.path.clone(), file)).collect();
    Snapshot { id: id.to_owned(), commit: commit.to_owned(), folder, files }
}

/// Every file of a commit, page by page.
fn list(http: &Http, id: &str, commit: &str) -> Result<Vec<HubFile>, HubError> {
    /// More than any model has.
    const MAX_FILES: usize = 100_000;
    let mut files = Vec::new();
    let first = http.address(api(id).chain(["tree", commit])) + "?recursive=true&expand=false";
    let mut page = Some(first);
    while let Some(address) = page {
        let (text, next) = http.text(&address, id)?;
        let entries: Vec<Entry> = parse(&address, &text)?;
        for entry in entries.into_iter().filter(|entry| entry.kind == "file") {
            let (size, sha256) = match entry.lfs {
                Some(lfs) => (lfs.size, Some(lfs.oid)),
                None => (entry.size, None),
            };
            let file = HubFile { path: entry.path, size, git: entry.oid, sha256 };
            if !file.is_sound() {
                let problem = format!("file {:?} of {id} has no valid name or digest", file.path);
                return Err(HubError::Malformed { address, problem });
            }
            files.push(file);
        }
        if files.len() > MAX_FILES || next.as_ref() == Some(&address) {
            let problem = format!("an endless list of files of {id}");
            return Err(HubError::Malformed { address, problem });
        }
        page = next;
    }
    Ok(files)
}

fn parse<T: for<'a> Deserialize<'a>>(address: &str, text: &[u8]) -> Result<T, HubError> {
    serde_json::from_slice(text)
        .map_err(|error| HubError::Malformed { address: address.to_owned(), problem: error.to_string() })
}

/// Names the revision in an error of the layer that does not know it.
fn of_revision(error: HubError, revision: &str) -> HubError {
    match error {
        HubError::NoRevision { model, .. } => HubError::NoRevision { model, revision: revision.to_owned() },
        other => other,
    }
}
