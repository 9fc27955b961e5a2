//! The formats in which weights are written: a file each, and a line here.

pub mod layout;
mod safetensors;

use layout::Format;

const FORMATS: [&dyn Format; 1] = [&safetensors::Safetensors];

/// The format that outputs are written in.
pub fn usual() -> &'static dyn Format {
    FORMATS[0]
}

/// Whether a file of this name holds weights, in any format.
pub(super) fn is_weights(name: &str) -> bool {
    FORMATS.iter().any(|format| format.is_weights(name))
}

/// The names by which loaders find weights, in any format.
pub(super) fn entry_names() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().flat_map(|format| format.entry_names().iter().copied())
}

/// Names that a directory with certain files must not have, since loaders would take those for the model.
pub(super) fn shadows(has: &dyn Fn(&str) -> bool) -> Vec<&'static str> {
    FORMATS.iter().flat_map(|format| format.shadows(has)).copied().filter(|name| !has(name)).collect()
}
