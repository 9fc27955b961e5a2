//! Sums in f64 over a fixed tree, so that they are the same on every machine.

/// Partial sums kept side by side within a leaf.
const LANES: usize = 8;

/// The sum of `f` over pairs of elements.
fn sum_pairs(a: &[f32], b: &[f32], f: impl Fn(f64, f64) -> f64) -> f64 {
    assert_eq!(a.len(), b.len());
    let mut lanes = [0.0; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += f(f64::from(a[lane]), f64::from(b[lane]));
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[lane] += f(f64::from(*a), f64::from(*b));
    }
    tree_sum(&lanes)
}

/// The inner product of two slices.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    sum_pairs(a, b, |a, b| a * b)
}

/// The sum of absolute values.
pub fn l1(a: &[f32]) -> f64 {
    sum_pairs(a, a, |a, _| a.abs())
}

/// Adds neighbours, then neighbours' sums, and so on.
pub fn tree_sum(values: &[f64]) -> f64 {
    match values {
        [] => 0.0,
        [value] => *value,
        _ => {
            let (left, right) = values.split_at(values.len().next_power_of_two() / 2);
            tree_sum(left) + tree_sum(right)
        }
    }
}

/// Adds up one of the `width` sums that every leaf has; `sums` holds them leaf after leaf.
pub fn over_leaves(sums: &[f64], width: usize, which: usize) -> f64 {
    let own: Vec<f64> = sums.iter().skip(which).step_by(width).copied().collect();
    tree_sum(&own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_where_f64_can_be() {
        let a: Vec<f32> = (1..=1001).map(|i| i as f32).collect();
        assert_eq!(l1(&a.iter().map(|x| -x).collect::<Vec<_>>()), 501_501.0);
        assert_eq!(dot(&a, &a), (1..=1001u64).map(|i| i * i).sum::<u64>() as f64);
        assert_eq!(over_leaves(&[1.0, 10.0, 2.0, 20.0, 3.0, 30.0], 2, 1), 60.0);
    }

    #[test]
    fn the_tree_keeps_small_terms() {
        let values = [vec![1e16], vec![1.0; 4095]].concat();
        let sequential: f64 = values.iter().sum();
        assert!((tree_sum(&values) - (1e16 + 4095.0)).abs() < (sequential - (1e16 + 4095.0)).abs());
    }
}
