//! Models with different tokenizers: which rows come from where, and what is written beside them.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::checkpoints::{Checkpoint, read};
use crate::harness::{Space, settle};

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// A tokenizer of whole words, numbered from 0, and of added tokens behind them.
fn words(own: &[&str], added: &[&str]) -> Value {
    let vocab: serde_json::Map<String, Value> =
        own.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
    let entry = |(i, token): (usize, &&str)| {
        json!({
            "id": own.len() + i, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": token.starts_with("<|"),
        })
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "decoder": null, "pre_tokenizer": {"type": "Whitespace"},
        "added_tokens": added.iter().enumerate().map(entry).collect::<Value>(),
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": own[0]},
    })
}

/// A byte-level BPE tokenizer of some letters and merges, and of added tokens behind them.
fn pieces(letters: &str, merges: &[(&str, &str)], added: &[&str]) -> Value {
    let own: Vec<String> = letters
        .chars()
        .map(String::from)
        .chain(merges.iter().map(|(left, right)| format!("{left}{right}")))
        .collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let mut json = words(&own, added);
    json["pre_tokenizer"] =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let vocab = json["model"]["vocab"].take();
    let merges: Vec<[&str; 2]> = merges.iter().map(|(left, right)| [*left, *right]).collect();
    json["model"] = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
        "vocab": vocab, "merges": merges,
    });
    json
}

/// A model with such a tokenizer and one row a token, unless it has padding.
fn model(space: &Space, name: &str, tokenizer: &Value, padding: usize, seed: u64) {
    let rows = ids(tokenizer).len() + padding;
    let mut checkpoint = Checkpoint::decoder(1, seed);
    checkpoint.config["vocab_size"] = rows.into();
    checkpoint.config["eos_token_id"] = 0.into();
    checkpoint.random(EMBEDDING, &[rows, 4], seed);
    checkpoint.random(HEAD, &[rows, 4], seed);
    checkpoint.write(&space.path(name));
    space.write(&format!("{name}/tokenizer.json"), tokenizer.to_string());
}

/// Every token's id, as tokenizer.json states it.
fn ids(tokenizer: &Value) -> BTreeMap<String, usize> {
    let id = |id: &Value| usize::try_from(id.as_u64().unwrap()).unwrap();
    let own = tokenizer["model"]["vocab"].as_object().unwrap();
    let own = own.iter().map(|(token, value)| (token.clone(), id(value)));
    let added = tokenizer["added_tokens"].as_array().unwrap().iter();
    own.chain(added.map(|entry| (entry["content"].as_str().unwrap().to_owned(), id(&entry["id"])))).collect()
}

fn added(tokenizer: &Value) -> Vec<&str> {
    tokenizer["added_tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["content"].as_str().unwrap())
        .collect()
}

/// The rows of a tensor of a model, by token; those of no token by number.
fn rows(space: &Space, folder: &str, tensor: &str) -> BTreeMap<String, Vec<f64>> {
    let tensor = read(&space.path(folder)).remove(tensor).expect("the tensor is there");
    let ids = ids(&space.json(&format!("{folder}/tokenizer.json")));
    let token = |row: usize| {
        ids.iter().find(|(_, id)| **id == row).map_or(format!("#{row}"), |(token, _)| token.clone())
    };
    tensor
        .values
        .chunks(tensor.shape[1])
        .enumerate()
        .map(|(row, values)| (token(row), values.to_vec()))
        .collect()
}

fn mean(rows: &[&Vec<f64>]) -> Vec<f64> {
    (0..rows[0].len()).map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / rows.len() as f64).collect()
}

#[track_caller]
fn near(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let is_near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(is_near, "{what}: {found:?} {expected:?}");
}

/// Three models: `a` and `b` share most words, `c` has an added token and another word of its own.
fn three(space: &Space) {
    model(space, "a", &words(&["<unk>", "one", "two", "three"], &["<|end|>"]), 0, 1);
    model(space, "b", &words(&["<unk>", "two", "one", "four", "five"], &["<|end|>", "<b>"]), 0, 2);
    model(space, "c", &words(&["<unk>", "five", "one"], &["<|c|>"]), 0, 3);
}

const UNION: &str = "name: u\nmerge_method: linear\nmodels:\n- {model: ./a, parameters: {weight: 0.5}}\n\
    - {model: ./b, parameters: {weight: 0.3}}\n- {model: ./c, parameters: {weight: 0.2}}\ndtype: float32\n";

#[test]
fn a_union_has_every_token_in_a_fixed_order_and_every_row_from_where_it_should_be() {
    let space = Space::new();
    three(&space);
    space.write("r.yaml", format!("{UNION}tokenizer_source: union\n"));
    space.ok(&["build", "-q", "r.yaml"]);
    let tokenizer = space.json("merges/u/tokenizer.json");
    let order = ["<unk>", "one", "two", "three", "<|end|>", "four", "five", "<b>", "<|c|>"];
    let ids = ids(&tokenizer);
    assert!(
        order.iter().enumerate().all(|(id, token)| ids[*token] == id) && ids.len() == order.len(),
        "{ids:?}"
    );
    assert_eq!(added(&tokenizer), ["<|end|>", "<b>", "<|c|>"], "words are not added tokens");
    let flags = |entry: &Value| entry["special"].as_bool().unwrap();
    assert_eq!(
        tokenizer["added_tokens"].as_array().unwrap().iter().map(flags).collect::<Vec<_>>(),
        [true, false, true]
    );
    assert_eq!(space.json("merges/u/config.json")["vocab_size"], 9);
    for tensor in [EMBEDDING, HEAD] {
        let [a, b, c] = ["a", "b", "c"].map(|model| rows(&space, model, tensor));
        let found = rows(&space, "merges/u", tensor);
        let merged = |[of_a, of_b, of_c]: [&Vec<f64>; 3]| -> Vec<f64> {
            (0..4).map(|i| 0.5 * of_a[i] + 0.3 * of_b[i] + 0.2 * of_c[i]).collect()
        };
        let both = |token: &str, x: &BTreeMap<String, Vec<f64>>, y: &BTreeMap<String, Vec<f64>>| {
            mean(&[&x[token], &y[token]])
        };
        let expected = [
            ("one", merged([&a["one"], &b["one"], &c["one"]])),
            ("two", merged([&a["two"], &b["two"], &both("two", &a, &b)])),
            ("three", a["three"].clone()),
            ("<|end|>", merged([&a["<|end|>"], &b["<|end|>"], &both("<|end|>", &a, &b)])),
            ("four", b["four"].clone()),
            ("five", merged([&both("five", &b, &c), &b["five"], &c["five"]])),
            ("<b>", b["<b>"].clone()),
            ("<|c|>", c["<|c|>"].clone()),
        ];
        for (token, row) in expected {
            near(&found[token], &row, &format!("{tensor} {token}"));
        }
    }
}

#[test]
fn the_base_has_the_last_word_on_rows_that_are_missing() {
    let space = Space::new();
    three(&space);
    let recipe = "name: u\nmerge_method: task_arithmetic\nbase_model: ./b\nmodels:\n- {model: ./a, parameters: {weight: 0.5}}\n\
        - {model: ./c, parameters: {weight: 0.25}}\ntokenizer_source: union\ndtype: float32\n";
    space.write("r.yaml", recipe);
    space.ok(&["build", "-q", "r.yaml"]);
    let [a, b, c, found] = ["a", "b", "c", "merges/u"].map(|model| rows(&space, model, EMBEDDING));
    // `five` is missing in a, which gets the base's row, and so no difference.
    let five: Vec<f64> = (0..4).map(|i| b["five"][i] + 0.25 * (c["five"][i] - b["five"][i])).collect();
    near(&found["five"], &five, "five");
    let two: Vec<f64> = (0..4).map(|i| b["two"][i] + 0.5 * (a["two"][i] - b["two"][i])).collect();
    near(&found["two"], &two, "two");
    near(&found["three"], &a["three"], "three, which is only a's");
}

#[test]
fn tokens_say_where_rows_come_from() {
    let space = Space::new();
    three(&space);
    let tokenizer = "tokenizer:\n  source: base\n  pad_to_multiple_of: 8\n  tokens:\n    <|c|>: {source: ./c}\n    \
        one: {source: {kind: model_token, model: ./b, token: four}, force: true}\n    \
        <id>: {source: {kind: model_token, model: ./c, token_id: 1}}\n    <nil>: {source: {kind: zero}}\n    two:\n";
    space.write("r.yaml", format!("{UNION}{tokenizer}"));
    space.ok(&["build", "-q", "r.yaml"]);
    let written = space.json("merges/u/tokenizer.json");
    assert_eq!(added(&written), ["<|end|>", "<|c|>", "<id>", "<nil>"]);
    assert_eq!(space.json("merges/u/config.json")["vocab_size"], 8);
    let [a, b, c, found] = ["a", "b", "c", "merges/u"].map(|model| rows(&space, model, HEAD));
    near(&found["<|c|>"], &c["<|c|>"], "<|c|>");
    near(&found["one"], &b["four"], "one");
    near(&found["<id>"], &c["five"], "<id>");
    near(&found["<nil>"], &[0.0; 4], "<nil>");
    let both = mean(&[&a["two"], &b["two"]]);
    let two: Vec<f64> = (0..4).map(|i| 0.5 * a["two"][i] + 0.3 * b["two"][i] + 0.2 * both[i]).collect();
    near(&found["two"], &two, "two");
    assert_eq!(found.len(), 8, "{:?}", found.keys());
    // Eight tokens need no padding; with 16 the mean of the eight rows of each model fills the rest.
    space.replace("r.yaml", "pad_to_multiple_of: 8", "pad_to_multiple_of: 16");
    space.ok(&["build", "-q", "r.yaml"]);
    let padded = rows(&space, "merges/u", HEAD);
    let real: Vec<&Vec<f64>> = found.values().collect();
    assert_eq!(padded.len(), 16);
    for row in 8..16 {
        near(&padded[&format!("#{row}")], &mean(&real), "padding");
    }
}

#[test]
fn equal_vocabularies_keep_their_padding_unless_it_is_to_go() {
    let space = Space::new();
    for (name, seed) in [("a", 1), ("b", 2)] {
        model(&space, name, &words(&["<unk>", "x", "y"], &["<|end|>"]), 3, seed);
    }
    let recipe = |tokenizer: &str| {
        format!(
            "name: u\nmerge_method: linear\nmodels: [{{model: ./a}}, {{model: ./b}}]\nparameters: {{weight: 1}}\n{tokenizer}\n"
        )
    };
    space.write("r.yaml", recipe("tokenizer_source: union"));
    let said = space.ok(&["check", "r.yaml"]).stderr;
    assert!(said.contains("3 padding rows of the embeddings are kept"), "{said}");
    space.ok(&["build", "-q", "r.yaml"]);
    assert_eq!(rows(&space, "merges/u", HEAD).len(), 7);
    assert_eq!(space.json("merges/u/config.json")["vocab_size"], 7);
    assert_eq!(space.read("merges/u/tokenizer.json"), space.read("a/tokenizer.json"), "the file is copied");
    let kept = rows(&space, "merges/u", HEAD);
    space.write("r.yaml", recipe("tokenizer: {source: union, trim_vocab: true}"));
    space.ok(&["build", "-q", "r.yaml"]);
    let trimmed = rows(&space, "merges/u", HEAD);
    assert_eq!((trimmed.len(), space.json("merges/u/config.json")["vocab_size"].as_u64()), (4, Some(4)));
    assert!(trimmed.iter().all(|(token, row)| kept[token] == *row));
    // Where vocabularies differ there is a row a token.
    model(&space, "b", &words(&["<unk>", "x", "y", "z"], &["<|end|>"]), 3, 2);
    space.write("r.yaml", recipe("tokenizer_source: union"));
    space.ok(&["build", "-q", "r.yaml"]);
    assert_eq!(rows(&space, "merges/u", HEAD).len(), 5);
}

#[test]
fn texts_are_encoded_as_before_and_added_tokens_are_found() {
    let space = Space::new();
    let base = pieces("abcdefgh", &[("a", "b"), ("ab", "c"), ("d", "e")], &["<|end|>"]);
    let other = pieces("abcdefgh", &[("b", "c"), ("e", "f"), ("g", "h"), ("a", "bc")], &["<|new|>", "<t>"]);
    model(&space, "a", &base, 0, 1);
    model(&space, "b", &other, 0, 2);
    space.write(
        "r.yaml",
        "name: u\nmerge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {weight: 1}\ntokenizer_source: union\n",
    );
    space.ok(&["build", "-q", "r.yaml"]);
    let load = |folder: &str| Tokenizer::from_file(space.path(folder).join("tokenizer.json")).unwrap();
    let (before, after) = (load("a"), load("merges/u"));
    let encoded =
        |tokenizer: &Tokenizer, text: &str| tokenizer.encode(text, false).unwrap().get_tokens().to_vec();
    for text in ["abcdef", "bcbcgh", "efefabc", "hgfedcba", "abc<|end|>gh"] {
        assert_eq!(encoded(&before, text), encoded(&after, text), "{text}");
    }
    assert_eq!(encoded(&after, "abc<|new|>de<t>f"), ["abc", "<|new|>", "de", "<t>", "f"]);
    assert_eq!(after.token_to_id("ef"), Some(ids(&space.json("merges/u/tokenizer.json"))["ef"] as u32));
}

#[test]
fn unigram_pieces_of_others_are_never_chosen() {
    let space = Space::new();
    let unigram = |pieces: &[(&str, f64)], added: &[&str]| {
        let mut json = words(&["<unk>"], added);
        for entry in json["added_tokens"].as_array_mut().unwrap() {
            entry["id"] = (entry["id"].as_u64().unwrap() - 1 + pieces.len() as u64).into();
        }
        json["pre_tokenizer"] = Value::Null;
        json["model"] = json!({"type": "Unigram", "unk_id": 0, "byte_fallback": false, "vocab": pieces});
        json
    };
    let write = |name: &str, json: &Value, rows: usize, seed| {
        let mut checkpoint = Checkpoint::decoder(1, seed);
        checkpoint.random(EMBEDDING, &[rows, 4], seed);
        checkpoint.random(HEAD, &[rows, 4], seed);
        checkpoint.write(&space.path(name));
        space.write(&format!("{name}/tokenizer.json"), json.to_string());
    };
    let base = unigram(&[("<unk>", 0.0), ("a", -3.0), ("b", -4.0), ("ab", -2.0), ("c", -9.0)], &["<s>"]);
    write("a", &base, 6, 1);
    write(
        "b",
        &unigram(&[("<unk>", 0.0), ("a", -1.0), ("abc", -0.5), ("bc", -0.1), ("cc", -0.1)], &["<t>"]),
        6,
        2,
    );
    space.write(
        "r.yaml",
        "name: u\nmerge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {weight: 1}\ntokenizer_source: union\n",
    );
    space.ok(&["build", "-q", "r.yaml"]);
    let load = |folder: &str| Tokenizer::from_file(space.path(folder).join("tokenizer.json")).unwrap();
    let (before, after) = (load("a"), load("merges/u"));
    for text in ["abc", "bcbccc", "aabbcc", "cccccccc", "abxbc"] {
        let encoded = |tokenizer: &Tokenizer| tokenizer.encode(text, false).unwrap().get_tokens().to_vec();
        assert_eq!(encoded(&before), encoded(&after), "{text}");
    }
    for (id, token) in ["<unk>", "a", "b", "ab", "c", "<s>", "abc", "bc", "cc", "<t>"].iter().enumerate() {
        assert_eq!(after.token_to_id(token), Some(id as u32), "{token}");
    }
}

#[test]
fn a_new_added_token_rebuilds_two_tensors() {
    let space = Space::new();
    three(&space);
    space.write(
        "r.yaml",
        format!("{UNION}tokenizer:\n  source: union\n  tokens:\n    <x>: {{source: {{kind: zero}}}}\n"),
    );
    settle();
    let first = space.build(&["r.yaml"]);
    assert!(first.finished[0]["rebuilt"].as_u64() > Some(2));
    let again = space.build(&["r.yaml"]);
    assert!(again.ran.is_empty() && again.finished[0]["rebuilt"] == 0);
    space.replace(
        "r.yaml",
        "<x>: {source: {kind: zero}}",
        "<x>: {source: {kind: model_token, model: ./a, token: two}}",
    );
    let plan = space.ok(&["plan", "r.yaml"]).stdout;
    assert!(plan.contains("token \"<x>\" zeros -> row of \"two\" of ./a"), "{plan}");
    let edited = space.build(&["r.yaml"]);
    assert_eq!(edited.finished[0]["rebuilt"], 2, "{:?}", edited.ran);
    let is_vocabulary =
        |(_, tensor): &(String, String)| tensor.starts_with(EMBEDDING) || tensor.starts_with(HEAD);
    assert!(edited.ran.iter().all(is_vocabulary), "{:?}", edited.ran);
    let [a, found] = ["a", "merges/u"].map(|model| rows(&space, model, EMBEDDING));
    near(&found["<x>"], &a["two"], "<x>");
    space.ok(&["verify", "merges/u"]);
    space.ok(&["cache", "gc", "--max-size", "1KB"]);
    space.replace("r.yaml", "weight: 0.5", "weight: 0.4");
    space.ok(&["build", "-q", "r.yaml"]);
    space.ok(&["verify", "merges/u", "--rebuild"]);
}

#[test]
fn the_plan_counts_rows_before_anything_is_read() {
    let space = Space::new();
    three(&space);
    space.write("r.yaml", format!("{UNION}tokenizer:\n  source: base\n  pad_to_multiple_of: 4\n"));
    let text = space.ok(&["plan", "r.yaml"]).stdout;
    assert!(text.contains(&format!("rows of {HEAD}, {EMBEDDING}:")), "{text}");
    assert!(text.contains("./a: 5 its own, 3 padding"), "{text}");
    assert!(text.contains("./b: 4 its own, 1 another model's, 3 padding, 3 dropped"), "{text}");
    assert!(text.contains("./c: 2 its own, 1 another model's, 2 averaged, 3 padding, 2 dropped"), "{text}");
    let plan: Value = serde_json::from_str(&space.ok(&["plan", "--json", "r.yaml"]).stdout).unwrap();
    let of_c = &plan["stages"][0]["rows"][EMBEDDING][2];
    assert_eq!(
        (of_c["taken"].as_u64(), of_c["averaged"].as_u64(), of_c["dropped"].as_u64()),
        (Some(2), Some(2), Some(2))
    );
    assert!(!space.path("cache/v2/blobs").exists(), "nothing was built");
}

#[test]
fn a_stage_has_a_vocabulary_of_its_own() {
    let space = Space::new();
    three(&space);
    let recipe = "name: ab\nmerge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\nparameters: {weight: 1}\n\
        tokenizer_source: union\ndtype: float32\n---\nname: u\nmerge_method: linear\nmodels: [{model: ab}, {model: ./c}]\n\
        parameters: {weight: 1}\ntokenizer: {source: ab, tokens: {<y>: {source: {kind: zero}}}}\n---\nname: last\n\
        merge_method: passthrough\nmodels: [{model: u}]\n";
    space.write("r.yaml", recipe);
    space.ok(&["build", "-q", "r.yaml", "--stage", "u", "--stage", "last"]);
    let written = space.json("merges/last/tokenizer.json");
    let order = ["<unk>", "one", "two", "three", "<|end|>", "four", "five", "<b>", "<y>"];
    assert!(order.iter().enumerate().all(|(id, token)| ids(&written)[*token] == id));
    assert_eq!(written, space.json("merges/u/tokenizer.json"));
    assert_eq!(rows(&space, "merges/last", HEAD).len(), 9);
    near(&rows(&space, "merges/last", HEAD)["four"], &rows(&space, "b", HEAD)["four"], "four");
}

#[test]
fn files_beside_the_weights_agree() {
    let space = Space::new();
    model(&space, "a", &words(&["<unk>", "one"], &["<|end|>", "<|im_end|>"]), 0, 1);
    model(&space, "b", &words(&["one", "<unk>", "two"], &["<|stop|>"]), 0, 2);
    space.write(
        "a/tokenizer_config.json",
        r#"{"eos_token": "<|im_end|>", "added_tokens_decoder": {"2": {"content": "<|end|>"}},
            "extra_special_tokens": ["<|end|>"], "tokenizer_class": "TokenizersBackend"}"#,
    );
    space.write("a/special_tokens_map.json", r#"{"eos_token": "<|im_end|>"}"#);
    space.write("a/added_tokens.json", r#"{"<|end|>": 2, "<|im_end|>": 3}"#);
    space.write("a/vocab.json", "{}");
    space.write(
        "a/generation_config.json",
        r#"{"eos_token_id": [3, 2], "pad_token_id": 2, "temperature": 0.7}"#,
    );
    space.write("b/tokenizer_config.json", r#"{"eos_token": {"content": "<|stop|>"}, "pad_token": "two"}"#);
    space.write("b/vocab.txt", "");
    let recipe = |source: &str| {
        format!(
            "name: u\nmerge_method: linear\nmodels: [{{model: ./a}}, {{model: ./b}}]\nparameters: {{weight: 1}}\ntokenizer_source: {source}\n"
        )
    };
    space.write("r.yaml", recipe("union"));
    space.ok(&["build", "-q", "r.yaml"]);
    let files = |name: &str| space.path("merges/u").join(name);
    assert!(!files("vocab.json").exists(), "it would contradict tokenizer.json");
    assert_eq!(space.json("merges/u/added_tokens.json")["<|stop|>"], 5);
    let listed = &space.json("merges/u/tokenizer_config.json")["added_tokens_decoder"];
    assert_eq!(
        (listed["5"]["content"].as_str(), listed["5"]["special"].as_bool()),
        (Some("<|stop|>"), Some(true))
    );
    let settings = space.json("merges/u/tokenizer_config.json");
    assert_eq!(settings["tokenizer_class"], "PreTrainedTokenizerFast", "transformers 4 knows this one");
    assert_eq!(settings["additional_special_tokens"], json!(["<|end|>"]));
    assert_eq!(settings["extra_special_tokens"], Value::Null);
    assert_eq!(space.json("merges/u/config.json")["eos_token_id"], 3);
    assert_eq!(
        space.read("merges/u/generation_config.json"),
        space.read("a/generation_config.json"),
        "no id changes"
    );
    // With the other model's tokenizer every id is another one.
    space.write("r.yaml", recipe("./b"));
    space.ok(&["build", "-q", "r.yaml"]);
    assert_eq!(space.read("merges/u/tokenizer.json"), space.read("b/tokenizer.json"));
    assert!(files("vocab.txt").exists() && !files("added_tokens.json").exists());
    let config = space.json("merges/u/config.json");
    assert_eq!((config["eos_token_id"].as_u64(), config["vocab_size"].as_u64()), (Some(3), Some(4)));
    let generation = space.json("merges/u/generation_config.json");
    assert_eq!(generation["eos_token_id"], 3);
    assert_eq!(generation["temperature"], 0.7);
}

#[test]
fn ids_are_those_of_the_model_whose_tokenizer_is_written() {
    let space = Space::new();
    let tokenizer = words(&["<unk>", "one"], &["<|end|>", "<|im_end|>"]);
    for (name, eos, token) in [("a", 3, "<|im_end|>"), ("b", 2, "<|end|>"), ("c", 3, "<|im_end|>")] {
        model(&space, name, &tokenizer, 0, eos);
        let mut config = space.json(&format!("{name}/config.json"));
        config["eos_token_id"] = eos.into();
        space.write(&format!("{name}/config.json"), config.to_string());
        let settings = json!({"eos_token": token}).to_string();
        space.write(&format!("{name}/tokenizer_config.json"), settings);
        let generation = json!({"eos_token_id": [eos], "temperature": 0.7}).to_string();
        space.write(&format!("{name}/generation_config.json"), generation);
    }
    for (source, eos) in [("./b", 2), ("./c", 3)] {
        for more in ["", ", pad_to_multiple_of: 8"] {
            let recipe = format!(
                "name: u\nmerge_method: linear\nmodels: [{{model: ./a}}, {{model: ./b}}, {{model: ./c}}]\n\
                 parameters: {{weight: 1}}\ntokenizer: {{source: {source}{more}}}\n---\n\
                 name: v\nmerge_method: passthrough\nmodels: [{{model: u}}]\n"
            );
            space.write("r.yaml", recipe);
            space.ok(&["build", "-q", "r.yaml", "--stage", "u", "--stage", "v"]);
            for out in ["merges/u", "merges/v"] {
                let json = |file: &str| space.json(&format!("{out}/{file}"));
                assert_eq!(json("config.json")["eos_token_id"], eos, "{out} {source}{more}");
                let ids = &json("generation_config.json")["eos_token_id"];
                assert!(*ids == json!(eos) || *ids == json!([eos]), "{out} {source}{more}: {ids}");
                assert_eq!(json("generation_config.json")["temperature"], 0.7);
                assert_eq!(
                    json("tokenizer_config.json")["eos_token"],
                    space.json(&format!("{source}/tokenizer_config.json"))["eos_token"]
                );
            }
        }
    }
}

#[test]
fn rows_are_the_same_bytes_with_any_memory_and_threads() {
    let space = Space::new();
    let many: Vec<String> = (0..3000).map(|i| format!("w{i}")).collect();
    let mut other: Vec<&str> = many.iter().map(String::as_str).rev().step_by(3).collect();
    other.push("more");
    for (name, own, seed) in [
        ("a", many.iter().map(String::as_str).collect(), 1),
        ("b", other, 2),
        ("c", vec!["w7", "w2", "x"], 3),
    ] {
        let tokenizer = words(&own, &["<|end|>"]);
        let rows = ids(&tokenizer).len();
        let mut checkpoint = Checkpoint::new(json!({"num_hidden_layers": 0, "vocab_size": rows}));
        checkpoint.random(EMBEDDING, &[rows, 96], seed);
        let checkpoint = if name == "b" { checkpoint.bf16() } else { checkpoint };
        checkpoint.write(&space.path(name));
        space.write(&format!("{name}/tokenizer.json"), tokenizer.to_string());
    }
    space.write("r.yaml", format!("{UNION}tokenizer: {{source: union, pad_to_multiple_of: 64}}\n"));
    let build = |out: &str, args: &[&str]| {
        let cache = format!("cache-{out}");
        space.ok(&[&["build", "-q", "r.yaml", "--out", out, "--cache", &cache], args].concat());
        fs::read(space.path(out).join("model.safetensors")).unwrap()
    };
    let first = build("x", &["--jobs", "1"]);
    assert!(first == build("y", &["--jobs", "3", "--memory", "100KB"]));
    assert!(first == build("z", &["--memory", "1MB"]));
}

/// What `check` says of an edited recipe of the three models.
fn refused(tokenizer: &str, edit: impl Fn(&Space)) -> String {
    let space = Space::new();
    three(&space);
    edit(&space);
    space.write("r.yaml", format!("{UNION}{tokenizer}\n"));
    let said = space.fails(1, &["build", "r.yaml"]);
    assert!(!space.path("merges/u").exists());
    said
}

#[test]
fn bad_input_is_told_before_anything_is_written() {
    let nothing = |_: &Space| {};
    let entry = |entry: &str| format!("tokenizer:\n  tokens:\n    one: {entry}");
    for (tokenizer, message) in [
        (
            entry("{source: {kind: model_token, model: ./a, token: nine}, force: true}"),
            "./a has no token \"nine\"",
        ),
        (
            entry("{source: {kind: model_token, model: ./a, token_id: 5}, force: true}"),
            "./a has only 5 rows, so no row 5",
        ),
        ("tokenizer:\n  tokens:\n    three: {source: ./c}".to_owned(), "./c has no token \"three\""),
        (entry("{source: {kind: model_token, model: ./a}}"), "has neither a `token` nor a `token_id`"),
        (entry("{source: {kind: model_token, model: ./a, token: x, token_id: 1}}"), "give only one"),
        (entry("{source: {kind: model_token, token: x}}"), "has no `model`"),
        (entry("{source: {kind: zeros}}"), "has the unknown kind `zeros`"),
        (entry("{force: true}"), "but no `source`"),
        (entry("[1, 2]"), "must be a map"),
        (entry("{source: ./nowhere}"), "./nowhere"),
        ("tokenizer: {pad_to_multiple_of: 0}".to_owned(), "must be at least 1"),
    ] {
        let said = refused(&tokenizer, nothing);
        assert!(said.contains(message), "{tokenizer}\n{said}");
        assert!(said.contains("r.yaml:") || message == "./nowhere", "{said}");
    }
}

#[test]
fn damaged_tokenizers_are_named() {
    for (name, damage, message) in [
        ("a", "{\"model\": {\"vocab\"", "is not valid JSON"),
        ("b", "{\"model\": {\"vocab\": {\"one\": \"x\"}}}", "is not a valid tokenizer"),
        ("c", "{\"added_tokens\": []}", "missing field `model`"),
    ] {
        let said = refused("tokenizer_source: union", |space| {
            space.write(&format!("{name}/tokenizer.json"), damage)
        });
        let path = format!("{name}/tokenizer.json");
        assert!(said.contains(&path) && said.contains(message), "{said}");
    }
    // One that reads well and cannot be used.
    let said = refused("tokenizer_source: union", |space| {
        let mut json = space.json("a/tokenizer.json");
        json["model"]["unk_token"] = 7.into();
        space.write("a/tokenizer.json", json.to_string());
    });
    assert!(said.contains("a/tokenizer.json: cannot be used"), "{said}");
}

#[test]
fn vocabularies_that_do_not_fit_are_told() {
    let said = refused("tokenizer_source: union", |space| {
        model(space, "c", &words(&["alpha", "beta"], &[]), 0, 3);
    });
    assert!(said.contains("the vocabularies of ./c and ./a share no token"), "{said}");
    let said = refused("tokenizer_source: union", |space| {
        fs::remove_file(space.path("c/tokenizer.json")).unwrap();
        space.write("c/tokenizer.model", "pieces");
    });
    assert!(said.contains("./c has its tokenizer only in tokenizer.model"), "{said}");
    assert!(said.contains("save_pretrained"), "{said}");
    let said = refused("", |_| {});
    assert!(said.contains("`tokenizer_source: base`"), "{said}");
}

#[test]
fn a_chat_template_can_stand_in_a_file() {
    let space = Space::new();
    three(&space);
    let template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}\n";
    space.write("recipes/chat.jinja", template);
    let recipe = "name: u\nmerge_method: passthrough\nmodels: [{model: ./a}]\nchat_template: ./chat.jinja\n";
    space.write("recipes/r.yaml", recipe);
    space.ok(&["build", "-q", "recipes/r.yaml"]);
    assert_eq!(space.read("merges/u/chat_template.jinja"), template);
    space.write("recipes/chat.jinja", "{{ 'another' }}");
    space.ok(&["build", "-q", "recipes/r.yaml"]);
    assert_eq!(space.read("merges/u/chat_template.jinja"), "{{ 'another' }}");
    fs::remove_file(space.path("recipes/chat.jinja")).unwrap();
    let said = space.fails(1, &["check", "recipes/r.yaml"]);
    assert!(
        said.contains("the chat template recipes/./chat.jinja does not exist") && said.contains("r.yaml:4"),
        "{said}"
    );
}

#[test]
fn tokens_without_a_row_are_left_out() {
    let space = Space::new();
    three(&space);
    let far = words(&["<unk>", "five", "one"], &["<|c|>", "<far>"]);
    space.write("c/tokenizer.json", far.to_string());
    for (source, n_tokens) in [("union", 9), ("./c", 4)] {
        space.write("r.yaml", format!("{UNION}tokenizer_source: {source}\n"));
        let said = space.ok(&["build", "r.yaml"]).stderr;
        assert!(said.contains("the tokenizer of ./c has 1 token beyond its 4 rows (\"<far>\""), "{said}");
        let tokenizer = space.json("merges/u/tokenizer.json");
        assert!(!ids(&tokenizer).contains_key("<far>") && ids(&tokenizer).len() == n_tokens, "{tokenizer}");
        assert_eq!(space.json("merges/u/config.json")["vocab_size"], n_tokens);
    }
    // Merges go with the tokens that they make.
    model(&space, "p", &pieces("abc", &[("a", "b"), ("ab", "c")], &["<|p|>"]), 0, 4);
    model(&space, "q", &pieces("abcd", &[("c", "d")], &[]), 0, 5);
    space.write("q/tokenizer.json", pieces("abcd", &[("c", "d"), ("a", "b")], &["<|q|>"]).to_string());
    space.write(
        "r.yaml",
        "name: v\nmerge_method: linear\nmodels: [{model: ./q, parameters: {weight: 1}}, \
         {model: ./p, parameters: {weight: 1}}]\ntokenizer_source: ./q\n",
    );
    space.ok(&["build", "-q", "r.yaml"]);
    let tokenizer = space.json("merges/v/tokenizer.json");
    assert_eq!(ids(&tokenizer).keys().collect::<Vec<_>>(), ["a", "b", "c", "cd", "d"]);
    assert_eq!(tokenizer["model"]["merges"], json!([["c", "d"]]));
}
