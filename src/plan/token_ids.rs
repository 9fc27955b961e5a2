//! The keys of a config that hold ids of tokens, for other tokens than it was written for.

use serde_json::Value;

use crate::model::tokenizer::{Tokens, special_keys};

/// Endings of keys that hold an id, or a list of ids.
const ENDINGS: [&str; 3] = ["_token_id", "_token_ids", "_token_index"];

/// Follows tokens to their new ids, from those of the model that the config comes from, where they are known, to the
/// output's; and lets keys agree with the ids of `special`, which are those of the tokenizer's own settings. Of several
/// ids that end a text one must be the tokenizer's.
pub fn follow(config: &mut Value, from: Option<&Tokens>, to: &Tokens, special: &[(&str, u32)]) {
    if let Some(from) = from {
        rename(config, &|id| from.token(id).map(|token| to.id(token)));
    }
    for (key, id) in special {
        agree(config, key, *id);
    }
}

/// Lets a config name the tokens that begin, end and fill texts as another does, that of the model whose tokenizer is
/// taken, where both have the same tokens. What the other does not state stays.
pub fn take_over(config: &mut Value, other: &Value) {
    let inner = ["", "/text_config"];
    for key in special_keys() {
        let stated = |place: &str| other.pointer(&format!("{place}/{key}")).filter(|id| !id.is_null());
        let Some(first) = inner.iter().find_map(|place| stated(place)) else { continue };
        for place in inner {
            let Some(keys) = config.pointer_mut(place).and_then(Value::as_object_mut) else { continue };
            let here = stated(place);
            if here.is_some() || keys.contains_key(key) {
                keys.insert(key.to_owned(), here.unwrap_or(first).clone());
            }
        }
    }
}

/// Sets the number of rows wherever the config states it.
pub fn set_rows(config: &mut Value, rows: usize) {
    let Some(keys) = config.as_object_mut() else { return };
    let before = keys.insert("vocab_size".to_owned(), rows.into());
    let mut is_nested = false;
    for (key, nested) in keys.iter_mut() {
        let is_text = ["text_config", "llm_config", "language_config"].contains(&key.as_str());
        if let Some(stated) = nested.get_mut("vocab_size")
            && (is_text || Some(&*stated) == before.as_ref())
        {
            *stated = rows.into();
            is_nested |= is_text;
        }
    }
    if is_nested && before.is_none() {
        keys.shift_remove("vocab_size");
    }
}

/// Replaces ids: `new` says an id's new one, if it stands for a known token, which may be gone.
fn rename(config: &mut Value, new: &dyn Fn(u32) -> Option<Option<u32>>) {
    let renamed = |value: &Value| -> Option<Value> {
        let id = u32::try_from(value.as_u64()?).ok()?;
        Some(new(id)?.map_or(Value::Null, Value::from))
    };
    for (key, value) in config.as_object_mut().into_iter().flatten() {
        let holds_ids = ENDINGS.iter().any(|ending| key.ends_with(ending));
        match value {
            Value::Object(_) => rename(value, new),
            Value::Number(_) if holds_ids => {
                if let Some(other) = renamed(value) {
                    *value = other;
                }
            }
            Value::Array(ids) if holds_ids => {
                for id in ids.iter_mut() {
                    if let Some(other) = renamed(id) {
                        *id = other;
                    }
                }
                ids.retain(|id| !id.is_null());
            }
            _ => {}
        }
    }
}

/// Lets a key hold an id, alone or among others, where the config itself or that of its text model has the key.
fn agree(config: &mut Value, key: &str, id: u32) {
    for pointer in [format!("/{key}"), format!("/text_config/{key}")] {
        match config.pointer_mut(&pointer) {
            Some(Value::Array(ids)) if ids.contains(&id.into()) => {}
            Some(stated) => *stated = id.into(),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tokens(text: &str) -> Tokens {
        Tokens::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn ids_follow_their_tokens() {
        let from = tokens(r#"{"model":{"vocab":{"a":0,"b":1,"c":2}}}"#);
        let to = tokens(r#"{"model":{"vocab":{"c":0,"a":7}}}"#);
        let mut config = json!({
            "bos_token_id": 0, "eos_token_id": [1, 2], "pad_token_id": null, "x_token_id": 1,
            "text_config": {"image_token_index": 2, "hidden_size": 2}, "far_token_id": 99,
        });
        follow(&mut config, Some(&from), &to, &[]);
        let expected = json!({
            "bos_token_id": 7, "eos_token_id": [0], "pad_token_id": null, "x_token_id": null,
            "text_config": {"image_token_index": 0, "hidden_size": 2}, "far_token_id": 99,
        });
        assert_eq!(config, expected);
    }

    #[test]
    fn a_special_token_is_among_the_ids_of_its_key() {
        let mut config =
            json!({"eos_token_id": [3, 5], "bos_token_id": 1, "text_config": {"pad_token_id": 0}});
        agree(&mut config, "eos_token_id", 5);
        agree(&mut config, "bos_token_id", 2);
        agree(&mut config, "pad_token_id", 4);
        let expected = json!({"eos_token_id": [3, 5], "bos_token_id": 2, "text_config": {"pad_token_id": 4}});
        assert_eq!(config, expected);
    }

    #[test]
    fn special_ids_are_taken_over_where_the_other_states_them() {
        let own = json!({"eos_token_id": 3, "pad_token_id": null, "bos_token_id": [1, 2], "vocab_size": 9});
        let mut same = own.clone();
        take_over(&mut same, &own);
        assert_eq!(same, own);
        for (before, after) in [
            (
                json!({"eos_token_id": [2, 5], "pad_token_id": 0, "x_token_id": 7}),
                json!({"eos_token_id": 3, "pad_token_id": 0, "x_token_id": 7, "bos_token_id": [1, 2]}),
            ),
            (
                json!({"text_config": {"eos_token_id": 2}, "bos_token_id": 0}),
                json!({"text_config": {"eos_token_id": 3}, "bos_token_id": [1, 2], "eos_token_id": 3}),
            ),
            (json!(null), json!(null)),
        ] {
            let mut config = before;
            take_over(&mut config, &own);
            assert_eq!(config, after);
        }
        let mut config = json!({"eos_token_id": 2});
        take_over(&mut config, &json!({"text_config": {"eos_token_id": 3, "pad_token_id": 1}}));
        assert_eq!(config, json!({"eos_token_id": 3}), "there is no other place for what is new");
    }

    #[test]
    fn rows_are_stated_where_they_were() {
        for (before, after) in [
            (json!({"vocab_size": 8}), json!({"vocab_size": 9})),
            (json!({}), json!({"vocab_size": 9})),
            (json!({"text_config": {"vocab_size": 8}}), json!({"text_config": {"vocab_size": 9}})),
            (
                json!({"vocab_size": 8, "text_config": {"vocab_size": 7}, "vision_config": {"vocab_size": 3}}),
                json!({"vocab_size": 9, "text_config": {"vocab_size": 9}, "vision_config": {"vocab_size": 3}}),
            ),
        ] {
            let mut config = before;
            set_rows(&mut config, 9);
            assert_eq!(config, after);
        }
    }
}
