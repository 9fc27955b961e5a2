//! Every parameter of every method is in the keys, unless it is declared to change nothing.

use serde_json::Value;

use crate::checkpoints::Checkpoint;
use crate::harness::Space;

/// A value for each number, such that no parameter is beside the point.
pub fn value(name: &str) -> f64 {
    match name {
        "weight" => 0.7,
        "density" => 0.5,
        "epsilon" => 0.1,
        "gamma" => 0.05,
        "lambda" => 1.1,
        "t" => 0.3,
        "scale" => 1.5,
        other => panic!("{other} needs a value here"),
    }
}

fn recipe(method: &Value, settings: &[(String, String)], seed: u64) -> String {
    let name = method["name"].as_str().unwrap();
    let n_models = method["models_max"].as_u64().unwrap_or(2).min(2);
    let models: Vec<String> =
        ["b", "c"][..n_models as usize].iter().map(|model| format!("{{model: ./{model}}}")).collect();
    let base = if method["base_required"] == true { "base_model: ./a\n" } else { "" };
    let settings: Vec<String> = settings.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    format!(
        "name: merged\nmerge_method: {name}\n{base}models: [{}]\nparameters: {{{}}}\nseed: {seed}\n",
        models.join(", "),
        settings.join(", ")
    )
}

#[test]
fn a_parameter_that_moves_by_its_smallest_step_is_noticed() {
    let space = Space::new();
    for (i, name) in ["a", "b", "c"].iter().enumerate() {
        Checkpoint::decoder(1, i as u64).write(&space.path(name));
    }
    let methods: Vec<Value> = serde_json::from_str(&space.ok(&["methods", "--json"]).stdout).unwrap();
    assert_eq!(methods.len(), 12);
    let ran = |text: String| {
        space.write("recipe.yaml", text);
        space.build(&["recipe.yaml"]).ran.len()
    };
    for method in &methods {
        let params = method["params"].as_array().unwrap();
        let settings: Vec<(String, String)> = params
            .iter()
            .map(|param| {
                let name = param["name"].as_str().unwrap().to_owned();
                let text = if param["type"] == "flag" { "true".to_owned() } else { value(&name).to_string() };
                (name, text)
            })
            .collect();
        ran(recipe(method, &settings, 1));
        assert_eq!(ran(recipe(method, &settings, 1)), 0, "{}", method["name"]);
        for (i, param) in params.iter().enumerate() {
            let mut changed = settings.clone();
            changed[i].1 = match param["type"].as_str() {
                Some("flag") => "false".to_owned(),
                _ => value(&settings[i].0).next_up().to_string(),
            };
            let n = ran(recipe(method, &changed, 1));
            let what = format!("{} of {}", settings[i].0, method["name"]);
            assert_eq!(n == 0, param["inert"] == true, "{what}: {n} actions ran");
        }
        let draws = ["dare", "della"].iter().any(|word| method["name"].as_str().unwrap().contains(word));
        assert_eq!(ran(recipe(method, &settings, 2)) > 0, draws, "the seed of {}", method["name"]);
    }
}
