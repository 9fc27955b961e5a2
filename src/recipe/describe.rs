//! A stage said in full, as JSON: what lockfiles keep of it.

use serde_json::{Map, Value, json};

use super::meant::{
    Body, Gradient, Input, Module, Parameters, Recipe, Reference, Section, Setting, Slice, StageId,
    TokenEntry, TokenRow, Tokenizer,
};
use crate::methods::{Default, ParamSpec};

/// A stage with every parameter, those left to their defaults too, and with models by the names that are given.
pub fn stage(recipe: &Recipe, id: StageId, name: &dyn Fn(&Reference) -> String) -> Value {
    let stage = recipe.stage(id);
    let spec = stage.method.spec();
    let input = |input: &Input| {
        let mut entry =
            json!({ "model": name(&input.model.value), "parameters": written(&input.parameters) });
        if let Some(range) = &input.layer_range {
            entry["layer_range"] = json!([range.value.0, range.value.1]);
        }
        entry
    };
    let slice = |slice: &Slice| {
        let base = slice.base.as_ref().map(|base| name(&base.value));
        let sources: Vec<Value> = slice.sources.iter().map(input).collect();
        json!({ "sources": sources, "base_model": base, "parameters": written(&slice.parameters) })
    };
    let list = |sections: Vec<Section<'_>>| -> (&'static str, Value) {
        match sections.as_slice() {
            [Section { slice: None, inputs, .. }] => ("models", inputs.iter().map(input).collect()),
            sections => ("slices", sections.iter().filter_map(|section| section.slice).map(slice).collect()),
        }
    };
    let module = |module: &Module| {
        let (key, listed) = list(module.sections());
        (module.name.value.clone(), json!({ key: listed, "parameters": written(&module.parameters) }))
    };
    let (key, body) = match &stage.body {
        Body::Models(_) | Body::Slices(_) => list(stage.sections()),
        Body::Modules(modules) => ("modules", Value::Object(modules.iter().map(module).collect())),
    };
    let mut parameters = Map::new();
    for param in spec.params.iter().filter(|param| !param.inert) {
        if let Some(default) = default(param) {
            parameters.insert(param.name.to_owned(), default);
        }
    }
    parameters.extend(written(&stage.parameters));
    let mut described = json!({
        "name": stage.name,
        "method": spec.name,
        "method_version": spec.version,
        "base_model": stage.base.as_ref().map(|base| name(&base.value)),
        "dtype": stage.dtype.as_ref().map(|dtype| dtype.value.name()),
        "out_dtype": stage.out_dtype.as_ref().map(|dtype| dtype.value.name()),
        "seed": stage.seed,
        "parameters": parameters,
    });
    described[key] = body;
    if let Some(asked) = &stage.tokenizer {
        described["tokenizer"] = tokenizer(&asked.value, name);
    }
    described
}

fn tokenizer(tokenizer: &Tokenizer, name: &dyn Fn(&Reference) -> String) -> Value {
    let Tokenizer { source, tokens, pad_to_multiple_of, trim_vocab } = tokenizer;
    let row = |row: &TokenRow| match row {
        TokenRow::Zero => json!({ "kind": "zero" }),
        TokenRow::Same(model) => json!(name(model)),
        TokenRow::Token(model, token) => {
            json!({ "kind": "model_token", "model": name(model), "token": token })
        }
        TokenRow::Id(model, id) => {
            json!({ "kind": "model_token", "model": name(model), "token_id": id })
        }
    };
    let entry = |TokenEntry { token, source, force }: &TokenEntry| {
        let source = source.as_ref().map(|source| row(&source.value));
        (token.value.clone(), json!({ "source": source, "force": force }))
    };
    let tokens: Map<String, Value> = tokens.iter().map(entry).collect();
    json!({
        "source": source.named(name),
        "tokens": tokens,
        "pad_to_multiple_of": pad_to_multiple_of,
        "trim_vocab": trim_vocab,
    })
}

fn default(param: &ParamSpec) -> Option<Value> {
    match param.default {
        Default::Is(value) => Some(json!(value)),
        Default::Required | Default::Absent => None,
    }
}

fn written(parameters: &Parameters) -> Map<String, Value> {
    let setting = |setting: &Setting| match setting {
        Setting::Plain(values) => gradient(values),
        Setting::Filtered(clauses) => clauses
            .iter()
            .map(|clause| json!({ "filter": clause.filter, "value": gradient(&clause.value) }))
            .collect(),
    };
    parameters.iter().map(|(name, located)| ((*name).to_owned(), setting(&located.value))).collect()
}

fn gradient(gradient: &Gradient) -> Value {
    match gradient.0.as_slice() {
        [value] => json!(value),
        values => json!(values),
    }
}
