//! The recipe language as a JSON Schema, for editors: made from the keys that readers know and from what methods
//! declare.
//!
//! A schema knows no warnings, so it refuses what the reader warns of, as far as one document shows it: an
//! unknown key, a parameter that the method does not read, one of a single model that all models share.
//! Editors that know older drafts understand it too.

use std::ops::Bound;

use serde_json::{Map as Object, Value, json};

use super::chat_template;
use super::codes;
use super::keys::{self, Form, Key, Map};
use crate::methods::{self, Default, Interval, Kind, MethodSpec, ParamSpec, Scope};
use crate::tensor::Dtype;

/// A text in which a variable is filled in.
const TEMPLATE: &str = r"\$\{";
/// Other ways to write a number, and a truth value.
const NUMBER: &str = r"^\s*[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?\s*$";
const TRUTH: &str = "^([Tt]rue|TRUE|[Ff]alse|FALSE|[Yy]es|YES|[Nn]o|NO|[Oo]n|ON|[Oo]ff|OFF|1|0)$";

/// The schema of a recipe's documents.
pub fn schema() -> Value {
    let mut defs = Object::new();
    defs.insert("template".into(), json!({"type": "string", "pattern": TEMPLATE}));
    defs.insert("text".into(), json!({"type": ["string", "number", "boolean"]}));
    defs.insert("flag".into(), any_of([json!({"type": "boolean"}), text_like(TRUTH), template()]));
    let whole = json!({"type": "integer", "minimum": 0});
    defs.insert("whole".into(), any_of([whole, text_like(r"^\d+$"), template()]));
    defs.insert("model".into(), any_of([reference("text"), reference(keys::MODEL_MAP.name)]));
    for map in [
        &keys::MODEL_MAP,
        &keys::MODEL_PLACE,
        &keys::TOKENIZER,
        &keys::TOKEN,
        &keys::TOKEN_SOURCE,
        &keys::CARD,
        &keys::DECLARATION,
    ] {
        defs.insert(map.name.into(), object(map, None));
    }
    for key in keys::STAGE.keys.iter().filter(|key| !is_of_method(key.form)) {
        defs.insert(shared_name(&keys::STAGE, key), described(key, None));
    }
    for spec in specs() {
        add_method(spec, &mut defs);
    }
    defs.insert(keys::STAGE.name.into(), any_stage());
    let is_declaration = json!({
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"enum": keys::DECLARATION.names().collect::<Vec<_>>()},
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A document of a lamarck recipe",
        "description": "A merge stage, or the variables and seed of a recipe.",
        "type": ["object", "null"],
        "if": is_declaration,
        "then": reference(keys::DECLARATION.name),
        "else": {"if": {"type": "object"}, "then": reference(keys::STAGE.name)},
        "$defs": defs,
    })
}

fn specs() -> impl Iterator<Item = &'static MethodSpec> {
    methods::all().iter().map(|method| method.spec())
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

fn template() -> Value {
    reference("template")
}

fn text_like(pattern: &str) -> Value {
    json!({"type": "string", "pattern": pattern})
}

fn any_of(values: impl IntoIterator<Item = Value>) -> Value {
    json!({"anyOf": values.into_iter().collect::<Vec<_>>()})
}

fn names_or_template<'n>(names: impl IntoIterator<Item = &'n str>) -> [Value; 2] {
    [json!({"enum": names.into_iter().collect::<Vec<_>>()}), template()]
}

/// A stage whose method is still to be chosen; the method then says the rest.
fn any_stage() -> Value {
    let properties: Object<String, Value> =
        keys::STAGE.keys.iter().map(|key| (key.name.to_owned(), stage_key(key))).collect();
    let of_method = |spec: &'static MethodSpec| {
        json!({
            "if": {"properties": {"merge_method": {"const": spec.name}}, "required": ["merge_method"]},
            "then": reference(&own_name(spec, keys::STAGE.name)),
        })
    };
    json!({
        "type": "object",
        "properties": properties,
        "required": required(&keys::STAGE),
        "allOf": specs().map(of_method).collect::<Vec<_>>(),
        "oneOf": one_of(&["models", "slices", "modules"]),
        "not": {"allOf": one_of(&["tokenizer", "tokenizer_source"])},
    })
}

fn stage_key(key: &Key) -> Value {
    if is_of_method(key.form) {
        json!({"description": key.doc})
    } else {
        reference(&shared_name(&keys::STAGE, key))
    }
}

/// That just one of the keys is there; an empty list counts as none.
fn one_of(names: &[&str]) -> Vec<Value> {
    let is_there = |name: &&str| {
        json!({
            "required": [name],
            "properties": {*name: {"not": {"anyOf": [{"type": "null"}, {"type": "array", "maxItems": 0}]}}},
        })
    };
    names.iter().map(is_there).collect()
}

fn required(map: &Map) -> Vec<&'static str> {
    map.keys.iter().filter(|key| key.required).map(|key| key.name).collect()
}

/// The name of what a key of a map means, whatever the method.
fn shared_name(map: &Map, key: &Key) -> String {
    format!("{}.{}", map.name, key.name)
}

/// The name of what something means to a method.
fn own_name(spec: &MethodSpec, name: &str) -> String {
    format!("{}.{name}", spec.name)
}

/// Whether what may stand there hangs on the method.
fn is_of_method(form: Form) -> bool {
    match form {
        Form::Parameters | Form::Value => true,
        Form::Map(map) | Form::List(map) | Form::Named(map) => {
            map.keys.iter().any(|key| is_of_method(key.form))
        }
        _ => false,
    }
}

/// Everything that a method has a say in.
fn add_method(spec: &'static MethodSpec, defs: &mut Object<String, Value>) {
    for param in spec.params {
        let name = setting_name(param.kind);
        if !defs.contains_key(&name) {
            defs.insert(name.clone(), setting(param.kind));
        }
        let mut value = json!({"description": param.doc});
        if let Default::Is(default) = param.default {
            value["default"] = json!(default);
        }
        value["$ref"] = json!(format!("#/$defs/{name}"));
        defs.insert(own_name(spec, &param_name(param.name)), value);
    }
    for map in [&keys::STAGE, &keys::MODULE, &keys::SLICE, &keys::SOURCE, &keys::MODEL] {
        let mut value = object(map, Some(spec));
        if std::ptr::eq(map, &raw const keys::MODULE) {
            value["oneOf"] = json!(one_of(&["models", "slices"]));
        }
        defs.insert(own_name(spec, map.name), value);
    }
}

fn param_name(name: &str) -> String {
    format!("parameters.{name}")
}

/// A map of its known keys and, with a method, of parameters that stand beside them.
fn object(map: &'static Map, spec: Option<&'static MethodSpec>) -> Value {
    let mut properties = Object::new();
    for key in map.keys {
        let is_shared = std::ptr::eq(map, &raw const keys::STAGE) && !is_of_method(key.form);
        let value = if is_shared {
            reference(&shared_name(map, key))
        } else {
            described(key, spec.map(|spec| (spec, map)))
        };
        properties.insert(key.name.to_owned(), value);
    }
    if let Some(spec) = spec {
        properties.extend(parameters(spec, map));
    }
    let mut value = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required(map).is_empty() {
        value["required"] = json!(required(map));
    }
    value
}

/// The parameters that have an effect in a map: in one of a single model, those that models do not share.
fn parameters(spec: &'static MethodSpec, map: &'static Map) -> Object<String, Value> {
    let is_of_model = std::ptr::eq(map, &raw const keys::MODEL) || std::ptr::eq(map, &raw const keys::SOURCE);
    let has_effect = |param: &&ParamSpec| !is_of_model || param.inert || param.scope != Scope::Shared;
    let entry =
        |param: &ParamSpec| (param.name.to_owned(), reference(&own_name(spec, &param_name(param.name))));
    spec.params.iter().filter(has_effect).map(entry).collect()
}

/// What may stand behind a key, or nothing, with the key's description.
fn described(key: &Key, of: Option<(&'static MethodSpec, &'static Map)>) -> Value {
    let mut values = form(key.form, of);
    // What is required and empty is missing.
    if !key.required {
        values.push(json!({"type": "null"}));
    }
    let mut value = match <[Value; 1]>::try_from(values) {
        Ok([value]) => value,
        Err(values) => any_of(values),
    };
    value["description"] = json!(key.doc);
    value
}

fn form(form: Form, of: Option<(&'static MethodSpec, &'static Map)>) -> Vec<Value> {
    let inner = |map: &'static Map| match of {
        Some((spec, _)) if is_of_method(form) => reference(&own_name(spec, map.name)),
        _ => reference(map.name),
    };
    match form {
        Form::Text => vec![reference("text")],
        Form::Flag => vec![reference("flag")],
        Form::Whole => vec![reference("whole")],
        Form::Method => {
            let one = |spec: &MethodSpec| json!({"const": spec.name, "description": spec.summary});
            specs().map(one).chain([template()]).collect()
        }
        Form::Dtype => {
            let floats = Dtype::recipe_names()
                .filter(|name| Dtype::from_recipe_name(name).is_some_and(Dtype::is_float));
            let names: Vec<String> =
                floats.flat_map(|name| [name.to_owned(), format!("torch.{name}")]).collect();
            names_or_template(names.iter().map(String::as_str)).to_vec()
        }
        Form::ChatTemplate => {
            let jinja =
                json!({"type": "string", "minLength": chat_template::SHORTEST_JINJA, "pattern": r"\{"});
            let file = text_like(r"^(\./|\.\./|/)|\.(jinja2?|j2)$");
            names_or_template(chat_template::names()).into_iter().chain([jinja, file]).collect()
        }
        Form::TokenizerSource => vec![json!({"enum": ["base", "union"]}), reference("model")],
        Form::Model => vec![reference("model")],
        Form::Place => vec![reference("text"), reference(keys::MODEL_PLACE.name)],
        Form::LayerRange => {
            vec![json!({"type": "array", "items": reference("whole"), "minItems": 2, "maxItems": 2})]
        }
        Form::Parameters => {
            let (spec, map) = of.expect("only maps of a method have parameters");
            vec![json!({
                "type": "object",
                "properties": parameters(spec, map),
                "additionalProperties": false,
            })]
        }
        Form::Value => unreachable!("a setting's entries are written with the setting"),
        Form::Variables => vec![json!({"type": "object", "additionalProperties": reference("text")})],
        Form::Tokens => {
            let token = any_of([reference(keys::TOKEN.name), json!({"type": "null"})]);
            vec![json!({"type": "object", "additionalProperties": token})]
        }
        Form::TokenRow => vec![reference("model"), reference(keys::TOKEN_SOURCE.name)],
        Form::TokenKind => names_or_template(["zero", "model_token"]).to_vec(),
        Form::Codes => {
            let allowable = codes::all().iter().filter(|code| code.can_be_allowed());
            let code = any_of(names_or_template(allowable.map(|code| code.name)));
            vec![json!({"type": "array", "items": code.clone()}), code]
        }
        Form::Texts => vec![reference("text"), json!({"type": "array", "items": reference("text")})],
        Form::Nothing | Form::OfStage => Vec::new(),
        Form::Map(map) => vec![inner(map)],
        Form::List(map) => vec![json!({"type": "array", "items": inner(map)})],
        Form::Named(map) => vec![json!({"type": "object", "additionalProperties": inner(map)})],
    }
}

/// The name of a setting of such values.
fn setting_name(kind: Kind) -> String {
    let (name, interval) = match kind {
        Kind::Number(interval) => ("number", interval),
        Kind::Integer(interval) => ("whole number", interval),
        Kind::Flag => ("flag", Interval::ALL),
    };
    format!("setting {name} {interval}").trim_end().replace(' ', "-")
}

/// A value, a list of values along the layers, or values for some tensors only.
fn setting(kind: Kind) -> Value {
    let value = value(kind);
    let gradient = any_of([value.clone(), json!({"type": "array", "items": value})]);
    let properties: Object<String, Value> = keys::CLAUSE
        .keys
        .iter()
        .map(|key| {
            let mut value =
                if matches!(key.form, Form::Value) { gradient.clone() } else { described(key, None) };
            value["description"] = json!(key.doc);
            (key.name.to_owned(), value)
        })
        .collect();
    let clause = json!({
        "type": "object",
        "properties": properties,
        "required": required(&keys::CLAUSE),
        "additionalProperties": false,
    });
    any_of([gradient, clause.clone(), json!({"type": "array", "items": clause})])
}

fn value(kind: Kind) -> Value {
    let (name, interval) = match kind {
        Kind::Number(interval) => ("number", interval),
        Kind::Integer(interval) => ("integer", interval),
        Kind::Flag => {
            return any_of([
                json!({"type": "boolean"}),
                json!({"enum": [0, 1]}),
                text_like(TRUTH),
                template(),
            ]);
        }
    };
    let mut number = json!({"type": name});
    for (bound, closed, open) in
        [(interval.min, "minimum", "exclusiveMinimum"), (interval.max, "maximum", "exclusiveMaximum")]
    {
        match bound {
            Bound::Included(end) => number[closed] = json!(end),
            Bound::Excluded(end) => number[open] = json!(end),
            Bound::Unbounded => {}
        }
    }
    // A truth value reads as 0 or 1, a text as the number that it spells.
    any_of([number, json!({"type": "boolean"}), text_like(NUMBER), template()])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn references<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
        match value {
            Value::Object(entries) => {
                for (key, value) in entries {
                    match value.as_str().filter(|_| key == "$ref") {
                        Some(target) => drop(found.insert(target)),
                        None => references(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_definition_is_used_and_there() {
        let schema = schema();
        let mut found = BTreeSet::new();
        references(&schema, &mut found);
        let defs = schema["$defs"].as_object().unwrap();
        let defined: BTreeSet<String> = defs.keys().map(|name| format!("#/$defs/{name}")).collect();
        assert_eq!(found.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), defined);
    }
}
