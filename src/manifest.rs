//! The fields of an action, written once and read by many: hashed into its key, as text, and for the record.
//!
//! Whatever writes fields does not know which of them it feeds, so an explanation cannot
//! disagree with the key. Fields are named and length-prefixed; their order is the writer's.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::digest::{ActionKey, Digest};

/// Receives the fields of a manifest.
pub trait Sink {
    /// Takes one field; `value` is its canonical text.
    fn field(&mut self, name: &str, value: &str);

    /// Takes the digest of an input. Inputs come in their order.
    fn digest(&mut self, name: &str, digest: &Digest) {
        self.field(name, &blake3::Hash::from_bytes(digest.0).to_hex());
    }
}

/// Typed ways to write a field, each with one canonical text.
pub trait SinkExt: Sink {
    fn text(&mut self, name: &str, value: &str) {
        self.field(name, value);
    }

    fn integer(&mut self, name: &str, value: u64) {
        self.field(name, &value.to_string());
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.field(name, if value { "true" } else { "false" });
    }

    /// Writes the shortest decimal that reads back as the same f64; -0 is written as 0.
    fn number(&mut self, name: &str, value: f64) {
        debug_assert!(value.is_finite(), "parameters are checked to be finite");
        self.field(name, &(value + 0.0).to_string());
    }
}

impl<S: Sink + ?Sized> SinkExt for S {}

/// About as many bytes as the fields of an action take.
const USUAL: usize = 2048;

/// Hashes fields into an action key.
pub struct KeyHasher(Vec<u8>);

impl Default for KeyHasher {
    fn default() -> Self {
        Self(Vec::with_capacity(USUAL))
    }
}

impl KeyHasher {
    pub fn finish(self) -> ActionKey {
        static EMPTY: LazyLock<blake3::Hasher> =
            LazyLock::new(|| blake3::Hasher::new_derive_key("lamarck action key"));
        EMPTY.clone().update(&self.0).finalize().into()
    }
}

impl Sink for KeyHasher {
    fn field(&mut self, name: &str, value: &str) {
        for part in [name, value] {
            self.0.extend((part.len() as u64).to_le_bytes());
            self.0.extend(part.as_bytes());
        }
    }
}

/// Collects fields as lines of `name = value`.
pub struct ManifestText(String);

impl Default for ManifestText {
    fn default() -> Self {
        Self(String::with_capacity(USUAL))
    }
}

impl ManifestText {
    pub fn finish(self) -> String {
        self.0
    }
}

impl Sink for ManifestText {
    fn field(&mut self, name: &str, value: &str) {
        self.0.push_str(name);
        self.0.push_str(" = ");
        // A line break inside a value (a tensor name may hold any character) must not make a field.
        if value.contains(['\\', '\n']) {
            self.0.push_str(&value.replace('\\', "\\\\").replace('\n', "\\n"));
        } else {
            self.0.push_str(value);
        }
        self.0.push('\n');
    }
}

/// One field that differs between two manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub field: String,
    pub old: Option<String>,
    pub new: Option<String>,
}

/// Lists the fields that differ between two manifest texts, in the order of their names.
pub fn diff(old: &str, new: &str) -> Vec<Change> {
    // Of two states of one action most lines are the same, in the same places; those need not be compared by name.
    let (mut old_lines, mut new_lines) = (old.lines(), new.lines());
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    loop {
        match (old_lines.next(), new_lines.next()) {
            (None, None) => break,
            (of_old, of_new) if of_old == of_new => {}
            (of_old, of_new) => {
                old.extend(of_old.and_then(|line| line.split_once(" = ")));
                new.extend(of_new.and_then(|line| line.split_once(" = ")));
            }
        }
    }
    let mut names: Vec<&str> = old.keys().chain(new.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .filter(|name| old.get(name) != new.get(name))
        .map(|name| Change {
            field: name.to_owned(),
            old: old.get(name).map(|value| (*value).to_owned()),
            new: new.get(name).map(|value| (*value).to_owned()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fields: &[(&str, &str)]) -> ActionKey {
        let mut hasher = KeyHasher::default();
        for (name, value) in fields {
            hasher.field(name, value);
        }
        hasher.finish()
    }

    #[test]
    fn boundaries_between_fields_are_hashed() {
        assert_ne!(key(&[("ab", "c")]), key(&[("a", "bc")]));
        assert_ne!(key(&[("a", ""), ("b", "")]), key(&[("a", "b")]));
    }

    #[test]
    fn zero_has_one_spelling() {
        let mut text = ManifestText::default();
        text.number("a", -0.0);
        text.number("b", 0.1 + 0.2);
        assert_eq!(text.finish(), "a = 0\nb = 0.30000000000000004\n");
    }

    #[test]
    fn diff_names_changed_added_and_removed_fields() {
        let changes = diff("a = 1\nb = 2\n", "a = 1\nb = 3\nc = 4\n");
        let named: Vec<_> =
            changes.iter().map(|c| (c.field.as_str(), c.old.as_deref(), c.new.as_deref())).collect();
        assert_eq!(named, [("b", Some("2"), Some("3")), ("c", None, Some("4"))]);
    }
}
