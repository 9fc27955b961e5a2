//! Pictures and pages, as text: what is drawn is given as plain data.
//!
//! | file | what it is |
//! | --- | --- |
//! | `blocks` | heat maps of letters |
//! | `heat` | heat maps: tables of numbers as shades of colour |
//! | `page` | the frame that every HTML page shares: one file, without a network |

pub mod blocks;
pub mod heat;
pub mod page;
