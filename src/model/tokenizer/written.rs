//! A tokenizer's files for other tokens: what was there stays, but for tokens without a row, and new tokens get their
//! places.
//!
//! A token that another model *added* is added here, with the same flags. Another model's ordinary token only needs
//! its id and a row: it goes into the model's own vocabulary in a way that leaves the encoding of texts as it was.
//! BPE makes no token without merges; a Unigram piece is never chosen at a score below that of any way around it.
//! A word list knows more words then, and WordPiece may split some words otherwise.

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

use super::template::TOKENIZER_CONFIG;
use super::tokens::{Flags, TOKENIZER, Tokens};

/// Files of a tokenizer beside tokenizer.json that would contradict one that grew.
const SUPERSEDED: [&str; 5] = ["tokenizer.model", "spiece.model", "vocab.json", "merges.txt", "vocab.txt"];

/// The bytes of a tokenizer's file for other tokens than it was written for; `None` if there is to be no such file.
///
/// # Errors
/// Says what about the file does not fit.
pub fn rewritten(name: &str, bytes: &[u8], tokens: &Tokens) -> Result<Option<Vec<u8>>, String> {
    if SUPERSEDED.contains(&name) {
        return Ok(None);
    }
    let edit: fn(&mut Value, &Tokens) -> Result<(), String> = match name {
        TOKENIZER => tokenizer,
        TOKENIZER_CONFIG => settings,
        "added_tokens.json" => added_tokens,
        _ => return Ok(Some(bytes.to_vec())),
    };
    let mut json = serde_json::from_slice(bytes).map_err(|error| format!("is not valid JSON: {error}"))?;
    edit(&mut json, tokens)?;
    let text = serde_json::to_string_pretty(&json).expect("JSON values serialise");
    Ok(Some((text + "\n").into_bytes()))
}

/// Whether a tokenizer.json can be used and gives every token its id.
///
/// # Errors
/// Says what is wrong.
pub fn check(bytes: &[u8], tokens: &Tokens) -> Result<(), String> {
    let tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| format!("cannot be used: {error}"))?;
    for (id, token) in tokens.iter() {
        let found = tokenizer.token_to_id(token);
        if found != Some(id) {
            let found = found.map_or_else(|| "no id".to_owned(), |found| format!("id {found}"));
            return Err(format!("gives token {token:?} {found}, not {id}"));
        }
    }
    Ok(())
}

/// Adds what a tokenizer.json lacks.
fn tokenizer(json: &mut Value, tokens: &Tokens) -> Result<(), String> {
    let before = Tokens::parse(json.to_string().as_bytes())?;
    let is_kept = |id: u32, token: &str| tokens.id(token) == Some(id);
    if let Some((id, token)) = before.iter().find(|(id, token)| !is_kept(*id, token) && !tokens.is_cut(*id)) {
        return Err(format!("changed while it was being read: token {token:?} has id {id}"));
    }
    if before.iter().any(|(id, token)| !is_kept(id, token)) {
        cut(json, &is_kept);
    }
    let before = Tokens::parse(json.to_string().as_bytes())?;
    let mut list: Vec<Value> = json["added_tokens"].as_array().cloned().unwrap_or_default();
    let mut ordinary: Vec<(u32, String)> = Vec::new();
    for (id, token) in tokens.iter() {
        match tokens.flags(token) {
            Some(flags) if before.flags(token).is_none() => list.push(entry(id, token, flags)),
            None if before.id(token).is_none() => ordinary.push((id, token.to_owned())),
            _ => {}
        }
    }
    list.sort_by_key(|entry| entry["id"].as_u64());
    let vocab = json.pointer_mut("/model/vocab").ok_or("has no vocabulary")?;
    let own: HashSet<String> = match &*vocab {
        Value::Object(own) => own.keys().cloned().collect(),
        Value::Array(own) => own.iter().filter_map(|piece| piece[0].as_str()).map(str::to_owned).collect(),
        _ => HashSet::new(),
    };
    let named = |entry: &Value| {
        Some((u32::try_from(entry["id"].as_u64()?).ok()?, entry["content"].as_str()?.to_owned()))
    };
    let not_own = list.iter().filter_map(named).filter(|(_, token)| !own.contains(token));
    let mut missing: Vec<(u32, String)> = not_own.collect();
    // Loaders number added tokens behind the model's own, so that where others lie in between, or ids are left out,
    // they too must be among the model's own.
    let next = (own.len() as u32..).zip(&missing);
    if !ordinary.is_empty() || next.into_iter().any(|(next, (id, _))| next != *id) {
        missing.extend(ordinary);
        missing.sort_unstable();
        match vocab {
            Value::Object(own) => own.extend(missing.into_iter().map(|(id, token)| (token, id.into()))),
            Value::Array(pieces) => add_pieces(pieces, &missing)?,
            _ => return Err("has no vocabulary".to_owned()),
        }
    }
    json["added_tokens"] = list.into();
    Ok(())
}

/// Takes tokens out of a tokenizer.json, and the merges that make them.
fn cut(json: &mut Value, is_kept: &dyn Fn(u32, &str) -> bool) {
    let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
    if let Some(list) = json["added_tokens"].as_array_mut() {
        list.retain(|entry| {
            entry["content"].as_str().zip(id(&entry["id"])).is_some_and(|(token, id)| is_kept(id, token))
        });
    }
    let gone: HashSet<String> = match json.pointer_mut("/model/vocab") {
        Some(Value::Object(own)) => {
            let all: Vec<String> = own.keys().cloned().collect();
            own.retain(|token, number| id(number).is_some_and(|id| is_kept(id, token)));
            all.into_iter().filter(|token| !own.contains_key(token)).collect()
        }
        Some(Value::Array(pieces)) => {
            let mut number = 0;
            pieces.retain(|piece| {
                number += 1;
                piece[0].as_str().is_some_and(|token| is_kept(number - 1, token))
            });
            return;
        }
        _ => return,
    };
    let Some(merges) = json.pointer_mut("/model/merges").and_then(Value::as_array_mut) else { return };
    merges.retain(|merge| {
        let parts: Vec<&str> = match merge {
            Value::String(pair) => pair.split(' ').collect(),
            pair => pair.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
        };
        !gone.contains(&parts.concat()) && !parts.iter().any(|part| gone.contains(*part))
    });
}

/// Appends Unigram pieces, whose ids are their places in the list.
fn add_pieces(pieces: &mut Vec<Value>, missing: &[(u32, String)]) -> Result<(), String> {
    /// How much less than the worst piece a character of a new one counts at least.
    const MARGIN: f64 = 10.0;
    let worst = pieces.iter().filter_map(|piece| piece[1].as_f64()).fold(0.0, f64::min);
    for (id, token) in missing {
        if pieces.len() != *id as usize {
            return Err(format!("has no token with id {}, so {token:?} cannot follow it", pieces.len()));
        }
        // Below any way around it through other pieces, none of which costs more than the worst one a character.
        let score = (worst - MARGIN) * (token.chars().count() + 1) as f64;
        pieces.push(json!([token, score]));
    }
    Ok(())
}

fn entry(id: u32, token: &str, flags: Flags) -> Value {
    let mut entry = Map::new();
    entry.insert("id".to_owned(), id.into());
    entry.insert("content".to_owned(), token.into());
    if let Value::Object(flags) = serde_json::to_value(flags).expect("flags serialise") {
        entry.extend(flags);
    }
    entry.into()
}

/// Lists new added tokens where the settings list them, and spells what transformers 5 spells anew as version 4 does,
/// which both read.
fn settings(json: &mut Value, tokens: &Tokens) -> Result<(), String> {
    if json["tokenizer_class"] == "TokenizersBackend" {
        json["tokenizer_class"] = "PreTrainedTokenizerFast".into();
    }
    if json["extra_special_tokens"].is_array()
        && let Some(settings) = json.as_object_mut()
        && let Some(named) = settings.shift_remove("extra_special_tokens")
    {
        settings.entry("additional_special_tokens").or_insert(named);
    }
    let Some(Value::Object(listed)) = json.get_mut("added_tokens_decoder") else { return Ok(()) };
    listed.retain(|id, _| id.parse().is_ok_and(|id| !tokens.is_cut(id)));
    for (id, token) in tokens.iter() {
        let Some(flags) = tokens.flags(token) else { continue };
        if let Value::Object(mut entry) = entry(id, token, flags) {
            entry.shift_remove("id");
            listed.entry(id.to_string()).or_insert(entry.into());
        }
    }
    Ok(())
}

/// Lists new added tokens in added_tokens.json.
fn added_tokens(json: &mut Value, tokens: &Tokens) -> Result<(), String> {
    let Value::Object(listed) = json else { return Err("is not a map of tokens".to_owned()) };
    listed.retain(|token, _| tokens.id(token).is_some());
    for (id, token) in tokens.iter() {
        if tokens.flags(token).is_some() {
            listed.entry(token).or_insert(id.into());
        }
    }
    Ok(())
}
