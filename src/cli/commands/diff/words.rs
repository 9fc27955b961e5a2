//! Numbers of a comparison, as text.

use crate::op::difference::Distance;
use crate::project::ComparedTensor;

/// `0.512 %`.
pub fn percent(part: f64) -> String {
    let percent = part * 100.0;
    match percent {
        0.0 => "0 %".to_owned(),
        _ if percent.is_infinite() => "from zero".to_owned(),
        _ if percent.abs() >= 0.001 => format!("{percent:.3} %"),
        _ => format!("{percent:.1e} %"),
    }
}

/// `0.999987`.
pub fn cosine(distance: &Distance) -> String {
    format!("{:.6}", distance.cosine())
}

/// `0.0039`, with three digits that count.
pub fn number(number: f64) -> String {
    match number {
        0.0 => "0".to_owned(),
        _ if (1e-4..1e5).contains(&number.abs()) => {
            let digits = 2 - number.abs().log10().floor() as i32;
            format!("{number:.*}", digits.clamp(0, 6) as usize)
        }
        _ => format!("{number:.2e}"),
    }
}

/// `[12, 7]`.
pub fn place(tensor: &ComparedTensor, distance: &Distance) -> String {
    format!("{:?}", distance.place(&tensor.specs[0].shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_count() {
        assert_eq!(
            [0.0, 0.0051234, 1e-7, f64::INFINITY].map(percent),
            ["0 %", "0.512 %", "1.0e-5 %", "from zero"]
        );
        assert_eq!(
            [0.0, 0.00390625, 12.345, 1234.5, 1e-9].map(number),
            ["0", "0.00391", "12.3", "1234", "1.00e-9"]
        );
    }
}
