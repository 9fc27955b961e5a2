//! A config.json made of what a file says of its model, where none lies beside it.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::container::{Container, Value};

/// Architectures of which the metadata say all that config.json must, with what transformers calls them.
const COMPLETE: [(&str, &str, &str); 3] = [
    ("llama", "llama", "LlamaForCausalLM"),
    ("qwen2", "qwen2", "Qwen2ForCausalLM"),
    ("qwen3", "qwen3", "Qwen3ForCausalLM"),
];

/// Keys whose values say how config.json and a file agree.
const SHARED: [(&str, &str); 4] = [
    ("block_count", "num_hidden_layers"),
    ("embedding_length", "hidden_size"),
    ("feed_forward_length", "intermediate_size"),
    ("attention.head_count", "num_attention_heads"),
];

/// The metadata of one model.
pub struct Metadata<'a> {
    pub pairs: &'a BTreeMap<String, Value>,
    pub architecture: &'a str,
}

impl<'a> Metadata<'a> {
    pub fn new(container: &'a Container) -> Result<Self, String> {
        match container.pairs.get("general.architecture") {
            Some(Value::Text(architecture)) => Ok(Self { pairs: &container.pairs, architecture }),
            _ => Err("does not give its architecture (`general.architecture`)".to_owned()),
        }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.pairs.get(&format!("{}.{key}", self.architecture))
    }

    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// A count that is not zero.
    pub fn count(&self, key: &str) -> Option<usize> {
        match self.get(key)? {
            Value::Integer(n) => usize::try_from(*n).ok().filter(|n| *n > 0),
            _ => None,
        }
    }

    fn number(&self, key: &str) -> Option<f64> {
        match self.get(key)? {
            Value::Float(number) => Some(*number),
            Value::Integer(number) => Some(*number as f64),
            _ => None,
        }
    }

    fn token(&self, name: &str) -> Json {
        match self.pairs.get(&format!("tokenizer.ggml.{name}_token_id")) {
            Some(Value::Integer(id)) => u64::try_from(*id).map_or(Json::Null, Json::from),
            _ => Json::Null,
        }
    }

    /// Says where a config.json is that of another model.
    pub fn differs_from(&self, config: &Json) -> Option<String> {
        let text = config.get("text_config").filter(|nested| nested.is_object()).unwrap_or(config);
        SHARED.iter().find_map(|(key, name)| {
            let (own, other) = (self.count(key)?, text.get(name)?.as_u64()?);
            (own as u64 != other).then(|| {
                format!(
                    "has `{name}` {other}, but the file beside it has {own} (`{}.{key}`)",
                    self.architecture
                )
            })
        })
    }

    /// A config.json with which transformers loads the model.
    ///
    /// # Errors
    /// Says what the metadata do not tell.
    pub fn config(&self, container: &Container) -> Result<Json, String> {
        let needed = |what: &str| {
            format!("has no config.json beside it, and {what}; add the model's own config.json to the folder")
        };
        let Some((_, model_type, class)) = COMPLETE.iter().find(|(name, ..)| *name == self.architecture)
        else {
            return Err(needed(&format!(
                "its metadata do not describe a `{}` model completely",
                self.architecture
            )));
        };
        let is_scaled = match self.get("rope.scaling.type") {
            None => false,
            Some(Value::Text(kind)) => kind != "none",
            Some(_) => true,
        };
        let has = |name: &str| container.tensors.iter().any(|stored| stored.name == name);
        if is_scaled || has("rope_freqs.weight") {
            return Err(needed("its metadata do not describe its RoPE scaling completely"));
        }
        if ["attention.sliding_window", "expert_count"].iter().any(|key| self.has(key)) {
            return Err(needed("its metadata do not describe its attention or experts completely"));
        }
        let count = |key: &str| {
            self.count(key).ok_or_else(|| needed(&format!("does not give `{}.{key}`", self.architecture)))
        };
        let heads = count("attention.head_count")?;
        let hidden = count("embedding_length")?;
        let rows = container.tensors.iter().find(|stored| stored.name == "token_embd.weight");
        let rows = rows.and_then(|stored| stored.shape.0.first()).copied();
        let head_dim = self.count("attention.key_length").or_else(|| self.count("rope.dimension_count"));
        let epsilon = self.number("attention.layer_norm_rms_epsilon");
        let mut config = Map::new();
        let mut set = |key: &str, value: Json| drop(config.insert(key.to_owned(), value));
        set("architectures", json!([class]));
        set("model_type", json!(model_type));
        set("hidden_size", json!(hidden));
        set("intermediate_size", json!(count("feed_forward_length")?));
        set("num_hidden_layers", json!(count("block_count")?));
        set("num_attention_heads", json!(heads));
        set("num_key_value_heads", json!(self.count("attention.head_count_kv").unwrap_or(heads)));
        set("head_dim", json!(head_dim.unwrap_or(hidden / heads)));
        set("hidden_act", json!("silu"));
        set("max_position_embeddings", json!(count("context_length")?));
        set("rms_norm_eps", json!(epsilon.ok_or_else(|| needed("does not give the epsilon of its norms"))?));
        set("rope_theta", json!(self.number("rope.freq_base").unwrap_or(10_000.0)));
        set("vocab_size", json!(rows.ok_or_else(|| needed("contains no embedding"))?));
        set("tie_word_embeddings", json!(!has("output.weight")));
        if *model_type != "qwen2" {
            set("attention_bias", json!(has("blk.0.attn_q.bias")));
        }
        for key in ["bos", "eos"] {
            set(&format!("{key}_token_id"), self.token(key));
        }
        Ok(Json::Object(config))
    }
}
