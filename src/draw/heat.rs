//! Heat maps: a table of numbers as shades of colour, for eyes, keyboards and screen readers.
//!
//! The map is one drawing that needs no script: cells of one shade are one path, in which neighbours are one
//! rectangle. [`SCRIPT`] adds what a pointer or the arrow keys are on, from texts that the map carries with it. A cell
//! takes some 15 bytes in all.

use std::collections::BTreeMap;
use std::fmt::Write;

use maud::{Markup, html};

/// Styles of heat maps, for [`Page::style`](super::page::Page).
pub const STYLE: &str = include_str!("heat.css");

/// What tells of the cell under the pointer, for [`Page::scripts`](super::page::Page). Once a page.
pub const SCRIPT: &str = include_str!("heat.js");

/// A table of numbers.
pub struct HeatMap<'a> {
    pub title: &'a str,
    /// What the rows are called, from above.
    pub rows: &'a [String],
    /// What the columns are called.
    pub columns: &'a [String],
    /// What a column is, such as `layer`: said before names that are numbers.
    pub column_word: &'a str,
    /// Row by row, as long as there are columns. Cells without a value stay empty.
    pub values: &'a [Vec<Option<f64>>],
    pub scale: Scale,
    /// The values at the ends of the scale, as text.
    pub ends: [&'a str; 2],
}

/// Which shade a value has. What is beyond the ends is shown as they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// One colour, the stronger the larger.
    Sequential { low: f64, high: f64 },
    /// Two colours, for values below and above 0, the stronger the farther from it.
    Diverging { extent: f64 },
}

/// The largest value that is no outlier, for the end of a scale: a fiftieth of the values may be beyond it. Also says
/// whether some are. 0 where there is nothing above 0.
pub fn end_of_scale(values: impl Iterator<Item = f64>) -> (f64, bool) {
    let mut found: Vec<f64> = values.filter(|value| value.is_finite() && *value > 0.0).collect();
    found.sort_by(f64::total_cmp);
    let Some(last) = found.last() else { return (0.0, false) };
    let end = found[found.len() - 1 - found.len() / 50];
    (end, end < *last)
}

/// Shades of a colour, beside none at all.
const SHADES: usize = 20;

/// Shades that the key shows of each colour.
const IN_KEY: usize = 5;

/// Sizes in pixels. The text is 11 pixels high.
const CELL: (usize, usize) = (14, 16);
const LETTER: usize = 7;
const LINE: usize = 16;

/// Letters of a column's name that stand side by side with the next ones'; longer names stand aslant.
const SHORT: usize = 3;

/// A colour, and how much of it there is, of [`SHADES`].
type Shade = (bool, usize);

impl Scale {
    /// `None` for what is no number.
    fn shade(self, value: f64) -> Option<Shade> {
        let part = |part: f64, whole: f64| {
            let part = if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.0 };
            (part * (SHADES - 1) as f64).round() as usize
        };
        if value.is_nan() {
            return None;
        }
        Some(match self {
            Self::Sequential { low, high } => (true, part(value - low, high - low)),
            Self::Diverging { extent } => (value >= 0.0, part(value.abs(), extent)),
        })
    }

    /// What the key shows, from the low end to the high one.
    fn key(self) -> Vec<Shade> {
        let shade = |nth: usize| (SHADES - 1) * nth / (IN_KEY - 1);
        let above = (0..IN_KEY).map(|nth| (true, shade(nth)));
        match self {
            Self::Sequential { .. } => above.collect(),
            Self::Diverging { .. } => (1..IN_KEY).rev().map(|nth| (false, shade(nth))).chain(above).collect(),
        }
    }
}

/// How much of a colour covers the page; the least can still be seen.
fn opacity(shade: usize) -> String {
    let part = (10 + 90 * shade / (SHADES - 1)) as f64 / 100.0;
    part.to_string().trim_start_matches('0').to_owned()
}

fn class((is_above, _): Shade) -> &'static str {
    if is_above { "hi" } else { "lo" }
}

/// Draws a table. `tell` gives the text of a cell that has a value, by row and column: the value alone, since the
/// names are known.
pub fn heat_map(map: &HeatMap<'_>, tell: impl Fn(usize, usize) -> String) -> Markup {
    let HeatMap { title, rows, columns, column_word, values, scale, ends } = map;
    if rows.is_empty() || columns.is_empty() {
        return html! {};
    }
    let value = |row: usize, column: usize| values.get(row)?.get(column).copied().flatten();
    let texts = |row: usize| {
        (0..columns.len())
            .map(move |column| (row, column))
            .map(|(row, column)| value(row, column).map_or_else(String::new, |_| tell(row, column)))
    };
    let texts: Vec<String> = (0..rows.len()).flat_map(texts).collect();
    let paths = paths(rows.len(), columns.len(), &|row, column| scale.shade(value(row, column)?));
    let longest = |names: &[String]| names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let (row_letters, column_letters) = (longest(rows), longest(columns));
    let is_aslant = column_letters > SHORT;
    let left = row_letters * LETTER + 6;
    // At 60 degrees letters take half of their length to the side, and nine tenths of it upwards.
    let slant = if is_aslant { column_letters * LETTER } else { 0 };
    let top = LINE.max(slant * 9 / 10 + 8);
    let (width, height) = (columns.len() * CELL.0, rows.len() * CELL.1);
    // Of short names as many as have room.
    let every = if is_aslant { 1 } else { (column_letters * LETTER + 4).div_ceil(CELL.0) };
    let (full_width, full_height) = (left + width + (slant / 2).max(4), top + height + 2);
    let key = scale.key();
    html! {
        figure.heat data-rows=(joined(rows)) data-columns=(joined(columns)) data-values=(joined(&texts))
            data-word=(column_word) {
            figcaption { (title) }
            div.scroll {
                svg width=(full_width) height=(full_height) viewBox={ "0 0 " (full_width) " " (full_height) }
                    role="img" aria-label={ (title) ", " (rows.len()) " by " (columns.len()) } {
                    g text-anchor="end" {
                        @for (row, name) in rows.iter().enumerate() {
                            text x=(left - 4) y=(top + row * CELL.1 + 12) { (name) }
                        }
                    }
                    g text-anchor=(if is_aslant { "start" } else { "middle" }) {
                        @for (column, name) in columns.iter().enumerate().step_by(every) {
                            @let x = left + column * CELL.0 + CELL.0 / 2;
                            @if is_aslant {
                                text transform={ "translate(" (x) " " (top - 4) ")rotate(-60)" } { (name) }
                            } @else {
                                text x=(x) y=(top - 4) { (name) }
                            }
                        }
                    }
                    g.cells transform={ "translate(" (left) " " (top) ")scale(" (CELL.0) " " (CELL.1) ")" } {
                        rect.none width=(columns.len()) height=(rows.len()) {}
                        @for (shade, path) in &paths {
                            path class=(class(*shade)) fill-opacity=(opacity(shade.1)) d=(path) {}
                        }
                        path.lines d=(lines(rows.len(), columns.len())) {}
                        rect.at width="1" height="1" {}
                    }
                }
            }
            div.key aria-hidden="true" {
                (ends[0])
                svg width=(key.len() * CELL.0) height="10" {
                    @for (nth, shade) in key.iter().enumerate() {
                        rect class=(class(*shade)) fill-opacity=(opacity(shade.1)) x=(nth * CELL.0)
                            width=(CELL.0) height="10" {}
                    }
                }
                (ends[1])
            }
            output {}
        }
    }
}

/// The cells of each shade, a unit wide and high.
fn paths(
    rows: usize,
    columns: usize,
    shade: &dyn Fn(usize, usize) -> Option<Shade>,
) -> BTreeMap<Shade, String> {
    let mut paths: BTreeMap<Shade, String> = BTreeMap::new();
    for row in 0..rows {
        let mut column = 0;
        while column < columns {
            let start = column;
            let of = shade(row, start);
            while column < columns && shade(row, column) == of {
                column += 1;
            }
            if let Some(of) = of {
                let n = column - start;
                let path = paths.entry(of).or_default();
                write!(path, "M{start} {row}h{n}v1h-{n}z").expect("writing to a string");
            }
        }
    }
    paths
}

/// The lines between cells.
fn lines(rows: usize, columns: usize) -> String {
    let across = (1..rows).map(|row| format!("M0 {row}h{columns}"));
    across.chain((1..columns).map(|column| format!("M{column} 0v{rows}"))).collect()
}

/// Texts as one attribute, a line each.
fn joined(texts: &[String]) -> String {
    let line = |text: &String| text.replace(char::is_control, " ");
    texts.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize, of: &str) -> Vec<String> {
        (0..n).map(|i| format!("{of}{i}")).collect()
    }

    fn drawn(values: &[Vec<Option<f64>>], scale: Scale) -> String {
        let columns = values.first().map_or(0, Vec::len);
        let map = HeatMap {
            title: "what <moved>",
            rows: &names(values.len(), "row"),
            columns: &names(columns, ""),
            column_word: "layer",
            values,
            scale,
            ends: ["0", "1"],
        };
        heat_map(&map, |row, column| format!("{row}/{column}")).into_string()
    }

    #[test]
    fn neighbours_of_a_shade_are_one_rectangle() {
        let shade =
            |row: usize, column: usize| [[Some((true, 3)), Some((true, 3)), None], [None; 3]][row][column];
        let paths = paths(2, 3, &shade);
        assert_eq!(paths, BTreeMap::from([((true, 3), "M0 0h2v1h-2z".to_owned())]));
    }

    #[test]
    fn values_have_the_shades_of_their_place_on_the_scale() {
        let sequential = Scale::Sequential { low: 1.0, high: 3.0 };
        let shades = [0.0, 1.0, 2.0, 3.0, f64::INFINITY].map(|value| sequential.shade(value));
        assert_eq!(shades, [0, 0, 10, 19, 19].map(|shade| Some((true, shade))));
        assert_eq!(sequential.shade(f64::NAN), None);
        let diverging = Scale::Diverging { extent: 0.5 };
        let shades = [-1.0, -0.25, 0.0, 0.5].map(|value| diverging.shade(value));
        assert_eq!(shades, [(false, 19), (false, 10), (true, 0), (true, 19)].map(Some));
        // All values are equal.
        assert_eq!(Scale::Sequential { low: 1.0, high: 1.0 }.shade(1.0), Some((true, 0)));
    }

    #[test]
    fn outliers_are_beyond_the_end_of_the_scale() {
        assert_eq!(end_of_scale([0.0, f64::NAN].into_iter()), (0.0, false));
        assert_eq!(end_of_scale([1.0, 3.0, 2.0].into_iter()), (3.0, false));
        assert_eq!(end_of_scale((1..=100).map(f64::from)), (98.0, true));
    }

    #[test]
    fn cells_carry_their_texts_and_only_they() {
        let text =
            drawn(&[vec![Some(0.0), None], vec![Some(1.0), Some(1.0)]], Scale::Diverging { extent: 1.0 });
        assert!(text.contains("data-values=\"0/0\n\n1/0\n1/1\""), "{text}");
        assert!(text.contains("what &lt;moved&gt;") && text.contains(">row1<"), "{text}");
        assert_eq!(drawn(&[], Scale::Diverging { extent: 1.0 }), "");
    }

    #[test]
    fn a_model_of_many_layers_is_small() {
        let values: Vec<Vec<Option<f64>>> = (0..12)
            .map(|row| (0..48).map(|column| Some(f64::from(row * 7 + column * 5 % 31))).collect())
            .collect();
        let text = drawn(&values, Scale::Sequential { low: 0.0, high: 100.0 });
        assert!(text.len() < 12 * 48 * 25, "{}", text.len());
    }
}
