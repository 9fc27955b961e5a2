//! Models of one family that call things otherwise, have several parts, or keep lists by layer: what meets what, and
//! that nothing gets lost on the way.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::checkpoints::{Checkpoint, read};
use crate::harness::{Space, project};

/// A vision-language model of two layers and two in its tower, by its names: what is ahead of the text model's, the
/// tower's and the projector's tensors, and the head.
struct Names {
    text: &'static str,
    tower: &'static str,
    projector: &'static str,
    head: &'static str,
}

const OLD: Names = Names {
    text: "language_model.model",
    tower: "vision_tower.vision_model",
    projector: "multi_modal_projector",
    head: "language_model.lm_head.weight",
};
const NEW: Names = Names {
    text: "model.language_model",
    tower: "model.vision_tower",
    projector: "model.multi_modal_projector",
    head: "lm_head.weight",
};
const QWEN: Names =
    Names { text: "model", tower: "visual", projector: "visual.merger", head: "lm_head.weight" };
const NEW_QWEN: Names = Names {
    text: "model.language_model",
    tower: "model.visual",
    projector: "model.visual.merger",
    head: "lm_head.weight",
};

impl Names {
    fn model(&self, seed: u64) -> Checkpoint {
        let mut model = Checkpoint::new(json!({
            "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "tie_word_embeddings": false,
            "text_config": {
                "num_hidden_layers": 2, "vocab_size": 8, "layer_types": ["full_attention", "sliding_attention"],
            },
            "vision_config": {"num_hidden_layers": 2, "depth": 2},
        }));
        // Values go by what a tensor is, not by what it is called.
        let Self { text, tower, projector, head } = self;
        let tensors = [
            (format!("{text}.embed_tokens.weight"), vec![8, 4]),
            (format!("{text}.layers.0.mlp.up_proj.weight"), vec![6, 4]),
            (format!("{text}.layers.1.mlp.up_proj.weight"), vec![6, 4]),
            (format!("{text}.norm.weight"), vec![4]),
            ((*head).to_owned(), vec![8, 4]),
            (format!("{tower}.blocks.0.w.weight"), vec![4, 4]),
            (format!("{tower}.blocks.1.w.weight"), vec![4, 4]),
            (format!("{tower}.patch_embed.weight"), vec![4, 3]),
            (format!("{projector}.linear_1.weight"), vec![4, 4]),
        ];
        for (number, (name, shape)) in tensors.iter().enumerate() {
            let n: usize = shape.iter().product();
            let values = (0..n).map(|i| ((i + 1) * (number + 2) * (seed as usize + 3) % 101) as f32 / 64.0);
            model.f32(name, shape, &values.collect::<Vec<_>>());
        }
        model
    }
}

#[test]
fn models_whose_names_were_moved_meet() {
    for (names, others) in [(OLD, NEW), (NEW, OLD), (QWEN, NEW_QWEN), (NEW_QWEN, QWEN), (OLD, OLD)] {
        let space = Space::new();
        names.model(1).write(&space.path("a"));
        others.model(2).write(&space.path("b"));
        names.model(2).write(&space.path("c"));
        let built = |model: &str| {
            space.write(
                "r.yaml",
                format!(
                    "name: x\nmerge_method: ties\nbase_model: ./a\nmodels:\n\
                     - {{model: ./{model}, parameters: {{weight: 0.5, density: 0.5}}}}\n"
                ),
            );
            let said = space.ok(&["check", "r.yaml"]).stderr;
            space.ok(&["build", "-q", "r.yaml", "--deny-warnings", "--out", "o"]);
            (said, read(&space.path("o")))
        };
        let (said, ours) = built("b");
        assert_eq!(said.contains("[other-names]"), names.text != others.text, "{said}");
        let (said, expected) = built("c");
        assert!(!said.contains("[other-names]"), "{said}");
        assert!(ours == expected);
        assert!(ours.keys().eq(read(&space.path("a")).keys()));
    }
}

/// What transformers has written, of models whose files differ in names or in how they store experts, and what numpy
/// makes of them: see tests/architectures/fixtures.py.
#[test]
fn files_of_transformers_merge_in_either_layout() {
    for family in ["llava", "qwen2_moe"] {
        let folder = |name: &str| project(&format!("tests/fixtures/families/{family}/{name}"));
        let space = Space::new();
        let recipe: String = ["base", "a", "b"]
            .iter()
            .zip([
                "base_model: PATH\nmodels:",
                "- {model: PATH, W: {weight: 0.7, density: 0.6}}",
                "- {model: PATH, W: {weight: 0.5, density: 0.4}}",
            ])
            .map(|(name, line)| {
                line.replace("PATH", &format!("{:?}", folder(name))).replace('W', "parameters") + "\n"
            })
            .collect();
        space.write("r.yaml", format!("name: x\nmerge_method: ties\n{recipe}"));
        space.ok(&["build", "-q", "r.yaml", "--out", "o"]);
        let (ours, expected) = (read(&space.path("o")), read(&folder("expected")));
        assert!(ours.keys().eq(expected.keys()), "{family}");
        assert!(!ours.keys().eq(read(&folder("b")).keys()), "{family}: b has other names");
        for (name, tensor) in ours {
            let expected = &expected[&name];
            assert_eq!(tensor.shape, expected.shape, "{family}: {name}");
            for (a, b) in tensor.values.iter().zip(&expected.values) {
                assert!((a - b).abs() <= 1e-6, "{family}: {name}: {a} is not {b}");
            }
        }
    }
}

#[test]
fn modules_have_the_names_of_mergekit_too() {
    for names in [OLD, NEW, QWEN, NEW_QWEN] {
        let space = Space::new();
        names.model(1).write(&space.path("a"));
        names.model(2).write(&space.path("b"));
        let built = |modules: &str| {
            space.write("r.yaml", format!("name: x\nmerge_method: passthrough\nmodules:\n{modules}"));
            let said = space.ok(&["check", "r.yaml"]).stderr;
            space.ok(&["build", "-q", "r.yaml", "--out", "o"]);
            (said, read(&space.path("o")))
        };
        let [a, b] = ["a", "b"].map(|folder| read(&space.path(folder)));
        let (said, ours) = built(
            "  text_decoder:\n    slices:\n    - sources: [{model: ./a, layer_range: [0, 2]}]\n\
             \x20   - sources: [{model: ./b, layer_range: [0, 1]}]\n\
             \x20 vision_tower: {models: [{model: ./a}]}\n  multi_modal_projector: {models: [{model: ./b}]}\n",
        );
        assert!(!said.contains("leaves out"), "{said}");
        assert_eq!(ours.len(), a.len() + 1);
        for (number, of, from) in [(0, &a, 0), (1, &a, 1), (2, &b, 0)] {
            let name = |layer: usize| format!("{}.layers.{layer}.mlp.up_proj.weight", names.text);
            assert_eq!(ours[&name(number)], of[&name(from)]);
        }
        let projector = format!("{}.linear_1.weight", names.projector);
        assert_eq!(ours[&projector], b[&projector]);
        let config = space.json("o/config.json");
        assert_eq!(config["text_config"]["num_hidden_layers"], 3);
        assert_eq!(
            config["text_config"]["layer_types"],
            json!(["full_attention", "sliding_attention", "full_attention"])
        );
        assert_eq!(config["vision_config"], json!({"num_hidden_layers": 2, "depth": 2}));
        // What is not listed is left out with a note, but for what stands in a module that is.
        let (said, ours) = built("  vision_tower: {models: [{model: ./a}]}\n");
        assert!(said.contains("leaves out"), "{said}");
        let is_within = names.projector.starts_with(names.tower);
        assert_eq!(ours.len(), if is_within { 4 } else { 3 });
        space.write(
            "r.yaml",
            "name: x\nmerge_method: passthrough\nmodules: {encoder: {models: [{model: ./a}]}}\n",
        );
        let said = space.fails(1, &["check", "r.yaml"]);
        assert!(said.contains("no module `encoder`") && said.contains("the models have: "), "{said}");
    }
}

fn decoder(config: Value, seed: u64, is_tied: bool) -> Checkpoint {
    let mut model = Checkpoint::decoder(3, seed);
    let Value::Object(keys) = config else { panic!("it is an object") };
    for (key, value) in keys {
        model.config[&key] = value;
    }
    model.config["tie_word_embeddings"] = is_tied.into();
    if is_tied {
        model.remove("lm_head.weight");
    }
    model
}

const STACK: &str = "name: x\nmerge_method: passthrough\nslices:\n- sources: [{model: ./a, layer_range: [0, 2]}]\n\
                     - sources: [{model: ./b, layer_range: [0, 3]}]\n";

#[test]
fn lists_by_layer_follow_the_layers() {
    let space = Space::new();
    let lists = |flag: usize, numbers: &[usize]| {
        json!({
            "mlp_only_layers": numbers, "full_attn_idxs": numbers, "no_rope_layers": [1, flag, 1],
            "layers_block_type": ["a", flag, "c"], "hybrid_override_pattern": if flag == 0 { "M*-" } else { "---" },
            "eos_token_id": [1, 2, 3], "attention_types": [[["global", "local"], 1], [["global"], 1]],
        })
    };
    decoder(lists(0, &[1]), 1, false).write(&space.path("a"));
    decoder(lists(1, &[0, 2]), 2, false).write(&space.path("b"));
    space.write("r.yaml", STACK);
    space.ok(&["build", "r.yaml", "--out", "o"]);
    let config = space.json("o/config.json");
    let expected = json!({
        "num_hidden_layers": 5, "mlp_only_layers": [1, 2, 4], "full_attn_idxs": [1, 2, 4],
        "no_rope_layers": [1, 0, 1, 1, 1], "layers_block_type": ["a", 0, "a", 1, "c"],
        "hybrid_override_pattern": "M*---", "eos_token_id": [1, 2, 3],
        "attention_types": [[["global", "local", "global", "local", "global"], 1]],
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&config[key], value, "{key}");
    }
}

#[test]
fn a_stack_has_the_head_that_its_config_says() {
    // Whether the two models tie their heads; whether the result has one, and ties it.
    for (tied, has_head, ties) in [
        ([false, false], true, false),
        ([true, true], false, true),
        ([false, true], true, false),
        ([true, false], true, false),
    ] {
        let space = Space::new();
        decoder(json!({}), 1, tied[0]).write(&space.path("a"));
        decoder(json!({}), 2, tied[1]).write(&space.path("b"));
        space.write("r.yaml", STACK);
        space.ok(&["build", "r.yaml", "--out", "o"]);
        let [b, ours] = ["b", "o"].map(|folder| read(&space.path(folder)));
        assert_eq!(ours["model.norm.weight"], b["model.norm.weight"]);
        assert_eq!(ours.contains_key("lm_head.weight"), has_head, "{tied:?}");
        if has_head {
            let head = if tied[1] { "model.embed_tokens.weight" } else { "lm_head.weight" };
            assert_eq!(ours["lm_head.weight"], b[head], "{tied:?}");
        }
        assert_eq!(space.json("o/config.json")["tie_word_embeddings"], ties, "{tied:?}");
    }
}

#[test]
fn layers_behind_those_of_the_config_stay_behind_all_others() {
    let space = Space::new();
    for (name, seed) in [("a", 1), ("b", 2)] {
        let mut model = decoder(json!({"num_nextn_predict_layers": 1}), seed, false);
        model.random("model.layers.3.eh_proj.weight", &[4, 8], seed);
        model.write(&space.path(name));
    }
    space.write("r.yaml", STACK);
    space.ok(&["build", "r.yaml", "--out", "o"]);
    let [b, ours] = ["b", "o"].map(|folder| read(&space.path(folder)));
    assert_eq!(ours["model.layers.5.eh_proj.weight"], b["model.layers.3.eh_proj.weight"]);
    assert_eq!(ours.len(), 2 + 5 * 3 + 1 + 1);
    assert_eq!(space.json("o/config.json")["num_hidden_layers"], 5);
}

#[test]
fn layers_that_a_rule_tells_of_otherwise_are_told_of() {
    let space = Space::new();
    for (name, seed) in [("a", 1), ("b", 2)] {
        let mut model = decoder(json!({"first_k_dense_replace": 1}), seed, false);
        model.remove("model.layers.0.mlp.up_proj.weight");
        model.write(&space.path(name));
    }
    space.write("r.yaml", STACK);
    let said = space.ok(&["check", "r.yaml"]).stderr;
    assert!(said.contains("[layers-by-rule]") && said.contains("layer 2 of default"), "{said}");
    space.replace("r.yaml", "layer_range: [0, 3]", "layer_range: [1, 3]");
    let said = space.ok(&["check", "r.yaml"]).stderr;
    assert!(!said.contains("[layers-by-rule]"), "{said}");
}

/// Whatever one of the inputs lacks, or has beyond the others: the result has it, or a message names it.
#[test]
fn no_tensor_of_any_input_vanishes() {
    let models: [(&str, Checkpoint); 4] = [
        ("decoder", decoder(json!({}), 1, false)),
        ("old names", OLD.model(1)),
        ("new names", NEW.model(1)),
        ("tower", QWEN.model(1)),
    ];
    let beside = [
        "extra.weight",
        "vision_tower.encoder.layers.0.w.weight",
        "score.weight",
        "model.rotary_emb.inv_freq",
    ];
    for (what, model) in models {
        let space = Space::new();
        model.write(&space.path("whole"));
        let names: BTreeSet<String> = read(&space.path("whole")).into_keys().collect();
        let mut cases: Vec<(String, Checkpoint)> = Vec::new();
        for name in &names {
            let mut less = model.clone();
            less.remove(name);
            cases.push((name.clone(), less));
        }
        for name in beside {
            let mut more = model.clone();
            more.random(name, &[4], 1);
            cases.push((name.to_owned(), more));
        }
        for (name, other) in cases {
            other.write(&space.path("other"));
            for order in [["whole", "other"], ["other", "whole"]] {
                space.write(
                    "r.yaml",
                    format!(
                        "name: x\nmerge_method: linear\nparameters: {{weight: 0.5}}\nmodels: [{{model: ./{}}}, {{model: ./{}}}]\n",
                        order[0], order[1]
                    ),
                );
                let run = space.run(&["build", "-q", "r.yaml", "--out", "o"]);
                if run.code == 0 {
                    assert!(read(&space.path("o")).contains_key(&name), "{what}: {name} is lost");
                } else {
                    let is_named =
                        run.stderr.contains(&name) || run.stderr.contains("different numbers of layers");
                    assert!(run.code == 1 && is_named, "{what}: {name}: {}", run.stderr);
                }
            }
        }
    }
}
