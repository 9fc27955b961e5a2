//! What the terminal is like: whether text is coloured, and how wide it is.
//!
//! Each stream decides for itself. One that is a terminal is coloured, unless `NO_COLOR`, `CLICOLOR=0`, `TERM=dumb` or
//! `--color never` says otherwise, and its text is wrapped between words at the terminal's width. Where output goes
//! elsewhere each message is a line, whatever its length, so that a script finds it whole; `CLICOLOR_FORCE` and
//! `--color always` colour it there, too.

use std::ffi::OsString;
use std::{env, io};

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use console::Term;
use textwrap::{Options, WordSeparator, WordSplitter};

/// When to colour text; `Auto` is on a terminal, unless the environment says otherwise.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Colour {
    #[default]
    Auto,
    Always,
    Never,
}

/// Narrower terminals are taken for this wide.
const LEAST_WIDTH: usize = 20;

/// Has all streams coloured as asked, from here on.
pub fn colour(when: Colour) {
    let choice = match when {
        Colour::Auto if is_dumb() => ColorChoice::Never,
        Colour::Auto => ColorChoice::Auto,
        Colour::Always => ColorChoice::Always,
        Colour::Never => ColorChoice::Never,
    };
    choice.write_global();
    // Live lines are drawn by a crate that asks another one.
    console::set_colors_enabled_stderr(AutoStream::choice(&io::stderr()) != ColorChoice::Never);
}

/// Whether the terminal shows no colours and none are forced. Asked here because anstream colours whatever runs where
/// `CI` is set, a dumb terminal too.
fn is_dumb() -> bool {
    let is_forced = env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0");
    !is_forced && env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// What `--color` asks for, found before the arguments are read, since their errors are coloured, too.
pub fn asked(args: impl Iterator<Item = OsString>) -> Colour {
    let args: Vec<String> =
        args.map(|arg| arg.to_string_lossy().into_owned()).take_while(|arg| arg != "--").collect();
    let value = args.iter().enumerate().rev().find_map(|(i, arg)| match arg.strip_prefix("--color")? {
        "" => args.get(i + 1).map(String::as_str),
        rest => rest.strip_prefix('='),
    });
    value.and_then(|value| Colour::from_str(value, true).ok()).unwrap_or_default()
}

/// The columns of standard output, if it is a terminal.
pub fn width_of_stdout() -> Option<usize> {
    width(&Term::stdout())
}

/// The columns of standard error, if it is a terminal.
pub fn width_of_stderr() -> Option<usize> {
    width(&Term::stderr())
}

fn width(term: &Term) -> Option<usize> {
    if !term.is_term() {
        return None;
    }
    term.size_checked().map(|(_, columns)| usize::from(columns).max(LEAST_WIDTH))
}

/// Text with its lines broken between words at a width. What is carried over begins where a line's second column
/// does, columns being two blanks or more apart, or else a little further in than the line.
pub fn wrapped(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    text.split('\n').map(|line| wrapped_line(line, width)).collect::<Vec<_>>().join("\n")
}

fn wrapped_line(line: &str, width: usize) -> String {
    if textwrap::core::display_width(line) <= width {
        return line.to_owned();
    }
    let body = line.trim_start_matches(' ');
    let indent = line.len() - body.len();
    let column = body.find("  ").map(|at| at + body[at..].chars().take_while(|c| *c == ' ').count());
    let column = column.map(|at| indent + textwrap::core::display_width(&body[..at]));
    let hang = column.filter(|column| *column <= width / 2).unwrap_or(indent + 2).min(width / 2);
    fill(body, width, &" ".repeat(indent), &" ".repeat(hang))
}

/// Words set one behind another in lines of a width; names and paths are never broken.
pub fn fill(text: &str, width: usize, first: &str, others: &str) -> String {
    let options = Options::new(width)
        .initial_indent(first)
        .subsequent_indent(others)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit);
    textwrap::fill(text, options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::palette::{ERROR, paint};

    #[test]
    fn lines_break_between_words_and_hang() {
        let text = "error: the recipe models/a-rather-long-name.yaml cannot be read";
        assert_eq!(wrapped(text, None), text);
        assert_eq!(
            wrapped(text, Some(24)),
            "error: the recipe\n  models/a-rather-long-name.yaml\n  cannot be read"
        );
        let table = "slerp   the shorter way round a sphere\nties    keeps what most agree on\n";
        assert_eq!(
            wrapped(table, Some(28)),
            "slerp   the shorter way\n        round a sphere\nties    keeps what most\n        agree on\n"
        );
        assert_eq!(wrapped("    moved by a lot", Some(14)), "    moved by a\n      lot");
    }

    #[test]
    fn colours_take_no_room() {
        let text = format!("{} four more words here", paint(ERROR, "error:"));
        assert_eq!(wrapped(&text, Some(28)), text);
        assert_eq!(wrapped(&text, Some(22)).lines().count(), 2);
    }

    #[test]
    fn the_colour_that_is_asked_for_is_found() {
        let asked = |line: &str| format!("{:?}", asked(line.split(' ').map(OsString::from)));
        assert_eq!(asked("plan --color always"), "Always");
        assert_eq!(asked("--color=never plan --bogus"), "Never");
        assert_eq!(asked("plan --color=sometimes"), "Auto");
        assert_eq!(asked("plan -- --color=never"), "Auto");
    }
}
