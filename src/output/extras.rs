//! The files beside the weights: tokenizer, chat template, generation settings.

use std::fs;
use std::io;

use super::{Output, OutputError};

/// Files that belong to a tokenizer; any of them may be missing.
const TOKENIZER_FILES: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    CHAT_TEMPLATE,
];

const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// Files that come from the model that config.json comes from.
const DONOR_FILES: [&str; 4] = [
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
];

/// Whether a file is one that outputs copy from other checkpoints.
pub(super) fn is_copied(name: &str) -> bool {
    TOKENIZER_FILES.contains(&name) || DONOR_FILES.contains(&name)
}

/// Every file to be copied, with its bytes.
pub(super) fn files(output: &Output<'_>) -> Result<Vec<(String, Vec<u8>)>, OutputError> {
    let mut files = Vec::new();
    for (folder, names) in [(output.tokenizer, &TOKENIZER_FILES[..]), (output.donor, &DONOR_FILES[..])] {
        for name in names {
            let path = folder.join(name);
            match fs::read(&path) {
                Ok(bytes) => files.push(((*name).to_owned(), bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(OutputError::io("read", &path)(error)),
            }
        }
    }
    if let Some(template) = output.chat_template {
        files.retain(|(name, _)| name != CHAT_TEMPLATE);
        files.push((CHAT_TEMPLATE.to_owned(), template.as_bytes().to_vec()));
    }
    Ok(files)
}
