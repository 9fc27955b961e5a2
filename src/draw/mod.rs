//! Pictures and pages, as text: what is drawn is given as plain data.
//!
//! | file | what it is |
//! | --- | --- |
//! | `blocks` | heat maps of letters |
//! | `filter` | a box that filters a table |
//! | `heat` | heat maps: tables of numbers as shades of colour |
//! | `lines` | line charts of values over layers |
//! | `shares` | stacked bars: whose a change is |
//! | `timeline` | when what was worked on |
//! | `page` | the frame that every HTML page shares: one file, without a network |
//! | `graph` | models, stages and what each stage reads, as data |
//! | `graph_svg`, `graph_page`, `graph_text` | the graph drawn, alone or on a page, and written for terminals, Graphviz and Mermaid |
//! | `layout` | where boxes and lines go |
//! | `fit` | the room that text takes |
//! | `numbers` | numbers as people read them |

pub mod blocks;
pub mod filter;
mod fit;
pub mod graph;
pub mod graph_page;
pub mod graph_svg;
pub mod graph_text;
pub mod heat;
mod layout;
pub mod lines;
pub mod numbers;
pub mod page;
pub mod shares;
pub mod timeline;
