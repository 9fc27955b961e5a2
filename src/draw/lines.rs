//! Line charts of values over a model's layers.

use std::fmt::Write;

use maud::{Markup, html};

/// Styles of line charts, for [`Page::style`](super::page::Page).
pub const STYLE: &str = include_str!("lines.css");

/// Lines are told apart by colour and by dashes; more than this many repeat.
const KINDS: usize = 6;

/// A value of each layer, under one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub name: String,
    /// By layer; `None` where there is none.
    pub values: Vec<Option<f64>>,
}

/// A chart of lines over layers.
pub struct LineChart<'a> {
    pub title: &'a str,
    pub lines: &'a [Line],
    /// What is worth saying of it.
    pub notes: &'a [String],
}

/// Sizes in pixels.
const WIDTH: usize = 420;
const HEIGHT: usize = 130;
const LEFT: usize = 44;
const TOP: usize = 10;
const BELOW: usize = 18;

impl LineChart<'_> {
    /// The lowest and the highest value.
    fn extent(&self) -> Option<(f64, f64)> {
        let values = || self.lines.iter().flat_map(|line| &line.values).flatten().copied();
        values().reduce(f64::min).zip(values().reduce(f64::max))
    }

    /// The chart, with every value in words for those who do not see it.
    pub fn draw(&self) -> Markup {
        let Self { title, lines, notes } = self;
        let n_layers = lines.iter().map(|line| line.values.len()).max().unwrap_or(0);
        let Some((low, high)) = self.extent() else { return html! {} };
        let (width, height) = (WIDTH - LEFT - 8, HEIGHT - TOP - BELOW);
        let x = |layer: usize| LEFT as f64 + width as f64 * (layer as f64 + 0.5) / n_layers as f64;
        // Where all are equal, the line is in the middle.
        let range = if high > low { high - low } else { 1.0 };
        let middle = if high > low { 0.0 } else { height as f64 / 2.0 };
        let y = |value: f64| TOP as f64 + middle + height as f64 * (high - value) / range;
        let marks = if high > low { vec![low, high] } else { vec![low] };
        html! {
            figure.lines {
                figcaption { (title) }
                svg width=(WIDTH) height=(HEIGHT) viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img"
                    aria-label={ (title) " by layer" } {
                    @for mark in marks {
                        @let at = format!("{:.1}", y(mark));
                        line.grid x1=(LEFT) x2=(WIDTH - 8) y1=(at) y2=(at) {}
                        text x=(LEFT - 6) y=(at) dy="4" text-anchor="end" { (short(mark)) }
                    }
                    @for layer in ticks(n_layers) {
                        text x=(format!("{:.1}", x(layer))) y=(HEIGHT - 4) text-anchor="middle" { (layer) }
                    }
                    @for (number, line) in lines.iter().enumerate() {
                        g class={ "line k" (number % KINDS) } {
                            path d=(path(&line.values, &x, &y)) {}
                            @for (layer, value) in line.values.iter().enumerate() {
                                @if let Some(value) = value {
                                    circle cx=(format!("{:.1}", x(layer))) cy=(format!("{:.1}", y(*value)))
                                        r="2.4" {
                                        title { (line.name) ", layer " (layer) ": " (short(*value)) }
                                    }
                                }
                            }
                        }
                    }
                }
                @if lines.len() > 1 || lines.iter().any(|line| !line.name.is_empty()) {
                    ul.legend {
                        @for (number, line) in lines.iter().enumerate() {
                            li class={ "k" (number % KINDS) } {
                                svg width="22" height="10" aria-hidden="true" { path d="M1 5h20" {} }
                                (line.name)
                            }
                        }
                    }
                }
                @for note in *notes { p.note { (note) } }
                details.note {
                    summary { "Values by layer" }
                    ul {
                        @for line in *lines {
                            li { @if !line.name.is_empty() { (line.name) ": " } (told(&line.values)) }
                        }
                    }
                }
            }
        }
    }
}

/// Layers that are named below a chart: every eighth or so, the first and the last among them.
fn ticks(n_layers: usize) -> Vec<usize> {
    let last = n_layers.saturating_sub(1);
    let step = match last {
        0..12 => 2,
        12..40 => 8,
        _ => 16,
    };
    let mut ticks: Vec<usize> = (0..last).step_by(step).filter(|layer| last - layer >= step / 2).collect();
    ticks.push(last);
    ticks
}

/// A line through the values, broken where there is none.
fn path(values: &[Option<f64>], x: &dyn Fn(usize) -> f64, y: &dyn Fn(f64) -> f64) -> String {
    let mut path = String::new();
    let mut is_drawn = false;
    for (layer, value) in values.iter().enumerate() {
        if let Some(value) = value {
            let pen = if is_drawn { 'L' } else { 'M' };
            write!(path, "{pen}{:.1} {:.1}", x(layer), y(*value)).expect("writing to a string");
        }
        is_drawn = value.is_some();
    }
    path
}

/// Values in words; layers that follow one another with the same value are told as one.
fn told(values: &[Option<f64>]) -> String {
    let mut runs: Vec<(usize, usize, f64)> = Vec::new();
    for (layer, value) in values.iter().enumerate() {
        let Some(value) = *value else { continue };
        match runs.last_mut() {
            Some((_, last, same)) if *last + 1 == layer && *same == value => *last = layer,
            _ => runs.push((layer, layer, value)),
        }
    }
    let run = |(first, last, value): &(usize, usize, f64)| match first == last {
        true => format!("{first}: {}", short(*value)),
        false => format!("{first}-{last}: {}", short(*value)),
    };
    runs.iter().map(run).collect::<Vec<_>>().join(", ")
}

/// A number with three digits behind the point at most.
pub fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_where_there_is_no_value() {
        let drawn = path(&[Some(0.0), Some(1.0), None, Some(2.0)], &|layer| layer as f64, &|value| value);
        assert_eq!(drawn, "M0.0 0.0L1.0 1.0M3.0 2.0");
    }

    #[test]
    fn the_first_and_the_last_layer_are_named() {
        for n in 1..130 {
            let ticks = ticks(n);
            assert_eq!((ticks[0], *ticks.last().unwrap()), (0, n - 1), "{n}");
            assert!(ticks.len() <= 10 && ticks.is_sorted(), "{ticks:?}");
        }
    }

    #[test]
    fn values_in_a_row_are_told_as_one() {
        let values = [Some(0.5), Some(0.5), Some(0.25), None, Some(0.25)];
        assert_eq!(told(&values), "0-1: 0.5, 2: 0.25, 4: 0.25");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.5, -0.00001, 2.0, 0.123_456].map(short), ["0.5", "0", "2", "0.123"]);
    }

    #[test]
    fn a_chart_says_every_value() {
        let lines = [Line { name: "mlp".to_owned(), values: vec![Some(0.25), Some(0.5)] }];
        let chart = LineChart { title: "t", lines: &lines, notes: &["the head takes 0.25".to_owned()] };
        let text = chart.draw().into_string();
        assert!(text.contains("mlp, layer 1: 0.5") && text.contains("the head takes 0.25"), "{text}");
        assert_eq!(LineChart { title: "t", lines: &[], notes: &[] }.draw().into_string(), "");
    }
}
