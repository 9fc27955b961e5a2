//! A comparison as text.

use super::report::Report;
use super::sums::{Group, Sums, movers};
use super::words::{cosine, number, percent, place};
use crate::cli::commands::log::in_words as edits_in_words;
use crate::cli::palette;
use crate::cli::words::plural;
use crate::draw::blocks::blocks;
use crate::project::{ComparedTensor, Edits, Likeness};
use crate::tensor::TensorSpec;

/// Tensors that are named of those that only one model has.
const NAMED: usize = 4;

/// What is shown.
pub struct Shown {
    /// Tensors that moved farthest.
    pub top: usize,
    /// Whether every tensor and every layer is listed.
    pub all: bool,
    /// The width of the terminal, in letters; `None` for no picture.
    pub width: Option<usize>,
}

pub fn text(report: &Report<'_>, shown: &Shown) -> String {
    let Report { names, what, comparison, edits, sums, .. } = report;
    let mut text = String::new();
    for (letter, (name, what)) in ["A", "B"].iter().zip(names.iter().zip(what)) {
        let more = if what.is_empty() { String::new() } else { format!(" ({what})") };
        text.push_str(&format!("{letter}  {name}{more}\n"));
    }
    text.push_str(&recipe(edits.as_ref()));
    text.push('\n');
    text.push_str(&counts(report));
    for (only, letter) in comparison.only.iter().zip(["A", "B"]) {
        let line = |(name, spec): &(String, TensorSpec)| format!("{name}  {spec}");
        text.push_str(&listed(
            &format!("only in {letter}"),
            &only.iter().map(line).collect::<Vec<_>>(),
            shown,
        ));
    }
    let unlike = |(name, [a, b]): &(String, [TensorSpec; 2])| format!("{name}  {a} -> {b}");
    let unlike: Vec<String> = comparison.unlike.iter().map(unlike).collect();
    text.push_str(&listed("of other shapes", &unlike, shown));
    let [unmade_a, unmade_b] = &comparison.unmade;
    let sides = [(unmade_a, "A and B"), (unmade_a, "A"), (unmade_b, "B")];
    for (unmade, letters) in if unmade_a == unmade_b { &sides[..1] } else { &sides[1..] } {
        let names: Vec<String> = unmade.iter().cloned().collect();
        text.push_str(&listed(
            &format!("never made for {letters}, as no final stage needs them"),
            &names,
            shown,
        ));
    }
    for (theirs, ours) in &comparison.renamed {
        text.push_str(&match (ours.as_str(), theirs.as_str()) {
            (ours, "") => format!("names in A begin with `{ours}.`, those in B do not\n"),
            ("", theirs) => format!("names in B begin with `{theirs}.`, those in A do not\n"),
            _ => format!("`{ours}` in A is `{theirs}` in B\n"),
        });
    }
    if sums.total.differ() == 0 {
        return text;
    }
    if let Some(width) = shown.width {
        text.push_str(&picture(sums, width));
    }
    text.push_str("\nby kind of module, of tensors that differ:\n");
    text.push_str(&groups(&sums.kinds));
    if shown.all {
        text.push_str("\nby layer, of tensors that differ:\n");
        text.push_str(&groups(&sums.layers));
    }
    text.push_str(&farthest(report, shown));
    text
}

fn recipe(edits: Option<&Edits>) -> String {
    let Some(edits) = edits else { return String::new() };
    let lines = edits_in_words(edits);
    if lines.is_empty() {
        return "\nrecipe: no changes\n".to_owned();
    }
    let lines: String = lines.iter().map(|line| format!("  {}\n", palette::change(line))).collect();
    format!("\nrecipe:\n{lines}")
}

fn counts(report: &Report<'_>) -> String {
    let Group { tensors, equal, distance, .. } = &report.sums.total;
    let differ = report.sums.total.differ();
    if *tensors == 0 {
        return "no tensor is in both\n".to_owned();
    }
    if differ == 0 {
        return format!("all {tensors} tensor{} in both are equal\n", plural(*tensors));
    }
    let mut text = format!("{tensors} tensor{} in both: {equal} equal, {differ} differ\n", plural(*tensors));
    if distance.elements > 0.0 {
        text.push_str(&format!("of those that differ: {}\n", in_words(report)));
    }
    let other_dtype = |tensor: &&ComparedTensor| tensor.specs[0].dtype != tensor.specs[1].dtype;
    let n = report.comparison.tensors.iter().filter(other_dtype).count();
    if let Some(first) = report.comparison.tensors.iter().find(other_dtype) {
        let [a, b] = &first.specs;
        let more = if n > 1 { format!(", as are {} more", n - 1) } else { String::new() };
        text.push_str(&format!("{} is {} in A and {} in B{more}\n", first.name, a.dtype, b.dtype));
    }
    text
}

fn in_words(report: &Report<'_>) -> String {
    let distance = &report.sums.total.distance;
    format!(
        "relative L2 {}, cosine {}, {} of elements changed, {} of signs flipped, largest change {}",
        percent(distance.relative()),
        cosine(distance),
        percent(distance.differing()),
        percent(distance.flipped()),
        number(distance.largest)
    )
}

fn listed(what: &str, lines: &[String], shown: &Shown) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let n = if shown.all { lines.len() } else { NAMED };
    let mut text = format!("{what}: {} tensor{}\n", lines.len(), plural(lines.len()));
    text.extend(lines.iter().take(n).map(|line| format!("  {line}\n")));
    if lines.len() > n {
        text.push_str(&format!("  and {} more; -v lists all\n", lines.len() - n));
    }
    text
}

/// A picture of the relative change, by kind and layer. Neighbouring layers share a column where there are many.
fn picture(sums: &Sums, width: usize) -> String {
    let names: Vec<String> = sums.kinds.iter().map(|kind| kind.name.clone()).collect();
    let columns: Vec<String> = sums.layers.iter().map(|layer| layer.name.clone()).collect();
    let (end, has_more) = sums.end_of_scale(&|distance| distance.relative());
    let room = width.saturating_sub(names.iter().map(|name| name.len()).max().unwrap_or(0) + 2).max(8);
    let step = columns.len().div_ceil(room).max(1);
    let of_columns = |cells: &Vec<Option<Group>>| -> Vec<Option<f64>> {
        let of = |cells: &[Option<Group>]| {
            let relative = cells.iter().flatten().map(|cell| cell.distance.relative());
            relative.reduce(f64::max)
        };
        cells.chunks(step).map(of).collect()
    };
    let values: Vec<Vec<Option<f64>>> = sums.cells.iter().map(of_columns).collect();
    let columns: Vec<String> = columns.iter().step_by(step).cloned().collect();
    let at_least = if has_more { "at least " } else { "" };
    format!(
        "\nrelative L2 by layer, up to {at_least}{}:\n{}",
        percent(end),
        blocks(&names, &columns, &values, end)
    )
}

fn groups(groups: &[Group]) -> String {
    let rows = groups.iter().filter(|group| group.tensors > 0).map(|group| {
        let Group { name, tensors, equal, distance } = group;
        let numbers = match distance.elements {
            0.0 => vec![String::new(); 4],
            _ => vec![
                percent(distance.relative()),
                cosine(distance),
                percent(distance.flipped()),
                number(distance.largest),
            ],
        };
        [vec![name.clone(), tensors.to_string(), equal.to_string()], numbers].concat()
    });
    table(&["", "tensors", "equal", "relative L2", "cosine", "signs flipped", "largest"], rows.collect())
}

fn farthest(report: &Report<'_>, shown: &Shown) -> String {
    let movers = movers(report.comparison);
    let n = if shown.all { movers.len() } else { shown.top.min(movers.len()) };
    let mut text = String::new();
    if n > 0 {
        let what = if n == movers.len() {
            "all that differ".to_owned()
        } else {
            format!("the {n} that moved farthest")
        };
        text.push_str(&format!("\n{what}:\n"));
        let rows = movers[..n].iter().map(|(tensor, distance)| {
            vec![
                tensor.name.clone(),
                percent(distance.relative()),
                cosine(distance),
                percent(distance.flipped()),
                number(distance.largest),
                place(tensor, distance),
            ]
        });
        text.push_str(&table(
            &["", "relative L2", "cosine", "signs flipped", "largest", "at"],
            rows.collect(),
        ));
    }
    let others = report.comparison.tensors.iter().filter(|tensor| tensor.outcome == Likeness::OtherBytes);
    let others: Vec<String> =
        others.map(|tensor| format!("{}  {} -> {}", tensor.name, tensor.specs[0], tensor.specs[1])).collect();
    text.push_str(&listed("hold other bytes, and are no floating-point numbers", &others, shown));
    text
}

/// Columns side by side: the first as it is, the others with their ends below one another.
fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let head: Vec<String> = head.iter().map(|word| (*word).to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&head]).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in [&head].into_iter().chain(&rows) {
        let cell = |(column, cell): (usize, &String)| match column {
            0 => format!("  {cell:<width$}", width = widths[0]),
            _ => format!("  {cell:>width$}", width = widths[column]),
        };
        let line: String = row.iter().enumerate().map(cell).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
