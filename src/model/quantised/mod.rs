//! Quantised checkpoints: eight-bit floats with scales are seen as the weights that they stand for, all others are
//! told apart and refused by name.
//!
//! | file | what it knows |
//! | --- | --- |
//! | `method` | what `quantization_config` says, and which methods are undone |
//! | `marks` | names of tensors that only quantised checkpoints have |
//! | `scales` | which scale belongs to which tensor, and to which part of it |

mod marks;
mod method;
mod scales;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use self::method::Method;
use super::view::{LogicalTensor, View};
use crate::op::{Dequantise, Role};
use crate::tensor::{Dtype, TensorSpec};

/// What was undone in a checkpoint.
#[derive(Debug, PartialEq, Eq)]
pub struct Undone {
    /// How many tensors were multiplied by their scales.
    pub tensors: usize,
    /// What they read as.
    pub dtype: Dtype,
    /// Tensors that say how activations were quantised, and are left out.
    pub left_out: Vec<String>,
}

/// Replaces eight-bit floats by their products with the scales beside them, which go, as does what the configuration
/// says of them. Products have the dtype that the configuration names, as they have when a model is loaded, or else
/// bfloat16. `views` has those of tensors that are not stored as they are. `None` if no tensor is quantised.
///
/// # Errors
/// Says what is quantised in a way that is not undone, and why.
pub fn undo(
    tensors: &mut BTreeMap<String, TensorSpec>,
    views: &mut BTreeMap<String, View>,
    config: &mut Value,
) -> Result<Option<Undone>, String> {
    let method = Method::read(config)?;
    if let Some(reason) = marks::quantised(tensors) {
        return Err(reason);
    }
    let pairs = scales::pairs(tensors, method.as_ref())?;
    method::forget(config);
    if pairs.is_empty() {
        return Ok(None);
    }
    let dtype = dtype_of(config);
    let left_out = scales::of_activations(tensors);
    for name in &left_out {
        tensors.remove(name);
        views.remove(name);
    }
    let undone = Undone { tensors: pairs.len(), dtype, left_out };
    for (name, (scale, blocks)) in pairs {
        let mut take = |name: String| {
            let spec = tensors.remove(&name).expect("pairs are of tensors");
            LogicalTensor { spec, view: views.remove(&name).unwrap_or(View::Stored(name)) }
        };
        let (values, scales) = (take(name.clone()), take(scale));
        let spec = TensorSpec { dtype, shape: values.spec.shape.clone() };
        let op = Arc::new(Dequantise { blocks, dtype });
        let inputs = vec![(Role::PART, values), (Role::SCALE, scales)];
        views.insert(name.clone(), View::Made { op, inputs });
        tensors.insert(name, spec);
    }
    Ok(Some(undone))
}

/// The dtype that a configuration names for the weights, its own or that of the text model in it.
fn dtype_of(config: &Value) -> Dtype {
    ["/dtype", "/torch_dtype", "/text_config/dtype", "/text_config/torch_dtype"]
        .iter()
        .filter_map(|pointer| config.pointer(pointer)?.as_str())
        .filter_map(Dtype::from_recipe_name)
        .find(|dtype| matches!(dtype, Dtype::Bf16 | Dtype::F16 | Dtype::F32))
        .unwrap_or(Dtype::Bf16)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tensor::Shape;

    fn tensors(list: &[(&str, Dtype, &[usize])]) -> BTreeMap<String, TensorSpec> {
        let spec = |(name, dtype, dims): &(&str, Dtype, &[usize])| {
            ((*name).to_owned(), TensorSpec { dtype: *dtype, shape: Shape(dims.to_vec()) })
        };
        list.iter().map(spec).collect()
    }

    #[test]
    fn scales_and_what_the_configuration_says_of_them_go() {
        let mut found = tensors(&[
            ("l.0.q.weight", Dtype::F8_E4M3, &[5, 9]),
            ("l.0.q.weight_scale_inv", Dtype::F32, &[2, 3]),
            ("l.0.q.activation_scale", Dtype::F32, &[]),
            ("l.0.norm.weight", Dtype::Bf16, &[9]),
        ]);
        let mut config = json!({
            "torch_dtype": "float16",
            "quantization_config": {"quant_method": "fp8", "weight_block_size": [4, 4]},
        });
        let mut views = BTreeMap::new();
        let undone = undo(&mut found, &mut views, &mut config).unwrap().unwrap();
        assert_eq!((undone.tensors, undone.left_out.len()), (1, 1));
        let left: Vec<String> = found.iter().map(|(name, spec)| format!("{name} {spec}")).collect();
        assert_eq!(left, ["l.0.norm.weight BF16 [9]", "l.0.q.weight F16 [5, 9]"]);
        assert_eq!(views["l.0.q.weight"].stored(), ["l.0.q.weight", "l.0.q.weight_scale_inv"]);
        assert_eq!(config, json!({"torch_dtype": "float16"}));
    }

    #[test]
    fn plain_models_stay_as_they_are() {
        let mut found = tensors(&[
            ("l.0.q.weight", Dtype::F8_E4M3, &[5, 9]),
            ("l.0.norm.scale", Dtype::F32, &[9]),
            ("logit_scale", Dtype::F32, &[]),
        ]);
        let (before, mut config) = (found.clone(), json!({"quantization_config": null}));
        let mut views = BTreeMap::new();
        assert_eq!(undo(&mut found, &mut views, &mut config), Ok(None));
        assert_eq!((found, views.len()), (before, 0));
    }

    #[test]
    fn nothing_is_read_without_its_scale() {
        let refused = |list: &[(&str, Dtype, &[usize])], config: &Value| {
            undo(&mut tensors(list), &mut BTreeMap::new(), &mut config.clone()).unwrap_err()
        };
        let quantised = json!({"quantization_config": {"quant_method": "fp8"}});
        let lone: &[(&str, Dtype, &[usize])] = &[("q.weight", Dtype::F8_E4M3, &[4, 4])];
        assert!(refused(lone, &quantised).contains("`q.weight` without a scale"));
        for name in ["q.scale", "q.input_scale", "q.weight_scale_2"] {
            let list = [lone[0], (name, Dtype::F32, &[][..])];
            assert!(refused(&list, &json!({})).contains(name), "{name}");
        }
        let orphan: [(&str, Dtype, &[usize]); 3] =
            [lone[0], ("q.weight_scale", Dtype::F32, &[4]), ("k.weight_scale", Dtype::F32, &[4])];
        assert!(refused(&orphan, &quantised).contains("`k.weight_scale`"));
    }
}
