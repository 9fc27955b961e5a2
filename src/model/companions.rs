//! The files beside a model's tensors, by name.

use super::tokenizer::{CHAT_TEMPLATE, GENERATION, TOKENIZER, TOKENIZER_CONFIG};

/// Files that belong to a tokenizer; any of them may be missing.
pub const TOKENIZER_FILES: [&str; 11] = [
    TOKENIZER,
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    CHAT_TEMPLATE,
    "chat_template.json",
];

/// Files that an output has from the model that its config.json comes from.
pub const DONOR_FILES: [&str; 4] =
    [GENERATION, "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"];

/// Files that say what a model is: its configuration, or an adapter's, and the card with its licence.
const DESCRIPTIONS: [&str; 3] = ["config.json", "adapter_config.json", "README.md"];

/// Files that an output may copy.
pub fn copied() -> impl Iterator<Item = &'static str> {
    TOKENIZER_FILES.into_iter().chain(DONOR_FILES)
}

/// All of them.
pub fn names() -> impl Iterator<Item = &'static str> {
    DESCRIPTIONS.into_iter().chain(copied())
}
