//! Evaluates settings for one tensor: precedence, filters, gradients.

use crate::methods::Value;
use crate::recipe::{Gradient, Parameters, Setting, Span};

/// Finds a parameter's value; the first of `levels` that yields one wins.
///
/// `tensor` is the name that filters are matched against: the output tensor's for shared parameters, the
/// input's own for those of one input. `t` is the position in the slice's layers, from 0 to 1.
pub fn evaluate(name: &str, levels: &[&Parameters], tensor: &str, t: f64) -> Option<(Value, Span)> {
    levels.iter().find_map(|level| {
        let (_, setting) = level.iter().find(|(key, _)| *key == name)?;
        match &setting.value {
            Setting::Plain(gradient) => at(gradient, t).map(|value| (value, setting.span)),
            Setting::Filtered(clauses) => {
                let matching = clauses.iter().find(|clause| {
                    clause.filter.as_ref().is_none_or(|filter| tensor.contains(filter.as_str()))
                })?;
                at(&matching.value, t).map(|value| (value, matching.span))
            }
        }
    })
}

/// The gradient's value at `t`: numbers are interpolated, whole ones to the nearest whole number; flags
/// are picked.
fn at(gradient: &Gradient, t: f64) -> Option<Value> {
    let values = &gradient.0;
    let last = values.len().checked_sub(1)?;
    let scaled = t * last as f64;
    let i = (scaled.floor() as usize).min(last);
    let f = scaled - i as f64;
    let between = |a: f64, b: f64| (1.0 - f) * a + f * b;
    Some(match (values[i], values[(i + 1).min(last)]) {
        (Value::Number(a), Value::Number(b)) => Value::Number(between(a, b)),
        (Value::Integer(a), Value::Integer(b)) => {
            Value::Integer(between(a as f64, b as f64).round_ties_even() as i64)
        }
        (value, _) => {
            debug_assert!(matches!(value, Value::Flag(_)), "gradients of mixed types are refused");
            value
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Clause, Spanned};

    fn numbers(values: &[f64]) -> Gradient {
        Gradient(values.iter().map(|value| Value::Number(*value)).collect())
    }

    fn number_at(values: &[f64], t: f64) -> f64 {
        match at(&numbers(values), t) {
            Some(Value::Number(value)) => value,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn gradients_interpolate_between_neighbours() {
        assert_eq!(number_at(&[0.0, 0.5, 0.3], 0.0), 0.0);
        assert_eq!(number_at(&[0.0, 0.5, 0.3], 0.5), 0.5);
        assert_eq!(number_at(&[0.0, 0.5, 0.3], 0.25), 0.25);
        assert_eq!(number_at(&[0.0, 0.5, 0.3], 1.0), 0.3);
        assert_eq!(number_at(&[7.0], 0.6), 7.0);
        assert_eq!(at(&Gradient(Vec::new()), 0.5), None);
    }

    #[test]
    fn whole_numbers_stay_whole() {
        let at = |t| at(&Gradient([1, 10, 4].map(Value::Integer).to_vec()), t);
        let expected = [(0.0, 1), (0.02, 1), (0.04, 2), (0.25, 6), (0.5, 10), (0.9, 5), (1.0, 4)];
        for (t, whole) in expected {
            assert_eq!(at(t), Some(Value::Integer(whole)), "at {t}");
        }
        assert_eq!(super::at(&Gradient(vec![Value::Integer(1 << 53)]), 0.3), Some(Value::Integer(1 << 53)));
    }

    #[test]
    fn flags_are_picked_not_interpolated() {
        let flags = Gradient(vec![Value::Flag(true), Value::Flag(false)]);
        assert_eq!(at(&flags, 0.9), Some(Value::Flag(true)));
        assert_eq!(at(&flags, 1.0), Some(Value::Flag(false)));
    }

    #[test]
    fn a_filter_without_match_falls_through_to_the_next_level() {
        let spanned = |value| Spanned { value, span: Span::default() };
        let clause = |filter: &str, value| Clause {
            filter: Some(filter.to_owned()),
            value: numbers(&[value]),
            span: Span::default(),
        };
        let upper: Parameters =
            vec![("weight", spanned(Setting::Filtered(vec![clause("mlp", 1.0), clause("layers.1", 2.0)])))];
        let lower: Parameters = vec![("weight", spanned(Setting::Plain(numbers(&[3.0]))))];
        let value = |tensor| evaluate("weight", &[&upper, &lower], tensor, 0.0).map(|(value, _)| value);
        assert_eq!(value("layers.1.mlp.up"), Some(Value::Number(1.0)));
        assert_eq!(value("layers.10.attn"), Some(Value::Number(2.0)));
        assert_eq!(value("norm"), Some(Value::Number(3.0)));
        assert_eq!(evaluate("t", &[&upper], "x", 0.0), None);
    }
}
