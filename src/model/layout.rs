//! Infers, from tensor names and config.json alone, which tensors are layers, embeddings and heads.
//!
//! There is no list of architectures. A tensor belongs to a layer when its name has a number behind a
//! prefix that looks like a stack of layers (`model.layers.7.`, `transformer.h.0.`, `encoder.layer.3.`),
//! either by the word before the number or because config.json gives a layer count that fits.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Words that name a stack of layers whatever config.json says.
const STACK_WORDS: [&str; 7] = ["layers", "layer", "h", "blocks", "block", "decoder_layers", "resblocks"];

/// Words that name the token embedding.
const TOKEN_EMBEDDINGS: [&str; 8] = [
    "embed_tokens",
    "wte",
    "tok_embeddings",
    "word_embeddings",
    "embed_in",
    "embeddings",
    "token_embedding",
    "shared",
];

/// Words that name the matrix from hidden states to tokens.
const HEADS: [&str; 5] = ["lm_head", "embed_out", "output", "decoder", "proj_out"];

/// Words that are about embeddings and name what stands behind the layers: a head, LFM2's final norm.
const BEHIND: [&str; 2] = ["embed_out", "embedding_norm"];

/// Leading words that some checkpoints of a family have and others leave out.
const WRAPPERS: [&str; 5] = ["model", "transformer", "gpt_neox", "bert", "roberta"];

/// What mergekit calls a module, and what it is called by where checkpoints keep it.
const OTHER_NAMES: [(&str, &[&str]); 4] = [
    ("text_decoder", &["language_model", "text_model", "model"]),
    ("multi_modal_projector", &["merger", "deepstack_merger_list", "connector", "mm_projector", "projector"]),
    ("vision_tower", VISION),
    ("vision_model", VISION),
];

const VISION: &[&str] = &["visual", "vision_tower", "vision_model", "vision_encoder", "vit"];

/// What lies between a vision tower and the text model, kept among the tensors of the tower.
const MERGERS: [&str; 2] = ["merger", "deepstack_merger_list"];

/// What holds layers that only guess further tokens, behind or beside the model's own.
const GUESSING: &str = "mtp";

/// Keys that count such layers where they are numbered behind the others.
const GUESSING_KEYS: [&str; 3] = ["num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers"];

/// Endings of tensors that hold no learned weights.
const BUFFERS: [&str; 4] =
    ["rotary_emb.inv_freq", "attn.masked_bias", "attention.masked_bias", "position_ids"];

/// Where a tensor stands in its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Ahead of all layers: embeddings and what belongs to them.
    Before,
    Layer(usize),
    /// Behind all layers: final norm, head.
    After,
}

/// A stack of layers and the tensors around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// `default` if the model has one module.
    pub name: String,
    /// The text before the layer number, such as `model.layers`.
    pub prefix: String,
    pub layers: usize,
    /// How many digits layers' numbers are filled up to with zeros: 2 for `layers.07`, else 1.
    pub digits: usize,
}

/// The modules of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Never empty; a model without layers has one module with none.
    pub modules: Vec<Module>,
}

impl Layout {
    /// Infers the layout of a model from its tensor names and its config.json.
    pub fn infer<'a>(names: impl Iterator<Item = &'a str> + Clone, config: &Value) -> Self {
        let counts = layer_counts(config);
        let mut stacks: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for (name, (prefix, index, rest)) in
            names.clone().filter_map(|name| Some((name, split_number(name)?)))
        {
            let number = &name[prefix.len() + 1..name.len() - rest.len() - 1];
            let (layers, digits) = stacks.entry(prefix).or_insert((0, 1));
            *layers = (*layers).max(index + 1);
            if number.starts_with('0') {
                *digits = (*digits).max(number.len());
            }
        }
        stacks.retain(|prefix, _| !prefix.split('.').any(|word| word == GUESSING));
        let is_named = |prefix: &str| STACK_WORDS.contains(&last_word(prefix));
        // A count alone is weak evidence (`classifier.0` in a model of one layer), so words go first.
        let any_named = stacks.keys().any(|prefix| is_named(prefix));
        stacks
            .retain(|prefix, (layers, _)| if any_named { is_named(prefix) } else { counts.contains(layers) });
        let guessing = guessing_layers(config);
        let mut modules: Vec<Module> = stacks
            .into_iter()
            .map(|(prefix, (layers, digits))| {
                let own = layers.saturating_sub(guessing);
                let layers = if counts.contains(&own) && own > 0 { own } else { layers };
                let (name, prefix) = (String::new(), prefix.to_owned());
                Module { name, prefix, layers, digits }
            })
            .collect();
        match modules.as_mut_slice() {
            [] => return Self::bare(),
            [only] => only.name = "default".to_owned(),
            several => {
                name_modules(several);
                let mergers = mergers(names.clone(), &modules);
                let beside = without_layers(names, &modules);
                modules.extend(mergers);
                modules.extend(beside);
            }
        }
        Self { modules }
    }

    /// A layout of tensors of which nothing is known: one module without layers.
    pub fn bare() -> Self {
        let (name, prefix) = ("default".to_owned(), String::new());
        Self { modules: vec![Module { name, prefix, layers: 0, digits: 1 }] }
    }

    /// The numbers of the modules that a recipe names, which are several where mergekit has one name for them.
    pub fn named(&self, name: &str) -> Vec<usize> {
        let called = |name: &str| self.modules.iter().position(|module| module.name == name);
        if let Some(own) = called(name) {
            return vec![own];
        }
        let others = OTHER_NAMES.iter().find(|(other, _)| *other == name).map(|(_, names)| *names);
        let found = others.unwrap_or_default().iter().filter_map(|name| called(name));
        if name == OTHER_NAMES[1].0 { found.collect() } else { found.take(1).collect() }
    }

    /// The module whose tensors a module's stand among.
    pub fn outer(&self, module: usize) -> Option<usize> {
        let Module { name, prefix, layers, .. } = &self.modules[module];
        let outer = prefix.strip_suffix(name.as_str())?.strip_suffix('.')?;
        let is_outer = |stack: &Module| stack.layers > 0 && root(&stack.prefix) == outer;
        (*layers == 0).then(|| self.modules.iter().position(is_outer)).flatten()
    }

    /// Of a tensor in a layer behind a module's own: the module, how many layers are between, and the rest of the name.
    pub fn behind<'n>(&self, name: &'n str) -> Option<(usize, usize, &'n str)> {
        let (prefix, index, rest) = split_number(name)?;
        let number = self.modules.iter().position(|module| module.prefix == prefix && module.layers > 0)?;
        Some((number, index.checked_sub(self.modules[number].layers)?, rest))
    }

    /// The module a tensor belongs to and its position there.
    ///
    /// A tensor outside every stack belongs to the module whose prefix it shares the most leading
    /// words with; then the one whose folder it stands in; then the first.
    pub fn place(&self, name: &str) -> (usize, Position) {
        if let Some((prefix, index, _)) = split_number(name)
            && let Some(number) = self.modules.iter().position(|module| module.prefix == prefix)
        {
            let is_own = index < self.modules[number].layers;
            return (number, if is_own { Position::Layer(index) } else { Position::After });
        }
        // Of two that share as many words, one whose folder it is comes first.
        let shared = |module: &Module| {
            let words = module.prefix.split('.').zip(name.split('.')).take_while(|(a, b)| a == b).count();
            (words, words > 0 && words >= root(&module.prefix).split('.').count())
        };
        let best = self.modules.iter().map(shared).max().unwrap_or_default();
        let number = self.modules.iter().position(|module| shared(module) == best).unwrap_or(0);
        let position = if is_before(name) { Position::Before } else { Position::After };
        (number, position)
    }
}

/// Whether a tensor is the token embedding.
pub fn is_token_embedding(name: &str) -> bool {
    stem(name).is_some_and(|stem| TOKEN_EMBEDDINGS.contains(&last_word(stem))) && split_number(name).is_none()
}

/// Whether a tensor is a head that may be tied to the token embedding.
pub fn is_head(name: &str) -> bool {
    stem(name).is_some_and(names_head) && split_number(name).is_none()
}

/// Whether the last words of a name, without its `.weight`, are a head's.
fn names_head(stem: &str) -> bool {
    match last_word(stem) {
        "output" | "proj_out" => !stem.contains('.'),
        "decoder" => stem.ends_with("predictions.decoder"),
        word => HEADS.contains(&word),
    }
}

/// Whether a tensor has a row, or an element, for each token: the embedding, a head, or a head's bias.
pub fn is_vocabulary(name: &str) -> bool {
    let is_named_head = |stem: &str| {
        // Few names get as far as to be put together.
        (names_head(stem) && is_head(&format!("{stem}.weight"))) || stem.ends_with("lm_head.decoder")
    };
    is_token_embedding(name)
        || stem(name).is_some_and(is_named_head)
        || name
            .strip_suffix(".bias")
            .is_some_and(|stem| is_named_head(stem) || stem.ends_with("cls.predictions"))
}

/// Whether an input may lack the tensor: heads (which may be tied) and buffers.
pub fn is_optional(name: &str) -> bool {
    is_head(name) || BUFFERS.iter().any(|ending| name.ends_with(ending))
}

/// The name without a leading word that checkpoints of one family have or leave out.
pub fn unwrapped(name: &str) -> &str {
    match name.split_once('.') {
        Some((first, rest)) if WRAPPERS.contains(&first) => rest,
        _ => name,
    }
}

/// The name without any of those words, wherever they stand: `language_model.model.layers.0.x` and
/// `model.language_model.layers.0.x` are one.
pub fn bare(name: &str) -> String {
    name.split('.').filter(|word| !WRAPPERS.contains(word)).collect::<Vec<_>>().join(".")
}

/// What a config says of how many layers there are.
fn layer_counts(config: &Value) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    walk(config, &mut |key, value| {
        let counts = key == "n_layer" || (key.starts_with('n') && key.ends_with("layers"));
        if let (true, Some(count)) = (counts, value.as_u64()) {
            found.insert(count as usize);
        }
    });
    found
}

/// How many layers of a stack are not counted among the model's, by its config.
fn guessing_layers(config: &Value) -> usize {
    let mut found = 0;
    walk(config, &mut |key, value| {
        if GUESSING_KEYS.contains(&key) {
            found = value.as_u64().map_or(found, |count| count as usize);
        }
    });
    found
}

fn walk(config: &Value, visit: &mut impl FnMut(&str, &Value)) {
    for (key, value) in config.as_object().into_iter().flatten() {
        visit(key, value);
        walk(value, visit);
    }
}

/// Splits `a.b.7.c` into `a.b`, 7 and `c` at the first number that has a word before it.
fn split_number(name: &str) -> Option<(&str, usize, &str)> {
    let mut start = 0;
    for part in name.as_bytes().split(|byte| *byte == b'.') {
        let end = start + part.len();
        let is_number = !part.is_empty() && part.iter().all(u8::is_ascii_digit);
        if is_number && start > 0 {
            return Some((&name[..start - 1], name[start..end].parse().ok()?, name.get(end + 1..)?));
        }
        start = end + 1;
    }
    None
}

fn stem(name: &str) -> Option<&str> {
    name.strip_suffix(".weight")
}

fn last_word(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn is_before(name: &str) -> bool {
    !is_head(name)
        && name
            .split('.')
            .any(|word| matches!(word, "wte" | "wpe") || (word.contains("embed") && !BEHIND.contains(&word)))
}

/// A stack's folder.
fn root(prefix: &str) -> &str {
    prefix.rsplit_once('.').map_or("", |(root, _)| root)
}

/// Modules that stand in the folder of a stack.
fn mergers<'a>(names: impl Iterator<Item = &'a str>, stacks: &[Module]) -> Vec<Module> {
    let mut found: BTreeMap<String, Module> = BTreeMap::new();
    for name in names {
        for root in stacks.iter().map(|stack| root(&stack.prefix)).filter(|root| !root.is_empty()) {
            let word = name.strip_prefix(root).and_then(|rest| rest.strip_prefix('.')?.split('.').next());
            if let Some(word) = word.filter(|word| MERGERS.contains(word)) {
                let (name, prefix) = (word.to_owned(), format!("{root}.{word}"));
                found.entry(prefix.clone()).or_insert(Module { name, prefix, layers: 0, digits: 1 });
            }
        }
    }
    found.into_values().collect()
}

/// The modules that have no layers, such as a projector between two that have: whatever stands beside all stacks,
/// but for heads, by its first word.
fn without_layers<'a>(names: impl Iterator<Item = &'a str>, stacks: &[Module]) -> Vec<Module> {
    let is_of = |name: &str, stack: &Module| {
        let inner: Vec<&str> = stack.prefix.split('.').collect();
        let (_, inner) = inner.split_last().expect("a prefix has a word");
        let shared = inner.iter().zip(name.split('.')).take_while(|(a, b)| **a == *b).count();
        let wrappers = inner.iter().take_while(|word| WRAPPERS.contains(word)).count();
        shared == inner.len() || shared > wrappers
    };
    let mut found: BTreeMap<String, Module> = BTreeMap::new();
    for name in names.filter(|name| !is_head(name) && stacks.iter().all(|stack| !is_of(name, stack))) {
        let words: Vec<&str> = name.split('.').collect();
        let Some(at) = words.iter().position(|word| !WRAPPERS.contains(word)) else { continue };
        let (name, prefix) = (words[at].to_owned(), words[..=at].join("."));
        found.entry(prefix.clone()).or_insert(Module { name, prefix, layers: 0, digits: 1 });
    }
    found.into_values().collect()
}

/// Names modules after their prefixes without wrappers and the stack word: `vision_tower`, `text_model`. Those that
/// would have one name are named after the first word in which they differ.
fn name_modules(modules: &mut [Module]) {
    let names: Vec<String> = modules.iter().map(|module| module_name(&module.prefix)).collect();
    for (number, name) in names.iter().enumerate() {
        let words = |module: &Module| module.prefix.split('.').map(str::to_owned).collect::<Vec<_>>();
        let own = words(&modules[number]);
        let others = names.iter().enumerate().filter(|(other, known)| *other != number && *known == name);
        let alike = |(other, _): (usize, &String)| {
            own.iter().zip(words(&modules[other])).take_while(|(a, b)| *a == b).count()
        };
        modules[number].name = match others.map(alike).max() {
            Some(alike) => own.get(alike).unwrap_or(name).clone(),
            None => name.clone(),
        };
    }
}

/// The first word of a prefix that is no wrapper.
fn module_name(prefix: &str) -> String {
    let words: Vec<&str> = prefix.split('.').collect();
    let inner = &words[..words.len() - 1];
    let first = inner.iter().find(|word| !WRAPPERS.contains(word)).or(inner.first());
    first.map_or_else(|| prefix.to_owned(), |word| (*word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(names: &[&str], config: Value, prefix: &str, layers: usize, places: &[(&str, Position)]) {
        let layout = Layout::infer(names.iter().copied(), &config);
        assert_eq!(layout.modules.len(), 1, "{layout:?}");
        assert_eq!((layout.modules[0].prefix.as_str(), layout.modules[0].layers), (prefix, layers));
        for (name, position) in places {
            assert_eq!(layout.place(name), (0, *position), "{name}");
        }
    }

    #[test]
    fn common_families_are_inferred() {
        use Position::*;
        check(
            &[
                "model.embed_tokens.weight",
                "model.layers.0.mlp.experts.7.w1.weight",
                "model.layers.1.input_layernorm.weight",
                "model.norm.weight",
                "lm_head.weight",
            ],
            json!({"num_hidden_layers": 2}),
            "model.layers",
            2,
            &[
                ("model.embed_tokens.weight", Before),
                ("model.layers.1.x", Layer(1)),
                ("model.norm.weight", After),
                ("lm_head.weight", After),
            ],
        );
        check(
            &["wte.weight", "wpe.weight", "h.0.attn.c_attn.weight", "h.1.attn.c_attn.weight", "ln_f.bias"],
            json!({"n_layer": 2}),
            "h",
            2,
            &[
                ("wte.weight", Before),
                ("wpe.weight", Before),
                ("ln_f.bias", After),
                ("embedding_norm.weight", After),
            ],
        );
        check(
            &["gpt_neox.embed_in.weight", "gpt_neox.layers.0.attention.dense.bias", "embed_out.weight"],
            json!({"num_hidden_layers": 1}),
            "gpt_neox.layers",
            1,
            &[("gpt_neox.embed_in.weight", Before), ("embed_out.weight", After)],
        );
        check(
            &[
                "bert.embeddings.LayerNorm.weight",
                "bert.encoder.layer.0.output.dense.weight",
                "bert.pooler.dense.weight",
                "classifier.0.weight",
            ],
            json!({"num_hidden_layers": 1, "classifier_layers": 9}),
            "bert.encoder.layer",
            1,
            &[("bert.embeddings.LayerNorm.weight", Before), ("bert.pooler.dense.weight", After)],
        );
    }

    #[test]
    fn an_unknown_stack_is_known_by_its_count() {
        let names = ["body.cells.0.w", "body.cells.1.w", "tail.0.w"];
        check(&names, json!({"num_layers": 2}), "body.cells", 2, &[("tail.0.w", Position::After)]);
    }

    #[test]
    fn a_model_with_two_stacks_has_two_modules() {
        let names = [
            "vision_tower.encoder.layers.0.w",
            "language_model.model.layers.0.w",
            "vision_tower.patch_embed.weight",
        ];
        let layout = Layout::infer(names.into_iter(), &json!({}));
        let named: Vec<_> = layout.modules.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(named, ["language_model", "vision_tower"]);
        assert_eq!(layout.place("vision_tower.patch_embed.weight"), (1, Position::Before));
        assert_eq!(layout.named("text_decoder"), [0]);
    }

    #[test]
    fn what_stands_in_a_folder_is_of_its_stack() {
        let names = ["model.embed_tokens_extend.image.layers.0.w", "model.layers.0.w"];
        let layout = Layout::infer(names.into_iter(), &json!({}));
        assert_eq!(layout.place("model.norm.weight").0, 1);
        assert_eq!(layout.place("model.embed_tokens_extend.image.norm.weight").0, 0);
        // A number in a module without layers is no layer's.
        let names = ["language_model.layers.0.w", "vision_model.layers.0.w", "mlp1.0.weight"];
        let layout = Layout::infer(names.into_iter(), &json!({}));
        assert_eq!(layout.place("mlp1.0.weight"), (2, Position::After));
        assert_eq!(layout.behind("mlp1.0.weight"), None);
    }

    #[test]
    fn modules_of_one_folder_are_told_apart() {
        let names = |names: &[&str]| -> Vec<String> {
            let layout = Layout::infer(names.iter().copied(), &json!({}));
            layout.modules.into_iter().map(|module| module.name).collect()
        };
        assert_eq!(names(&["led.decoder.layers.0.w", "led.encoder.layers.0.w"]), ["decoder", "encoder"]);
        let both = ["x.encoder.text.layers.0.w", "x.encoder.vision_tower.encoder.layers.0.w"];
        assert_eq!(names(&both), ["text", "vision_tower"]);
        let three = ["x.a.b.layers.0.w", "x.a.c.layers.0.w", "y.layers.0.w"];
        assert_eq!(names(&three), ["b", "c", "y"]);
    }

    #[test]
    fn what_stands_beside_all_stacks_is_a_module_without_layers() {
        let modules = |names: &[&str]| -> Vec<(String, usize)> {
            let layout = Layout::infer(names.iter().copied(), &json!({}));
            layout.modules.into_iter().map(|module| (module.name, module.layers)).collect()
        };
        let named = |name: &str, layers| (name.to_owned(), layers);
        let names = [
            "model.language_model.layers.0.w",
            "model.language_model.norm.weight",
            "model.vision_tower.layers.1.w",
            "model.multi_modal_projector.linear.weight",
            "lm_head.weight",
        ];
        let expected =
            [named("language_model", 1), named("vision_tower", 2), named("multi_modal_projector", 0)];
        assert_eq!(modules(&names), expected);
        let names =
            ["model.layers.0.w", "model.norm.weight", "model.embed_tokens.weight", "visual.blocks.0.w"];
        assert_eq!(modules(&names), [named("model", 1), named("visual", 1)]);
        let names =
            ["model.layers.0.w", "visual.merger.mlp.0.weight", "visual.blocks.0.w", "visual.x.weight"];
        assert_eq!(modules(&names), [named("model", 1), named("visual", 1), named("merger", 0)]);
        let layout = Layout::infer(names.into_iter(), &json!({}));
        assert_eq!(layout.place("visual.merger.mlp.0.weight").0, 2);
        assert_eq!((0..3).map(|module| layout.outer(module)).collect::<Vec<_>>(), [None, None, Some(1)]);
        let numbers =
            ["text_decoder", "vision_tower", "multi_modal_projector", "x"].map(|name| layout.named(name));
        assert_eq!(numbers, [vec![0], vec![1], vec![2], vec![]]);
        let names =
            ["decoder.block.0.w", "encoder.block.0.w", "encoder.final_layer_norm.weight", "shared.weight"];
        assert_eq!(modules(&names), [named("decoder", 1), named("encoder", 1), named("shared", 0)]);
    }

    #[test]
    fn layers_that_guess_further_tokens_are_behind_the_others() {
        let names = ["model.layers.2.w", "model.layers.3.w", "model.norm.weight", "mtp.layers.0.w"];
        let config = json!({"num_hidden_layers": 3, "num_nextn_predict_layers": 1});
        check(
            &names,
            config.clone(),
            "model.layers",
            3,
            &[
                ("model.layers.2.w", Position::Layer(2)),
                ("model.layers.3.w", Position::After),
                ("mtp.layers.0.w", Position::After),
            ],
        );
        let layout = Layout::infer(names.into_iter(), &config);
        assert_eq!(layout.behind("model.layers.4.a.b"), Some((0, 1, "a.b")));
        assert_eq!((layout.behind("model.layers.2.w"), layout.behind("x.4.w")), (None, None));
        // A count that does not fit says nothing.
        check(&names, json!({"num_hidden_layers": 4, "num_nextn_predict_layers": 1}), "model.layers", 4, &[]);
    }

    #[test]
    fn zeros_before_layer_numbers_are_counted() {
        let digits = |names: &[&str]| Layout::infer(names.iter().copied(), &json!({})).modules[0].digits;
        assert_eq!(digits(&["layers.0.w", "layers.10.w"]), 1);
        assert_eq!(digits(&["layers.00.w", "layers.10.w", "layers.100.w"]), 2);
        assert_eq!(digits(&["layers.10.w", "layers.11.w"]), 1);
    }

    #[test]
    fn heads_and_embeddings_are_told_apart() {
        assert!(is_head("lm_head.weight") && is_head("embed_out.weight") && is_head("output.weight"));
        assert!(is_head("cls.predictions.decoder.weight"));
        assert!(!is_head("bert.encoder.layer.0.output.weight") && !is_head("attn.output.weight"));
        assert!(
            is_token_embedding("transformer.wte.weight") && is_token_embedding("model.embed_tokens.weight")
        );
        assert!(!is_token_embedding("wpe.weight") && !is_token_embedding("embed_out.weight"));
        for name in
            ["wte.weight", "lm_head.weight", "lm_head.bias", "cls.predictions.bias", "lm_head.decoder.weight"]
        {
            assert!(is_vocabulary(name), "{name}");
        }
        for name in [
            "model.layers.0.mlp.shared.weight",
            "wpe.weight",
            "lm_head.dense.bias",
            "lm_head.layer_norm.weight",
            "cls.predictions.transform.dense.bias",
        ] {
            assert!(!is_vocabulary(name), "{name}");
        }
    }
}
