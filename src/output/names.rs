//! The names of an output's own files, its weights aside.

/// The file that marks a directory as lamarck's output and says what it was made of.
pub const LOCKFILE: &str = "lamarck.lock.json";

/// The recipe as built.
pub const RECIPE_FILE: &str = "recipe.yaml";

/// The stages as a picture, which the card shows.
pub(super) const PICTURE_FILE: &str = "merge.svg";

/// The recipe where mergekit runs it, by the name that the hub knows.
pub(super) const MERGEKIT_FILE: &str = "mergekit_config.yml";

pub(super) const CARD_FILE: &str = "README.md";
pub(super) const CONFIG_FILE: &str = "config.json";
