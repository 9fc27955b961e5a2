//! The colours of all that is printed. Text carries them wherever it is made; the streams take them out again where
//! they are not wanted.

use std::fmt::Display;

use anstyle::{AnsiColor, Style};

pub const ERROR: Style = AnsiColor::Red.on_default().bold();
pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
pub const NOTE: Style = AnsiColor::Blue.on_default().bold();
pub const HELP: Style = AnsiColor::Cyan.on_default().bold();

/// A value that was replaced, a line that was removed.
pub const OLD: Style = AnsiColor::Red.on_default();
/// The value in its place.
pub const NEW: Style = AnsiColor::Green.on_default();

/// What must run.
pub const RUN: Style = AnsiColor::Yellow.on_default();
/// What runs if it has to.
pub const MAYBE: Style = AnsiColor::Cyan.on_default();
/// What is up to date, and what went well.
pub const GOOD: Style = AnsiColor::Green.on_default();

/// What a line is about.
pub const SUBJECT: Style = Style::new().bold();
/// What can be passed over.
pub const FAINT: Style = Style::new().dimmed();

/// Text with a style of its own.
pub fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// `old -> new`.
pub fn old_to_new(old: &str, new: &str) -> String {
    format!("{} -> {}", paint(OLD, old), paint(NEW, new))
}

/// A change as a build's record has it: `weight of org/a 0.9 -> 0.85`.
pub fn change(text: &str) -> String {
    let Some((before, new)) = text.rsplit_once(" -> ") else { return text.to_owned() };
    // A value is the last word, but for a parameter that was not there.
    let absent = ABSENT.iter().find_map(|absent| before.strip_suffix(absent));
    let at = absent.map_or_else(|| before.rfind(' ').map(|at| at + 1), |rest| Some(rest.len()));
    let (what, old) = before.split_at(at.unwrap_or(0));
    format!("{what}{}", old_to_new(old, new))
}

/// What stands for no value.
const ABSENT: [&str; 2] = ["not used", "not set"];

/// A line whose first word says how grave it is: that word painted.
pub fn with_severity(line: &str) -> String {
    let words = [("error:", ERROR), ("warning:", WARNING), ("note:", NOTE), ("help:", HELP)];
    let text = line.trim_start();
    let indent = &line[..line.len() - text.len()];
    match words.iter().find_map(|(word, style)| Some((word, style, text.strip_prefix(word)?))) {
        Some((word, style, rest)) => format!("{indent}{}{rest}", paint(*style, word)),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_values_of_a_change_are_found() {
        let plain = |text: &str| anstream::adapter::strip_str(&change(text)).to_string();
        for text in
            ["a weight of org/a 0.9 -> 0.85", "a density of org/b not used -> 0.7", "the tensor changed"]
        {
            assert_eq!(plain(text), text);
        }
        assert_eq!(change("weight 0.9 -> 0.85"), format!("weight {}", old_to_new("0.9", "0.85")));
        assert_eq!(change("density not used -> 1"), format!("density {}", old_to_new("not used", "1")));
        assert_eq!(change("the tensor changed"), "the tensor changed");
    }

    #[test]
    fn the_word_that_says_how_grave_it_is_is_painted() {
        assert_eq!(with_severity("error: no"), format!("{} no", paint(ERROR, "error:")));
        assert_eq!(with_severity("  help: do"), format!("  {} do", paint(HELP, "help:")));
        assert_eq!(with_severity("errors: 3"), "errors: 3");
    }
}
