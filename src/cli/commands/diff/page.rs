//! A comparison as a page.

use maud::{Markup, html};

use super::report::Report;
use super::sums::{Group, Sums, movers};
use super::words::{cosine, number, percent, place};
use crate::cli::commands::log::in_words;
use crate::cli::words::plural;
use crate::draw::filter::{self, filter_box};
use crate::draw::heat::{self, HeatMap, Scale, heat_map};
use crate::draw::page::Page;
use crate::op::difference::Distance;
use crate::project::ComparedTensor;
use crate::tensor::TensorSpec;

pub fn page(report: &Report<'_>) -> String {
    let Report { names, what, kinds, comparison, edits, sums } = report;
    let title = |side: usize| match kinds[side] {
        "build" => format!("build {}", names[side].trim_start_matches("build:")),
        _ => names[side].to_owned(),
    };
    let total = &sums.total;
    let body = html! {
        table {
            @for (letter, (name, what)) in ["A", "B"].iter().zip(names.iter().zip(what)) {
                tr { th scope="row" { (letter) } td { code { (name) } } td.muted { (what) } }
            }
        }
        @if let Some(edits) = edits {
            h2 { "Recipe" }
            @let lines = in_words(edits);
            @if lines.is_empty() { p { "The recipes say the same." } }
            ul { @for line in &lines { li { (line) } } }
        }
        @if total.differ() > 0 {
            h2 { "Where they differ" }
            (map(sums, "Relative L2: the length of B - A as a part of that of A", &Distance::relative))
            (map(sums, "Signs flipped, as a part of all elements", &Distance::flipped))
            (map(sums, "1 - cosine", &|distance: &Distance| 1.0 - distance.cosine()))
            h2 { "By kind of module" }
            (groups(&sums.kinds))
            details { summary { "By layer" } (groups(&sums.layers)) }
            h2 { "Tensors that differ" }
            (tensors(report))
        }
        @for (only, letter) in comparison.only.iter().zip(["A", "B"]) {
            @if !only.is_empty() {
                h2 { "Only in " (letter) }
                ul { @for (name, spec) in only { li { code { (name) } " " (spec.to_string()) } } }
            }
        }
        @if !comparison.unlike.is_empty() {
            h2 { "Of other shapes" }
            ul { @for (name, [a, b]) in &comparison.unlike { li { code { (name) } " " (arrow(a, b)) } } }
        }
        @for (unmade, letter) in comparison.unmade.iter().zip(["A", "B"]) {
            @if !unmade.is_empty() {
                h2 { "Never made for " (letter) }
                p { "No final stage needs these, so that no build makes them." }
                ul { @for name in unmade { li { code { (name) } } } }
            }
        }
    };
    let summary = html! {
        (total.tensors) " tensor" (plural(total.tensors)) " in both: " (total.equal) " equal, " (total.differ()) " differ"
        @if total.distance.elements > 0.0 {
            ". Of those that differ: relative L2 " (percent(total.distance.relative()))
            ", cosine " (cosine(&total.distance)) ", " (percent(total.distance.flipped())) " of signs flipped, largest change "
            (number(total.distance.largest))
        }
        "."
    };
    let title = format!("{} \u{2192} {}", title(0), title(1));
    Page { title: &title, summary, body, style: heat::STYLE, scripts: &[heat::SCRIPT, filter::SCRIPT] }.html()
}

fn arrow(a: &TensorSpec, b: &TensorSpec) -> String {
    format!("{a} \u{2192} {b}")
}

fn map(sums: &Sums, title: &str, of: &dyn Fn(&Distance) -> f64) -> Markup {
    let names = |groups: &[Group]| -> Vec<String> { groups.iter().map(|group| group.name.clone()).collect() };
    let value = |cell: &Option<Group>| cell.as_ref().map(|cell| of(&cell.distance));
    let values: Vec<Vec<Option<f64>>> =
        sums.cells.iter().map(|row| row.iter().map(value).collect()).collect();
    let (end, has_more) = sums.end_of_scale(of);
    let end_text = format!("{}{}", percent(end), if has_more { " and more" } else { "" });
    let map = HeatMap {
        title,
        rows: &names(&sums.kinds),
        columns: &names(&sums.layers),
        column_word: "layer",
        values: &values,
        scale: Scale::Sequential { low: 0.0, high: end },
        ends: ["0 %", &end_text],
    };
    heat_map(&map, |row, column| values[row][column].map_or_else(String::new, percent))
}

fn groups(groups: &[Group]) -> Markup {
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        th scope="col" { "Name" }
                        @for name in ["Tensors", "Equal", "Relative L2", "Cosine", "Signs flipped", "Largest change"] {
                            th.n scope="col" { (name) }
                        }
                    }
                }
                tbody {
                    @for group in groups.iter().filter(|group| group.tensors > 0) {
                        @let distance = &group.distance;
                        tr {
                            th scope="row" { (group.name) }
                            td.n { (group.tensors) }
                            td.n { (group.equal) }
                            @if distance.elements > 0.0 {
                                td.n { (percent(distance.relative())) }
                                td.n { (cosine(distance)) }
                                td.n { (percent(distance.flipped())) }
                                td.n { (number(distance.largest)) }
                            } @else { td colspan="4" {} }
                        }
                    }
                }
            }
        }
    }
}

fn tensors(report: &Report<'_>) -> Markup {
    let movers = movers(report.comparison);
    let dtypes = |tensor: &ComparedTensor| {
        let [a, b] = &tensor.specs;
        if a.dtype == b.dtype { a.to_string() } else { arrow(a, b) }
    };
    html! {
        (filter_box())
        div.scroll {
            table id="tensors" {
                thead {
                    tr {
                        th scope="col" { "Tensor" }
                        th scope="col" { "Type" }
                        @for name in ["Relative L2", "Cosine", "Signs flipped", "Largest change", "At"] {
                            th.n scope="col" { (name) }
                        }
                    }
                }
                tbody {
                    @for (tensor, distance) in &movers {
                        tr {
                            td { code { (tensor.name) } }
                            td { (dtypes(tensor)) }
                            td.n { (percent(distance.relative())) }
                            td.n { (cosine(distance)) }
                            td.n { (percent(distance.flipped())) }
                            td.n { (number(distance.largest)) }
                            td.n { (place(tensor, distance)) }
                        }
                    }
                }
            }
        }
    }
}
