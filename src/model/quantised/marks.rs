//! Tensors that only quantised checkpoints have, by which those without a word in config.json are known.

use std::collections::BTreeMap;

use crate::tensor::{Dtype, TensorSpec};

/// How names of tensors end that one method alone has, with the method.
const ENDINGS: [(&str, &str); 19] = [
    (".absmax", "bitsandbytes"),
    (".quant_map", "bitsandbytes"),
    (".nested_absmax", "bitsandbytes"),
    (".quant_state.bitsandbytes__nf4", "bitsandbytes (NF4)"),
    (".quant_state.bitsandbytes__fp4", "bitsandbytes (FP4)"),
    (".SCB", "bitsandbytes (8 bits)"),
    (".g_idx", "GPTQ"),
    (".qzeros", "AWQ or GPTQ"),
    (".qweight", "AWQ, GPTQ or a similar method"),
    (".q_weight", "EXL2"),
    (".W_q", "HQQ"),
    (".codebooks", "AQLM"),
    (".weight_packed", "compressed-tensors, to 4 bits"),
    (".weight_scale_2", "ModelOpt's NVFP4"),
    (".weight_global_scale", "NVFP4"),
    (".weight_zero_point", "zero points"),
    (".weight_scales", "EETQ"),
    (".weight._scale", "Quanto"),
    (".weight_qdata", "torchao"),
];

/// Why the tensors are those of a quantised checkpoint that is not undone, if they are.
pub fn quantised(tensors: &BTreeMap<String, TensorSpec>) -> Option<String> {
    let marked = |(ending, method): &(&str, &'static str)| {
        let name = tensors.keys().find(|name| name.ends_with(ending))?;
        Some((name.as_str(), *method))
    };
    let packed = || {
        let blocks = tensors.iter().filter_map(|(name, spec)| {
            let stem = name.strip_suffix("_blocks").filter(|_| spec.dtype == Dtype::U8)?;
            tensors.contains_key(&format!("{stem}_scales")).then_some(name.as_str())
        });
        blocks.map(|name| (name, "MXFP4")).next()
    };
    let integers = || {
        let integers = tensors.iter().filter(|(name, spec)| {
            matches!(spec.dtype, Dtype::I8 | Dtype::U8 | Dtype::I32)
                && super::scales::ENDINGS.iter().any(|scale| tensors.contains_key(&format!("{name}{scale}")))
        });
        integers.map(|(name, _)| (name.as_str(), "integers that have scales")).next()
    };
    let (name, method) = ENDINGS.iter().find_map(marked).or_else(packed).or_else(integers)?;
    Some(format!(
        "it contains tensor `{name}`, a sign of quantisation with {method}, which lamarck cannot undo"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Shape;

    fn method(list: &[(&str, Dtype)]) -> Option<String> {
        let spec = |dtype| TensorSpec { dtype, shape: Shape(vec![4, 4]) };
        let tensors = list.iter().map(|(name, dtype)| ((*name).to_owned(), spec(*dtype))).collect();
        quantised(&tensors)
    }

    #[test]
    fn methods_are_known_by_their_tensors() {
        for (names, expected) in [
            (&["q.qweight", "q.qzeros", "q.scales", "q.g_idx"][..], "GPTQ"),
            (&["q.qweight", "q.qzeros", "q.scales"], "AWQ or GPTQ"),
            (&["q.weight", "q.weight.absmax", "q.weight.quant_map"], "bitsandbytes"),
            (&["q.weight", "q.SCB"], "bitsandbytes (8 bits)"),
            (&["q.W_q", "q.meta"], "HQQ"),
            (&["q.codes", "q.codebooks"], "AQLM"),
            (&["e.gate_up_proj_blocks", "e.gate_up_proj_scales"], "MXFP4"),
            (&["q.weight", "q.weight_scale"], "integers that have scales"),
            (&["q.weight_packed", "q.weight_scale"], "compressed-tensors"),
        ] {
            let list: Vec<(&str, Dtype)> = names.iter().map(|name| (*name, Dtype::U8)).collect();
            let said = method(&list).unwrap();
            assert!(said.contains(&format!("with {expected}")), "{said}");
        }
    }

    #[test]
    fn plain_tensors_are_not_taken_for_quantised_ones() {
        let plain = ["norm.scale", "logit_scale", "q.weight", "q.weight_scale", "layer_scales", "x.blocks"];
        assert_eq!(method(&plain.map(|name| (name, Dtype::F32))), None);
        assert_eq!(method(&[("mask", Dtype::U8), ("position_ids", Dtype::I64)]), None);
    }
}
