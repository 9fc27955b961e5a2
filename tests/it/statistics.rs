//! What a merge did: the statistics of an output against the same numbers in f64.

use serde_json::{Value, json};

use crate::checkpoints::{Checkpoint, read};
use crate::harness::Space;

const RECIPE: &str = "name: first\nmerge_method: task_arithmetic\nbase_model: ./base\n\
    models: [{model: ./a, parameters: {weight: 0.5}}, {model: ./b, parameters: {weight: 0.25}}]\n\
    ---\nname: second\nmerge_method: slerp\nbase_model: first\nmodels: [{model: ./b}]\n\
    parameters: {t: [{filter: norm, value: 0}, {value: 0.3}]}\n";

fn built() -> Space {
    let space = Space::new();
    for (i, model) in ["base", "a", "b"].iter().enumerate() {
        Checkpoint::decoder(2, i as u64).write(&space.path(model));
    }
    space.write("recipe.yaml", RECIPE);
    space.ok(&["build", "-q", "recipe.yaml", "--stage", "first"]);
    space.ok(&["build", "-q", "recipe.yaml"]);
    space
}

fn statistics(space: &Space, args: &[&str]) -> Value {
    let args = [&["inspect", "merges/second", "--stats", "--json"], args].concat();
    serde_json::from_str(&space.ok(&args).stdout).unwrap()
}

fn near(found: &Value, expected: f64) -> bool {
    let found = found.as_f64().unwrap();
    (found - expected).abs() <= 1e-6 * expected.abs().max(1e-3)
}

#[test]
fn statistics_are_those_of_their_definitions() {
    let space = built();
    let found = statistics(&space, &[]);
    let models = [".", "merges"].map(|folder| space.path(folder));
    let [result, first] = ["second", "first"].map(|name| read(&models[1].join(name)));
    let [base, a, b] = ["base", "a", "b"].map(|name| read(&models[0].join(name)));
    let tensors = found["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), result.len());
    for tensor in tensors {
        let name = tensor["tensor"].as_str().unwrap();
        // At t = 0 the tensor is the first stage's, and so are its statistics.
        let is_first = name.contains("norm");
        assert_eq!(tensor["stage"], if is_first { "first" } else { "second" });
        let (from, models) = if is_first { (&base, vec![&a, &b]) } else { (&first, vec![&b]) };
        let (r, from) = (&result[name].values, &from[name].values);
        let change: Vec<f64> = r.iter().zip(from).map(|(r, b)| r - b).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let norm = |a: &[f64]| dot(a, a).sqrt();
        assert!(near(&tensor["norm"], norm(&change)), "{tensor}");
        assert!(near(&tensor["relative"], norm(&change) / norm(from)), "{tensor}");
        assert!(near(&tensor["cosine"], dot(r, from) / norm(r) / norm(from)), "{tensor}");
        let flipped = r.iter().zip(from).filter(|(r, b)| *r * *b < 0.0).count();
        assert!(near(&tensor["flipped"], flipped as f64 / r.len() as f64), "{tensor}");
        let along = |model: &[f64]| {
            let own: Vec<f64> = model.iter().zip(from).map(|(x, b)| x - b).collect();
            dot(&change, &own)
        };
        let along: Vec<f64> = models.iter().map(|model| along(&model[name].values)).collect();
        let total: f64 = along.iter().sum();
        let shares = tensor["shares"].as_array().unwrap();
        assert_eq!(shares.len(), along.len());
        for (share, along) in shares.iter().zip(&along) {
            assert!(near(&share["share"], along / total), "{tensor}");
        }
    }
    let totals = found["totals"].as_array().unwrap();
    assert_eq!(totals.len(), 2);
    assert_eq!(
        totals.iter().map(|total| total["tensors"].as_u64().unwrap()).sum::<u64>(),
        result.len() as u64
    );
    let text = space.ok(&["inspect", "merges/second", "--stats"]).stdout;
    assert!(
        text.contains("second: ") && text.contains("against first") && text.contains("lm_head"),
        "{text}"
    );
}

#[test]
fn statistics_are_kept_and_an_edit_makes_only_what_it_changed() {
    let space = built();
    let n = statistics(&space, &[])["ran"].as_u64().unwrap();
    assert!(n > 0);
    assert_eq!(statistics(&space, &[])["ran"], 0);
    // Only q_proj moves.
    space.replace("recipe.yaml", "{value: 0.3}", "{filter: q_proj, value: 0.4}, {value: 0.3}");
    space.ok(&["build", "-q", "recipe.yaml"]);
    let edited = statistics(&space, &[]);
    let moved = edited["tensors"].as_array().unwrap().iter();
    let moved = moved.filter(|tensor| tensor["tensor"].as_str().unwrap().contains("q_proj")).count();
    assert_eq!(edited["ran"], moved);
    // An output that is not what its recipe gives any more has none.
    Checkpoint::decoder(2, 9).write(&space.path("a"));
    let error = space.fails(1, &["inspect", "merges/second", "--stats"]);
    assert!(error.contains("./a: tensor `"), "{error}");
}

#[test]
fn what_has_no_lockfile_has_no_statistics() {
    let space = Space::new();
    Checkpoint::new(json!({})).write(&space.path("model"));
    let error = space.fails(1, &["inspect", "model", "--stats"]);
    assert!(error.contains("lamarck.lock.json"), "{error}");
}
