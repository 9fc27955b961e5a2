//! The vocabularies of many models: told apart with as little reading as possible.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::special::special;
use super::tokens::{TOKENIZER, Tokens, rows_of};
use crate::digest::Digest;
use crate::model::ModelError;

/// The file that is read, and those that hold a vocabulary where it is missing.
const FILES: [&str; 5] = [TOKENIZER, "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt"];

/// What is known of a model's vocabulary.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    /// Equal for vocabularies of the same tokens at the same places.
    pub name: String,
    /// The file that holds it.
    pub file: &'static str,
    /// How many rows the tokens need, where that is known.
    pub rows: Option<usize>,
    /// The tokens themselves, if the file can be read and somebody wants them.
    pub tokens: Option<Arc<Tokens>>,
    /// Keys of config.json with the ids that the model's own settings give them, where tokens are known.
    pub special: Vec<(&'static str, u32)>,
}

/// Each model's vocabulary; `None` for one without any file of a tokenizer.
///
/// Files of equal bytes are parsed only where all are wanted `in_full`, which spares most of the time.
pub fn vocabularies(dirs: &[&Path], in_full: bool) -> Result<Vec<Option<Vocabulary>>, ModelError> {
    let find = |dir: &&Path| {
        for file in FILES {
            let path = dir.join(file);
            match digest(&path) {
                Ok(digest) => return Ok(Some((file, digest, path))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(ModelError::io(&path)(error)),
            }
        }
        Ok(None)
    };
    let files: Vec<Option<(&'static str, Digest, PathBuf)>> =
        dirs.par_iter().map(find).collect::<Result<_, _>>()?;
    let distinct: HashMap<Digest, (&'static str, &Path)> =
        files.iter().flatten().map(|(file, digest, path)| (*digest, (*file, path.as_path()))).collect();
    let is_parsed = in_full || distinct.len() > 1;
    let read = |(digest, (file, path)): (&Digest, &(&'static str, &Path))| {
        let mut vocabulary =
            Vocabulary { name: digest.to_string(), file, rows: None, tokens: None, special: Vec::new() };
        if *file == TOKENIZER {
            let bytes = fs::read(path).map_err(ModelError::io(path))?;
            if is_parsed {
                let tokens = Tokens::read(path, &bytes)?;
                vocabulary.name = tokens.fingerprint();
                vocabulary.rows = Some(tokens.rows());
                vocabulary.tokens = Some(Arc::new(tokens));
            } else {
                vocabulary.rows = Some(rows_of(path, &bytes)?);
            }
        }
        Ok((*digest, vocabulary))
    };
    let known: HashMap<Digest, Vocabulary> =
        distinct.par_iter().map(read).collect::<Result<_, ModelError>>()?;
    let of = |(dir, file): (&&Path, &Option<(&'static str, Digest, PathBuf)>)| {
        let Some((_, digest, _)) = file else { return Ok(None) };
        let mut vocabulary = known[digest].clone();
        if let Some(tokens) = &vocabulary.tokens {
            vocabulary.special = special(dir, tokens)?;
        }
        Ok(Some(vocabulary))
    };
    dirs.iter().zip(&files).map(of).collect()
}

fn digest(path: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vocabularies_are_compared_by_tokens_not_by_bytes() {
        let space = tempfile::tempdir().unwrap();
        let model = |name: &str, file: Option<(&str, &str)>| {
            let dir = space.path().join(name);
            fs::create_dir(&dir).unwrap();
            if let Some((file, text)) = file {
                fs::write(dir.join(file), text).unwrap();
            }
            dir
        };
        let json = |text| Some(("tokenizer.json", text));
        let a = model("a", json(r#"{"model":{"vocab":{"x":0}},"added_tokens":[{"id":1,"content":"<s>"}]}"#));
        let b = model("b", json(r#"{"added_tokens":[],"model":{"vocab":{"<s>":1,"x":0}}}"#));
        let c = model("c", json(r#"{"model":{"vocab":[["x",-1.0],["y",-2.0]]}}"#));
        let d = model("d", None);
        let e = model("e", Some(("tokenizer.model", "x")));
        let known = vocabularies(&[&a, &b, &c, &d, &e], false).unwrap();
        let name = |i: usize| known[i].as_ref().map(|known| known.name.as_str());
        assert!(name(0) == name(1) && name(0) != name(2) && name(3).is_none());
        let last = known[4].as_ref().unwrap();
        assert!(last.file == "tokenizer.model" && last.tokens.is_none());
        let alone = vocabularies(&[&a, &a], false).unwrap();
        assert!(alone[0].as_ref().unwrap().tokens.is_none(), "equal files are not parsed");
        assert!(vocabularies(&[&a], true).unwrap()[0].as_ref().unwrap().tokens.is_some());
    }

    #[test]
    fn special_tokens_are_those_of_each_model() {
        let space = tempfile::tempdir().unwrap();
        let dirs = ["x", "y", "z"].map(|token| {
            let dir = space.path().join(token);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join(TOKENIZER), r#"{"model":{"vocab":{"x":0,"y":1}}}"#).unwrap();
            fs::write(dir.join("tokenizer_config.json"), format!(r#"{{"eos_token":"{token}"}}"#)).unwrap();
            dir
        });
        let dirs: Vec<&Path> = dirs.iter().map(PathBuf::as_path).collect();
        let known = vocabularies(&dirs, true).unwrap();
        let special = |i: usize| known[i].as_ref().unwrap().special.as_slice();
        assert_eq!(special(0), [("eos_token_id", 0)]);
        assert_eq!(special(1), [("eos_token_id", 1)]);
        assert_eq!(special(2), [], "a token that the tokenizer does not have");
    }
}
