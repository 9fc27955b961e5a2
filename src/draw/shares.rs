//! Stacked bars: how much of each layer's change goes to whom.

use maud::{Markup, html};

/// Styles of stacked bars, for [`Page::style`](super::page::Page).
pub const STYLE: &str = include_str!("shares.css");

/// Colours that there are; more parties than these share the last.
const COLOURS: usize = 8;

/// Sizes in pixels.
const BAR: usize = 14;
const HEIGHT: usize = 150;
const LEFT: usize = 44;
const LINE: usize = 16;

/// Bars that stand side by side.
pub struct SharesChart<'a> {
    pub title: &'a str,
    pub parties: &'a [String],
    /// What the bars are called.
    pub bars: &'a [String],
    /// By bar, then by party; `None` for a bar that there is nothing to say of. What is below zero hangs below the
    /// line.
    pub shares: &'a [Option<Vec<f64>>],
}

/// A piece of a bar.
struct Piece {
    party: usize,
    share: f64,
    y: f64,
    height: f64,
}

impl SharesChart<'_> {
    /// How far bars reach below zero and above it; never less than 0 and 1, and never more than 2 either way.
    fn extent(&self) -> (f64, f64) {
        let sides = |shares: &Vec<f64>| {
            let sum = |is: fn(&f64) -> bool| shares.iter().copied().filter(is).sum::<f64>();
            (sum(|share| *share < 0.0), sum(|share| *share > 0.0))
        };
        let (mut low, mut high) = (0.0_f64, 1.0_f64);
        for (below, above) in self.shares.iter().flatten().map(sides) {
            (low, high) = (low.min(below.max(-2.0)), high.max(above.min(2.0)));
        }
        (low, high)
    }

    /// The bars, each piece with its number in words.
    pub fn draw(&self) -> Markup {
        let Self { title, parties, bars, shares } = self;
        if bars.is_empty() || parties.is_empty() {
            return html! {};
        }
        let (low, high) = self.extent();
        let scale = HEIGHT as f64 / (high - low);
        let zero = high * scale;
        let width = LEFT + bars.len() * BAR + 8;
        let longest = bars.iter().map(|bar| bar.chars().count()).max().unwrap_or(1);
        let every = (longest * 7 + 4).div_ceil(BAR);
        html! {
            figure.shares {
                figcaption { (title) }
                ul.legend {
                    @for (party, name) in parties.iter().enumerate() {
                        li { span class={ "swatch p" (party.min(COLOURS - 1)) } {} (name) }
                    }
                }
                div.scroll {
                    svg width=(width) height=(HEIGHT + LINE + 6) role="img" aria-label=(title) {
                        @for part in [0.0, 0.5, 1.0] {
                            @let y = format!("{:.1}", 4.0 + zero - part * scale);
                            line.grid x1=(LEFT) x2=(width - 8) y1=(y) y2=(y) {}
                            text x=(LEFT - 6) y=(y) dy="4" text-anchor="end" { (percent(part)) }
                        }
                        @for (bar, shares) in shares.iter().enumerate() {
                            @if let Some(shares) = shares {
                                g transform={ "translate(" (LEFT + bar * BAR) " 4)" } {
                                    @for piece in pieces(shares, scale, zero) {
                                        rect class={ "p" (piece.party.min(COLOURS - 1)) } x="1" width=(BAR - 2)
                                            y=(format!("{:.1}", piece.y))
                                            height=(format!("{:.1}", piece.height)) {
                                            title {
                                                (parties[piece.party]) ", layer " (bars[bar]) ": "
                                                (percent(piece.share))
                                            }
                                        }
                                    }
                                }
                            }
                        }
                        g text-anchor="middle" {
                            @for (bar, name) in bars.iter().enumerate().step_by(every) {
                                text x=(LEFT + bar * BAR + BAR / 2) y=(HEIGHT + LINE + 2) { (name) }
                            }
                        }
                    }
                }
                (self.table())
            }
        }
    }

    /// The same as a table.
    fn table(&self) -> Markup {
        let Self { parties, bars, shares, .. } = self;
        html! {
            details {
                summary { "As a table" }
                div.scroll {
                    table {
                        thead {
                            tr { th scope="col" { "Layer" } @for party in *parties { th.n scope="col" { (party) } } }
                        }
                        tbody {
                            @for (bar, shares) in bars.iter().zip(*shares) {
                                @if let Some(shares) = shares {
                                    tr {
                                        th scope="row" { (bar) }
                                        @for share in shares { td.n { (percent(*share)) } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What a bar consists of, from zero outwards in the order of the parties. What would leave the picture is cut.
fn pieces(shares: &[f64], scale: f64, zero: f64) -> Vec<Piece> {
    let (mut above, mut below) = (zero, zero);
    let mut pieces = Vec::new();
    for (party, share) in shares.iter().copied().enumerate().filter(|(_, share)| share.is_finite()) {
        let height = share.abs() * scale;
        let (top, bottom) = if share < 0.0 { (below, below + height) } else { (above - height, above) };
        if share < 0.0 {
            below = bottom;
        } else {
            above = top;
        }
        let (y, end) = (top.clamp(0.0, HEIGHT as f64), bottom.clamp(0.0, HEIGHT as f64));
        if end - y >= 0.05 {
            pieces.push(Piece { party, share, y, height: end - y });
        }
    }
    pieces
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_stand_on_one_another_and_hang_below_zero() {
        let pieces = pieces(&[0.75, -0.25, 0.5, 0.0], 100.0, 125.0);
        let places: Vec<(usize, f64, f64)> = pieces.iter().map(|p| (p.party, p.y, p.height)).collect();
        assert_eq!(places, [(0, 50.0, 75.0), (1, 125.0, 25.0), (2, 0.0, 50.0)]);
    }

    #[test]
    fn a_bar_says_its_numbers() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (parties, bars) = (names(&["org/a", "org/b"]), names(&["0", "1"]));
        let shares = [Some(vec![0.25, 0.75]), None];
        let chart = SharesChart { title: "t", parties: &parties, bars: &bars, shares: &shares };
        let text = chart.draw().into_string();
        assert!(text.contains("org/b, layer 0: 75 %") && !text.contains("layer 1"), "{text}");
    }
}
