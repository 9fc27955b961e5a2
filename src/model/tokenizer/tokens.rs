//! The tokens of one tokenizer: their ids, which of them were added beside the model's own, and which mean something.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::model::ModelError;

/// The file that holds a tokenizer in full.
pub const TOKENIZER: &str = "tokenizer.json";
/// How texts are generated, which names tokens by their ids.
pub const GENERATION: &str = "generation_config.json";

/// How an added token is found in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flags {
    pub single_word: bool,
    pub lstrip: bool,
    pub rstrip: bool,
    pub normalized: bool,
    pub special: bool,
}

/// All tokens of a tokenizer.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    ids: HashMap<Arc<str>, u32>,
    /// By id.
    sorted: Vec<(u32, Arc<str>)>,
    /// Tokens that were added beside the model's own vocabulary.
    added: BTreeMap<Arc<str>, Flags>,
    /// Tokens of its file from this id on were left out.
    cut: Option<u32>,
}

impl Tokens {
    /// Reads a tokenizer.json, given with its path.
    pub fn read(path: &Path, bytes: &[u8]) -> Result<Self, ModelError> {
        Self::parse(bytes).map_err(|problem| ModelError::Layout { path: path.to_owned(), problem })
    }

    /// Reads the text of a tokenizer.json; on failure says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let File { model, added_tokens }: File<Entries> = parse(bytes)?;
        let mut tokens = Self::default();
        for (token, id) in model.vocab.0 {
            tokens.ids.insert(token.into(), id);
        }
        for Added { content, id, flags } in added_tokens {
            let content: Arc<str> = content.into();
            // A token of the model's own keeps its id.
            tokens.ids.entry(Arc::clone(&content)).or_insert(id);
            tokens.added.insert(content, flags);
        }
        if tokens.ids.is_empty() {
            return Err("has no tokens".to_owned());
        }
        tokens.sorted = tokens.ids.iter().map(|(token, id)| (*id, Arc::clone(token))).collect();
        tokens.sorted.sort_unstable();
        Ok(tokens)
    }

    pub fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The rows that they need: one more than the largest id.
    pub fn rows(&self) -> usize {
        self.sorted.last().map_or(0, |(id, _)| *id as usize + 1)
    }

    /// Every token with its id, by id.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        self.sorted.iter().map(|(id, token)| (*id, &**token))
    }

    /// The first of the tokens of an id.
    pub fn token(&self, id: u32) -> Option<&str> {
        let at = self.sorted.partition_point(|(other, _)| *other < id);
        self.sorted.get(at).filter(|(other, _)| *other == id).map(|(_, token)| &**token)
    }

    /// How an added token is found; `None` for the model's own.
    pub fn flags(&self, token: &str) -> Option<Flags> {
        self.added.get(token).copied()
    }

    /// Adds a token behind all others, unless it is there; an added one keeps the flags it was first added with.
    /// Says whether anything is new.
    pub fn add(&mut self, token: &str, flags: Option<Flags>) -> bool {
        let is_new = !self.ids.contains_key(token);
        if is_new {
            let token: Arc<str> = token.into();
            let id = self.rows() as u32;
            self.ids.insert(Arc::clone(&token), id);
            self.sorted.push((id, token));
        }
        match flags {
            Some(flags) if !self.added.contains_key(token) => {
                self.added.insert(token.into(), flags);
                true
            }
            _ => is_new,
        }
    }

    /// The tokens that so many rows are enough for.
    pub fn within(&self, rows: usize) -> Self {
        let cut = u32::try_from(rows).unwrap_or(u32::MAX);
        let mut tokens = Self { cut: Some(cut), ..self.clone() };
        tokens.ids.retain(|_, id| *id < cut);
        tokens.sorted.retain(|(id, _)| *id < cut);
        tokens.added.retain(|token, _| self.ids[token] < cut);
        tokens
    }

    /// Whether tokens of its file were left out, and this is the id of one of them.
    pub fn is_cut(&self, id: u32) -> bool {
        self.cut.is_some_and(|cut| id >= cut)
    }

    /// How many tokens two vocabularies share.
    pub fn shared(&self, other: &Self) -> usize {
        self.ids.keys().filter(|token| other.ids.contains_key(*token)).count()
    }

    /// Equal for vocabularies of the same tokens at the same places, whatever else the tokenizers do.
    pub fn fingerprint(&self) -> String {
        let mut bytes = Vec::new();
        for (id, token) in &self.sorted {
            bytes.extend(id.to_le_bytes());
            bytes.extend((token.len() as u64).to_le_bytes());
            bytes.extend(token.as_bytes());
        }
        Digest::of(&bytes).to_string()
    }
}

/// The rows that the tokens of a tokenizer.json need, found with a fraction of the work that reading them takes.
pub fn rows_of(path: &Path, bytes: &[u8]) -> Result<usize, ModelError> {
    let problem = |problem| ModelError::Layout { path: path.to_owned(), problem };
    let File { model, added_tokens }: File<Rows> = parse(bytes).map_err(problem)?;
    Ok(added_tokens.iter().map(|added| added.id as usize + 1).fold(model.vocab.0, usize::max))
}

fn parse<'de, V: Deserialize<'de>>(bytes: &'de [u8]) -> Result<File<V>, String> {
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => format!("is not a valid tokenizer: {error}"),
        _ => format!("is not valid JSON: {error}"),
    })
}

#[derive(Deserialize)]
struct File<V> {
    model: Model<V>,
    #[serde(default = "Vec::new")]
    added_tokens: Vec<Added>,
}

#[derive(Deserialize)]
struct Model<V> {
    vocab: V,
}

#[derive(Deserialize)]
struct Added {
    content: String,
    id: u32,
    #[serde(flatten)]
    flags: Flags,
}

/// A model's own tokens: a map to ids, or in a Unigram model a list of tokens with scores.
struct Entries(Vec<(String, u32)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Entries;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map of tokens to ids, or a list of tokens with scores")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::with_capacity(map.size_hint().unwrap_or(0));
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries, A::Error> {
                let mut entries: Vec<(String, u32)> = Vec::new();
                while let Some((token, IgnoredAny)) = list.next_element()? {
                    let id = u32::try_from(entries.len()).map_err(A::Error::custom)?;
                    entries.push((token, id));
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// One more than the largest id among a model's own tokens.
struct Rows(usize);

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Rows;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map of tokens to ids, or a list of tokens with scores")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rows, A::Error> {
                let mut rows = 0;
                while let Some((IgnoredAny, id)) = map.next_entry::<IgnoredAny, u32>()? {
                    rows = rows.max(id as usize + 1);
                }
                Ok(Rows(rows))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Rows, A::Error> {
                let mut rows = 0;
                while let Some(IgnoredAny) = list.next_element()? {
                    rows += 1;
                }
                Ok(Rows(rows))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_whatever_the_model() {
        let words =
            br#"{"added_tokens":[{"id":2,"content":"<s>","special":true}],"model":{"vocab":{"b":1,"a":0}}}"#;
        let tokens = Tokens::parse(words).unwrap();
        assert_eq!(tokens.iter().collect::<Vec<_>>(), [(0, "a"), (1, "b"), (2, "<s>")]);
        assert_eq!((tokens.rows(), tokens.len(), tokens.token(1), tokens.token(3)), (3, 3, Some("b"), None));
        assert!(tokens.flags("<s>").unwrap().special && tokens.flags("a").is_none());
        let pieces = Tokens::parse(br#"{"model":{"vocab":[["a",-1.0],["b",-2.0]]}}"#).unwrap();
        assert_eq!((pieces.id("b"), pieces.shared(&tokens)), (Some(1), 2));
        assert_eq!(rows_of(Path::new("x"), words).unwrap(), 3);
    }

    #[test]
    fn damage_is_told() {
        for (text, problem) in [
            ("{\"model\": {", "is not valid JSON"),
            ("{}", "missing field `model`"),
            ("{\"model\":{\"vocab\":{\"a\":\"x\"}}}", "invalid type: string \"x\""),
            ("{\"model\":{\"vocab\":{\"a\":-1}}}", "invalid value: integer `-1`"),
            ("{\"model\":{\"vocab\":7}}", "a map of tokens to ids"),
            ("{\"model\":{\"vocab\":{}}}", "has no tokens"),
        ] {
            let found = Tokens::parse(text.as_bytes()).unwrap_err();
            assert!(found.contains(problem), "{text}: {found}");
        }
    }

    #[test]
    fn tokens_beyond_the_rows_are_left_out() {
        let text = br#"{"added_tokens":[{"id":2,"content":"<s>"}],"model":{"vocab":{"a":0,"b":1}}}"#;
        let tokens = Tokens::parse(text).unwrap();
        let mut cut = tokens.within(1);
        assert_eq!((cut.iter().collect::<Vec<_>>(), cut.rows()), (vec![(0, "a")], 1));
        assert!(cut.flags("<s>").is_none() && cut.is_cut(1) && !cut.is_cut(0) && !tokens.is_cut(2));
        assert!(cut.add("c", None) && cut.id("c") == Some(1), "new tokens take the ids that are free");
    }

    #[test]
    fn tokens_are_added_behind_all_others() {
        let mut tokens = Tokens::parse(br#"{"model":{"vocab":{"a":0,"b":7}}}"#).unwrap();
        let before = tokens.fingerprint();
        assert!(!tokens.add("b", None));
        assert!(tokens.add("b", Some(Flags::default())), "it becomes an added token");
        assert_eq!(tokens.fingerprint(), before);
        assert!(tokens.add("c", None) && tokens.id("c") == Some(8));
        assert_ne!(tokens.fingerprint(), before);
    }
}
