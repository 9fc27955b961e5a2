//! Checkpoints that store each expert by itself, seen in the layout that transformers 5 gives them.
//!
//! Mixtral files have `block_sparse_moe.experts.E.{w1,w3,w2}`; the model has one `mlp.experts.gate_up_proj`
//! of shape [experts, w1 rows + w3 rows, columns] and one `mlp.experts.down_proj`. mergekit merges, and
//! writes, the latter. Laying pieces one behind the other is all it takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::view::{LogicalTensor, View};
use crate::op::{Concat, Role};
use crate::tensor::{Shape, TensorSpec};

const OLD: &str = "block_sparse_moe";

/// Replaces the experts' tensors by the joined ones. `views` has those of tensors that are not stored as they are.
pub fn join(tensors: &mut BTreeMap<String, TensorSpec>, views: &mut BTreeMap<String, View>) {
    let prefixes: Vec<String> = tensors
        .keys()
        .filter_map(|name| name.strip_suffix(".gate.weight")?.strip_suffix(OLD).map(str::to_owned))
        .collect();
    for prefix in prefixes {
        let experts = |weights: &[&str]| -> Vec<String> {
            (0..)
                .map(|expert| {
                    weights
                        .iter()
                        .map(|w| format!("{prefix}{OLD}.experts.{expert}.{w}.weight"))
                        .collect::<Vec<_>>()
                })
                .take_while(|names| names.iter().all(|name| tensors.contains_key(name)))
                .flatten()
                .collect()
        };
        // A file that has tensors under the new names too is taken as it is, for none may be lost.
        if ["experts.gate_up_proj", "experts.down_proj", "gate.weight"]
            .iter()
            .any(|name| tensors.contains_key(&format!("{prefix}mlp.{name}")))
        {
            continue;
        }
        let (up, down) = (experts(&["w1", "w3"]), experts(&["w2"]));
        let Some((up_spec, down_spec)) = stacked(tensors, &up, 2).zip(stacked(tensors, &down, 1)) else {
            continue;
        };
        for (name, spec, parts) in [("gate_up_proj", up_spec, up), ("down_proj", down_spec, down)] {
            let name = format!("{prefix}mlp.experts.{name}");
            let view = concat(tensors, views, parts, &spec);
            views.insert(name.clone(), view);
            tensors.insert(name, spec);
        }
        let gate = format!("{prefix}{OLD}.gate.weight");
        if let Some(spec) = tensors.remove(&gate) {
            let name = format!("{prefix}mlp.gate.weight");
            tensors.insert(name.clone(), spec);
            let view = views.remove(&gate).unwrap_or(View::Stored(gate));
            views.insert(name, view);
        }
    }
}

/// Takes parts out of the stored tensors and lays them one behind the other.
fn concat(
    tensors: &mut BTreeMap<String, TensorSpec>,
    views: &mut BTreeMap<String, View>,
    parts: Vec<String>,
    whole: &TensorSpec,
) -> View {
    let taken: Vec<(Role, LogicalTensor)> = parts
        .into_iter()
        .filter_map(|part| {
            let (name, spec) = tensors.remove_entry(&part)?;
            let view = views.remove(&name).unwrap_or(View::Stored(name));
            Some((Role::PART, LogicalTensor { spec, view }))
        })
        .collect();
    let rows = taken.iter().map(|(_, part)| part.spec.shape.0[0]).collect();
    View::Made { op: Arc::new(Concat { rows, shape: whole.shape.clone() }), inputs: taken }
}

/// The spec of pieces stacked `each` to an expert, if they are matrices of one shape and dtype.
fn stacked(tensors: &BTreeMap<String, TensorSpec>, pieces: &[String], each: usize) -> Option<TensorSpec> {
    let first = &tensors[pieces.first()?];
    let [rows, columns] = first.shape.0[..] else { return None };
    let alike = pieces.iter().all(|piece| tensors[piece] == *first);
    alike.then(|| TensorSpec {
        dtype: first.dtype,
        shape: Shape(vec![pieces.len() / each, each * rows, columns]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dtype;

    #[test]
    fn experts_are_joined_in_order() {
        let spec = |dims: &[usize]| TensorSpec { dtype: Dtype::F32, shape: Shape(dims.to_vec()) };
        let mut tensors: BTreeMap<String, TensorSpec> = BTreeMap::new();
        for expert in 0..3 {
            for (w, dims) in [("w1", [5, 4]), ("w2", [4, 5]), ("w3", [5, 4])] {
                tensors.insert(format!("l.0.block_sparse_moe.experts.{expert}.{w}.weight"), spec(&dims));
            }
        }
        tensors.insert("l.0.block_sparse_moe.gate.weight".to_owned(), spec(&[3, 4]));
        let mut views = BTreeMap::new();
        join(&mut tensors, &mut views);
        let named: Vec<_> = tensors.iter().map(|(name, spec)| format!("{name} {}", spec.shape)).collect();
        assert_eq!(
            named,
            [
                "l.0.mlp.experts.down_proj [3, 4, 5]",
                "l.0.mlp.experts.gate_up_proj [3, 10, 4]",
                "l.0.mlp.gate.weight [3, 4]"
            ]
        );
        let up = views["l.0.mlp.experts.gate_up_proj"].stored();
        assert_eq!(up[1], "l.0.block_sparse_moe.experts.0.w3.weight");
        assert_eq!(up[2], "l.0.block_sparse_moe.experts.1.w1.weight");
        assert_eq!(views.values().map(|view| view.stored().len()).sum::<usize>(), 10);
    }

    #[test]
    fn a_tensor_that_has_the_new_name_already_is_not_replaced() {
        let spec = TensorSpec { dtype: Dtype::F32, shape: Shape(vec![4, 4]) };
        let names = ["experts.0.w1.weight", "experts.0.w2.weight", "experts.0.w3.weight", "gate.weight"];
        let mut tensors: BTreeMap<String, TensorSpec> =
            names.iter().map(|name| (format!("l.0.block_sparse_moe.{name}"), spec.clone())).collect();
        tensors.insert("l.0.mlp.experts.down_proj".to_owned(), spec);
        let before = tensors.clone();
        let mut views = BTreeMap::new();
        join(&mut tensors, &mut views);
        assert!(views.is_empty());
        assert_eq!(tensors, before);
    }
}
