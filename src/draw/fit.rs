//! How much room text takes, without a font at hand, and where it may be broken.

/// Widths of Helvetica's printable ASCII, in thousandths of its size.
const WIDTHS: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 222, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556,
    556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278,
    500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469,
    556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500,
    278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];

/// The room that a text takes at most, in pixels: what the widest of the usual sans serif fonts needs.
pub fn width(text: &str, size: f64, is_bold: bool) -> f64 {
    let of = |c: char| match (c as usize).checked_sub(0x20).and_then(|at| WIDTHS.get(at)) {
        Some(thousandths) => f64::from(*thousandths) * 1.12e-3 + 0.03,
        None if (c as u32) < 0x1100 => 0.75,
        None => 1.1,
    };
    text.chars().map(of).sum::<f64>() * size * if is_bold { 1.1 } else { 1.0 }
}

/// Breaks a name into lines that fit, after `/`, `-`, `_`, `.` and spaces where it can, anywhere where it must.
pub fn wrap(text: &str, max: f64, size: f64, is_bold: bool) -> Vec<String> {
    let fits = |line: &str| width(line, size, is_bold) <= max;
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for piece in pieces(text) {
        if !line.is_empty() && !fits(&format!("{line}{piece}")) {
            lines.push(std::mem::take(&mut line));
        }
        for c in piece.chars() {
            if !line.is_empty() && !fits(&format!("{line}{c}")) {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
    }
    lines.push(line);
    lines.into_iter().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// The parts of a name that stay together, each with the mark that ends it. A point in a number ends nothing.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let is_before_digit = chars.peek().is_some_and(|(_, next)| next.is_ascii_digit());
        if "/-_ ".contains(c) || (c == '.' && !is_before_digit) {
            let end = at + c.len_utf8();
            pieces.push(&text[start..end]);
            start = end;
        }
    }
    pieces.push(&text[start..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_broken_at_their_joints_and_nothing_is_lost() {
        let name = "some-organisation/Qwen2.5-14B-Instruct_abliterated.v2";
        for max in [40.0, 90.0, 140.0, 900.0] {
            let lines = wrap(name, max, 12.0, true);
            assert_eq!(lines.concat(), name);
            assert!(lines.iter().all(|line| width(line, 12.0, true) <= max), "{lines:?}");
        }
        assert_eq!(wrap(name, 150.0, 12.0, false)[0], "some-organisation/");
        assert_eq!(wrap("Qwen2.5-14B", 64.0, 12.0, false), ["Qwen2.5-", "14B"]);
        assert_eq!(wrap("abcdefgh", 30.0, 12.0, false).concat(), "abcdefgh");
        assert_eq!(wrap("", 30.0, 12.0, false), Vec::<String>::new());
    }
}
