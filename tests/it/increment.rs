//! What runs again after a change: exactly what the change can reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::checkpoints::Checkpoint;
use crate::harness::{Built, FULL, Space, copy_dir, project, project_text, settle};

const STAGES: [&str; 6] = [
    "lamarck-14b-reason-model_stock",
    "lamarck-14b-prose-model_stock",
    "lamarck-14b-reason-della",
    "lamarck-14b-prose-della",
    "lamarck-14b-converge-della",
    "lamarck-14b-converge",
];
const REASON_DELLA: &str = "lamarck-14b-reason-della";
const CONVERGE_DELLA: &str = "lamarck-14b-converge-della";
const CONVERGE: &str = "lamarck-14b-converge";
/// Tensors of a stage that t = 0 does not make needless: those of layers 3 to 47, the norm and the head.
const NEEDED: usize = 542;

fn built() -> Space {
    let space = Space::with_full_recipe();
    let first = space.build(&["recipe.yaml"]);
    assert_eq!(first.by_stage(), STAGES.map(|stage| (stage, NEEDED)).into_iter().collect());
    space
}

#[track_caller]
fn assert_nothing(built: &Built) {
    assert_eq!(built.ran, BTreeSet::new());
    assert_eq!(built.hashed, BTreeSet::new());
    assert_eq!(built.finished[0]["shards_written"], 0);
}

/// The layer of a tensor's name.
fn layer(tensor: &str) -> Option<usize> {
    tensor.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()
}

/// Whether t leaves a tensor of the stages below converge anything to do.
fn is_needed(tensor: &str) -> bool {
    layer(tensor).map_or(tensor != "model.embed_tokens.weight", |layer| layer > 2)
}

#[test]
fn nothing_runs_and_nothing_is_read_when_nothing_changed() {
    let space = built();
    let before = space.files("merges");
    assert_nothing(&space.build(&["recipe.yaml"]));
    assert_eq!(space.files("merges"), before);
}

#[test]
fn spelling_does_not_matter() {
    let space = built();
    let text = space.read("recipe.yaml");
    let mut stages: Vec<&str> = text.split("---\n").filter(|stage| !stage.is_empty()).collect();
    stages.reverse();
    let reversed = stages.join("---\n");
    for (what, edited) in [
        ("a comment", text.replacen("weight:        0.90", "weight:        0.90  # more of it", 1)),
        ("a number's spelling", text.replace("0.90", "9.0e-1").replace("0.60", ".6")),
        (
            "key order",
            text.replacen(
                "      density:       0.70\n      weight:        0.90",
                "      weight:        0.90\n      density:       0.70",
                1,
            ),
        ),
        ("stage order", reversed),
        ("a default written out", text.replace("  int8_mask:         false", "  int8_mask:         true")),
    ] {
        assert_ne!(edited, text, "{what} was changed");
        space.write("recipe.yaml", edited);
        let again = space.build(&["recipe.yaml"]);
        assert_eq!(again.ran, BTreeSet::new(), "after {what}");
        assert_eq!(again.hashed, BTreeSet::new(), "after {what}");
    }
}

#[test]
fn a_weight_reaches_its_stage_and_below_it_what_changed() {
    let space = built();
    let plan: Value = serde_json::from_str(&space.ok(&["plan", "--json", "recipe.yaml"]).stdout).unwrap();
    assert_eq!(plan["run"], 0);
    let before = digests(&space);
    space.replace(
        "recipe.yaml",
        "density:       0.70\n      weight:        0.90",
        "density:       0.70\n      weight:        0.85",
    );
    let again = space.build(&["recipe.yaml"]);
    let after = digests(&space);
    let counts = again.by_stage();
    assert_eq!(counts[REASON_DELLA], NEEDED);
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [CONVERGE, CONVERGE_DELLA, REASON_DELLA]);
    // Below, an action ran if and only if the one thing it reads that could change did.
    for (above, below) in [(REASON_DELLA, CONVERGE_DELLA), (CONVERGE_DELLA, CONVERGE)] {
        let changed: BTreeSet<&str> = (before.iter())
            .filter(|(key, digest)| key.0 == above && is_needed(&key.1) && after[*key] != **digest)
            .map(|(key, _)| key.1.as_str())
            .collect();
        assert!(changed.len() < NEEDED, "some tensor of {above} came out as before");
        assert_eq!(again.tensors_of(below), changed, "{below} ran where {above} changed");
    }
    let last = &again.finished[0];
    assert_eq!(last["rebuilt"], counts[CONVERGE]);
    assert_eq!(last["cut_off"], NEEDED - counts[CONVERGE]);
    assert_eq!(last["reused"], 579 - NEEDED);
}

/// Digests of every tensor of every stage, from lockfiles of builds of single stages.
fn digests(space: &Space) -> BTreeMap<(String, String), String> {
    let mut digests = BTreeMap::new();
    for stage in STAGES {
        let out = format!("stages/{stage}");
        space.ok(&["build", "-q", "recipe.yaml", "--stage", stage, "--out", &out]);
        let lock = space.json(&format!("{out}/lamarck.lock.json"));
        for (tensor, record) in lock["tensors"].as_object().expect("the lock lists tensors") {
            let digest = record["blake3"].as_str().expect("tensors have digests");
            digests.insert((stage.to_owned(), tensor.clone()), digest.to_owned());
        }
    }
    digests
}

#[test]
fn a_filtered_weight_reaches_what_the_filter_matches() {
    let space = built();
    space.replace(
        "recipe.yaml",
        "density:       0.70\n      weight:        0.90",
        "density:       0.70\n      weight:\n        - {filter: mlp, value: 0.85}\n        - value: 0.90",
    );
    let again = space.build(&["recipe.yaml"]);
    let ran = again.tensors_of(REASON_DELLA);
    assert_eq!(ran.len(), 3 * 45);
    assert!(ran.iter().all(|tensor| tensor.contains(".mlp.")));
    assert!(again.ran.iter().all(|(_, tensor)| tensor.contains(".mlp.")));
}

#[test]
fn the_t_of_a_slice_reaches_its_layers_of_converge() {
    let space = built();
    space.replace("recipe.yaml", "t:               [ 0.60, 0.70 ]", "t:               [ 0.62, 0.72 ]");
    let again = space.build(&["recipe.yaml"]);
    let layers: BTreeSet<Option<usize>> = again.ran.iter().map(|(_, tensor)| layer(tensor)).collect();
    assert_eq!(again.by_stage().into_iter().collect::<Vec<_>>(), [(CONVERGE, 8 * 12)]);
    assert_eq!(layers, (8..16).map(Some).collect());
}

#[test]
fn what_cannot_matter_does_not_run_anything() {
    let space = Space::with_full_recipe();
    let text = project_text(FULL).replacen("density:       0.90", "density:       1.00", 1);
    space.write("recipe.yaml", &text);
    space.build(&["recipe.yaml"]);
    // Epsilon of the input whose density is 1, and the weight of the base.
    let edited = text
        .replacen("      density:       1.00", "      density:       1.00\n      epsilon:       0.33", 1)
        .replacen(
            "density:       0.40\n      weight:        0.50",
            "density:       0.44\n      weight:        0.55",
            1,
        );
    assert_ne!(edited, text);
    space.write("recipe.yaml", edited);
    assert_nothing(&space.build(&["recipe.yaml"]));
}

#[test]
fn a_change_undone_costs_nothing() {
    let space = built();
    let text = space.read("recipe.yaml");
    let before = space.files("merges");
    space.replace("recipe.yaml", "lambda:            0.95", "lambda:            0.85");
    assert!(!space.build(&["recipe.yaml"]).ran.is_empty());
    assert_ne!(space.files("merges"), before);
    space.write("recipe.yaml", text);
    let again = space.build(&["recipe.yaml"]);
    assert_eq!((again.ran.len(), again.hashed.len()), (0, 0));
    assert_eq!(space.files("merges"), before);
}

#[test]
fn a_second_recipe_pays_for_what_differs() {
    let space = built();
    let other = space
        .read("recipe.yaml")
        .replace("lamarck-14b-", "other-")
        .replace("t:               [ 0.60, 0.40 ]", "t:               [ 0.60, 0.30 ]");
    space.write("second.yaml", other);
    let again = space.build(&["second.yaml"]);
    // The model_stocks draw nothing, so that their names do not matter; a della's draws follow its name.
    assert!(!again.by_stage().contains_key("other-reason-model_stock"));
    assert!(!again.by_stage().contains_key("other-prose-model_stock"));

    let renamed_last = space
        .read("recipe.yaml")
        .replace("lamarck-14b-finalize", "another-finish")
        .replace("t:               [ 0.60, 0.40 ]", "t:               [ 0.60, 0.30 ]");
    space.write("third.yaml", renamed_last);
    let third = space.build(&["third.yaml"]);
    let layers: BTreeSet<Option<usize>> = third.ran.iter().map(|(_, tensor)| layer(tensor)).collect();
    assert_eq!(third.by_stage().keys().copied().collect::<Vec<_>>(), [CONVERGE]);
    // At the start of the slice t is as it was.
    assert_eq!(layers, (41..48).map(Some).collect());
}

#[test]
fn a_rewritten_tensor_reaches_what_reads_it_until_bytes_come_out_equal() {
    let space = Space::new();
    // The base dominates: what the first stage keeps of a difference far below bf16's step is lost again.
    let (mut base, mut a) = (Checkpoint::decoder(2, 1), Checkpoint::decoder(2, 2));
    let name = "model.layers.1.self_attn.q_proj.weight";
    base.f32(name, &[4, 4], &[1.0; 16]);
    a.f32(name, &[4, 4], &[1.0 + 1.0 / 4096.0; 16]);
    base.write(&space.path("base"));
    a.write(&space.path("a"));
    space.write(
        "recipe.yaml",
        "name: first\nmerge_method: linear\nmodels: [{model: ./base}, {model: ./a}]\n\
         parameters: {weight: 0.5}\nout_dtype: bfloat16\n---\n\
         name: second\nmerge_method: linear\nmodels: [{model: first}, {model: ./base}]\n\
         parameters: {weight: 0.5}\n",
    );
    settle();
    space.build(&["recipe.yaml"]);
    let other_tensors = space.files("a");
    a.f32(name, &[4, 4], &[1.0 + 1.0 / 8192.0; 16]);
    a.write(&space.path("a"));
    assert_ne!(space.files("a"), other_tensors);
    let again = space.build(&["recipe.yaml"]);
    assert_eq!(again.ran, BTreeSet::from([("first".to_owned(), name.to_owned())]));
    assert_eq!(again.finished[0]["cut_off"], 1);
    assert_eq!(again.finished[0]["rebuilt"], 0);
    assert!(again.hashed.iter().all(|(model, _)| model.ends_with("/a")), "only the rewritten file is read");
}

#[test]
fn an_ancestor_touched_moved_or_renamed_runs_nothing() {
    let space = Space::new();
    copy_dir(&project("recipes/ancestors"), &space.path("models"));
    space.use_models(&space.path("models"));
    space.write("recipe.yaml", project_text(FULL));
    settle();
    space.build(&["recipe.yaml"]);

    let file = space.path("models/CultriX/Qwen2.5-14B-Wernicke/model.safetensors");
    fs::File::options().append(true).open(&file).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    let touched = space.build(&["recipe.yaml"]);
    assert_eq!(touched.ran, BTreeSet::new());
    assert!(touched.hashed.iter().all(|(model, _)| model.ends_with("CultriX/Qwen2.5-14B-Wernicke")));
    assert!(!touched.hashed.is_empty());

    fs::create_dir_all(space.path("elsewhere/mine")).unwrap();
    let from = space.path("models/CultriX/Qwen2.5-14B-Wernicke");
    fs::rename(from, space.path("elsewhere/mine/Wernicke")).unwrap();
    let text = space.read("recipe.yaml");
    space.write("recipe.yaml", text.replace("CultriX/Qwen2.5-14B-Wernicke", "./elsewhere/mine/Wernicke"));
    assert_eq!(space.build(&["recipe.yaml"]).ran, BTreeSet::new());
}

#[test]
fn the_plan_shows_what_is_not_needed() {
    let space = built();
    let plan: Value = serde_json::from_str(&space.ok(&["plan", "--json", "recipe.yaml"]).stdout).unwrap();
    let stages = plan["stages"].as_array().unwrap();
    let stage = |name: &str| stages.iter().find(|stage| stage["stage"] == name).unwrap();
    for name in &STAGES[..5] {
        assert_eq!(stage(name)["not_needed"], 579 - NEEDED, "{name}");
    }
    // At t = 0 the slerp is its base: the embeddings and layers 0, 1 and 2.
    assert_eq!(stage(CONVERGE)["same_as"]["arcee-ai/Virtuoso-Small"], 1 + 3 * 12);
}

#[test]
fn a_single_stage_and_a_seed_can_be_asked_for() {
    let space = built();
    let run = space.build(&["recipe.yaml", "--stage", "lamarck-14b-reason-model_stock", "--out", "stock"]);
    assert_eq!(run.by_stage().into_iter().collect::<Vec<_>>(), [(STAGES[0], 579 - NEEDED)]);
    let seeded = space.build(&["recipe.yaml", "--seed", "7"]);
    assert_eq!(seeded.by_stage()[REASON_DELLA], NEEDED);
    assert!(!seeded.by_stage().contains_key(STAGES[0]), "model_stock draws nothing");
    assert_eq!(space.build(&["recipe.yaml", "--seed", "7"]).ran.len(), 0);
}
