//! Every parameter of every method is in the keys, unless it is declared to change nothing.

use serde_json::Value;

use crate::checkpoints::Checkpoint;
use crate::harness::Space;

/// Whether a parameter takes a number of its type.
pub fn takes(param: &Value, number: f64) -> bool {
    let end = |name: &str| param.get(name).map(|end| end.as_f64().expect("ends are numbers"));
    end("minimum").is_none_or(|end| number >= end)
        && end("exclusiveMinimum").is_none_or(|end| number > end)
        && end("maximum").is_none_or(|end| number <= end)
        && end("exclusiveMaximum").is_none_or(|end| number < end)
}

/// The least change of a parameter's example.
fn next(param: &Value) -> String {
    let example = &param["example"];
    let steps = match param["type"].as_str() {
        Some("flag") => return (!example.as_bool().expect("it is a flag")).to_string(),
        Some("integer") => [1.0, -1.0].map(|step| example.as_f64().expect("it is a number") + step),
        _ => {
            let number = example.as_f64().expect("it is a number");
            [number.next_up(), number.next_down()]
        }
    };
    steps
        .into_iter()
        .find(|step| takes(param, *step))
        .expect("there is a value beside the example")
        .to_string()
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
    let methods = space.methods();
    assert!(methods.len() >= 20);
    let ran = |text: String| {
        space.write("recipe.yaml", text);
        space.build(&["recipe.yaml"]).ran.len()
    };
    for method in &methods {
        let params = method["params"].as_array().unwrap();
        let settings: Vec<(String, String)> = params
            .iter()
            .map(|param| (param["name"].as_str().unwrap().to_owned(), param["example"].to_string()))
            .collect();
        ran(recipe(method, &settings, 1));
        assert_eq!(ran(recipe(method, &settings, 1)), 0, "{}", method["name"]);
        for (i, param) in params.iter().enumerate() {
            let mut changed = settings.clone();
            changed[i].1 = next(param);
            let n = ran(recipe(method, &changed, 1));
            let what = format!("{} of {}", settings[i].0, method["name"]);
            assert_eq!(n == 0, param["inert"] == true, "{what}: {n} actions ran");
        }
        let draws = ran(recipe(method, &settings, 2)) > 0;
        assert_eq!(method["draws"], draws, "the seed of {}", method["name"]);
    }
}
