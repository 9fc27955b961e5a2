//! The folder that models of the hub are kept in, as Python's `huggingface_hub` lays it out.
//!
//! ```text
//! models--ORG--NAME/refs/main              the commit
//!                  /blobs/ETAG             a file's bytes, named by their SHA-256, or SHA-1 as git takes it
//!                  /snapshots/COMMIT/FILE  a link to its blob
//!                  /trees/COMMIT.json      what the commit holds, fetched or not
//! .locks/models--ORG--NAME/ETAG.lock       held by who fetches a blob
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::error::HubError;
use super::file::HubFile;

/// The folder of one model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFolder {
    cache: PathBuf,
    /// `models--ORG--NAME`.
    name: String,
}

/// What a commit holds, as Python's client writes it down.
#[derive(Serialize, Deserialize)]
struct Tree {
    format_version: u32,
    files: BTreeMap<String, TreeFile>,
}

#[derive(Serialize, Deserialize)]
struct TreeFile {
    size: u64,
    blob_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lfs_size: Option<u64>,
}

const TREE_FORMAT: u32 = 1;

impl ModelFolder {
    /// The folder of `org/name`.
    pub fn new(cache: &Path, id: &str) -> Self {
        Self { cache: cache.to_owned(), name: format!("models--{}", id.replace('/', "--")) }
    }

    fn path(&self) -> PathBuf {
        self.cache.join(&self.name)
    }

    /// The commit that a revision meant when it was last looked up: a commit means itself.
    pub fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.reference(revision)).ok()?;
        Some(commit.trim().to_owned())
    }

    /// The file that says which commit a revision means.
    pub fn reference(&self, revision: &str) -> PathBuf {
        self.path().join("refs").join(revision)
    }

    /// The folder of a commit's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.path().join("snapshots").join(commit)
    }

    /// Where a blob is, once it is there whole.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.path().join("blobs").join(etag)
    }

    /// The file that is locked while a blob is fetched.
    pub fn lock(&self, etag: &str) -> PathBuf {
        self.cache.join(".locks").join(&self.name).join(format!("{etag}.lock"))
    }

    /// What a commit is known to hold.
    pub fn tree(&self, commit: &str) -> Option<Vec<HubFile>> {
        let text = fs::read(self.tree_path(commit)).ok()?;
        let tree: Tree = serde_json::from_slice(&text).ok()?;
        if tree.format_version != TREE_FORMAT {
            return None;
        }
        let file = |(path, file): (String, TreeFile)| HubFile {
            path,
            size: file.lfs_size.unwrap_or(file.size),
            git: file.blob_id,
            sha256: file.lfs_sha256,
        };
        let files: Vec<HubFile> = tree.files.into_iter().map(file).collect();
        files.iter().all(HubFile::is_sound).then_some(files)
    }

    /// Notes what a commit holds, and that it is what a revision means.
    pub fn note(&self, revision: &str, commit: &str, files: &[HubFile]) -> Result<(), HubError> {
        self.mark()?;
        let file = |file: &HubFile| {
            let lfs_size = file.sha256.as_ref().map(|_| file.size);
            let (blob_id, lfs_sha256) = (file.git.clone(), file.sha256.clone());
            (file.path.clone(), TreeFile { size: file.size, blob_id, lfs_sha256, lfs_size })
        };
        let tree = Tree { format_version: TREE_FORMAT, files: files.iter().map(file).collect() };
        write(&self.tree_path(commit), &serde_json::to_vec(&tree).expect("lists serialise"))?;
        if revision != commit {
            write(&self.reference(revision), commit.as_bytes())?;
        }
        Ok(())
    }

    /// Makes a blob one of a commit's files.
    pub fn link(&self, commit: &str, file: &HubFile) -> Result<(), HubError> {
        let link = self.snapshot(commit).join(&file.path);
        if link.exists() {
            return Ok(());
        }
        make_parent(&link)?;
        let up = "../".repeat(2 + file.path.matches('/').count());
        let target = format!("{up}blobs/{}", file.etag());
        // What does not exist and yet is there leads to a blob that is gone.
        if link.is_symlink() {
            fs::remove_file(&link).map_err(HubError::io(&link))?;
        }
        match symlink(target, &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(HubError::io(&link)(error)),
            _ => Ok(()),
        }
    }

    fn tree_path(&self, commit: &str) -> PathBuf {
        self.path().join("trees").join(format!("{commit}.json"))
    }

    /// Keeps backups from taking the cache for something that cannot be had again.
    fn mark(&self) -> Result<(), HubError> {
        let tag = self.cache.join("CACHEDIR.TAG");
        if tag.exists() {
            return Ok(());
        }
        write(&tag, b"Signature: 8a477f597d28d172789f06886806bc55\n# Models of the Hugging Face hub.\n")
    }
}

/// Whether a revision is a commit itself.
pub fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The commit of a directory in a cache.
pub fn commit_of(dir: &Path) -> Option<String> {
    let is_snapshot = dir.parent()?.file_name()? == "snapshots";
    is_snapshot.then(|| dir.file_name()?.to_str().map(str::to_owned)).flatten()
}

pub(super) fn make_parent(path: &Path) -> Result<(), HubError> {
    let parent = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(parent).map_err(HubError::io(parent))
}

/// Writes a small file, whole or not at all.
fn write(path: &Path, content: &[u8]) -> Result<(), HubError> {
    make_parent(path)?;
    let parent = path.parent().unwrap_or(Path::new(""));
    let written = NamedTempFile::new_in(parent).and_then(|mut file| {
        file.write_all(content)?;
        file.as_file().sync_all()?;
        readable(file.as_file())?;
        file.persist(path).map_err(|error| error.error)
    });
    written.map(drop).map_err(HubError::io(path))
}

/// Lets others read a file that was made for its maker alone, as far as folders do.
fn readable(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}
