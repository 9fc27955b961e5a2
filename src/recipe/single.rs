//! A recipe that nobody wrote: one model, as it is.

use std::sync::Arc;

use super::card::CardSettings;
use super::meant::{Body, Input, Recipe, Reference, Stage};
use super::portable::Portable;
use super::span::{Span, Spanned};
use crate::methods::find;

/// A recipe whose one stage is a model or an adapted model, tensor by tensor. The store keeps nothing of it.
pub fn of_model(name: &str, model: Reference) -> Recipe {
    let span = Span::default();
    let model = Spanned { value: model, span };
    let stage = Stage {
        name: name.to_owned(),
        name_from_file: false,
        span,
        method: find("passthrough").expect("it is one of the methods"),
        base: None,
        body: Body::Models(vec![Input { model, parameters: Vec::new(), layer_range: None }]),
        parameters: Vec::new(),
        dtype: None,
        out_dtype: None,
        tokenizer: None,
        chat_template: None,
        seed: 0,
        cache: Some(false),
        card: CardSettings::default(),
    };
    Recipe {
        name: name.to_owned(),
        text: Arc::from(""),
        portable: Portable::default(),
        card: CardSettings::default(),
        sets: Vec::new(),
        seed: None,
        stages: vec![stage],
        files: Vec::new(),
    }
}
