//! Methods that other tools have, or that go by other names there.

/// A name from elsewhere, and what here comes nearest to it.
const ELSEWHERE: [(&str, &str); 22] = [
    ("average", "linear"),
    ("breadcrumbs_linear", "breadcrumbs"),
    ("consensus_ta", "ties"),
    ("consensus_ties", "ties"),
    ("dare", "dare_ties"),
    ("dare_task_arithmetic", "dare_linear"),
    ("della_task_arithmetic", "della_linear"),
    ("della_ties", "della"),
    ("frankenmerge", "passthrough"),
    ("lerp", "linear"),
    ("magnitude_prune", "ties"),
    ("model_breadcrumbs", "breadcrumbs"),
    ("model_breadcrumbs_ties", "breadcrumbs_ties"),
    ("model_soup", "linear"),
    ("model_soups", "linear"),
    ("moe_della", "della"),
    ("pcb", "ties"),
    ("soup", "linear"),
    ("stack", "passthrough"),
    ("stock", "model_stock"),
    ("tall_masks", "ties"),
    ("weighted_average", "linear"),
];

/// The method that comes nearest to one that exists elsewhere.
pub fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase().replace([' ', '-'], "_");
    ELSEWHERE.iter().find(|(elsewhere, _)| *elsewhere == name).map(|(_, nearest)| *nearest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::find;

    #[test]
    fn what_is_named_in_their_place_exists() {
        assert!(ELSEWHERE.is_sorted());
        for (name, nearest) in ELSEWHERE {
            assert!(find(name).is_none() && find(nearest).is_some(), "{name}");
        }
        assert_eq!(nearest("DARE"), Some("dare_ties"));
        assert_eq!(nearest("ties"), None);
    }
}
