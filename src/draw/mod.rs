//! Pictures and pages, as text: what is drawn is given as plain data.
//!
//! | file | what it is |
//! | --- | --- |
//! | `blocks` | heat maps of letters |
//! | `heat` | heat maps: tables of numbers as shades of colour |
//! | `lines` | line charts of values over layers |
//! | `shares` | stacked bars: whose a change is |
//! | `timeline` | when what was worked on |
//! | `page` | the frame that every HTML page shares: one file, without a network |

pub mod blocks;
pub mod heat;
pub mod lines;
pub mod page;
pub mod shares;
pub mod timeline;
