//! Heat maps of what became of tensors, and bars of the ancestors' shares.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::grid::Grid;
use super::sums::{Distance, Shares};
use crate::draw::heat::{HeatMap, Scale, end_of_scale, heat_map};
use crate::draw::shares::SharesChart;
use crate::op::conflicts::Conflict;
use crate::project::Moved;

/// A part of a whole as a percentage with three digits that count.
pub fn percent(part: f64) -> String {
    let percent = part * 100.0;
    let digits = match percent.abs() {
        0.0 => 0,
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        _ => 3,
    };
    format!("{percent:.digits$} %")
}

/// How far tensors moved from what they are compared with.
pub fn changes(title: &str, grid: &Grid, moved: &BTreeMap<String, Moved>) -> Markup {
    let distances = moved.iter().map(|(tensor, moved)| (tensor.clone(), Distance::of(moved))).collect();
    let cells = grid.cells(&distances, Distance::add);
    let values: Vec<Vec<Option<f64>>> =
        cells.iter().map(|row| row.iter().map(|cell| cell.map(|cell| cell.relative())).collect()).collect();
    sequential(title, grid, &values)
}

/// Where the models of a stage are at odds.
pub fn conflicts(
    title: &str,
    grid: &Grid,
    conflicts: &BTreeMap<String, Conflict>,
    number: impl Fn(&Conflict) -> f64,
) -> Markup {
    let cells = grid.cells(conflicts, Conflict::add);
    let values: Vec<Vec<Option<f64>>> =
        cells.iter().map(|row| row.iter().map(|cell| cell.as_ref().map(&number)).collect()).collect();
    sequential(title, grid, &values)
}

/// A map from 0 to the largest value that is no outlier.
fn sequential(title: &str, grid: &Grid, values: &[Vec<Option<f64>>]) -> Markup {
    let found = || values.iter().flatten().flatten().copied();
    if found().next().is_none() {
        return html! {};
    }
    let (high, has_more) = end_of_scale(found());
    let end = if has_more { format!("{} and more", percent(high)) } else { percent(high) };
    let scale = Scale::Sequential { low: 0.0, high };
    map(title, grid, values, scale, ["0 %", &end])
}

fn map(title: &str, grid: &Grid, values: &[Vec<Option<f64>>], scale: Scale, ends: [&str; 2]) -> Markup {
    let has_values: Vec<bool> = values.iter().map(|row| row.iter().any(Option::is_some)).collect();
    let shown = |row: &usize| has_values[*row];
    let rows: Vec<usize> = (0..values.len()).filter(shown).collect();
    let names: Vec<String> = rows.iter().map(|row| grid.rows()[*row].clone()).collect();
    let values: Vec<Vec<Option<f64>>> = rows.iter().map(|row| values[*row].clone()).collect();
    let map = HeatMap {
        title,
        rows: &names,
        columns: grid.columns(),
        column_word: "layer",
        values: &values,
        scale,
        ends,
    };
    heat_map(&map, |row, column| values[row][column].map_or_else(String::new, percent))
}

/// Each ancestor's share of what became of a model: by layer as bars, by layer and kind as a map each.
pub fn ancestry(grid: &Grid, moved: &BTreeMap<String, Moved>) -> Markup {
    let mut models: Vec<String> = Vec::new();
    for model in moved.values().flat_map(|moved| &moved.models) {
        if !models.contains(model) {
            models.push(model.clone());
        }
    }
    models.sort();
    let shares = moved.iter().map(|(tensor, moved)| (tensor.clone(), Shares::of(moved, &models))).collect();
    let cells = grid.cells(&shares, Shares::add);
    let of_columns: Vec<Option<Vec<f64>>> = (0..grid.columns().len())
        .map(|column| {
            let mut own = cells.iter().filter_map(|row| row[column].clone());
            let first = own.next()?;
            own.fold(first, |mut sum, more| {
                sum.add(&more);
                sum
            })
            .parts()
        })
        .collect();
    let chart = SharesChart {
        title: "Share of each layer's change, by ancestor",
        parties: &models,
        bars: grid.columns(),
        shares: &of_columns,
    };
    let parts: Vec<Vec<Option<Vec<f64>>>> =
        cells.iter().map(|row| row.iter().map(|cell| cell.as_ref()?.parts()).collect()).collect();
    html! {
        (chart.draw())
        details {
            summary { "By kind of module, one map for each ancestor" }
            @for (number, model) in models.iter().enumerate() {
                @let values: Vec<Vec<Option<f64>>> = parts.iter()
                    .map(|row| row.iter().map(|parts| parts.as_ref().map(|parts| parts[number])).collect())
                    .collect();
                (map(model, grid, &values, Scale::Diverging { extent: 1.0 }, ["-100 %", "100 %"]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_have_three_digits_that_count() {
        let parts = [0.0, 1.0, 0.12345, 0.05, 0.001_234, -0.5];
        assert_eq!(parts.map(percent), ["0 %", "100 %", "12.3 %", "5.00 %", "0.123 %", "-50.0 %"]);
    }
}
