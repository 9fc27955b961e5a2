//! Pictures and pages, as text: what is drawn is given as plain data.
//!
//! | file | what it is |
//! | --- | --- |
//! | `page` | the frame that every HTML page shares: one file, without a network |

pub mod page;
