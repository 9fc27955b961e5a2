//! Tiers one below the other, as one: the first that knows an answer gives it, and those above keep it.
//!
//! Nothing that comes from below is believed: bytes are held to their digest before they are handed on or
//! kept, and bytes that fail count as damage and as missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::blob::{Content, InFile, Lookup};
use super::error::StoreError;
use super::tier::{ActionCache, ActionRow, Cas, NewBlob};
use crate::digest::{ActionKey, Digest};

/// Whether a tier is written to when a build makes something; it is read in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadAndWrite,
}

/// The first tier, which is always written to, and those below it.
pub struct Tiered<'a> {
    top: Tier<'a>,
    below: Vec<(Tier<'a>, Access)>,
    damaged: AtomicUsize,
}

#[derive(Clone, Copy)]
struct Tier<'a> {
    actions: &'a dyn ActionCache,
    cas: &'a dyn Cas,
}

impl<'a> Tiered<'a> {
    /// One tier alone.
    pub fn new<T: ActionCache + Cas>(top: &'a T) -> Self {
        Self { top: Tier { actions: top, cas: top }, below: Vec::new(), damaged: AtomicUsize::new(0) }
    }

    /// Puts a tier below all others.
    pub fn over<T: ActionCache + Cas>(mut self, tier: &'a T, access: Access) -> Self {
        self.below.push((Tier { actions: tier, cas: tier }, access));
        self
    }

    /// Blobs found so far that were not what their digests name.
    pub fn damaged_blobs(&self) -> usize {
        self.damaged.load(Ordering::Relaxed)
    }

    fn note_damage(&self) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }

    /// A blob from some tier below, checked, and kept in the first tier.
    fn get_from_below(&self, digest: &Digest, n_bytes: u64) -> Result<Lookup<Arc<Vec<u8>>>, StoreError> {
        let mut is_damaged = false;
        for (tier, _) in &self.below {
            match tier.cas.get(digest, n_bytes)? {
                Lookup::Found(bytes) if bytes.len() as u64 == n_bytes && Digest::of(&bytes) == *digest => {
                    let bytes = Arc::new(bytes);
                    let content = Content::Bytes(Arc::clone(&bytes));
                    filled(self.top.cas.put(vec![NewBlob { digest: *digest, n_bytes, content }]))?;
                    return Ok(Lookup::Found(bytes));
                }
                Lookup::Missing => {}
                Lookup::Found(_) | Lookup::Damaged => {
                    self.note_damage();
                    is_damaged = true;
                }
            }
        }
        Ok(if is_damaged { Lookup::Damaged } else { Lookup::Missing })
    }
}

/// A first tier that nothing can be kept in serves all the same.
fn filled(result: Result<(), StoreError>) -> Result<(), StoreError> {
    match result {
        Err(StoreError::ReadOnly { .. }) => Ok(()),
        result => result,
    }
}

impl ActionCache for Tiered<'_> {
    fn get_many(&self, keys: &[ActionKey]) -> Result<Vec<Option<(Digest, u64)>>, StoreError> {
        let mut answers = self.top.actions.get_many(keys)?;
        let mut filling = Vec::new();
        for (tier, _) in &self.below {
            let open: Vec<usize> = (0..keys.len()).filter(|i| answers[*i].is_none()).collect();
            if open.is_empty() {
                break;
            }
            let asked: Vec<ActionKey> = open.iter().map(|i| keys[*i]).collect();
            for (i, answer) in open.into_iter().zip(tier.actions.get_many(&asked)?) {
                if let Some((digest, n_bytes)) = answer {
                    answers[i] = answer;
                    filling.push(ActionRow { key: keys[i], digest, n_bytes });
                }
            }
        }
        if !filling.is_empty() {
            filled(self.top.actions.put(&filling))?;
        }
        Ok(answers)
    }

    fn put(&self, rows: &[ActionRow]) -> Result<(), StoreError> {
        self.top.actions.put(rows)?;
        let written = self.below.iter().filter(|(_, access)| *access == Access::ReadAndWrite);
        written.into_iter().try_for_each(|(tier, _)| tier.actions.put(rows))
    }
}

impl Cas for Tiered<'_> {
    fn contains_many(&self, blobs: &[(Digest, u64)]) -> Result<Vec<bool>, StoreError> {
        let mut answers = self.top.cas.contains_many(blobs)?;
        for (tier, _) in &self.below {
            let open: Vec<usize> = (0..blobs.len()).filter(|i| !answers[*i]).collect();
            if open.is_empty() {
                break;
            }
            let asked: Vec<(Digest, u64)> = open.iter().map(|i| blobs[*i]).collect();
            for (i, answer) in open.into_iter().zip(tier.cas.contains_many(&asked)?) {
                answers[i] = answer;
            }
        }
        Ok(answers)
    }

    fn get(&self, digest: &Digest, n_bytes: u64) -> Result<Lookup<Vec<u8>>, StoreError> {
        let lookup = self.top.cas.get(digest, n_bytes)?;
        if let Lookup::Found(_) = lookup {
            return Ok(lookup);
        }
        let is_damaged = matches!(lookup, Lookup::Damaged);
        if is_damaged {
            self.note_damage();
        }
        Ok(match self.get_from_below(digest, n_bytes)? {
            Lookup::Found(bytes) => Lookup::Found(Arc::unwrap_or_clone(bytes)),
            Lookup::Missing if is_damaged => Lookup::Damaged,
            Lookup::Missing => Lookup::Missing,
            Lookup::Damaged => Lookup::Damaged,
        })
    }

    fn open(&self, digest: &Digest, n_bytes: u64) -> Result<Lookup<InFile>, StoreError> {
        let lookup = self.top.cas.open(digest, n_bytes)?;
        if matches!(lookup, Lookup::Found(_)) || self.below.is_empty() {
            return Ok(lookup);
        }
        match self.get_from_below(digest, n_bytes)? {
            // It is in the first tier now, if that takes anything.
            Lookup::Found(_) => self.top.cas.open(digest, n_bytes),
            Lookup::Missing => Ok(lookup),
            Lookup::Damaged => Ok(Lookup::Damaged),
        }
    }

    fn put(&self, blobs: Vec<NewBlob>) -> Result<(), StoreError> {
        for (tier, access) in &self.below {
            if *access == Access::ReadAndWrite {
                tier.cas.put(blobs.iter().map(NewBlob::duplicate).collect::<Result<_, _>>()?)?;
            }
        }
        self.top.cas.put(blobs)
    }
}

#[cfg(test)]
mod tests {
    use super::super::local::Store;
    use super::super::lock::Wait;
    use super::super::memory::Memory;
    use super::*;

    fn row(bytes: &[u8]) -> ActionRow {
        let digest = Digest::of(bytes);
        ActionRow { key: ActionKey(digest.0), digest, n_bytes: bytes.len() as u64 }
    }

    fn blob(bytes: &[u8]) -> NewBlob {
        let content = Content::Bytes(Arc::new(bytes.to_vec()));
        NewBlob { digest: Digest::of(bytes), n_bytes: bytes.len() as u64, content }
    }

    fn local(space: &tempfile::TempDir) -> Store {
        Store::open(&space.path().join("cache"), 0, Wait::Refuse).unwrap()
    }

    fn found(lookup: Lookup<Vec<u8>>) -> Option<Vec<u8>> {
        match lookup {
            Lookup::Found(bytes) => Some(bytes),
            Lookup::Missing | Lookup::Damaged => None,
        }
    }

    #[test]
    fn what_is_found_below_is_kept_above() {
        let space = tempfile::tempdir().unwrap();
        let (store, below) = (local(&space), Memory::default());
        let (known, other, unknown) = (row(b"one"), row(b"two"), row(b"three"));
        ActionCache::put(&store, std::slice::from_ref(&other)).unwrap();
        ActionCache::put(&below, std::slice::from_ref(&known)).unwrap();
        Cas::put(&below, vec![blob(b"one"), blob(b"large")]).unwrap();
        let tiered = Tiered::new(&store).over(&below, Access::Read);
        let keys = [unknown.key, known.key, other.key];
        let answers = [None, Some((known.digest, 3)), Some((other.digest, 3))];
        assert_eq!(tiered.get_many(&keys).unwrap(), answers);
        let blobs = [(known.digest, 3), (unknown.digest, 5)];
        assert_eq!(store.contains_many(&blobs).unwrap(), [false, false]);
        assert_eq!(tiered.contains_many(&blobs).unwrap(), [true, false]);
        assert_eq!(found(tiered.get(&known.digest, 3).unwrap()).as_deref(), Some(&b"one"[..]));
        assert!(matches!(tiered.get(&unknown.digest, 5).unwrap(), Lookup::Missing));
        assert!(matches!(tiered.open(&Digest::of(b"large"), 5).unwrap(), Lookup::Found(_)));
        assert_eq!(tiered.damaged_blobs(), 0);
        // The tier below is not needed any more.
        assert_eq!(store.get_many(&keys).unwrap(), answers);
        assert_eq!(store.contains_many(&blobs).unwrap(), [true, false]);
        assert!(store.contains_many(&[(Digest::of(b"large"), 5)]).unwrap()[0]);
    }

    #[test]
    fn wrong_bytes_from_below_are_damage_and_go_nowhere() {
        let space = tempfile::tempdir().unwrap();
        let (store, liar, honest) = (local(&space), Memory::default(), Memory::default());
        let truth = row(b"truth");
        liar.put_unchecked(truth.digest, b"truly".to_vec());
        for n_bytes in [5, 4] {
            let tiered = Tiered::new(&store).over(&liar, Access::Read);
            assert!(matches!(tiered.get(&truth.digest, n_bytes).unwrap(), Lookup::Damaged | Lookup::Missing));
            assert!(!matches!(tiered.open(&truth.digest, n_bytes).unwrap(), Lookup::Found(_)));
            assert_eq!(tiered.damaged_blobs(), if n_bytes == 5 { 2 } else { 0 });
        }
        assert!(!store.contains_many(&[(truth.digest, 5)]).unwrap()[0]);
        // A tier further down that tells the truth is believed.
        Cas::put(&honest, vec![blob(b"truth")]).unwrap();
        let tiered = Tiered::new(&store).over(&liar, Access::Read).over(&honest, Access::Read);
        assert_eq!(found(tiered.get(&truth.digest, 5).unwrap()).as_deref(), Some(&b"truth"[..]));
        assert_eq!(tiered.damaged_blobs(), 1);
        assert!(store.contains_many(&[(truth.digest, 5)]).unwrap()[0]);
    }

    #[test]
    fn writing_goes_to_the_top_and_below_where_that_is_asked_for() {
        let space = tempfile::tempdir().unwrap();
        let (store, read, written) = (local(&space), Memory::default(), Memory::default());
        let tiered = Tiered::new(&store).over(&read, Access::Read).over(&written, Access::ReadAndWrite);
        let file = store.new_blob().unwrap();
        file.write_at(0, b"file").unwrap();
        let content = Content::File(file.seal().unwrap());
        let file = NewBlob { digest: Digest::of(b"file"), n_bytes: 4, content };
        tiered.put_results(vec![blob(b"bytes"), file], &[row(b"bytes"), row(b"file")]);
        let blobs = [(Digest::of(b"bytes"), 5), (Digest::of(b"file"), 4)];
        let keys = [row(b"bytes").key, row(b"file").key];
        for tier in [&store as &dyn Cas, &written] {
            assert_eq!(tier.contains_many(&blobs).unwrap(), [true, true]);
            assert_eq!(found(tier.get(&blobs[1].0, 4).unwrap()).as_deref(), Some(&b"file"[..]));
        }
        for tier in [&store as &dyn ActionCache, &written] {
            assert!(tier.get_many(&keys).unwrap().iter().all(Option::is_some));
        }
        assert_eq!(read.contains_many(&blobs).unwrap(), [false, false]);
        assert_eq!(read.get_many(&keys).unwrap(), [None, None]);
    }

    impl Tiered<'_> {
        fn put_results(&self, blobs: Vec<NewBlob>, rows: &[ActionRow]) {
            Cas::put(self, blobs).unwrap();
            ActionCache::put(self, rows).unwrap();
        }
    }
}
