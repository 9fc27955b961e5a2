//! The front matter of a card: YAML that the hub reads.

use std::fmt::Write;

/// Keys with texts and lists of texts.
#[derive(Debug, Default)]
pub struct FrontMatter(String);

impl FrontMatter {
    /// Adds a key with a text.
    pub fn text(&mut self, key: &str, value: &str) {
        let _ = writeln!(self.0, "{key}: {}", scalar(value));
    }

    /// Adds a key with a list, unless that is empty.
    pub fn list<'a>(&mut self, key: &str, values: impl IntoIterator<Item = &'a str>) {
        let mut values = values.into_iter().peekable();
        if values.peek().is_some() {
            let _ = writeln!(self.0, "{key}:");
        }
        for value in values {
            let _ = writeln!(self.0, "- {}", scalar(value));
        }
    }

    /// Its lines.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// A text as YAML of either version reads it back: in quotes unless it is plainly a text.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 10] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !WORDS.contains(&text.to_lowercase().as_str());
    if is_plain { text.to_owned() } else { serde_json::to_string(text).expect("texts serialise") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_read_back_as_text() {
        let texts =
            ["apache-2.0", "no", "1e3", "a: b", "Qwen/Qwen2.5-14B", "# x", "say \"so\"", "", "line\nline"];
        let mut front = FrontMatter::default();
        front.list("all", texts);
        front.text("one", "3");
        front.list("none", []);
        let read: serde_json::Value = serde_yaml::from_str(&front.into_text()).unwrap();
        assert_eq!(read["all"], serde_json::json!(texts));
        assert_eq!((read["one"].as_str(), read.get("none")), (Some("3"), None));
    }
}
