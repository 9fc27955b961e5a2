//! YAML text as a tree in which every node and key knows its place.
//!
//! Published recipes are YAML 1.1: `yes` and `on` are booleans where a boolean is wanted, a key may occur
//! twice, `<<` merges. A scalar keeps its text, so that whoever wants a number or a name decides what it is.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_yaml::{DuplicateKeyPolicy, Location, Options, Spanned};

use super::finding::Finding;
use super::span::Span;

/// A node of the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    /// Any other scalar: its text without quotes, and what it is if it is plain.
    Scalar {
        text: String,
        plain: Plain,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// What a plain scalar reads as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Plain {
    Bool(bool),
    Number(f64),
    /// Text, quoted or not.
    Text,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

/// The most bytes a recipe may have; published ones have a few thousand.
const MAX_BYTES: usize = 4 << 20;

/// The most nodes that aliases may stand for; recipes repeat a few parameters with them.
const MAX_REPLAYED: usize = 50_000;

/// Reads every document of a text; empty ones (a trailing `---`) are left out.
///
/// # Errors
/// Syntax errors and documents that grow without bounds (by aliases, or by nesting) as one finding.
pub fn parse(text: &str) -> Result<Vec<Node>, Finding> {
    if text.len() > MAX_BYTES {
        let message = format!("the recipe has {} bytes; at most {MAX_BYTES} are allowed", text.len());
        return Err(Finding::error("too-large", None, message));
    }
    let mut options = Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.legacy_octal_numbers = true;
    options.alias_limits.max_total_replayed_events = MAX_REPLAYED;
    let documents: Vec<Spanned<Tree>> =
        serde_yaml::from_multiple_with_options(text, options).map_err(|error| syntax_error(&error, text))?;
    let documents = documents.into_iter().map(|document| node(document, text));
    Ok(documents.filter(|document| document.value != Value::Null).collect())
}

/// Reads one scalar again, as when a template has been filled in.
pub fn plain(text: &str) -> Value {
    match serde_yaml::from_str::<Tree>(text) {
        Ok(Tree::Null) => Value::Null,
        Ok(Tree::Bool(value)) => Value::Scalar { text: text.to_owned(), plain: Plain::Bool(value) },
        Ok(Tree::Number(value)) => Value::Scalar { text: text.to_owned(), plain: Plain::Number(value) },
        _ => Value::Scalar { text: text.to_owned(), plain: Plain::Text },
    }
}

fn syntax_error(error: &serde_yaml::Error, text: &str) -> Finding {
    let error = error.without_snippet();
    let span = error.location().map(|location| span_of(location, text));
    let message = error.to_string();
    // The place is told by the span.
    let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
    Finding::error("yaml", span, format!("not valid YAML: {message}"))
}

fn span_of(location: Location, text: &str) -> Span {
    let span = location.span();
    let at = |offset: Option<u64>| offset.and_then(|offset| usize::try_from(offset).ok());
    let start = at(span.byte_offset()).unwrap_or_else(|| offset_of(location, text)).min(text.len());
    let end = (start + at(span.byte_len()).unwrap_or(0)).min(text.len());
    let (start, end) = (floor_boundary(text, start), floor_boundary(text, end));
    // Collections end where the next thing starts; their first line is enough to point at.
    let end = text[start..end].find('\n').map_or(end, |newline| start + newline);
    Span { start, end }
}

/// The byte offset of a location that has a line and a column alone.
fn offset_of(location: Location, text: &str) -> usize {
    let line = usize::try_from(location.line()).unwrap_or(usize::MAX).saturating_sub(1);
    let column = usize::try_from(location.column()).unwrap_or(usize::MAX).saturating_sub(1);
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let in_line = text[start..].split('\n').next().unwrap_or_default();
    start + in_line.chars().take(column).map(char::len_utf8).sum::<usize>()
}

fn floor_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn node(tree: Spanned<Tree>, text: &str) -> Node {
    let span = span_of(tree.referenced, text);
    let defined = span_of(tree.defined, text);
    // A scalar that reads as a number or boolean may be wanted as a name, by the text it has.
    let source = || text[defined.start..defined.end].trim().to_owned();
    let value = match tree.value {
        Tree::Null => Value::Null,
        Tree::Bool(value) => Value::Scalar { text: source(), plain: Plain::Bool(value) },
        Tree::Number(value) => Value::Scalar { text: source(), plain: Plain::Number(value) },
        Tree::Text(text) => Value::Scalar { text, plain: Plain::Text },
        Tree::List(items) => Value::List(items.into_iter().map(|item| node(item, text)).collect()),
        Tree::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| Entry {
                    key_span: span_of(key.referenced, text),
                    key: key.value,
                    value: node(value, text),
                })
                .collect(),
        ),
    };
    Node { value, span }
}

/// What the YAML crate hands over.
enum Tree {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TreeVisitor;

        impl<'de> Visitor<'de> for TreeVisitor {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a YAML value")
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Number(value as f64))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Number(value as f64))
            }

            fn visit_i128<E>(self, value: i128) -> Result<Tree, E> {
                Ok(Tree::Number(value as f64))
            }

            fn visit_u128<E>(self, value: u128) -> Result<Tree, E> {
                Ok(Tree::Number(value as f64))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Number(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Tree::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
                let mut map = Vec::new();
                while let Some(key) = entries.next_key::<Spanned<String>>()? {
                    if key.value.contains('\0') {
                        return Err(A::Error::custom("a key contains a NUL character"));
                    }
                    map.push((key, entries.next_value()?));
                }
                Ok(Tree::Map(map))
            }
        }

        deserializer.deserialize_any(TreeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(node: &Node) -> &[Entry] {
        match &node.value {
            Value::Map(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    fn scalar(node: &Node) -> (&str, Plain) {
        match &node.value {
            Value::Scalar { text, plain } => (text, *plain),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn scalars_keep_their_text_and_know_what_they_are() {
        let text = "a: yes\nb: 1.50\nc: '7'\nd: 1e-5\ne: 010\nf: 1_000\ng: C:\\x!y\nh:\ni: bf16 # note\n";
        let documents = parse(text).unwrap();
        let found: Vec<_> =
            entries(&documents[0]).iter().filter(|e| e.key != "h").map(|e| scalar(&e.value)).collect();
        assert_eq!(found[0], ("yes", Plain::Bool(true)));
        assert_eq!(found[1], ("1.50", Plain::Number(1.5)));
        assert_eq!(found[2], ("7", Plain::Text));
        assert_eq!(found[3], ("1e-5", Plain::Number(1e-5)));
        assert_eq!(found[4], ("010", Plain::Number(8.0)));
        assert_eq!(found[5], ("1_000", Plain::Number(1000.0)));
        assert_eq!(found[6], ("C:\\x!y", Plain::Text));
        assert_eq!(found[7], ("bf16", Plain::Text));
        assert_eq!(entries(&documents[0])[7].value.value, Value::Null);
    }

    #[test]
    fn spans_point_at_keys_and_values() {
        let text = "\u{e9}: 1\nlist:\n  - weight: 0.25\n";
        let documents = parse(text).unwrap();
        let entry = &entries(&documents[0])[1];
        assert_eq!(&text[entry.key_span.start..entry.key_span.end], "list");
        let Value::List(items) = &entry.value.value else { panic!() };
        let inner = &entries(&items[0])[0];
        assert_eq!(&text[inner.value.span.start..inner.value.span.end], "0.25");
    }

    #[test]
    fn duplicates_are_kept_merges_applied_and_empty_documents_dropped() {
        let documents = parse("a: 1\na: 2\n---\nx: &x {p: 1, q: 2}\ny:\n  <<: *x\n  q: 3\n---\n").unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(entries(&documents[0]).len(), 2);
        let y = entries(&entries(&documents[1])[1].value);
        let mut found: Vec<_> = y.iter().map(|e| (e.key.as_str(), scalar(&e.value).0)).collect();
        found.sort_unstable();
        assert_eq!(found, [("p", "1"), ("q", "3")]);
    }

    #[test]
    fn bombs_are_refused() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..10 {
            let reference = format!("*a{}, ", i - 1).repeat(10);
            laughs.push_str(&format!("a{i}: &a{i} [{}]\n", reference.trim_end_matches(", ")));
        }
        assert_eq!(parse(&laughs).unwrap_err().code, "yaml");
        assert_eq!(parse(&"[".repeat(200_000)).unwrap_err().code, "yaml");
        assert_eq!(parse(&" ".repeat(MAX_BYTES + 1)).unwrap_err().code, "too-large");
    }

    #[test]
    fn syntax_errors_have_a_place() {
        let error = parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(error.span.is_some(), "{error:?}");
        assert!(!error.message.contains("line"), "{}", error.message);
    }
}
