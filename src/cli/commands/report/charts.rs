//! A stage's parameters over its layers, as they were resolved.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::grid::Grid;
use crate::draw::lines::{Line, LineChart, short};
use crate::plan::ParameterValues;

/// One chart for each parameter that varies, for each model that it is set for; the others as a table.
pub fn charts(grid: &Grid, parameters: &[ParameterValues]) -> Markup {
    let (plain, varied): (Vec<&ParameterValues>, Vec<&ParameterValues>) =
        parameters.iter().partition(|values| is_one(values.values.values().copied()));
    html! {
        @if !plain.is_empty() { (table(&plain)) }
        div.charts { @for values in varied { (chart(grid, values)) } }
    }
}

/// Parameters that are the same for every tensor: models down, parameters across.
fn table(parameters: &[&ParameterValues]) -> Markup {
    let mut names: Vec<&str> = Vec::new();
    let mut inputs: Vec<Option<&str>> = Vec::new();
    for values in parameters {
        if !names.contains(&values.param) {
            names.push(values.param);
        }
        let input = values.input.as_deref();
        if !inputs.contains(&input) {
            inputs.push(input);
        }
    }
    let value = |input: Option<&str>, name: &str| {
        let is_it = |of: &&&ParameterValues| of.param == name && of.input.as_deref() == input;
        parameters.iter().find(is_it).and_then(|of| of.values.values().next()).map(|value| short(*value))
    };
    html! {
        div.scroll {
            table {
                caption { "The same for every tensor" }
                thead { tr { th scope="col" { "Model" } @for name in &names { th.n scope="col" { (name) } } } }
                tbody {
                    @for input in inputs {
                        tr {
                            th scope="row" { (input.unwrap_or("all")) }
                            @for name in &names { td.n { (value(input, name).unwrap_or_default()) } }
                        }
                    }
                }
            }
        }
    }
}

fn is_one(values: impl Iterator<Item = f64> + Clone) -> bool {
    let mut others = values.clone();
    let first = others.next();
    others.all(|value| Some(value) == first)
}

fn chart(grid: &Grid, values: &ParameterValues) -> Markup {
    let ParameterValues { param, input, values, alone, .. } = values;
    let title = match input {
        Some(input) => format!("{param} of {input}"),
        None => (*param).to_owned(),
    };
    // Kinds of modules whose values are the same everywhere share a line.
    let mut of_kinds: BTreeMap<usize, Vec<Option<f64>>> = BTreeMap::new();
    let mut outside: Vec<(f64, Vec<&str>)> = Vec::new();
    for (tensor, value) in values {
        match (grid.place(tensor), grid.layer(tensor)) {
            (Some((kind, _)), Some(layer)) => {
                let own = of_kinds.entry(kind).or_insert_with(|| vec![None; grid.n_layers()]);
                own[layer] = Some(*value);
            }
            (Some((kind, _)), None) => match outside.iter_mut().find(|(known, _)| known == value) {
                Some((_, kinds)) => kinds.push(&grid.rows()[kind]),
                None => outside.push((*value, vec![&grid.rows()[kind]])),
            },
            _ => {}
        }
    }
    let mut lines: Vec<(Vec<&str>, Vec<Option<f64>>)> = Vec::new();
    for (kind, own) in of_kinds {
        match lines.iter_mut().find(|(_, values)| *values == own) {
            Some((names, _)) => names.push(&grid.rows()[kind]),
            None => lines.push((vec![&grid.rows()[kind]], own)),
        }
    }
    let is_alone = lines.len() == 1;
    let is_gradient = lines.iter().any(|(_, values)| !is_one(values.iter().flatten().copied()));
    let lines: Vec<Line> = lines
        .into_iter()
        .map(|(names, values)| Line { name: if is_alone { String::new() } else { names.join(", ") }, values })
        .collect();
    let mut notes: Vec<String> =
        outside.iter().map(|(value, kinds)| format!("{}: {}", kinds.join(", "), short(*value))).collect();
    if is_gradient && !outside.is_empty() {
        notes
            .push("Outside the layers a gradient counts with its first value, also for the head.".to_owned());
    }
    if is_gradient && !alone.is_empty() {
        let layers: Vec<String> = alone.iter().map(usize::to_string).collect();
        notes.push(format!(
            "Slices of one layer take a gradient's last value: layer{} {}.",
            if alone.len() == 1 { "" } else { "s" },
            layers.join(", ")
        ));
    }
    LineChart { title: &title, lines: &lines, notes: &notes }.draw()
}
