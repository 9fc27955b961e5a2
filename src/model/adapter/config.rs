//! adapter_config.json: what of it bears on the weights, and whether all of that is understood.

use fancy_regex::Regex;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// What an adapter's configuration says of its weights.
#[derive(Debug)]
pub struct Config {
    rank: usize,
    alpha: f64,
    rank_pattern: Vec<(Regex, usize)>,
    alpha_pattern: Vec<(Regex, f64)>,
    /// Whether products are scaled by the root of the rank.
    rank_stabilised: bool,
    /// Whether weights of a transposed shape are expected.
    pub fan_in_fan_out: bool,
    /// Whether what was trained of an embedding and of the head tied to it is one thing.
    pub keeps_ties: bool,
    pub target_parameters: Vec<String>,
    tokens: Tokens,
    targets: Targets,
}

/// The rows of embeddings that were trained.
#[derive(Debug)]
enum Tokens {
    None,
    /// Of the embedding, whatever it is called.
    Of(Vec<usize>),
    ByModule(Vec<(String, Vec<usize>)>),
}

/// Which modules the adapter is for.
#[derive(Debug)]
struct Targets {
    /// `None` where all are meant, or those that are usual for the architecture.
    modules: Option<Chosen>,
    excluded: Option<Chosen>,
    /// The layers of those that are listed.
    layers: Option<Vec<usize>>,
    layer_patterns: Vec<Regex>,
}

#[derive(Debug)]
enum Chosen {
    /// By their whole name.
    Matching(Regex),
    /// By its ending.
    Listed(Vec<String>),
}

/// Keys that say how an adapter was trained or what it belongs to, and that its weights do not hang on. Biases and
/// whole modules show in the file of tensors.
const WITHOUT_EFFECT: [&str; 24] = [
    "auto_mapping",
    "base_model_class",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ephemeral_gpu_offload",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_bias",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "modules_to_save",
    "parent_library",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
    "tokenizer_name",
    "unsloth_fixed",
    "velora_config",
];

/// Keys that are read below.
const READ: [&str; 16] = [
    "alpha_pattern",
    "ensure_weight_tying",
    "exclude_modules",
    "fan_in_fan_out",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "target_parameters",
    "trainable_token_indices",
    "use_dora",
    "use_rslora",
];

/// Initialisations that leave the weights beneath an adapter as they are.
const HARMLESS_STARTS: [&str; 4] = ["eva", "gaussian", "mica", "orthogonal"];

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it, or that is not understood and bears on the weights.
    pub fn read(value: &Value) -> Result<Self, Vec<String>> {
        let Some(map) = value.as_object() else { return Err(vec!["is not a map of keys".to_owned()]) };
        let mut reader = Reader { map, problems: Vec::new() };
        match map.get("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            Some(other) => return Err(vec![format!("has `peft_type` {other}; only LORA can be applied")]),
            None => {
                return Err(vec!["has no `peft_type`, so it is not an adapter written by PEFT".to_owned()]);
            }
        }
        reader.check_start();
        for (key, value) in map {
            let is_known = READ.contains(&key.as_str()) || WITHOUT_EFFECT.contains(&key.as_str());
            if !is_known && !is_neutral(value) {
                reader.problems.push(format!("has `{key}: {value}`, which is not supported"));
            }
        }
        let config = Self {
            rank: reader.get("r").unwrap_or(8),
            alpha: reader.get("lora_alpha").unwrap_or(8.0),
            rank_pattern: reader.patterns("rank_pattern"),
            alpha_pattern: reader.patterns("alpha_pattern"),
            rank_stabilised: reader.get("use_rslora").unwrap_or(false),
            fan_in_fan_out: reader.get("fan_in_fan_out").unwrap_or(false),
            keeps_ties: reader.get("ensure_weight_tying").unwrap_or(false),
            target_parameters: reader.get("target_parameters").unwrap_or_default(),
            tokens: reader.tokens(),
            targets: Targets {
                modules: reader.chosen("target_modules"),
                excluded: reader.chosen("exclude_modules"),
                layers: reader.one_or_more("layers_to_transform"),
                layer_patterns: reader.layer_patterns(),
            },
        };
        if reader.problems.is_empty() { Ok(config) } else { Err(reader.problems) }
    }

    /// The rank of a module's factors.
    pub fn rank(&self, module: &str) -> usize {
        first_match(&self.rank_pattern, module).unwrap_or(self.rank)
    }

    /// What the product of a module's factors is multiplied by.
    pub fn scale(&self, module: &str) -> f64 {
        let (alpha, rank) =
            (first_match(&self.alpha_pattern, module).unwrap_or(self.alpha), self.rank(module) as f64);
        alpha / if self.rank_stabilised { rank.sqrt() } else { rank }
    }

    /// The rows of a module that were trained.
    pub fn tokens(&self, module: &str) -> Option<&[usize]> {
        match &self.tokens {
            Tokens::None => None,
            Tokens::Of(rows) => Some(rows),
            Tokens::ByModule(listed) => {
                listed.iter().find(|(name, _)| ends_with(module, name)).map(|(_, rows)| rows.as_slice())
            }
        }
    }

    /// Whether the adapter is for a module.
    pub fn targets(&self, module: &str) -> bool {
        let Targets { modules, excluded, layers, layer_patterns } = &self.targets;
        let is_chosen = modules.as_ref().is_none_or(|modules| modules.has(module));
        let is_listed =
            matches!(modules, Some(Chosen::Listed(listed)) if !listed.iter().any(|name| name == module));
        let is_in_layers = match layers {
            Some(layers) if is_listed => {
                layer(module, layer_patterns).is_some_and(|layer| layers.contains(&layer))
            }
            _ => true,
        };
        is_chosen && is_in_layers && !excluded.as_ref().is_some_and(|excluded| excluded.has(module))
    }
}

impl Chosen {
    fn has(&self, module: &str) -> bool {
        match self {
            Self::Matching(regex) => regex.is_match(module).unwrap_or(false),
            Self::Listed(names) => names.iter().any(|name| ends_with(module, name)),
        }
    }
}

/// Whether a name is another or ends with it, as a whole word.
pub fn ends_with(name: &str, ending: &str) -> bool {
    name.strip_suffix(ending).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The first number in a name that stands behind a word, or behind one of some words.
fn layer(module: &str, patterns: &[Regex]) -> Option<usize> {
    if patterns.is_empty() {
        return module.split('.').skip(2).find_map(|word| word.parse().ok());
    }
    let captures = patterns.iter().find_map(|pattern| pattern.captures(module).ok().flatten())?;
    captures.get(1)?.as_str().parse().ok()
}

fn first_match<T: Copy>(patterns: &[(Regex, T)], module: &str) -> Option<T> {
    let matches = |regex: &Regex| regex.is_match(module).unwrap_or(false);
    patterns.iter().find(|(regex, _)| matches(regex)).map(|(_, value)| *value)
}

fn is_neutral(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

struct Reader<'a> {
    map: &'a Map<String, Value>,
    problems: Vec<String>,
}

impl Reader<'_> {
    /// What stands behind a key; nothing where it is null.
    fn get<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let value = self.map.get(key).filter(|value| !value.is_null())?;
        match serde_json::from_value(value.clone()) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problems.push(format!("has `{key}: {value}`, which cannot be read: {error}"));
                None
            }
        }
    }

    /// A list, or one of its kind.
    fn one_or_more<T: DeserializeOwned>(&mut self, key: &str) -> Option<Vec<T>> {
        match self.map.get(key) {
            Some(Value::Array(list)) if list.is_empty() => None,
            Some(Value::Array(_)) | None | Some(Value::Null) => self.get(key),
            Some(_) => self.get(key).map(|one| vec![one]),
        }
    }

    /// A regular expression that a module's whole name is matched against, in a pattern of more.
    fn regex(&mut self, key: &str, pattern: &str) -> Option<Regex> {
        match Regex::new(pattern) {
            Ok(regex) => Some(regex),
            Err(error) => {
                self.problems
                    .push(format!("has a regular expression in `{key}` that cannot be read: {error}"));
                None
            }
        }
    }

    fn patterns<T: DeserializeOwned>(&mut self, key: &str) -> Vec<(Regex, T)> {
        let map: Map<String, Value> = self.get(key).unwrap_or_default();
        let mut patterns = Vec::new();
        for (pattern, value) in map {
            let regex = self.regex(key, &format!("^(?:.*\\.)?(?:{pattern})$"));
            match serde_json::from_value(value.clone()) {
                Ok(value) => patterns.extend(regex.map(|regex| (regex, value))),
                Err(error) => {
                    self.problems.push(format!("has `{value}` for `{pattern}` in `{key}`: {error}"));
                }
            }
        }
        patterns
    }

    fn layer_patterns(&mut self) -> Vec<Regex> {
        let words: Vec<String> = self.one_or_more("layers_pattern").unwrap_or_default();
        let pattern = |word: &String| format!("^(?:.*?\\.)?{word}\\.(\\d+)\\.");
        words.iter().filter_map(|word| self.regex("layers_pattern", &pattern(word))).collect()
    }

    fn chosen(&mut self, key: &str) -> Option<Chosen> {
        match self.map.get(key) {
            Some(Value::String(text)) if text.eq_ignore_ascii_case("all-linear") => None,
            Some(Value::String(text)) => self.regex(key, &format!("^(?:{text})$")).map(Chosen::Matching),
            _ => self.get(key).map(Chosen::Listed),
        }
    }

    fn tokens(&mut self) -> Tokens {
        const KEY: &str = "trainable_token_indices";
        match self.map.get(KEY) {
            Some(Value::Object(_)) => {
                let map: Map<String, Value> = self.get(KEY).unwrap_or_default();
                let rows = |(name, rows): (String, Value)| Some((name, serde_json::from_value(rows).ok()?));
                let n_modules = map.len();
                let read: Vec<(String, Vec<usize>)> = map.into_iter().filter_map(rows).collect();
                if read.len() < n_modules {
                    self.problems.push(format!("has a `{KEY}` that does not list rows"));
                }
                Tokens::ByModule(read)
            }
            _ => self.get(KEY).map_or(Tokens::None, Tokens::Of),
        }
    }

    /// Checks that making the adapter left the weights beneath it alone.
    fn check_start(&mut self) {
        match self.map.get("init_lora_weights") {
            None | Some(Value::Null | Value::Bool(_)) => {}
            Some(Value::String(start)) if HARMLESS_STARTS.contains(&start.as_str()) => {}
            Some(Value::String(start)) => self.problems.push(format!(
                "has `init_lora_weights: {start}`: such an adapter starts by taking a part out of the base weights, so adding its product to the plain model is wrong; have PEFT save it as a plain LoRA, with `path_initial_model_for_weight_conversion`"
            )),
            Some(other) => {
                self.problems.push(format!("has `init_lora_weights: {other}`, which is not supported"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(more: Value) -> Result<Config, Vec<String>> {
        let mut config = json!({ "peft_type": "LORA", "r": 4, "lora_alpha": 6 });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Config::read(&config)
    }

    #[test]
    fn patterns_go_by_ending_and_by_expression_the_first_one_first() {
        let config = with(json!({
            "rank_pattern": { "q_proj": 2, "^model\\.layers\\.1\\.mlp\\..*_proj": 6, "layers.1.mlp.up_proj": 7 },
            "alpha_pattern": { "layers.0.self_attn.v_proj": 3 },
        }))
        .unwrap();
        let ranks = [
            "model.layers.0.self_attn.q_proj",
            "model.layers.1.mlp.up_proj",
            "model.layers.0.mlp.up_proj",
            "x.aq_proj",
        ]
        .map(|module| config.rank(module));
        assert_eq!(ranks, [2, 6, 4, 4]);
        assert_eq!(config.scale("model.layers.0.self_attn.v_proj"), 0.75);
        assert_eq!(config.scale("model.layers.0.self_attn.q_proj"), 3.0);
        assert_eq!(with(json!({ "use_rslora": true })).unwrap().scale("x"), 3.0);
    }

    #[test]
    fn modules_are_targeted_as_peft_does() {
        let targets = |more: Value, module: &str| with(more).unwrap().targets(module);
        let (q, v) = ("model.layers.10.self_attn.q_proj", "model.layers.1.self_attn.v_proj");
        assert!(targets(json!({}), q) && targets(json!({ "target_modules": "all-linear" }), q));
        assert!(targets(json!({ "target_modules": ["q_proj"] }), q));
        assert!(!targets(json!({ "target_modules": ["proj"] }), q));
        assert!(targets(json!({ "target_modules": ".*\\.1\\..*(q|v)_proj" }), v));
        assert!(!targets(json!({ "target_modules": "q_proj" }), q));
        let listed = |more: Value| {
            let mut config = json!({ "target_modules": ["q_proj", "v_proj"] });
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            [targets(config.clone(), q), targets(config, v)]
        };
        assert_eq!(listed(json!({ "layers_to_transform": [1] })), [false, true]);
        assert_eq!(listed(json!({ "layers_to_transform": 10, "layers_pattern": "layers" })), [true, false]);
        assert_eq!(listed(json!({ "exclude_modules": ["v_proj"] })), [true, false]);
        assert_eq!(listed(json!({ "exclude_modules": ".*layers\\.10.*" })), [false, true]);
    }

    #[test]
    fn what_bears_on_the_weights_and_is_not_understood_is_told() {
        let problems = |more: Value| with(more).unwrap_err().join("; ");
        assert!(problems(json!({ "init_lora_weights": "pissa_niter_4" })).contains("pissa_niter_4"));
        assert!(problems(json!({ "peft_type": "IA3" })).contains("IA3"));
        assert!(problems(json!({ "use_qalora": true })).contains("use_qalora"));
        assert!(problems(json!({ "a_new_key": 3 })).contains("a_new_key"));
        assert!(problems(json!({ "r": "four" })).contains("`r: \"four\"`"));
        assert!(problems(json!({ "rank_pattern": { "(": 3 } })).contains("rank_pattern"));
        assert!(
            with(json!({ "a_new_key": null, "init_lora_weights": "gaussian", "peft_version": "1" })).is_ok()
        );
    }

    #[test]
    fn trained_rows_are_those_of_one_module_or_of_each() {
        let config = with(json!({ "trainable_token_indices": [3, 1] })).unwrap();
        assert_eq!(config.tokens("model.embed_tokens"), Some(&[3, 1][..]));
        let config = with(json!({ "trainable_token_indices": { "embed_tokens": [2] } })).unwrap();
        assert_eq!((config.tokens("model.embed_tokens"), config.tokens("lm_head")), (Some(&[2][..]), None));
    }
}
