//! Heat maps of letters, for terminals.

/// Nothing, no change, and ever more of it.
const SHADES: [char; 6] = [' ', '\u{b7}', '\u{2591}', '\u{2592}', '\u{2593}', '\u{2588}'];

/// Draws a table as shades, one letter a cell: a dot for zero, and a full block for the end of the scale and what is
/// beyond it. Cells without a value stay empty. Columns that are called by number are named every so often.
pub fn blocks(rows: &[String], columns: &[String], values: &[Vec<Option<f64>>], end: f64) -> String {
    let width = rows.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, cells) in rows.iter().zip(values) {
        let line: String = cells.iter().map(|cell| shade(*cell, end)).collect();
        text.push_str(format!("{name:>width$}  {line}").trim_end());
        text.push('\n');
    }
    // A name begins below its column, where the one before leaves room.
    let mut below = String::new();
    for (column, name) in columns.iter().enumerate() {
        let has_room = below.is_empty() || below.chars().count() < column;
        let is_told = name.parse::<usize>().map_or(true, |number| number % 4 == 0);
        if has_room && is_told && column + name.chars().count() <= columns.len().max(3) {
            below.push_str(&" ".repeat(column - below.chars().count()));
            below.push_str(name);
        }
    }
    text.push_str(format!("{:width$}  {below}", "").trim_end());
    text.push('\n');
    text
}

fn shade(value: Option<f64>, end: f64) -> char {
    let Some(value) = value.filter(|value| !value.is_nan()) else { return SHADES[0] };
    let steps = SHADES.len() - 2;
    match value <= 0.0 {
        true => SHADES[1],
        false if end > 0.0 => SHADES[1 + ((value / end * steps as f64).ceil() as usize).clamp(1, steps)],
        false => SHADES[SHADES.len() - 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_the_shades_of_their_place_on_the_scale() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let columns = names(&["in", "0", "1", "2", "3", "4", "5", "out"]);
        let row = [
            None,
            Some(0.0),
            Some(0.1),
            Some(0.5),
            Some(0.51),
            Some(1.0),
            Some(f64::INFINITY),
            Some(f64::NAN),
        ];
        let text = blocks(&names(&["q", "norm"]), &columns, &[row.to_vec(), vec![Some(1.0); 8]], 1.0);
        let expected = "   q   \u{b7}\u{2591}\u{2592}\u{2593}\u{2588}\u{2588}\n\
                        norm  \u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\n      in   4\n";
        assert_eq!(text, expected);
    }
}
