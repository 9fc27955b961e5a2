//! What is wrong with an adapter, as one line.

/// How many problems are told; the others have mostly the same cause.
const TOLD: usize = 3;

/// The first few problems, and how many more there are.
pub fn in_short(problems: &[String]) -> String {
    let told = problems[..problems.len().min(TOLD)].join("; ");
    match problems.len().saturating_sub(TOLD) {
        0 => told,
        more => format!("{told}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_everywhere_is_told_a_few_times() {
        let problems: Vec<String> = (1..=336).map(|i| format!("p{i}")).collect();
        assert_eq!(in_short(&problems), "p1; p2; p3; and 333 more");
        assert_eq!(in_short(&problems[..3]), "p1; p2; p3");
        assert_eq!(in_short(&problems[..1]), "p1");
    }
}
