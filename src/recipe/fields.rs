//! Reads the keys of a map, telling of those that are unknown or given twice.

use std::collections::HashMap;

use super::finding::Finding;
use super::keys::Map;
use super::span::Span;
use super::yaml::{Entry, Node, Plain, Value};

/// A map's entries, the last of each key.
pub struct Fields<'a> {
    entries: HashMap<&'a str, &'a Entry>,
    /// Entries that are not among the known keys, in the order of the file.
    pub others: Vec<&'a Entry>,
    pub span: Span,
}

impl<'a> Fields<'a> {
    /// As [`Fields::read`], for a map that has no other keys: those are told of.
    pub fn closed(node: &'a Node, what: &str, known: &Map, findings: &mut Vec<Finding>) -> Option<Self> {
        let fields = Self::read(node, what, known, findings)?;
        for entry in &fields.others {
            unknown_key(entry, what, known.names(), findings);
        }
        Some(fields)
    }

    /// Sorts a node's entries into known keys and others. `None`, with a finding, if it is not a map.
    pub fn read(node: &'a Node, what: &str, known: &Map, findings: &mut Vec<Finding>) -> Option<Self> {
        let Value::Map(all) = &node.value else {
            findings.push(Finding::error("wrong-type", node.span, format!("{what} must be a map of keys")));
            return None;
        };
        let mut entries: HashMap<&str, &Entry> = HashMap::new();
        let mut others: Vec<&Entry> = Vec::new();
        for entry in all {
            let first = if known.names().any(|name| name == entry.key) {
                entries.insert(&entry.key, entry)
            } else {
                let earlier =
                    others.iter().position(|other| other.key == entry.key).map(|at| others.remove(at));
                others.push(entry);
                earlier
            };
            if first.is_some() {
                let message = format!("`{}` is given twice in {what}; the last one counts", entry.key);
                findings.push(Finding::warning("duplicate-key", entry.key_span, message));
            }
        }
        // An error about the map as a whole points at its first key.
        let span = all.first().map_or(node.span, |entry| entry.key_span);
        Some(Self { entries, others, span })
    }

    /// A known key's entry; one with nothing behind it counts as absent.
    pub fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.entries.get(key).copied().filter(|entry| entry.value.value != Value::Null)
    }

    pub fn get(&self, key: &str) -> Option<&'a Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// A list; an empty one counts as absent.
    pub fn list(&self, key: &str, findings: &mut Vec<Finding>) -> Option<&'a [Node]> {
        let node = self.get(key)?;
        match &node.value {
            Value::List(items) if items.is_empty() => None,
            Value::List(items) => Some(items),
            _ => {
                let finding = Finding::error("wrong-type", node.span, format!("`{key}` must be a list"));
                findings.push(match &node.value {
                    Value::Map(_) => finding.help("put a `-` before each of its entries"),
                    _ => finding,
                });
                None
            }
        }
    }

    /// A scalar's text.
    pub fn text(&self, key: &str, findings: &mut Vec<Finding>) -> Option<(&'a str, Span)> {
        let node = self.get(key)?;
        match &node.value {
            Value::Scalar { text, .. } => Some((text, node.span)),
            _ => {
                findings.push(Finding::error(
                    "wrong-type",
                    node.span,
                    format!("`{key}` must be a plain value"),
                ));
                None
            }
        }
    }

    pub fn flag(&self, key: &str, findings: &mut Vec<Finding>) -> Option<bool> {
        let node = self.get(key)?;
        match &node.value {
            Value::Scalar { plain: Plain::Bool(value), .. } => Some(*value),
            _ => {
                let message = format!("`{key}` must be true or false");
                findings.push(Finding::error("wrong-type", node.span, message));
                None
            }
        }
    }

    /// A whole number that is not negative.
    pub fn whole(&self, key: &str, findings: &mut Vec<Finding>) -> Option<u64> {
        let node = self.get(key)?;
        whole(node).or_else(|| {
            let message = format!("`{key}` must be a whole number, 0 or greater");
            findings.push(Finding::error("wrong-type", node.span, message));
            None
        })
    }
}

/// Reads a whole number that is not negative, exactly as written.
pub fn whole(node: &Node) -> Option<u64> {
    match &node.value {
        Value::Scalar { text, .. } if text.parse::<u64>().is_ok() => text.parse().ok(),
        Value::Scalar { plain: Plain::Number(value), .. } => {
            let exact = *value >= 0.0 && value.fract() == 0.0 && *value < 9e15;
            exact.then_some(*value as u64)
        }
        _ => None,
    }
}

/// The known word that a person most likely meant, if the word is but a slip away from it.
pub fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // Swapped neighbours count as one slip. A short word that differs in two places is another word.
    let allowed = if word.len() >= 8 { 2 } else { 1 };
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        // Of a word of one letter, nothing is left of one slip.
        .filter(|(distance, candidate)| {
            *distance <= allowed && 2 * distance <= word.len().max(candidate.len())
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Tells of an unknown key: an error if it looks like a slip, else a warning.
pub fn unknown_key<'k>(
    entry: &Entry,
    what: &str,
    known: impl IntoIterator<Item = &'k str>,
    findings: &mut Vec<Finding>,
) {
    let message = format!("unknown key `{}` in {what}", entry.key);
    findings.push(match did_you_mean(&entry.key, known) {
        Some(meant) => {
            Finding::error("unknown-key", entry.key_span, message).help(format!("did you mean `{meant}`?"))
        }
        None => Finding::warning("unknown-key", entry.key_span, format!("{message}; it has no effect")),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_told_from_other_words() {
        let known = ["parameters", "weight", "name", "density"];
        for (slip, meant) in [
            ("paramters", "parameters"),
            ("wieght", "weight"),
            ("nmae", "name"),
            ("densty", "density"),
            ("Weight", "weight"),
        ] {
            assert_eq!(did_you_mean(slip, known), Some(meant));
        }
        for word in ["architecture", "epsilon", "note", "t"] {
            assert_eq!(did_you_mean(word, known), None, "{word}");
        }
    }
}
