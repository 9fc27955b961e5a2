//! Which tokens begin texts, end them and fill them up, as a tokenizer's settings say.

use std::path::Path;

use super::template::TOKENIZER_CONFIG;
use super::tokens::Tokens;
use crate::model::{ModelError, json};

/// Settings that name a token, with the keys of config.json that hold its id.
const SPECIAL: [(&str, &str); 3] =
    [("bos_token", "bos_token_id"), ("eos_token", "eos_token_id"), ("pad_token", "pad_token_id")];

/// The keys of config.json and generation_config.json that hold ids of such tokens.
pub fn special_keys() -> impl Iterator<Item = &'static str> {
    SPECIAL.iter().map(|(_, key)| *key)
}

/// Those keys with the ids that the settings in a model's folder give them. Models whose tokenizer.json is the same
/// need not agree here.
///
/// # Errors
/// If the settings are there and cannot be read.
pub fn special(dir: &Path, tokens: &Tokens) -> Result<Vec<(&'static str, u32)>, ModelError> {
    let settings = json::read_if_there(&dir.join(TOKENIZER_CONFIG))?.unwrap_or_default();
    let id = |setting: &str| {
        let named = &settings[setting];
        tokens.id(named.as_str().or_else(|| named["content"].as_str())?)
    };
    Ok(SPECIAL.iter().filter_map(|(setting, key)| Some((*key, id(setting)?))).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn settings_name_tokens_in_two_ways() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::parse(br#"{"model":{"vocab":{"a":0,"b":1,"c":2}}}"#).unwrap();
        assert_eq!(special(dir.path(), &tokens).unwrap(), []);
        let settings = r#"{"bos_token": null, "eos_token": {"content": "b"}, "pad_token": "c"}"#;
        fs::write(dir.path().join(TOKENIZER_CONFIG), settings).unwrap();
        assert_eq!(special(dir.path(), &tokens).unwrap(), [("eos_token_id", 1), ("pad_token_id", 2)]);
        fs::write(dir.path().join(TOKENIZER_CONFIG), r#"{"eos_token": "gone"}"#).unwrap();
        assert_eq!(special(dir.path(), &tokens).unwrap(), []);
        fs::write(dir.path().join(TOKENIZER_CONFIG), "{").unwrap();
        assert!(special(dir.path(), &tokens).is_err());
    }
}
