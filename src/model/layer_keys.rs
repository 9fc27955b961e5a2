//! The keys of a config.json that go by layer: how many there are, lists with an entry for each, lists of their numbers.
//!
//! Configurations of several parts have such keys for each, in a configuration of its own (`text_config`) or by name
//! (`encoder_layers`); a key belongs to the stack of layers whose part it names.

use serde_json::{Value, json};

use super::layout::{Layout, Module};

/// Words that a key which counts layers is made of.
const COUNT_WORDS: [&str; 16] = [
    "n",
    "num",
    "number",
    "of",
    "hidden",
    "layer",
    "layers",
    "block",
    "blocks",
    "depth",
    "encoder",
    "decoder",
    "text",
    "vision",
    "audio",
    "transformer",
];

/// Keys that list numbers of layers; others are known by how they end.
const NUMBERS: [&str; 4] = ["mlp_only_layers", "moe_layers", "cross_attention_layers", "attn_layers"];
const NUMBERS_ENDINGS: [&str; 5] = ["_idxs", "_indices", "_indexes", "layer_ids", "layers_ids"];

/// Lists that may be as long as a model is deep, and have nothing to do with it.
const NO_LAYERS: [&str; 6] =
    ["architectures", "mrope_section", "image_mean", "image_std", "image_grid_pinpoints", "auto_map"];

/// A list that is as long as a model is deep is about layers wherever that cannot be by chance.
const NO_CHANCE: usize = 8;

/// The part of a model that a stack of layers, or a key, is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Any,
    Text,
    Vision,
    Audio,
    Encoder,
    Decoder,
}

/// A key that goes by layer, as a JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerKey {
    pub pointer: String,
    pub kind: Kind,
}

/// What a key that goes by layer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// How many layers there are.
    Count,
    /// An entry for each.
    Entries,
    /// The numbers of some.
    Numbers,
    /// A letter for each.
    Letters,
    /// Lists of entries, each with how many times it is repeated: one entry for each layer in all.
    Repeated,
    /// The number of the last.
    Last,
    /// How many layers, counted from the first, have no sliding window; all of them if there are no more.
    Windowless,
}

/// The keys of a config that go by the layers of one of its modules.
pub fn layer_keys(config: &Value, layout: &Layout, module: usize) -> Vec<LayerKey> {
    let Module { prefix, layers, .. } = &layout.modules[module];
    let own = Part::of(prefix, layout.modules.len() > 1);
    let mut found: Vec<(Part, LayerKey)> = Vec::new();
    walk(config, String::new(), &mut |pointer, key, value| {
        if let Some(kind) = kind(key, value, *layers) {
            found.push((Part::of_key(&pointer), LayerKey { pointer, kind }));
        }
    });
    let has_own = |kind: Kind| found.iter().any(|(part, key)| *part == own && key.kind == kind);
    let is_lone = layout.modules.iter().filter(|module| module.layers > 0).count() == 1;
    let is_of_module = |(part, key): &(Part, LayerKey)| match (*part, own) {
        (part, own) if part == own => true,
        // Where an encoder and a decoder have a key each, one that names neither is the encoder's.
        (Part::Any | Part::Text, Part::Encoder) => true,
        (Part::Any | Part::Text, Part::Decoder) | (Part::Any, Part::Text) => !has_own(key.kind),
        (Part::Any, _) => is_lone,
        (Part::Text, Part::Any) => true,
        (Part::Encoder | Part::Decoder, Part::Any) => is_lone,
        _ => false,
    };
    found.iter().filter(|key| is_of_module(key)).map(|(_, key)| key.clone()).collect()
}

impl Part {
    /// Of a stack of layers, by the text before their numbers.
    fn of(prefix: &str, is_one_of_several: bool) -> Self {
        if is_one_of_several { Self::named(prefix) } else { Self::Any }
    }

    /// Of a key, by its own words and those of the configurations that it is in.
    fn of_key(pointer: &str) -> Self {
        Self::named(pointer)
    }

    fn named(text: &str) -> Self {
        let has = |words: &[&str]| text.split(['.', '/', '_']).any(|word| words.contains(&word));
        if has(&["vision", "visual", "image", "vit"]) {
            Self::Vision
        } else if has(&["audio", "speech", "sound"]) {
            Self::Audio
        } else if has(&["decoder"]) {
            Self::Decoder
        } else if has(&["encoder"]) {
            Self::Encoder
        } else if has(&["text", "language", "llm"]) {
            Self::Text
        } else {
            Self::Any
        }
    }
}

/// What a key holds, if it goes by so many layers.
fn kind(key: &str, value: &Value, layers: usize) -> Option<Kind> {
    let words = || key.split('_');
    match value {
        Value::Number(count) if key == "max_window_layers" => count.as_u64().map(|_| Kind::Windowless),
        Value::Number(last) if key.contains("layer") && key.ends_with("_end_index") => {
            (last.as_u64()? + 1 == layers as u64).then_some(Kind::Last)
        }
        Value::Number(count) => {
            let is_count = words().all(|word| COUNT_WORDS.contains(&word))
                && words().any(|word| matches!(word, "layer" | "layers" | "blocks" | "depth"));
            (is_count && count.as_u64() == Some(layers as u64)).then_some(Kind::Count)
        }
        Value::Array(_) if key == "attention_types" => {
            (repeated(value)?.len() == layers).then_some(Kind::Repeated)
        }
        Value::Array(list) => {
            if NUMBERS.contains(&key) || NUMBERS_ENDINGS.iter().any(|ending| key.ends_with(ending)) {
                return numbers(value).is_some().then_some(Kind::Numbers);
            }
            let is_said = [
                "layer",
                "block",
                "_types",
                "type_list",
                "heads",
                "multipliers",
                "intermediate_size",
                "pattern",
            ]
            .iter()
            .any(|word| key.contains(word));
            let is_other =
                NO_LAYERS.contains(&key) || key.ends_with("token_id") || key.ends_with("token_ids");
            let is_entries = list.len() == layers && !is_other && (is_said || layers >= NO_CHANCE);
            is_entries.then_some(Kind::Entries)
        }
        Value::String(text) => (key.ends_with("pattern") && text.chars().count() == layers && layers > 0)
            .then_some(Kind::Letters),
        _ => None,
    }
}

/// Numbers of layers.
fn numbers(value: &Value) -> Option<Vec<usize>> {
    value.as_array()?.iter().map(|number| Some(number.as_u64()? as usize)).collect()
}

/// The entries of lists that are repeated.
fn repeated(value: &Value) -> Option<Vec<Value>> {
    let mut all = Vec::new();
    for run in value.as_array()? {
        let [entries, times] = run.as_array()?.as_slice() else { return None };
        for _ in 0..times.as_u64()? {
            all.extend(entries.as_array()?.iter().cloned());
        }
    }
    Some(all)
}

/// What a key says of a layer.
pub fn of_layer(kind: Kind, value: &Value, layer: usize) -> Option<Value> {
    match kind {
        Kind::Count | Kind::Last | Kind::Windowless => None,
        Kind::Entries => value.as_array()?.get(layer).cloned(),
        Kind::Numbers => Some(numbers(value)?.contains(&layer).into()),
        Kind::Letters => Some(value.as_str()?.chars().nth(layer)?.to_string().into()),
        Kind::Repeated => repeated(value)?.get(layer).cloned(),
    }
}

/// What a key must hold to say this of layer after layer.
pub fn of_layers(kind: Kind, said: Vec<Value>) -> Value {
    match kind {
        Kind::Count | Kind::Windowless => said.len().into(),
        Kind::Last => said.len().saturating_sub(1).into(),
        Kind::Entries => said.into(),
        Kind::Numbers => {
            let listed = said.iter().enumerate().filter(|(_, is_listed)| **is_listed == Value::Bool(true));
            listed.map(|(layer, _)| layer).collect()
        }
        Kind::Letters => said.iter().filter_map(Value::as_str).collect::<String>().into(),
        Kind::Repeated => json!([[said, 1]]),
    }
}

fn walk(config: &Value, pointer: String, visit: &mut impl FnMut(String, &str, &Value)) {
    for (key, value) in config.as_object().into_iter().flatten() {
        let here = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
        visit(here.clone(), key, value);
        walk(value, here, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of each module of a model that has these stacks of layers.
    fn keys(config: &Value, stacks: &[(&str, usize)]) -> Vec<Vec<String>> {
        let names: Vec<String> = stacks
            .iter()
            .flat_map(|(prefix, layers)| (0..*layers).map(move |layer| format!("{prefix}.{layer}.w")))
            .collect();
        let layout = Layout::infer(names.iter().map(String::as_str), &json!({}));
        let of = |(prefix, _): &(&str, usize)| {
            let module = layout.modules.iter().position(|module| module.prefix == *prefix).unwrap();
            layer_keys(config, &layout, module).into_iter().map(|key| key.pointer).collect()
        };
        stacks.iter().map(of).collect()
    }

    #[test]
    fn counts_have_many_names() {
        for key in ["num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_blocks"]
        {
            let config = json!({key: 3, "hidden_size": 3, "num_kv_shared_layers": 3, "num_heads": 3});
            assert_eq!(keys(&config, &[("model.layers", 3)]), [[format!("/{key}")]]);
        }
    }

    #[test]
    fn parts_have_keys_of_their_own() {
        let config = json!({
            "vocab_size": 3, "text_config": {"num_hidden_layers": 3, "layer_types": ["a", "b", "c"]},
            "vision_config": {"depth": 3, "fullatt_block_indexes": [1]},
        });
        let expected = [
            vec!["/text_config/num_hidden_layers", "/text_config/layer_types"],
            vec!["/vision_config/depth", "/vision_config/fullatt_block_indexes"],
        ];
        assert_eq!(keys(&config, &[("model.layers", 3), ("visual.blocks", 3)]), expected);
        let stacks = [("model.decoder.layers", 3), ("model.encoder.layers", 3)];
        let config = json!({"decoder_layers": 3, "encoder_layers": 3, "num_hidden_layers": 3});
        let expected = [vec!["/decoder_layers"], vec!["/encoder_layers", "/num_hidden_layers"]];
        assert_eq!(keys(&config, &stacks), expected);
        let stacks = [("decoder.block", 2), ("encoder.block", 2)];
        assert_eq!(keys(&json!({"num_layers": 2}), &stacks), [["/num_layers"], ["/num_layers"]]);
        let of_text =
            json!({"decoder_layers": 3, "encoder_layers": 3, "vision_config": {"num_hidden_layers": 3}});
        let found = keys(&of_text, &[("text_decoder.layers", 3), ("text_encoder.layers", 3)]);
        assert_eq!(found, [["/decoder_layers"], ["/encoder_layers"]]);
        let expected = [["/num_decoder_layers"], ["/num_layers"]];
        assert_eq!(keys(&json!({"num_layers": 2, "num_decoder_layers": 2}), &stacks), expected);
    }

    #[test]
    fn every_kind_is_told_and_made_again() {
        let config = json!({
            "layer_types": ["a", "b", "c"], "mlp_only_layers": [], "full_attn_idxs": [0, 2],
            "no_rope_layers": [1, 0, 1], "hybrid_override_pattern": "M*-", "attention_types": [[["g"], 1], [["l"], 2]],
            "max_window_layers": 28, "moe_layer_end_index": 2, "eos_token_id": [1, 2, 3], "mrope_section": [1, 2, 3], "architectures": ["X"],
        });
        let layout = Layout::infer(["h.2.w"].into_iter(), &json!({}));
        let keys = layer_keys(&config, &layout, 0);
        let again: Vec<String> = keys
            .iter()
            .filter(|key| !matches!(key.kind, Kind::Windowless | Kind::Last))
            .map(|LayerKey { pointer, kind }| {
                let said = [2, 0, 0].map(|layer| of_layer(*kind, &config[&pointer[1..]], layer).unwrap());
                format!("{pointer} {}", of_layers(*kind, said.into()))
            })
            .collect();
        let expected = [
            r#"/layer_types ["c","a","a"]"#,
            "/mlp_only_layers []",
            "/full_attn_idxs [0,1,2]",
            "/no_rope_layers [1,1,1]",
            r#"/hybrid_override_pattern "-MM""#,
            r#"/attention_types [[["l","g","g"],1]]"#,
        ];
        assert_eq!((again, keys.len()), (expected.map(str::to_owned).to_vec(), 8));
    }

    #[test]
    fn a_list_as_long_as_a_deep_model_is_about_its_layers() {
        let config = |n: usize| json!({"attn_kinds": vec![0; n], "eos_token_id": vec![1; n]});
        assert_eq!(keys(&config(30), &[("model.layers", 30)]), [["/attn_kinds"]]);
        assert_eq!(keys(&config(4), &[("model.layers", 4)]), [[""; 0]]);
    }
}
