//! Architectures that GGUF files name, and what transformers calls their tensors.

/// An architecture that is understood.
#[derive(Debug)]
pub struct Architecture {
    /// As `general.architecture` has it.
    pub name: &'static str,
    /// Names of a layer's tensors, there and here; `.weight` or `.bias` follows.
    layer: &'static [Names],
    /// Whether rows of queries and keys lie in another order, for rotations of neighbours.
    pub is_permuted: bool,
    /// Whether norms are stored as `1 + w`.
    pub has_offset_norms: bool,
}

/// What files call tensors, and what transformers does.
type Names = &'static [(&'static str, &'static str)];

const PROJECTIONS: Names = &[
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

const FUSED_PROJECTIONS: Names = &[
    ("attn_qkv", "self_attn.qkv_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_up", "mlp.gate_up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

const NORMS: Names = &[("attn_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm")];

/// Norms before and behind both halves of a layer.
const FOUR_NORMS: Names = &[
    ("attn_norm", "input_layernorm"),
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];

const HEAD_NORMS: Names = &[("attn_q_norm", "self_attn.q_norm"), ("attn_k_norm", "self_attn.k_norm")];

const LLAMA: &[Names] = &[PROJECTIONS, NORMS];
const QWEN3: &[Names] = &[PROJECTIONS, NORMS, HEAD_NORMS];
const GEMMA: &[Names] = &[PROJECTIONS, FOUR_NORMS, HEAD_NORMS];
const PHI3: &[Names] = &[FUSED_PROJECTIONS, NORMS];

const fn plain(name: &'static str, layer: &'static [Names]) -> Architecture {
    Architecture { name, layer, is_permuted: false, has_offset_norms: false }
}

/// Those that are understood. A new one is a line here, with its names above.
const ARCHITECTURES: [Architecture; 6] = [
    Architecture { is_permuted: true, ..plain("llama", LLAMA) },
    plain("qwen2", LLAMA),
    plain("qwen3", QWEN3),
    Architecture { has_offset_norms: true, ..plain("gemma2", GEMMA) },
    Architecture { has_offset_norms: true, ..plain("gemma3", GEMMA) },
    plain("phi3", PHI3),
];

/// Names outside of layers.
const OUTER: Names =
    &[("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

/// Tensors that only say again what config.json says: frequencies of rotations.
pub const OF_CONFIG: [&str; 3] =
    ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];

/// Finds an architecture by the name that files give it.
///
/// # Errors
/// Names those that are understood.
pub fn architecture(name: &str) -> Result<&'static Architecture, String> {
    ARCHITECTURES.iter().find(|architecture| architecture.name == name).ok_or_else(|| {
        let known: Vec<&str> = ARCHITECTURES.iter().map(|architecture| architecture.name).collect();
        format!(
            "has the architecture `{name}`, which lamarck does not support in GGUF; it supports {}; use the model in safetensors",
            known.join(", ")
        )
    })
}

impl Architecture {
    /// What a tensor of a file is called in transformers.
    pub fn name_of(&self, tensor: &str) -> Option<String> {
        let (stem, kind) = tensor.rsplit_once('.')?;
        if !["weight", "bias"].contains(&kind) {
            return None;
        }
        let renamed = |names: &[Names], stem: &str| {
            names.iter().copied().flatten().find(|(stored, _)| *stored == stem).map(|(_, name)| *name)
        };
        let Some((layer, stem)) = stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
            return Some(format!("{}.{kind}", renamed(&[OUTER], stem)?));
        };
        let is_number = !layer.is_empty() && layer.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then_some(())?;
        Some(format!("model.layers.{layer}.{}.{kind}", renamed(self.layer, stem)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_have_the_names_that_transformers_gives_them() {
        let name = |of: &str, tensor: &str| architecture(of).unwrap().name_of(tensor);
        assert_eq!(name("llama", "token_embd.weight").as_deref(), Some("model.embed_tokens.weight"));
        assert_eq!(name("qwen2", "output.weight").as_deref(), Some("lm_head.weight"));
        assert_eq!(
            name("qwen2", "blk.11.attn_k.bias").as_deref(),
            Some("model.layers.11.self_attn.k_proj.bias")
        );
        assert_eq!(
            name("gemma2", "blk.0.ffn_norm.weight").as_deref(),
            Some("model.layers.0.pre_feedforward_layernorm.weight")
        );
        assert_eq!(
            name("phi3", "blk.0.ffn_up.weight").as_deref(),
            Some("model.layers.0.mlp.gate_up_proj.weight")
        );
        for odd in
            ["blk.0.ffn_gate_exps.weight", "blk.x.attn_q.weight", "blk.attn_q.weight", "output", "a.scale"]
        {
            assert_eq!(name("llama", odd), None, "{odd}");
        }
        assert!(architecture("mamba").unwrap_err().contains("`mamba`"));
    }
}
