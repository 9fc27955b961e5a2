//! Eight-bit floats: read where a recipe asks for a wider dtype, copied where it asks for none.
//!
//! Quantised checkpoints store each such tensor with a scale beside it, and their values mean nothing
//! without it. They are told apart here, for they must not be read as plain numbers.

use std::ops::Bound;

use super::catalog::Inventory;
use crate::recipe::{Finding, Span};
use crate::tensor::TensorSpec;

/// Why an eight-bit tensor cannot be read as plain numbers, if it cannot.
pub fn unreadable(inventory: &Inventory, tensor: &str, what: &str, span: Span) -> Option<Finding> {
    // A tensor that is made of stored ones would have its scales beside them.
    let stored =
        inventory.views.get(tensor).and_then(|view| view.stored().first().copied()).unwrap_or(tensor);
    let reason = match scale_of(inventory, stored) {
        Some(scale) => format!("scaled by `{scale}`"),
        None if inventory.config.pointer("/quantization_config").is_some_and(|config| !config.is_null()) => {
            "quantised, as the `quantization_config` in its config.json says".to_owned()
        }
        None => return None,
    };
    let message = format!("{what} is {reason}, which lamarck does not undo");
    Some(Finding::error("fp8-scaled", span, message).help(
        "merge a checkpoint of this model in bfloat16, or copy it as it is, with `passthrough` and no dtype",
    ))
}

/// Why a result cannot be written as eight-bit floats.
pub fn unwritable(spec: &TensorSpec, what: &str, span: Span) -> Finding {
    let message = format!("{what} would have to be rounded to {}, which lamarck does not do", spec.dtype);
    Finding::error("fp8-result", span, message).help("add `dtype: bfloat16`, or another dtype")
}

/// A tensor beside this one (`q_proj.weight_scale_inv` beside `q_proj.weight`) that is called a scale.
fn scale_of<'a>(inventory: &'a Inventory, tensor: &str) -> Option<&'a str> {
    let folder = &tensor[..tensor.rfind('.').map_or(0, |dot| dot + 1)];
    inventory
        .tensors
        .range::<str, _>((Bound::Included(folder), Bound::Unbounded))
        .map(|(name, _)| name.as_str())
        .take_while(|name| name.starts_with(folder))
        .find(|name| name[folder.len()..].contains("scale") && !name[folder.len()..].contains('.'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::model::layout::Layout;
    use crate::tensor::{Dtype, Shape};

    fn is_readable(names: &[&str], config: &Value) -> bool {
        let spec = TensorSpec { dtype: Dtype::F8_E4M3, shape: Shape(vec![1]) };
        let inventory = Inventory {
            tensors: names.iter().map(|name| ((*name).to_owned(), spec.clone())).collect(),
            views: BTreeMap::new(),
            layout: Layout::infer(names.iter().copied(), config),
            config: config.clone(),
            vocabulary: None,
            generation: None,
            chat_template: None,
        };
        unreadable(&inventory, names[0], "tensor", Span::default()).is_none()
    }

    #[test]
    fn scales_are_found_beside_the_tensor_and_in_the_config() {
        assert!(is_readable(&["layers.0.q.weight", "layers.0.q.bias", "layers.0.norm.scale"], &json!({})));
        for scale in ["layers.0.q.weight_scale_inv", "layers.0.q.weight_scale", "layers.0.q.input_scale"] {
            assert!(!is_readable(&["layers.0.q.weight", scale], &json!({})));
        }
        assert!(!is_readable(&["weight", "weight_scale"], &json!({})));
        assert!(!is_readable(&["w"], &json!({"quantization_config": {"quant_method": "fp8"}})));
        assert!(is_readable(&["w"], &json!({"quantization_config": null})));
    }
}
