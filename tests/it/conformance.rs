//! Merges of pico checkpoints beside what mergekit 0.1.5 made of them.

use std::fs;

use safetensors::Dtype;

use crate::checkpoints::{Tensor, read};
use crate::harness::{Space, project};

/// How far apart values may be, as a fraction of the tensor's largest magnitude: arithmetic orders differ.
const TOLERANCE: f64 = 1e-5;
/// One step of bfloat16.
const TOLERANCE_BF16: f64 = 1.0 / 128.0;

#[test]
fn every_case_agrees() {
    let cases = project("tests/conformance/cases");
    let mut n_cases = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(&cases).expect("the cases are there") {
        let case = entry.expect("the cases can be read").file_name().into_string().expect("names are text");
        n_cases += 1;
        if let Err(why) = check(&case) {
            wrong.push(format!("{case}: {why}"));
        }
    }
    assert_eq!(n_cases, 41);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check(case: &str) -> Result<(), String> {
    let root = project("tests/conformance");
    let recipe = root.join("cases").join(case).join("recipe.yml");
    let space = Space::new();
    let out = space.path("out");
    let output = space
        .command(&["build", "-q"])
        .args([recipe.as_path(), "--cache".as_ref(), &space.path("cache"), "--out".as_ref(), &out])
        .current_dir(&root)
        .output()
        .expect("the binary starts");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let expected = read(&root.join("cases").join(case).join("expected"));
    let ours = read(&out);
    let (ours_names, expected_names): (Vec<_>, Vec<_>) = (ours.keys().collect(), expected.keys().collect());
    if ours_names != expected_names {
        return Err(format!("names differ:\n{ours_names:?}\n{expected_names:?}"));
    }
    for (name, expected) in &expected {
        compare(&ours[name], expected).map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(())
}

/// Leaves out the few elements that a threshold may decide either way.
fn compare(ours: &Tensor, expected: &Tensor) -> Result<(), String> {
    if (ours.dtype, &ours.shape) != (expected.dtype, &expected.shape) {
        return Err(format!(
            "{:?} {:?} is not {:?} {:?}",
            ours.dtype, ours.shape, expected.dtype, expected.shape
        ));
    }
    let tolerance = if expected.dtype == Dtype::BF16 { TOLERANCE_BF16 } else { TOLERANCE };
    let largest = expected.values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    // A NaN is close to nothing.
    let is_close = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance * largest;
    let off = ours.values.iter().zip(&expected.values).filter(|pair| !is_close(*pair)).count();
    let allowed = (expected.values.len() / 500).max(2);
    if off > allowed { Err(format!("{off} of {} values differ", expected.values.len())) } else { Ok(()) }
}
