//! A tier in memory, for tests.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use super::blob::{InFile, Lookup};
use super::error::StoreError;
use super::tier::{ActionCache, ActionRow, Cas, NewBlob};
use crate::digest::{ActionKey, Digest};

#[derive(Default)]
pub(crate) struct Memory {
    actions: Mutex<HashMap<ActionKey, (Digest, u64)>>,
    blobs: Mutex<HashMap<Digest, Vec<u8>>>,
}

impl Memory {
    /// Holds bytes under a digest that need not be theirs.
    pub fn put_unchecked(&self, digest: Digest, bytes: Vec<u8>) {
        self.blobs.lock().unwrap().insert(digest, bytes);
    }
}

impl ActionCache for Memory {
    fn get_many(&self, keys: &[ActionKey]) -> Result<Vec<Option<(Digest, u64)>>, StoreError> {
        let actions = self.actions.lock().unwrap();
        Ok(keys.iter().map(|key| actions.get(key).copied()).collect())
    }

    fn put(&self, rows: &[ActionRow]) -> Result<(), StoreError> {
        self.actions.lock().unwrap().extend(rows.iter().map(|row| (row.key, (row.digest, row.n_bytes))));
        Ok(())
    }
}

impl Cas for Memory {
    fn contains_many(&self, blobs: &[(Digest, u64)]) -> Result<Vec<bool>, StoreError> {
        let held = self.blobs.lock().unwrap();
        let holds = |(digest, n_bytes): &(Digest, u64)| {
            held.get(digest).is_some_and(|bytes| bytes.len() as u64 == *n_bytes)
        };
        Ok(blobs.iter().map(holds).collect())
    }

    fn get(&self, digest: &Digest, n_bytes: u64) -> Result<Lookup<Vec<u8>>, StoreError> {
        let held = self.blobs.lock().unwrap();
        let bytes = held.get(digest).filter(|bytes| bytes.len() as u64 == n_bytes);
        Ok(bytes.map_or(Lookup::Missing, |bytes| Lookup::Found(bytes.clone())))
    }

    fn open(&self, digest: &Digest, n_bytes: u64) -> Result<Lookup<InFile>, StoreError> {
        let open = |bytes: Vec<u8>| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            InFile { path: "a blob".into(), file, offset: 0 }
        };
        Ok(self.get(digest, n_bytes)?.map(open))
    }

    fn put(&self, blobs: Vec<NewBlob>) -> Result<(), StoreError> {
        for NewBlob { digest, content, .. } in blobs {
            let bytes = content.bytes().map_err(StoreError::io("read", Path::new("a result")))?;
            self.put_unchecked(digest, bytes.into_owned());
        }
        Ok(())
    }
}
