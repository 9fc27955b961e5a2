//! How models and adapters outside a recipe are named: `path[@revision]`, and `model+adapter` for the two together.

use std::fmt;

/// A checkpoint or an adapter outside the recipe.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelRef {
    /// `org/name` or a path, without prefix and revision.
    pub path: String,
    /// A branch, tag or commit on the hub.
    pub revision: Option<String>,
    /// Set by the `hub:` prefix: never a local path.
    pub hub_only: bool,
}

impl ModelRef {
    /// Reads a reference to one folder, with or without `hub:` before it.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (hub_only, rest) = match text.strip_prefix("hub:") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut halves = rest.split('@');
        let (path, revision, more) = (halves.next().unwrap_or(""), halves.next(), halves.next());
        if more.is_some() {
            return Err("there can be only one `@revision`");
        }
        if path.is_empty() || revision == Some("") {
            return Err("a part of the reference is empty");
        }
        if path.chars().any(char::is_control) {
            return Err("a reference cannot contain control characters");
        }
        Ok(Self { path: path.to_owned(), revision: revision.map(str::to_owned), hub_only })
    }

    /// Reads `model` or `model+adapter`.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse_pair(text: &str) -> Result<(Self, Option<Self>), &'static str> {
        let mut parts = text.split('+');
        let (model, adapter, more) = (parts.next().unwrap_or(""), parts.next(), parts.next());
        if more.is_some() {
            return Err("a model can have only one `+adapter`");
        }
        Ok((Self::parse(model)?, adapter.map(Self::parse).transpose()?))
    }

    /// Whether it can name a model on the hub: `name` or `org/name` of plain characters.
    pub fn is_hub_id(&self) -> bool {
        let plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        self.path.matches('/').count() <= 1 && self.path.split('/').all(plain)
    }
}

impl ModelRef {
    /// Whether it is most likely meant to name a model on the hub: `org/name`, or any name after `hub:`.
    pub fn is_on_hub(&self) -> bool {
        self.is_hub_id() && (self.hub_only || (self.path.contains('/') && !self.path.starts_with("merges/")))
    }
}

/// Names of folders that models are kept in, which are no owners of models.
const SHELVES: [&str; 20] = [
    "artifacts",
    "cache",
    "checkpoints",
    "ckpts",
    "data",
    "hf",
    "home",
    "hub",
    "llms",
    "merges",
    "mnt",
    "model",
    "models",
    "opt",
    "out",
    "output",
    "outputs",
    "root",
    "tmp",
    "weights",
];

impl ModelRef {
    /// Whether a folder's name can be that of an owner of models on the hub.
    pub fn is_owner(name: &str) -> bool {
        let is_plain = Self { path: name.to_owned(), revision: None, hub_only: false }.is_hub_id();
        is_plain && !name.contains('/') && !SHELVES.contains(&name.to_lowercase().as_str())
    }

    /// The model's name on the hub, if it is most likely meant to have one.
    pub fn hub_id(&self) -> Option<&str> {
        let owner = self.path.split_once('/').map(|(owner, _)| owner);
        (self.is_on_hub() && (self.hub_only || owner.is_some_and(Self::is_owner))).then_some(&self.path)
    }
}

impl fmt::Display for ModelRef {
    /// As recipes write it, without a prefix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_shown_as_it_was_written() {
        for text in ["name", "org/name@v2", "./a/b"] {
            assert_eq!(ModelRef::parse(text).unwrap().to_string(), text);
        }
        for (text, parts) in
            [("a@x+hub:org/lora@main", ("a@x", "org/lora@main")), ("./a+../b", ("./a", "../b"))]
        {
            let (model, adapter) = ModelRef::parse_pair(text).unwrap();
            assert_eq!((model.to_string().as_str(), adapter.unwrap().to_string().as_str()), parts);
        }
        let hub = ModelRef::parse("hub:org/name").unwrap();
        assert_eq!((hub.to_string().as_str(), hub.hub_only), ("org/name", true));
    }

    #[test]
    fn ids_of_the_hub_are_told_from_paths() {
        let is_hub_id = |text: &str| ModelRef::parse(text).unwrap().is_hub_id();
        assert!(is_hub_id("gpt2") && is_hub_id("org/name-1.5_x"));
        assert!(!["../x", "./x", "/x/y", "a/b/c", "org/.x", "a b"].into_iter().any(is_hub_id));
    }
}
