//! Layouts of many families: all merge, and slices of any of them stack.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::checkpoints::{Checkpoint, Tensor, read};
use crate::harness::Space;

const LAYERS: usize = 3;

/// A family by its tensor names: `{}` stands for the layer's number.
struct Family {
    name: &'static str,
    config: Value,
    count_key: &'static str,
    tensors: &'static [(&'static str, &'static [usize])],
}

fn families() -> Vec<Family> {
    let types = vec!["full_attention"; LAYERS];
    vec![
        Family {
            name: "qwen2",
            config: json!({"architectures": ["Qwen2ForCausalLM"], "layer_types": types, "max_window_layers": LAYERS}),
            count_key: "num_hidden_layers",
            tensors: &[
                ("model.embed_tokens.weight", &[8, 4]),
                ("model.layers.{}.self_attn.q_proj.weight", &[4, 4]),
                ("model.layers.{}.self_attn.q_proj.bias", &[4]),
                ("model.layers.{}.mlp.down_proj.weight", &[4, 6]),
                ("model.norm.weight", &[4]),
                ("lm_head.weight", &[8, 4]),
            ],
        },
        Family {
            name: "llama",
            config: json!({"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": true}),
            count_key: "num_hidden_layers",
            tensors: &[
                ("model.embed_tokens.weight", &[8, 4]),
                ("model.layers.{}.self_attn.o_proj.weight", &[4, 4]),
                ("model.layers.{}.post_attention_layernorm.weight", &[4]),
                ("model.norm.weight", &[4]),
            ],
        },
        Family {
            name: "mistral",
            config: json!({"architectures": ["MistralForCausalLM"], "sliding_window": 4096}),
            count_key: "num_hidden_layers",
            tensors: &[
                ("model.embed_tokens.weight", &[8, 4]),
                ("model.layers.{}.mlp.gate_proj.weight", &[6, 4]),
                ("model.norm.weight", &[4]),
                ("lm_head.weight", &[8, 4]),
            ],
        },
        Family {
            name: "gemma2",
            config: json!({
                "architectures": ["Gemma2ForCausalLM"], "tie_word_embeddings": true,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            }),
            count_key: "num_hidden_layers",
            tensors: &[
                ("model.embed_tokens.weight", &[8, 4]),
                ("model.layers.{}.pre_feedforward_layernorm.weight", &[4]),
                ("model.layers.{}.mlp.up_proj.weight", &[6, 4]),
                ("model.norm.weight", &[4]),
            ],
        },
        Family {
            name: "gpt2",
            config: json!({"architectures": ["GPT2LMHeadModel"]}),
            count_key: "n_layer",
            tensors: &[
                ("transformer.wte.weight", &[8, 4]),
                ("transformer.wpe.weight", &[16, 4]),
                ("transformer.h.{}.attn.c_attn.weight", &[4, 12]),
                ("transformer.h.{}.attn.c_attn.bias", &[12]),
                ("transformer.ln_f.weight", &[4]),
                ("transformer.ln_f.bias", &[4]),
            ],
        },
        Family {
            name: "gpt_neox",
            config: json!({"architectures": ["GPTNeoXForCausalLM"]}),
            count_key: "num_hidden_layers",
            tensors: &[
                ("gpt_neox.embed_in.weight", &[8, 4]),
                ("gpt_neox.layers.{}.attention.query_key_value.weight", &[12, 4]),
                ("gpt_neox.layers.{}.attention.query_key_value.bias", &[12]),
                ("gpt_neox.final_layer_norm.weight", &[4]),
                ("embed_out.weight", &[8, 4]),
            ],
        },
        Family {
            name: "phi3",
            config: json!({"architectures": ["Phi3ForCausalLM"]}),
            count_key: "num_hidden_layers",
            tensors: &[
                ("model.embed_tokens.weight", &[8, 4]),
                ("model.layers.{}.self_attn.qkv_proj.weight", &[12, 4]),
                ("model.layers.{}.mlp.gate_up_proj.weight", &[12, 4]),
                ("model.norm.weight", &[4]),
                ("lm_head.weight", &[8, 4]),
            ],
        },
        Family {
            name: "bert",
            config: json!({"architectures": ["BertForMaskedLM"]}),
            count_key: "num_hidden_layers",
            tensors: &[
                ("bert.embeddings.word_embeddings.weight", &[8, 4]),
                ("bert.embeddings.position_embeddings.weight", &[16, 4]),
                ("bert.embeddings.LayerNorm.weight", &[4]),
                ("bert.encoder.layer.{}.attention.self.query.weight", &[4, 4]),
                ("bert.encoder.layer.{}.output.LayerNorm.bias", &[4]),
                ("bert.pooler.dense.weight", &[4, 4]),
                ("cls.predictions.bias", &[8]),
                ("cls.predictions.transform.dense.weight", &[4, 4]),
            ],
        },
    ]
}

impl Family {
    fn checkpoint(&self, seed: u64) -> Checkpoint {
        let mut config = self.config.clone();
        config[self.count_key] = LAYERS.into();
        config["vocab_size"] = 8.into();
        let mut checkpoint = Checkpoint::new(config);
        for (name, shape) in self.tensors {
            if name.contains("{}") {
                for layer in 0..LAYERS {
                    checkpoint.random(&name.replace("{}", &layer.to_string()), shape, seed);
                }
            } else {
                checkpoint.random(name, shape, seed);
            }
        }
        checkpoint
    }

    fn written(&self, space: &Space) {
        for (folder, seed) in [("base", 1), ("a", 2), ("b", 3)] {
            self.checkpoint(seed).write(&space.path(folder));
        }
    }

    /// The name of a tensor in a layer of another number.
    fn in_layer(&self, name: &str, from: usize, to: usize) -> Option<String> {
        let of = |pattern: &&str| pattern.contains("{}") && name == pattern.replace("{}", &from.to_string());
        let pattern = self.tensors.iter().map(|(pattern, _)| *pattern).find(of)?;
        Some(pattern.replace("{}", &to.to_string()))
    }
}

#[track_caller]
fn assert_close(ours: &Tensor, expected: &[f64], what: &str) {
    assert_eq!(ours.values.len(), expected.len(), "{what}");
    for (a, b) in ours.values.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-6, "{what}: {a} is not {b}");
    }
}

#[test]
fn every_family_merges() {
    for family in families() {
        let space = Space::new();
        family.written(&space);
        space.write(
            "recipe.yaml",
            "merge_method: task_arithmetic\nbase_model: ./base\nmodels:\n\
             - {model: ./a, parameters: {weight: 0.25}}\n- {model: ./b, parameters: {weight: 0.5}}\n",
        );
        space.ok(&["build", "recipe.yaml", "--deny-warnings", "--out", "out"]);
        let [base, a, b, ours] = ["base", "a", "b", "out"].map(|folder| read(&space.path(folder)));
        assert_eq!(ours.keys().collect::<Vec<_>>(), base.keys().collect::<Vec<_>>(), "{}", family.name);
        for (name, tensor) in &ours {
            let [base, a, b] = [&base, &a, &b].map(|model| &model[name].values);
            let expected: Vec<f64> =
                (0..base.len()).map(|i| base[i] + 0.25 * (a[i] - base[i]) + 0.5 * (b[i] - base[i])).collect();
            assert_close(tensor, &expected, name);
        }
        assert_eq!(space.json("out/config.json")[family.count_key], LAYERS);
    }
}

#[test]
fn slices_of_every_family_stack() {
    for family in families() {
        let space = Space::new();
        family.written(&space);
        space.write(
            "recipe.yaml",
            "merge_method: passthrough\nslices:\n\
             - sources: [{model: ./a, layer_range: [0, 2]}]\n- sources: [{model: ./b, layer_range: [1, 3]}]\n\
             - sources: [{model: ./a, layer_range: [2, 3]}]\n",
        );
        space.ok(&["build", "recipe.yaml", "--out", "out"]);
        let [a, b, ours] = ["a", "b", "out"].map(|folder| read(&space.path(folder)));
        let mut expected: BTreeMap<String, &Tensor> = BTreeMap::new();
        let is_layered = |name: &str| (0..LAYERS).any(|layer| family.in_layer(name, layer, layer).is_some());
        // The first and the last slice are of `a`, so what stands before and behind all layers is too.
        expected.extend(a.iter().filter(|(name, _)| !is_layered(name)).map(|(name, t)| (name.clone(), t)));
        for (to, (model, from)) in [(&a, 0), (&a, 1), (&b, 1), (&b, 2), (&a, 2)].into_iter().enumerate() {
            let moved = model.iter().filter_map(|(name, t)| Some((family.in_layer(name, from, to)?, t)));
            expected.extend(moved);
        }
        assert_eq!(ours.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{}", family.name);
        for (name, tensor) in expected {
            assert_eq!(&ours[&name], tensor, "{}: {name}", family.name);
        }
        let config = space.json("out/config.json");
        assert_eq!(config[family.count_key], 5, "{}", family.name);
        if let Some(types) = family.config.get("layer_types") {
            let stacked: Vec<&Value> = [0, 1, 1, 2, 2].map(|layer| &types[layer]).into();
            assert_eq!(config["layer_types"], json!(stacked), "{}", family.name);
        }
    }
}

/// The experts of a Mixtral checkpoint stand in one tensor a layer, as transformers 5 has them: gate above
/// up, and down.
#[test]
fn mixtral_experts_are_joined_and_stack() {
    let config = json!({
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral",
        "num_hidden_layers": 2, "num_local_experts": 2,
    });
    let checkpoint = |seed| {
        let mut checkpoint = Checkpoint::new(config.clone());
        checkpoint.random("model.embed_tokens.weight", &[8, 4], seed);
        for layer in 0..2 {
            let moe = format!("model.layers.{layer}.block_sparse_moe");
            checkpoint.random(&format!("{moe}.gate.weight"), &[2, 4], seed);
            for expert in 0..2 {
                checkpoint.random(&format!("{moe}.experts.{expert}.w1.weight"), &[6, 4], seed);
                checkpoint.random(&format!("{moe}.experts.{expert}.w2.weight"), &[4, 6], seed);
                checkpoint.random(&format!("{moe}.experts.{expert}.w3.weight"), &[6, 4], seed);
            }
        }
        checkpoint.random("model.norm.weight", &[4], seed);
        checkpoint.random("lm_head.weight", &[8, 4], seed);
        checkpoint
    };
    let space = Space::new();
    checkpoint(1).write(&space.path("a"));
    checkpoint(2).write(&space.path("b"));
    space.write(
        "recipe.yaml",
        "merge_method: linear\nparameters: {weight: 0.5}\nslices:\n\
         - sources: [{model: ./a, layer_range: [0, 2]}, {model: ./b, layer_range: [0, 2]}]\n\
         - sources: [{model: ./a, layer_range: [1, 2]}, {model: ./b, layer_range: [1, 2]}]\n",
    );
    space.ok(&["build", "recipe.yaml", "--out", "out"]);
    let [a, b, ours] = ["a", "b", "out"].map(|folder| read(&space.path(folder)));
    let joined = |layer: usize, parts: &[&str]| -> Vec<f64> {
        let names = (0..2).flat_map(|expert| {
            parts.iter().map(move |part| {
                format!("model.layers.{layer}.block_sparse_moe.experts.{expert}.{part}.weight")
            })
        });
        names
            .flat_map(|name| {
                a[&name].values.iter().zip(&b[&name].values).map(|(a, b)| (a + b) / 2.0).collect::<Vec<_>>()
            })
            .collect()
    };
    for (layer, from) in [(0, 0), (1, 1), (2, 1)] {
        let experts = format!("model.layers.{layer}.mlp.experts");
        let gate_up = &ours[&format!("{experts}.gate_up_proj")];
        assert_eq!(gate_up.shape, [2, 12, 4]);
        assert_close(gate_up, &joined(from, &["w1", "w3"]), "gate_up_proj");
        assert_close(&ours[&format!("{experts}.down_proj")], &joined(from, &["w2"]), "down_proj");
        assert!(ours.contains_key(&format!("model.layers.{layer}.mlp.gate.weight")));
    }
    assert_eq!(space.json("out/config.json")["num_hidden_layers"], 3);
}

/// Checkpoints of one family come with and without the word ahead of their tensors' names.
#[test]
fn buffers_and_tied_heads_need_not_be_in_every_model() {
    let space = Space::new();
    let mut tied = Checkpoint::decoder(1, 1);
    tied.remove("lm_head.weight");
    tied.config["tie_word_embeddings"] = true.into();
    tied.i64("model.embeddings.position_ids", &[1, 3], &[0, 1, 2]);
    tied.write(&space.path("tied"));
    let mut untied = Checkpoint::decoder(1, 2);
    untied.i64("model.embeddings.position_ids", &[1, 3], &[0, 1, 2]);
    untied.write(&space.path("untied"));
    space.write(
        "recipe.yaml",
        "merge_method: linear\nmodels: [{model: ./tied}, {model: ./untied}]\nparameters: {weight: 0.5}\n",
    );
    space.ok(&["build", "recipe.yaml", "--out", "out"]);
    let [tied, untied, ours] = ["tied", "untied", "out"].map(|folder| read(&space.path(folder)));
    let embedding = &tied["model.embed_tokens.weight"].values;
    let head = &untied["lm_head.weight"].values;
    let expected: Vec<f64> = embedding.iter().zip(head).map(|(a, b)| (a + b) / 2.0).collect();
    assert_close(&ours["lm_head.weight"], &expected, "the tied model's head is its embedding");
    assert_eq!(ours["model.embeddings.position_ids"].values, [0.0, 1.0, 2.0]);
    // A loader must not take the embedding for the head.
    assert_eq!(space.json("out/config.json")["tie_word_embeddings"], false);
}
