//! Mixtures of experts: methods see a layer's experts as one tensor, however files store them, and results are stored as
//! their donor is.

use std::collections::BTreeMap;

use serde_json::json;

use crate::checkpoints::{Checkpoint, Tensor, read};
use crate::harness::Space;

const EXPERTS: usize = 3;
const MATRICES: [(&str, [usize; 2]); 3] = [("gate_proj", [6, 4]), ("up_proj", [6, 4]), ("down_proj", [4, 6])];

/// A model whose second layer is dense, with a tensor for each expert's matrices.
fn apart(seed: u64) -> Checkpoint {
    let mut model = Checkpoint::new(json!({
        "architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", "num_hidden_layers": 2,
        "mlp_only_layers": [1], "vocab_size": 8, "tie_word_embeddings": false,
    }));
    model.random("model.embed_tokens.weight", &[8, 4], seed);
    model.random("model.layers.0.mlp.gate.weight", &[EXPERTS, 4], seed);
    for (matrix, shape) in MATRICES {
        for expert in 0..EXPERTS {
            model.random(&format!("model.layers.0.mlp.experts.{expert}.{matrix}.weight"), &shape, seed);
        }
        model.random(&format!("model.layers.0.mlp.shared_expert.{matrix}.weight"), &shape, seed);
        model.random(&format!("model.layers.1.mlp.{matrix}.weight"), &shape, seed);
    }
    model.random("model.norm.weight", &[4], seed);
    model.random("lm_head.weight", &[8, 4], seed);
    model
}

/// The same model with its experts in one tensor.
fn fused(seed: u64) -> Checkpoint {
    let mut model = apart(seed);
    for (name, parts, shape) in [
        ("gate_up_proj", &["gate_proj", "up_proj"][..], [EXPERTS, 12, 4]),
        ("down_proj", &["down_proj"][..], [EXPERTS, 4, 6]),
    ] {
        let names = (0..EXPERTS).flat_map(|expert| {
            parts.iter().map(move |part| format!("model.layers.0.mlp.experts.{expert}.{part}.weight"))
        });
        let names: Vec<String> = names.collect();
        let all: Vec<f32> = names.iter().flat_map(|name| model.values(name)).collect();
        names.iter().for_each(|name| model.remove(name));
        model.f32(&format!("model.layers.0.mlp.experts.{name}"), &shape, &all);
    }
    model
}

/// Tensors with experts joined.
fn joined(tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Vec<f64>> {
    let mut all: BTreeMap<String, Vec<f64>> =
        tensors.into_iter().map(|(name, tensor)| (name, tensor.values)).collect();
    let firsts: Vec<String> = all.keys().filter(|name| name.contains("experts.0.")).cloned().collect();
    for first in firsts.iter().filter(|first| !first.ends_with("up_proj.weight")) {
        let (folder, matrix) = first.rsplit_once("0.").expect("it names an expert");
        let (name, parts) = match matrix {
            "gate_proj.weight" => ("gate_up_proj", &["gate_proj.weight", "up_proj.weight"][..]),
            _ => ("down_proj", &["down_proj.weight"][..]),
        };
        let names = (0..EXPERTS)
            .flat_map(|expert| parts.iter().map(move |part| format!("{folder}{expert}.{part}")))
            .collect::<Vec<_>>();
        let values = names.iter().flat_map(|name| all.remove(name).expect("no expert is missing")).collect();
        all.insert(format!("{folder}{name}"), values);
    }
    all
}

const METHODS: [&str; 6] = [
    "ties\nbase_model: ./base\nmodels: [{model: ./a, parameters: {weight: 0.7, density: 0.4}}, {model: ./b, parameters: {weight: 0.4, density: 0.6}}]\n",
    "della\nseed: 7\nbase_model: ./base\nmodels: [{model: ./a, parameters: {weight: 0.7, density: 0.4}}, {model: ./b, parameters: {weight: 0.4, density: 0.6}}]\n",
    "slerp\nbase_model: ./base\nmodels: [{model: ./a}]\nparameters: {t: 0.3}\n",
    "model_stock\nbase_model: ./base\nmodels: [{model: ./a}, {model: ./b}]\n",
    "nuslerp\nbase_model: ./base\nmodels: [{model: ./a, parameters: {weight: 0.7}}, {model: ./b, parameters: {weight: 0.4}}]\nparameters: {nuslerp_row_wise: true}\n",
    "linear\nmodels: [{model: ./base, parameters: {weight: 0.3}}, {model: ./a, parameters: {weight: 0.7}}]\ndtype: float32\n",
];

#[test]
fn the_way_that_files_store_experts_changes_no_value() {
    for method in METHODS {
        let space = Space::new();
        let recipe = format!("name: x\nmerge_method: {method}");
        let built = |layouts: [bool; 3]| {
            for ((name, seed), is_fused) in [("base", 1), ("a", 2), ("b", 3)].into_iter().zip(layouts) {
                let _ = std::fs::remove_dir_all(space.path(name));
                (if is_fused { fused(seed) } else { apart(seed) }).write(&space.path(name));
            }
            space.write("r.yaml", &recipe);
            space.ok(&["build", "-q", "r.yaml", "--out", "o"]);
            read(&space.path("o"))
        };
        let of_fused = built([true; 3]);
        assert_eq!(of_fused["model.layers.0.mlp.experts.gate_up_proj"].shape, [EXPERTS, 12, 4]);
        let expected = joined(of_fused);
        for layouts in [[false; 3], [false, true, false], [true, false, false], [false, true, true]] {
            let ours = built(layouts);
            let gate = ours.get("model.layers.0.mlp.experts.2.gate_proj.weight");
            // Stored as the base, or else the first model, is.
            assert_eq!(gate.is_none(), layouts[0], "{method}");
            assert!(gate.is_none_or(|gate| gate.shape == [6, 4]));
            assert!(joined(ours) == expected, "{method}: {layouts:?}");
        }
    }
}

#[test]
fn layers_with_experts_are_stacked_and_merged_again() {
    let space = Space::new();
    apart(1).write(&space.path("a"));
    fused(2).write(&space.path("b"));
    space.write(
        "r.yaml",
        "name: stack\nmerge_method: passthrough\nslices:\n- sources: [{model: ./a, layer_range: [0, 2]}]\n\
         - sources: [{model: ./b, layer_range: [0, 1]}]\n---\nname: x\nmerge_method: ties\nbase_model: stack\n\
         models: [{model: stack-b, parameters: {weight: 1, density: 0.5}}]\n---\nname: stack-b\n\
         merge_method: linear\nparameters: {weight: 0.5}\nslices:\n\
         - sources: [{model: ./b, layer_range: [0, 2]}, {model: ./a, layer_range: [0, 2]}]\n\
         - sources: [{model: ./a, layer_range: [0, 1]}, {model: ./b, layer_range: [0, 1]}]\n",
    );
    space.ok(&["build", "-q", "r.yaml", "--stage", "stack", "--stage", "x"]);
    let [a, b, stack, ties] = ["a", "b", "merges/stack", "merges/x"].map(|folder| read(&space.path(folder)));
    let name = |layer: usize| format!("model.layers.{layer}.mlp.experts.1.down_proj.weight");
    assert_eq!(stack[&name(0)], a[&name(0)]);
    assert_eq!(stack[&name(2)].values[..], b["model.layers.0.mlp.experts.down_proj"].values[24..48]);
    assert!(stack.keys().eq(ties.keys()) && stack.len() == 2 * (1 + 3 * EXPERTS + 3) + 3 + 3);
    // Half of the elements of all experts together are the stack's own.
    let same = |layer: usize| {
        let of = |tensors: &BTreeMap<String, Tensor>| -> Vec<f64> {
            (0..EXPERTS)
                .flat_map(|expert| {
                    tensors[&format!("model.layers.{layer}.mlp.experts.{expert}.down_proj.weight")]
                        .values
                        .clone()
                })
                .collect()
        };
        of(&stack).iter().zip(of(&ties)).filter(|(a, b)| *a == b).count()
    };
    assert_eq!((same(0), same(2)), (36, 36));
}

#[test]
fn filters_that_reach_no_experts_are_told_of() {
    let space = Space::new();
    apart(1).write(&space.path("a"));
    fused(2).write(&space.path("b"));
    let said = |filter: &str, first: &str, second: &str| {
        space.write(
            "r.yaml",
            format!(
                "name: x\nmerge_method: linear\nmodels:\n- model: ./{first}\n  parameters:\n    weight: [{{filter: {filter}, value: 0.2}}, \
                 {{value: 0.5}}]\n- {{model: ./{second}, parameters: {{weight: 1}}}}\n"
            ),
        );
        space.ok(&["check", "r.yaml"]).stderr
    };
    let warning = "[filter-of-experts]";
    for filter in ["gate_proj", "experts.2.", ".weight"] {
        assert!(said(filter, "a", "b").contains(warning), "{filter}");
        assert!(!said(filter, "b", "a").contains(warning), "{filter}");
    }
    for filter in ["mlp", "up_proj", "experts.down_proj"] {
        assert!(!said(filter, "a", "b").contains(warning), "{filter}");
    }
}

#[test]
fn experts_that_nothing_changes_are_not_computed() {
    let space = Space::new();
    apart(1).write(&space.path("a"));
    space.write("r.yaml", "name: x\nmerge_method: passthrough\nmodels: [{model: ./a}]\n");
    let events = space.ok(&["build", "--json", "r.yaml", "--out", "o"]).stdout;
    assert!(events.contains("\"ran\":0,"), "{events}");
    assert_eq!(read(&space.path("o")), read(&space.path("a")));
}
