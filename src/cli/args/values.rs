//! Values that are written with units, or as pairs.

/// Reads `NAME=VALUE`.
pub fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as name=value".to_owned()),
    }
}

/// Reads a number of bytes: decimal units (kB, MB, GB, TB) or binary ones (KiB, MiB, GiB, TiB).
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(format!("`{unit}` is not a unit of bytes; use MB, GB, MiB or GiB")),
    };
    let number: f64 = number.parse().map_err(|_| "write a size as 512MB or 4GiB".to_owned())?;
    let bytes = number * factor as f64;
    if (1.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err("the size is out of range".to_owned()) }
}

/// Reads an age in seconds: a number of seconds, minutes, hours, days or weeks (s, m, h, d, w).
pub fn age(text: &str) -> Result<u64, String> {
    let problem = || "write an age as 30d, 12h or 2w".to_owned();
    let unit = text.chars().last().ok_or_else(problem)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(problem()),
    };
    let number: u64 = text[..text.len() - 1].trim().parse().map_err(|_| problem())?;
    number.checked_mul(seconds).ok_or_else(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(size("512MB"), Ok(512_000_000));
        assert_eq!(size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(size("7"), Ok(7));
        assert_eq!((age("30d"), age("90s")), (Ok(2_592_000), Ok(90)));
        assert!(age("30").is_err() && age("d").is_err() && age("").is_err());
        assert!(size("x").is_err() && size("5 parsecs").is_err() && size("0").is_err());
    }
}
