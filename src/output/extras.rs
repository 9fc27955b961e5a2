//! The files beside the weights: tokenizer, chat template, generation settings.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

use super::error::OutputError;
use crate::model::tokenizer::{CHAT_TEMPLATE, TOKENIZER_CONFIG};

/// Files that belong to a tokenizer; any of them may be missing.
const TOKENIZER_FILES: [&str; 9] = [
    "tokenizer.json",
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    CHAT_TEMPLATE,
];

/// Files that come from the model that config.json comes from.
const DONOR_FILES: [&str; 4] = [
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
];

/// All files that outputs may copy from other checkpoints.
pub(super) const NAMES: [&[&str]; 2] = [&TOKENIZER_FILES, &DONOR_FILES];

/// Every file to be copied, with its bytes, and the chat template that replaces the tokenizer's own.
pub(super) fn files(
    tokenizer: &Path,
    donor: &Path,
    chat_template: Option<&str>,
) -> Result<Vec<(String, Vec<u8>)>, OutputError> {
    let mut files = Vec::new();
    for (folder, names) in [(tokenizer, &TOKENIZER_FILES[..]), (donor, &DONOR_FILES[..])] {
        for name in names {
            let path = folder.join(name);
            match fs::read(&path) {
                Ok(bytes) => files.push(((*name).to_owned(), bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(OutputError::io("read", &path)(error)),
            }
        }
    }
    if let Some(template) = chat_template {
        files.retain(|(name, _)| name != CHAT_TEMPLATE);
        for (_, bytes) in files.iter_mut().filter(|(name, _)| name == TOKENIZER_CONFIG) {
            *bytes = without_template(bytes);
        }
        files.push((CHAT_TEMPLATE.to_owned(), template.as_bytes().to_vec()));
    }
    Ok(files)
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
