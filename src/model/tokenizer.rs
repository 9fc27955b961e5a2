//! Tokenizers: whether two models have the same tokens at the same places, and how they format a chat.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;

use super::ModelError;
use crate::digest::Digest;

/// The file of a chat template that has one of its own.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";
/// The tokenizer's settings, which may hold the chat template instead.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// A name for each model's vocabulary, equal for equal vocabularies; `None` without tokenizer.json.
///
/// Files of equal bytes are not parsed, which is the usual case and spares most of the time.
pub fn vocabularies(dirs: &[&Path]) -> Result<Vec<Option<String>>, ModelError> {
    let read = |dir: &&Path| {
        let path = dir.join("tokenizer.json");
        let digest = || {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(File::open(&path)?)?;
            Ok::<_, io::Error>(Digest::from(hasher.finalize()))
        };
        match digest() {
            Ok(digest) => Ok(Some((digest, path))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ModelError::io(&path)(error)),
        }
    };
    let files: Vec<_> = dirs.par_iter().map(read).collect::<Result<_, _>>()?;
    let distinct: HashMap<Digest, &Path> =
        files.iter().flatten().map(|(digest, path)| (*digest, path.as_path())).collect();
    let name = |(digest, path): (&Digest, &&Path)| {
        let name = if distinct.len() == 1 {
            digest.to_string()
        } else {
            fingerprint(path, &fs::read(path).map_err(ModelError::io(path))?)?
        };
        Ok((*digest, name))
    };
    let names: HashMap<Digest, String> = distinct.par_iter().map(name).collect::<Result<_, ModelError>>()?;
    Ok(files.iter().map(|file| file.as_ref().map(|(digest, _)| names[digest].clone())).collect())
}

/// A checkpoint's chat template: a file of its own, or a key of tokenizer_config.json.
pub fn chat_template(dir: &Path) -> Result<Option<String>, ModelError> {
    let read = |name: &str| {
        let path = dir.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ModelError::io(&path)(error)),
        }
    };
    if let Some(text) = read(CHAT_TEMPLATE)? {
        return Ok(Some(text));
    }
    let config = read(TOKENIZER_CONFIG)?.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    Ok(config.and_then(|config| config["chat_template"].as_str().map(str::to_owned)))
}

/// The digest of all tokens with their places, whatever else the tokenizer does.
fn fingerprint(path: &Path, bytes: &[u8]) -> Result<String, ModelError> {
    let problem = |problem: String| ModelError::Layout { path: path.to_owned(), problem };
    let json: Value =
        serde_json::from_slice(bytes).map_err(|error| problem(format!("is not valid JSON: {error}")))?;
    let mut tokens: BTreeMap<String, u64> = BTreeMap::new();
    match json.pointer("/model/vocab") {
        // BPE and WordPiece map tokens to places; Unigram lists tokens with scores.
        Some(Value::Object(vocab)) => {
            for (token, id) in vocab {
                tokens.insert(
                    token.clone(),
                    id.as_u64().ok_or_else(|| problem(format!("gives token {token:?} no number")))?,
                );
            }
        }
        Some(Value::Array(vocab)) => {
            for (id, entry) in vocab.iter().enumerate() {
                let token = entry.get(0).and_then(Value::as_str);
                let token = token.ok_or_else(|| problem(format!("has no text for token {id}")))?;
                tokens.insert(token.to_owned(), id as u64);
            }
        }
        _ => return Err(problem("has no vocabulary".to_owned())),
    }
    for added in json.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
        if let (Some(token), Some(id)) =
            (added.get("content").and_then(Value::as_str), added.get("id").and_then(Value::as_u64))
        {
            tokens.insert(token.to_owned(), id);
        }
    }
    let text = serde_json::to_vec(&tokens).expect("a map of strings serialises");
    Ok(Digest::of(&text).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vocabularies_are_compared_by_tokens_not_by_bytes() {
        let space = tempfile::tempdir().unwrap();
        let model = |name: &str, json: Option<&str>| {
            let dir = space.path().join(name);
            fs::create_dir(&dir).unwrap();
            if let Some(json) = json {
                fs::write(dir.join("tokenizer.json"), json).unwrap();
            }
            dir
        };
        let a = model("a", Some(r#"{"model":{"vocab":{"x":0}},"added_tokens":[{"id":1,"content":"<s>"}]}"#));
        let b = model("b", Some(r#"{"added_tokens":[],"model":{"vocab":{"<s>":1,"x":0}}}"#));
        let c = model("c", Some(r#"{"model":{"vocab":[["x",-1.0],["y",-2.0]]}}"#));
        let d = model("d", None);
        let names = vocabularies(&[&a, &b, &c, &d]).unwrap();
        assert_eq!(names[0], names[1]);
        assert_ne!(names[0], names[2]);
        assert_eq!(names[3], None);
    }
}
