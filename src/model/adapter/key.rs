//! What a tensor of an adapter is, by its name.

/// A tensor's name, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// The module that it belongs to, as its model calls it.
    pub module: &'a str,
    pub part: Part<'a>,
}

/// What of a module a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part<'a> {
    A,
    B,
    EmbeddingA,
    EmbeddingB,
    /// The norm of each output.
    Magnitude,
    /// What is added to the bias.
    BiasOfB,
    /// New rows for some tokens.
    Tokens,
    /// A tensor of the module beneath the adapter, such as `weight`, as it was when the adapter was made.
    Beneath(&'a str),
    /// A tensor of a module that was trained in full.
    Own(&'a str),
}

/// What PEFT writes before the name that a model gives a module.
const PREFIX: &str = "base_model.model.";

/// Takes a name apart, whether or not it holds the adapter's own name (`lora_A.default.weight`). `None` if it looks
/// like a part of an adapter that is not known.
pub fn parse(name: &str) -> Option<Key<'_>> {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    if let Some((module, rest)) = split(name, ".lora_") {
        let words: Vec<&str> = rest.split('.').collect();
        let part = match words.as_slice() {
            ["A", .., "weight"] => Part::A,
            ["B", .., "weight"] => Part::B,
            ["B", .., "bias"] => Part::BiasOfB,
            ["embedding_A", ..] => Part::EmbeddingA,
            ["embedding_B", ..] => Part::EmbeddingB,
            ["magnitude_vector", ..] => Part::Magnitude,
            _ => return None,
        };
        return (words.len() <= 3).then_some(Key { module, part });
    }
    if let Some((module, _)) = split(name, ".token_adapter.trainable_tokens_delta") {
        return Some(Key { module, part: Part::Tokens });
    }
    let (path, tensor) = name.rsplit_once('.')?;
    if let Some(module) = path.strip_suffix(".base_layer") {
        return Some(Key { module, part: Part::Beneath(tensor) });
    }
    // Older versions kept the wrapper's name, and the adapter's.
    let module = path.split_once(".modules_to_save").map_or(path, |(module, _)| module);
    Some(Key { module, part: Part::Own(tensor) })
}

/// Splits at the last occurrence of a marker.
fn split<'a>(name: &'a str, marker: &str) -> Option<(&'a str, &'a str)> {
    name.rfind(marker).map(|at| (&name[..at], &name[at + marker.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, module: &str, part: Part<'_>) {
        assert_eq!(parse(name), Some(Key { module, part }), "{name}");
    }

    #[test]
    fn names_are_taken_apart_with_and_without_the_name_of_the_adapter() {
        let q = "model.layers.0.self_attn.q_proj";
        for (name, part) in [
            ("lora_A.weight", Part::A),
            ("lora_B.default.weight", Part::B),
            ("lora_B.bias", Part::BiasOfB),
            ("lora_magnitude_vector", Part::Magnitude),
            ("lora_magnitude_vector.default.weight", Part::Magnitude),
            ("lora_embedding_A", Part::EmbeddingA),
            ("lora_embedding_B.default", Part::EmbeddingB),
            ("token_adapter.trainable_tokens_delta", Part::Tokens),
            ("base_layer.bias", Part::Beneath("bias")),
            ("weight", Part::Own("weight")),
            ("modules_to_save.default.weight", Part::Own("weight")),
        ] {
            check(&format!("base_model.model.{q}.{name}"), q, part);
            check(&format!("{q}.{name}"), q, part);
        }
        check("base_model.model.x.base_layer.lora_A.weight", "x.base_layer", Part::A);
    }

    #[test]
    fn parts_that_are_not_known_are_told() {
        for name in ["x.lora_E", "x.lora_diag.default", "x.lora_A.a.b.weight", "x.lora_A", "weight"] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
