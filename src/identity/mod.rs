//! What tells states of files and folders apart.

mod sight;
mod state;

pub use sight::Sight;
pub use state::Identity;
