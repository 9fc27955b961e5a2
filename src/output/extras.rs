//! The files beside the weights: tokenizer, chat template, generation settings.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

use super::error::OutputError;
use crate::model::companions::{DONOR_FILES, TOKENIZER_FILES};
use crate::model::tokenizer::{
    CHAT_TEMPLATE, GENERATION, TOKENIZER, TOKENIZER_CONFIG, Tokens, check, rewritten,
};

/// Where the files come from, and what is changed in them.
pub struct Extras<'a> {
    pub tokenizer: &'a Path,
    pub donor: &'a Path,
    /// The tokens that the tokenizer's files are rewritten for.
    pub tokens: Option<&'a Tokens>,
    /// Replaces the donor's generation_config.json.
    pub generation: Option<&'a Value>,
    /// Replaces the tokenizer's own chat template.
    pub chat_template: Option<&'a str>,
}

impl Extras<'_> {
    /// Every file with its bytes.
    ///
    /// # Errors
    /// If one cannot be read, or does not fit the tokens.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>, OutputError> {
        let mut files = Vec::new();
        for (folder, names) in [(self.tokenizer, &TOKENIZER_FILES[..]), (self.donor, &DONOR_FILES[..])] {
            for name in names {
                let path = folder.join(name);
                match fs::read(&path) {
                    Ok(bytes) => files
                        .extend(self.edited(name, &path, bytes)?.map(|bytes| ((*name).to_owned(), bytes))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(OutputError::io("read", &path)(error)),
                }
            }
        }
        if let Some(template) = self.chat_template {
            files.retain(|(name, _)| name != CHAT_TEMPLATE && name != "chat_template.json");
            for (_, bytes) in files.iter_mut().filter(|(name, _)| name == TOKENIZER_CONFIG) {
                *bytes = without_template(bytes);
            }
            files.push((CHAT_TEMPLATE.to_owned(), template.as_bytes().to_vec()));
        }
        Ok(files)
    }

    /// A file's bytes as the output is to have them; `None` if it is to have none.
    fn edited(&self, name: &str, path: &Path, bytes: Vec<u8>) -> Result<Option<Vec<u8>>, OutputError> {
        if let (GENERATION, Some(generation)) = (name, self.generation) {
            let text = serde_json::to_string_pretty(generation).expect("JSON values serialise");
            return Ok(Some((text + "\n").into_bytes()));
        }
        let Some(tokens) = self.tokens.filter(|_| TOKENIZER_FILES.contains(&name)) else {
            return Ok(Some(bytes));
        };
        rewritten(name, &bytes, tokens)
            .map_err(|problem| OutputError::Tokenizer { path: path.to_owned(), problem })
    }

    /// Tries whether the tokenizer can be used as it is to be written, unless it has been written before.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn check(&self, files: &[(String, Vec<u8>)], dir: &Path) -> Result<(), OutputError> {
        let Some(tokens) = self.tokens else { return Ok(()) };
        let Some((name, bytes)) = files.iter().find(|(name, _)| name == TOKENIZER) else { return Ok(()) };
        if fs::read(dir.join(name)).is_ok_and(|present| present == *bytes) {
            return Ok(());
        }
        let path = self.tokenizer.join(name);
        check(bytes, tokens).map_err(|problem| OutputError::Tokenizer { path, problem })
    }
}

/// A tokenizer's settings but for the chat template, which some loaders would prefer to the file.
fn without_template(config: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<Value>(config) {
        Ok(Value::Object(mut keys)) if keys.contains_key("chat_template") => {
            keys.shift_remove("chat_template");
            let text = serde_json::to_string_pretty(&keys).expect("JSON values serialise");
            (text + "\n").into_bytes()
        }
        _ => config.to_vec(),
    }
}
