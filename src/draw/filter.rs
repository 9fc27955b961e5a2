//! A box that shows only the rows of a table that hold its words.

use maud::{Markup, html};

/// What the box does, for [`Page::scripts`](super::page::Page). Once a page.
pub const SCRIPT: &str = include_str!("filter.js");

/// The box for the table with the id `tensors`.
pub fn filter_box() -> Markup {
    html! {
        p.no-print {
            label for="filter" { "Filter " }
            input id="filter" type="search" placeholder="layers.20 mlp" autocomplete="off" spellcheck="false";
            " " output id="filtered" for="filter" {}
        }
    }
}
