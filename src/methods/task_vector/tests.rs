//! The family beside test vectors, and sparsifiers beside their definitions.

use proptest::prelude::*;

use super::sparsify::Sparsifier;
use crate::kernels::stream::Stream;
use crate::manifest::ManifestText;
use crate::methods::find;
use crate::methods::method::{Method, Simplified};
use crate::methods::testing::{B, Case, X, Y, assert_close};

fn method(name: &str) -> &'static dyn Method {
    find(name).unwrap()
}

fn case() -> Case {
    Case::new(&[("base", &B), ("x", &X), ("y", &Y)]).each("weight", &[0.6, 0.4])
}

#[test]
fn published_vectors_hold() {
    let half = || case().each("density", &[0.5, 0.5]);
    let crumbs = || half().each("gamma", &[0.125, 0.125]);
    let cases: [(&str, Case, [f32; 8]); 7] = [
        ("task_arithmetic", case(), [1.18, -1.93, 2.84, -3.53, 0.5, 0.75, -0.82, 1.91]),
        ("ties", half(), [1.5, -1.45, 3.0, -2.9, 0.5, 0.85, -1.5, 1.1]),
        ("ties", half().flag("normalize", false), [1.3, -1.78, 3.0, -3.56, 0.5, 0.61, -1.1, 1.64]),
        (
            "ties",
            half().flag("normalize", false).flag("rescale", true),
            [1.394118, -1.712308, 3.0, -3.424615, 0.5, 0.722941, -1.288235, 1.529231],
        ),
        (
            "ties",
            case().each("weight", &[0.6, -0.4]).each("density", &[1.0, 1.0]),
            [3.1, -3.85, 1.4, -2.9, 1.1, 0.85, -4.9, 5.15],
        ),
        ("breadcrumbs", crumbs(), [1.3, -1.78, 2.76, -4.0, 0.5, 0.75, -0.22, 1.91]),
        ("breadcrumbs_ties", crumbs(), [1.3, -1.78, 2.76, -4.0, 0.5, 0.75, -0.22, 1.64]),
    ];
    for (name, case, expected) in cases {
        for leaf in [1, 3, 8] {
            assert_close(&case.clone().leaf(leaf).run(method(name)), &expected);
        }
    }
    // Element 4 is an exact tie of signs, which rounding decides.
    let mut found = case().each("density", &[1.0, 1.0]).run(method("della"));
    found[4] = 0.6;
    assert_close(&found, &[1.5, -1.45, 2.6, -3.53, 0.6, 0.75, -1.5, 1.1]);
}

#[test]
fn breadcrumbs_keep_the_published_ranks() {
    let keep = |n: u64, density, gamma| Sparsifier::LargestButOutliers { density, gamma }.ranks(n).unwrap();
    // Of 1..10, descending ranks 2..7 are the values 8 down to 4.
    assert_eq!(keep(10, 0.5, 0.2), 2..7);
    assert_eq!(keep(10, 0.5, 0.0), 0..5);
    assert_eq!(keep(50, 0.9, 0.01), 0..45);
    assert_eq!(keep(10, 0.9, 0.3), 1..10);
    assert_eq!(Sparsifier::Largest { density: 0.29 }.ranks(100), Some(0..28));
    assert_eq!(Sparsifier::Largest { density: 0.01 }.ranks(10), Some(0..1));
}

#[test]
fn what_cannot_matter_is_not_read_and_not_in_the_key() {
    let simplified = |case: &Case, name| match case.simplify(method(name)).unwrap() {
        Simplified::Input(i) => format!("input {i}"),
        Simplified::Operation { operation, inputs } => {
            let mut text = ManifestText::default();
            operation.write_manifest(&mut text);
            format!("{inputs:?}\n{}", text.finish())
        }
    };
    let one = |density: f64| case().each("weight", &[1.0, 0.0]).each("density", &[density, 0.5]);
    assert_eq!(simplified(&one(1.0), "ties"), "input 1");
    assert_eq!(simplified(&one(1.0).number("lambda", 0.0), "ties"), "input 0");
    assert_eq!(simplified(&one(0.0), "della"), "input 0");
    let full = case().each("density", &[1.0, 2.0]);
    let text = simplified(&full, "della");
    assert_eq!(
        text,
        simplified(&full.clone().each("epsilon", &[0.3, 0.9]).seed(5).flag("rescale", false), "della")
    );
    assert!(!text.contains("epsilon") && !text.contains("stream"), "{text}");
    let sparse = case().each("density", &[0.5, 1.0]);
    assert!(simplified(&sparse, "della").contains("inputs[1].stream"));
    // The weight of a model that is left out still counts in the mean.
    let text = simplified(&case().each("density", &[0.0, 1.0]).flag("normalize", true), "dare_linear");
    assert!(
        text.starts_with("[0, 2]\n") && text.contains("divisor = 1\n") || text.contains("normalize = false"),
        "{text}"
    );
}

#[test]
fn keep_probabilities_outside_the_unit_interval_are_refused() {
    let refused = |density, epsilon| {
        let case = case().each("density", &[density, 1.0]).each("epsilon", &[epsilon, 0.15]);
        case.simplify(method("della")).err().map(|error| (error.param, error.input))
    };
    assert_eq!(refused(0.15, 0.15), Some(("epsilon", Some(1))));
    assert_eq!(refused(0.9, 0.1), Some(("epsilon", Some(1))));
    assert_eq!(refused(0.5, 0.15), None);
    assert_eq!(refused(1.0, 0.5), None);
}

/// What DELLA keeps of one row, by its definition.
fn keep_by_definition(deltas: &[f32], density: f64, epsilon: f64, stream: &Stream, start: u64) -> Vec<bool> {
    let others = deltas.len() as u128 - 1;
    let is_kept = |i: usize| {
        let index = start + i as u64;
        let (byte, bits) = (stream.bytes(index, 1, &mut Vec::new())[0], stream.bits(index));
        let u = (f64::from(byte) + (bits % (1 << 24)) as f64 / f64::from(1 << 24)) / 256.0;
        let drawn = ((u128::from(bits) * others) >> 64) as usize;
        let partner = if drawn >= i { drawn + 1 } else { drawn };
        let wins = (deltas[i].abs(), partner) > (deltas[partner].abs(), i);
        u < if wins { density + epsilon } else { density - epsilon }
    };
    (0..deltas.len()).map(is_kept).collect()
}

proptest! {
    #[test]
    fn della_keeps_what_its_definition_keeps(
        deltas in proptest::collection::vec(prop_oneof![(-3i8..3).prop_map(f32::from), -1f32..1.0], 24),
        density in 0.2f64..0.8,
        epsilon in -0.19f64..0.19,
        seed: u64,
    ) {
        let zeros = vec![0.0; 24];
        let case = Case::of_shape(&[3, 8], &[("base", &zeros), ("x", &deltas)])
            .each("weight", &[2.0]).each("density", &[density]).each("epsilon", &[epsilon])
            .flag("rescale", false).flag("normalize", false).seed(seed).leaf(2);
        let found = case.run(method("della_linear"));
        let stream = Stream::derive(seed, "stage", 1, "tensor");
        for row in 0..3 {
            let range = row * 8..row * 8 + 8;
            let keep = keep_by_definition(&deltas[range.clone()], density, epsilon, &stream, row as u64 * 8);
            for (i, keep) in range.zip(keep) {
                prop_assert_eq!(found[i], if keep { 2.0 * deltas[i] } else { 0.0 });
            }
        }
    }

    #[test]
    fn leaves_do_not_change_selections(
        values in proptest::collection::vec(-4i8..4, 60),
        density in 0.0f64..1.1,
        gamma in 0.0f64..0.3,
        leaf in 1usize..30,
        rescale: bool,
        sample in 0u64..40,
    ) {
        let values: Vec<f32> = values.into_iter().map(f32::from).collect();
        let zeros = vec![0.0; 60];
        let case = Case::of_shape(&[60], &[("base", &zeros), ("x", &values)])
            .each("weight", &[0.5]).each("density", &[density]).each("gamma", &[gamma]).flag("rescale", rescale);
        for name in ["ties", "breadcrumbs", "dare_linear"] {
            let cut = case.clone().leaf(leaf);
            prop_assert_eq!(case.run(method(name)), cut.run(method(name)));
            // However ranks are found, the bits are the same.
            prop_assert_eq!(cut.clone().sample(None).run(method(name)), cut.sample(Some(sample)).run(method(name)));
        }
    }
}

/// Runs a rule over many rows of rising magnitudes and counts what each rank keeps.
fn keep_rates(name: &str, density: f64, epsilon: f64, seed: u64) -> [f64; 8] {
    const ROWS: usize = 4000;
    let values: Vec<f32> = (0..ROWS * 8).map(|i| (i % 8 + 1) as f32).collect();
    let zeros = vec![0.0; values.len()];
    let case = Case::of_shape(&[ROWS, 8], &[("base", &zeros), ("x", &values)])
        .each("weight", &[1.0])
        .each("density", &[density])
        .each("epsilon", &[epsilon])
        .flag("rescale", false)
        .seed(seed);
    let kept = case.run(method(name));
    std::array::from_fn(|rank| {
        kept.iter().skip(rank).step_by(8).filter(|value| **value != 0.0).count() as f64 / ROWS as f64
    })
}

#[test]
fn elements_are_kept_at_the_rates_of_the_schedule() {
    for seed in 0..3 {
        let flat = keep_rates("dare_linear", 0.3, 0.0, seed);
        let ranked = keep_rates("della_linear", 0.6, 0.2, seed);
        for rank in 0..8 {
            let p = 0.4 + 0.4 * rank as f64 / 7.0;
            let sigma = |p: f64| (p * (1.0 - p) / 4000.0).sqrt();
            assert!((flat[rank] - 0.3).abs() < 5.0 * sigma(0.3), "{flat:?}");
            assert!((ranked[rank] - p).abs() < 5.0 * sigma(p), "{ranked:?}");
        }
    }
}

#[test]
fn inputs_are_drawn_independently_and_density_only_adds() {
    let n = 40_000;
    let (zeros, ones) = (vec![0.0; n], vec![1.0; n]);
    let kept = |inputs: &[(&'static str, &[f32])], density: f64| {
        let models = inputs.len() - 1;
        let case = Case::of_shape(&[n], inputs)
            .each("weight", &vec![1.0; models])
            .each("density", &vec![density; models]);
        case.flag("rescale", false).run(method("dare_linear"))
    };
    let both = kept(&[("base", &zeros), ("x", &ones), ("y", &ones)], 0.5);
    let twice = both.iter().filter(|value| **value == 2.0).count() as f64 / n as f64;
    assert!((twice - 0.25).abs() < 5.0 * (0.25f64 * 0.75 / n as f64).sqrt(), "{twice}");
    let low = kept(&[("base", &zeros), ("x", &ones)], 0.4);
    let high = kept(&[("base", &zeros), ("x", &ones)], 0.6);
    assert!(low.iter().zip(&high).all(|(low, high)| low <= high));
}

#[test]
fn rescaling_restores_the_l1_norm() {
    let n = 5000;
    let values: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 10.0).collect();
    let zeros = vec![0.0; n];
    for name in ["dare_linear", "della_linear", "ties", "breadcrumbs"] {
        let case = Case::of_shape(&[10, 500], &[("base", &zeros), ("x", &values)])
            .each("weight", &[1.0])
            .each("density", &[0.5])
            .flag("rescale", true)
            .flag("normalize", false);
        let sum = |values: &[f32]| values.iter().map(|value| f64::from(value.abs())).sum::<f64>();
        let ratio = sum(&case.run(method(name))) / sum(&values);
        assert!((ratio - 1.0).abs() < 1e-5, "{name}: {ratio}");
    }
}
