//! Chat templates as checkpoints hold them: in a file of their own, or as a key of the tokenizer's settings.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

use crate::model::ModelError;

/// The file of a chat template that has one of its own.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";
/// The tokenizer's settings, which may hold the chat template instead.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// A checkpoint's chat template. Of several by name, the one called `default`.
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
    Ok(config.and_then(|config| match &config["chat_template"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(named) => {
            let default = named.iter().find(|template| template["name"] == "default")?;
            default["template"].as_str().map(str::to_owned)
        }
        _ => None,
    }))
}
