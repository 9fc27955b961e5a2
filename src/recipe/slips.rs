//! Slips of the hand that YAML takes for something else, or refuses in words that do not help.
//!
//! | written | YAML reads |
//! | --- | --- |
//! | `weight:0.6` | a text |
//! | `{weight: 0,6}` | a weight of 0, and a key `6` |
//! | a list entry without its `-` | the keys of the entry above, given twice |
//! | a no-break space | a letter |
//! | a tab before a key | an error |

use super::finding::Finding;
use super::span::Span;
use super::yaml::{Entry, Node, Plain, Value};

/// Keys whose entries are maps, with the key that each entry has once.
const LISTS: [(&str, &str); 3] = [("models", "model"), ("sources", "model"), ("slices", "sources")];

/// Tells of slips in what could be read as YAML.
pub fn check(text: &str, documents: &[Node], findings: &mut Vec<Finding>) {
    for document in documents {
        walk(text, document, "", findings);
    }
}

/// What was most likely meant where a text is no YAML, near the place at which reading failed.
pub fn behind_error(text: &str, at: Option<usize>) -> Option<Finding> {
    let failed = at.unwrap_or(text.len()).min(text.len());
    let mut found = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        // A slip shows where its line ends at the earliest, and some lines further on at times.
        if start > failed {
            break;
        }
        found = in_line(line, start).or(found);
        start += line.len();
    }
    found
}

fn in_line(line: &str, start: usize) -> Option<Finding> {
    let content = line.trim_end();
    let indent = content.len() - content.trim_start().len();
    let place = |at: usize, length: usize| Span { start: start + at, end: start + at + length };
    let code = content[indent..].split('#').next().unwrap_or_default().trim_end();
    if let Some((at, c)) = content.char_indices().find(|(at, c)| *at < indent && *c != ' ')
        && !code.is_empty()
    {
        return Some(if c == '\t' {
            Finding::error("tab", place(at, 1), "a tab is used for indentation, but YAML accepts only spaces")
                .help("replace it with spaces, as many as in the surrounding lines")
        } else {
            odd_space(c, place(at, c.len_utf8()))
        });
    }
    let key = code.trim_start_matches("- ").trim_start();
    let (word, behind) = key.split_once(':')?;
    let at = content.len() - content.trim_start().len() + (code.len() - key.len());
    if let Some(c) = behind.chars().next().filter(|c| is_odd(*c)) {
        return Some(odd_space(c, place(at + word.len() + 1, c.len_utf8())));
    }
    is_without_space(key).then(|| without_space(word, behind, place(at, word.len() + 1)))
}

/// Whether a text is a key and its value without a space between them; paths and addresses are not.
fn is_without_space(text: &str) -> bool {
    let Some((word, behind)) = text.split_once(':') else { return false };
    let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_word && word != "hub" && !behind.is_empty() && !behind.starts_with([' ', '/', '\\', ':'])
}

fn without_space(word: &str, behind: &str, span: Span) -> Finding {
    let message = format!("a space is missing after the colon of `{word}:`");
    let value = behind.split_whitespace().next().unwrap_or_default();
    Finding::error("no-space", span, message).help(format!("write `{word}: {value}`"))
}

fn is_odd(c: char) -> bool {
    c.is_whitespace() && !c.is_ascii() || matches!(c, '\u{200b}' | '\u{2060}' | '\u{feff}')
}

/// The first such character of a stretch of the text, with its place.
fn first_odd(text: &str, span: Span) -> Option<(char, Span)> {
    let (at, c) = text[span.start..span.end].char_indices().find(|(_, c)| is_odd(*c))?;
    Some((c, Span { start: span.start + at, end: span.start + at + c.len_utf8() }))
}

fn odd_space(c: char, span: Span) -> Finding {
    let name = if c == '\u{a0}' { "a no-break space" } else { "an unusual space" };
    let message = format!("{name} (U+{:04X}), which YAML treats as a letter", u32::from(c));
    Finding::error("odd-space", span, message).help("replace it with a plain space")
}

/// Looks at a node that stands under a key.
fn walk(text: &str, node: &Node, key: &str, findings: &mut Vec<Finding>) {
    match &node.value {
        Value::Map(entries) => {
            decimal_commas(text, entries, findings);
            for entry in entries {
                if let Some((c, span)) = first_odd(text, entry.key_span) {
                    findings.push(odd_space(c, span));
                } else if is_without_space(&entry.key) && entry.value.value == Value::Null {
                    // So it is read within braces.
                    let (word, behind) = entry.key.split_once(':').expect("there is a colon");
                    findings.push(without_space(word, behind, entry.key_span));
                }
                walk(text, &entry.value, &entry.key, findings);
            }
        }
        Value::List(items) => {
            for item in items {
                if let Some((_, once)) = LISTS.iter().find(|(list, _)| *list == key) {
                    without_dash(text, item, once, findings);
                }
                walk(text, item, "", findings);
            }
        }
        Value::Scalar { text: value, plain: Plain::Text } => {
            // A text of several lines may hold whatever it likes, as what stands in quotes may.
            let is_quoted =
                value.contains('\n') || text[node.span.start..].starts_with(['"', '\'', '|', '>']);
            let is_edged = value.starts_with(is_odd) || value.ends_with(is_odd);
            if let Some((c, span)) = first_odd(text, node.span).filter(|_| is_edged && !is_quoted) {
                findings.push(odd_space(c, span));
            } else if !is_quoted && (key == "parameters" || key.is_empty()) && is_without_space(value) {
                let (word, behind) = value.split_once(':').expect("there is a colon");
                let span = Span { start: node.span.start, end: node.span.start + word.len() + 1 };
                findings.push(without_space(word, behind, span));
            }
        }
        Value::Null | Value::Scalar { .. } => {}
    }
}

/// `{weight: 0,6}`: a number, and behind a comma without a space a key of digits without a value.
fn decimal_commas(text: &str, entries: &[Entry], findings: &mut Vec<Finding>) {
    for pair in entries.windows(2) {
        let [Entry { key, value, .. }, behind] = pair else { unreachable!("windows have two") };
        let Value::Scalar { text: whole, plain: Plain::Number(_) } = &value.value else { continue };
        let is_digits = !behind.key.is_empty() && behind.key.bytes().all(|byte| byte.is_ascii_digit());
        let between = text.get(value.span.end..behind.key_span.start);
        if is_digits && behind.value.value == Value::Null && between == Some(",") {
            let span = Span { start: value.span.start, end: behind.key_span.end };
            findings.push(
                decimal_comma(&format!("{key}: {whole},{}", behind.key), span)
                    .help(format!("`{key}` would be {whole} here; write `{key}: {whole}.{}`", behind.key)),
            );
        }
    }
}

/// A number with a comma, with no advice yet.
pub fn decimal_comma(written: &str, span: Span) -> Finding {
    Finding::error(
        "decimal-comma",
        span,
        format!("`{written}` has a decimal comma instead of a decimal point"),
    )
}

/// Two entries of a list that have become one: what an entry has once stands in it twice.
fn without_dash(text: &str, item: &Node, once: &str, findings: &mut Vec<Finding>) {
    let Value::Map(entries) = &item.value else { return };
    let mut named = entries.iter().filter(|entry| entry.key == once);
    let Some(first) = named.next() else { return };
    for again in named.filter(|again| !is_same(&again.value, &first.value)) {
        let message = format!("an entry has a second `{once}`, which replaces the first");
        let before = &text[..again.key_span.start];
        let line = before[before.rfind('\n').map_or(0, |newline| newline + 1)..].trim();
        let finding = Finding::error("missing-dash", again.key_span, message);
        findings.push(if line.is_empty() {
            finding.help(format!("put a `-` before it: `- {once}: ...` starts a new entry"))
        } else {
            finding.help("each entry of the list needs a `-`, or braces of its own")
        });
    }
}

fn is_same(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::Scalar { text: a, .. }, Value::Scalar { text: b, .. }) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::yaml;

    /// Code and text of each slip.
    fn found(text: &str) -> Vec<(&'static str, String)> {
        let mut findings = Vec::new();
        match yaml::parse(text) {
            Ok(documents) => check(text, &documents, &mut findings),
            Err(error) => {
                findings.push(behind_error(text, error.span.map(|span| span.start)).unwrap_or(error))
            }
        }
        let place = |finding: &Finding| {
            let span = finding.span.expect("slips have a place");
            text[span.start..span.end].to_owned()
        };
        findings.iter().map(|finding| (finding.code, place(finding))).collect()
    }

    #[track_caller]
    fn finds(text: &str, code: &'static str, place: &str) {
        assert_eq!(found(text), [(code, place.to_owned())], "{text}");
    }

    #[test]
    fn a_missing_space_is_pointed_at() {
        finds("models:\n- model: a\n  parameters:\n    weight:0.6\n", "no-space", "weight:");
        finds("models:\n- model: a\n  parameters:\n    weight:0.6\n    density: 1\n", "no-space", "weight:");
        finds("models:\n- model:org/a\n", "no-space", "model:");
        finds("models: [{model: a, parameters: {weight:0.6}}]\n", "no-space", "weight:0.6");
        finds("merge_method:ties\nmodels: []\n", "no-space", "merge_method:");
        finds("name: x\ndtype:bfloat16\n", "no-space", "dtype:");
        for right in
            ["base_model: hub:org/a\n", "models: [\"a:b\"]\n", "url: http://a\n", "models: [hub:org/a]\n"]
        {
            assert_eq!(found(right), [], "{right}");
        }
    }

    #[test]
    fn spaces_of_other_kinds_are_pointed_at() {
        finds("a:\n\u{a0} weight: 1\n", "odd-space", "\u{a0}");
        finds("a: 1\nweight:\u{a0}0.6\nb: 2\n", "odd-space", "\u{a0}");
        finds("a: {\u{a0}weight: 1}\n", "odd-space", "\u{a0}");
        finds("merge_method: ties\u{3000}\n", "odd-space", "\u{3000}");
        finds("a:\n\tweight: 1\n", "tab", "\t");
        for right in
            ["note: a\u{a0}b\n", "chat_template: |\n  \u{a0}{{ x }}\n", "a: \"\u{a0}\"\n", "a: 1\t# b\n"]
        {
            assert_eq!(found(right), [], "{right}");
        }
    }

    #[test]
    fn a_comma_in_a_number_is_pointed_at() {
        finds("models: [{model: a, parameters: {weight: 0,6}}]\n", "decimal-comma", "0,6");
        finds("{t: 0,6, u: 1}\n", "decimal-comma", "0,6");
        assert_eq!(found("{t: 0, u: 6}\n"), []);
        assert_eq!(found("t: [0,6]\n"), []);
    }

    #[test]
    fn a_missing_dash_is_pointed_at() {
        let first = "models:\n- model: a\n  parameters: {weight: 1}\n";
        finds(&format!("{first}  model: b\n  parameters: {{weight: 2}}\n"), "missing-dash", "model");
        finds("models: [{model: a, model: b}]\n", "missing-dash", "model");
        assert_eq!(found(&format!("{first}  model: a\n")), []);
        assert_eq!(found(&format!("{first}- model: b\n")), []);
    }
}
