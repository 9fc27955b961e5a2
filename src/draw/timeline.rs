//! When which stage was worked on, and by how many threads.

use std::fmt::Write;

use maud::{Markup, html};

/// Styles of timelines, for [`Page::style`](super::page::Page).
pub const STYLE: &str = include_str!("timeline.css");

/// Work on one thing.
pub struct Row {
    pub name: String,
    /// The part of all threads that was at it, in equal slices from start to end; 255 is all of them.
    pub activity: Vec<u8>,
    /// What is said of it, such as how long it took in all.
    pub told: String,
}

/// Rows above one another, on one scale of time.
pub struct Timeline<'a> {
    pub rows: &'a [Row],
    /// From start to end.
    pub seconds: f64,
}

/// Sizes in pixels.
const WIDTH: usize = 720;
const ROW: usize = 30;
const FULL: usize = 22;

impl Timeline<'_> {
    /// A table whose last column holds the pictures.
    pub fn draw(&self) -> Markup {
        let Self { rows, seconds } = self;
        html! {
            div.scroll {
                table.timeline {
                    caption {
                        "Height is the part of all threads that worked on the stage, from the start to "
                        (format!("{seconds:.2}")) " s."
                    }
                    thead { tr { th scope="col" { "stage" } th scope="col" { "time" } th scope="col" { "when" } } }
                    tbody {
                        @for row in *rows {
                            tr {
                                th scope="row" { (row.name) }
                                td { (row.told) }
                                td {
                                    svg width=(WIDTH) height=(ROW) viewBox={ "0 0 " (WIDTH) " " (ROW) }
                                        preserveAspectRatio="none" role="img"
                                        aria-label={ (row.name) ": " (busy(&row.activity, *seconds)) } {
                                        title { (row.name) ": " (busy(&row.activity, *seconds)) }
                                        path.ground d={ "M0 " (ROW - 2) "h" (WIDTH) } {}
                                        path.busy d=(outline(&row.activity)) {}
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

/// From when to when there was work, in words.
fn busy(activity: &[u8], seconds: f64) -> String {
    let is_active = |active: &u8| *active > 0;
    let first = activity.iter().position(is_active);
    match first.zip(activity.iter().rposition(is_active)) {
        None => "nothing to do".to_owned(),
        Some((first, last)) => {
            let at = |slice: usize| seconds * slice as f64 / activity.len() as f64;
            format!("from {:.2} s to {:.2} s", at(first), at(last + 1))
        }
    }
}

/// The outline of the work, as steps.
fn outline(activity: &[u8]) -> String {
    let ground = ROW - 2;
    let width = WIDTH as f64 / activity.len().max(1) as f64;
    let mut path = format!("M0 {ground}");
    for (slice, active) in activity.iter().enumerate() {
        let y = ground as f64 - f64::from(*active) / 255.0 * FULL as f64;
        write!(path, "V{y:.1}H{:.1}", width * (slice + 1) as f64).expect("writing to a string");
    }
    write!(path, "V{ground}z").expect("writing to a string");
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_told_in_words_too() {
        assert_eq!(busy(&[0, 0], 2.0), "nothing to do");
        assert_eq!(busy(&[0, 9, 0, 255, 0], 2.5), "from 0.50 s to 2.00 s");
        assert_eq!(outline(&[255, 0]), "M0 28V6.0H360.0V28.0H720.0V28z");
    }
}
