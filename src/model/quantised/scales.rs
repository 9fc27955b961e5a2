//! Which scale belongs to which tensor, and to which part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::method::Method;
use crate::op::Blocks;
use crate::tensor::{Shape, TensorSpec};

/// What stands behind a tensor's name in that of its scale, which it is multiplied by, whatever it is called.
pub(super) const ENDINGS: [&str; 2] = ["_scale_inv", "_scale"];

/// Last parts of names of tensors that say how activations are quantised.
const OF_ACTIVATIONS: [&str; 9] = [
    "input_scale",
    "input_scale_ub",
    "activation_scale",
    "output_scale",
    "q_scale",
    "k_scale",
    "v_scale",
    "prob_scale",
    "prob_output_scale",
];

/// A scale's name and the blocks that its numbers go for, by the name of the tensor.
pub type Pairs = BTreeMap<String, (String, Blocks)>;

/// Finds the scales of all eight-bit floats. Without a method in the configuration, those that have none are plain
/// numbers.
///
/// # Errors
/// Says which tensor has no scale where it should, or one whose meaning is not known, or which scale has no tensor.
pub fn pairs(tensors: &BTreeMap<String, TensorSpec>, method: Option<&Method>) -> Result<Pairs, String> {
    let mut pairs = Pairs::new();
    let mut alone = None;
    for (name, spec) in tensors.iter().filter(|(_, spec)| spec.dtype.is_eight_bits()) {
        let mut named = ENDINGS.iter().map(|ending| format!("{name}{ending}"));
        let Some((scale, scales)) = named.find_map(|scale| tensors.get_key_value(&scale)) else {
            if let Some(other) = beside(tensors, name) {
                return Err(format!(
                    "it contains `{name}` in 8 bits and beside it `{other}`, which is not a kind of scale that lamarck knows"
                ));
            }
            alone.get_or_insert(name);
            continue;
        };
        if !scales.dtype.is_float() || scales.dtype.is_eight_bits() {
            return Err(format!(
                "it contains scales in {}, `{scale}`, which lamarck does not support",
                scales.dtype
            ));
        }
        let blocks = blocks(&spec.shape, &scales.shape, method).ok_or_else(|| {
            format!(
                "it contains `{name}` {} with scales {}, `{scale}`: {}",
                spec.shape,
                scales.shape,
                misfit(method)
            )
        })?;
        pairs.insert(name.clone(), (scale.clone(), blocks));
    }
    if method.is_none() && pairs.is_empty() {
        return Ok(pairs);
    }
    match alone {
        Some(name) if method.is_some() => Err(format!(
            "it contains `{name}` without a scale, but config.json says that 8-bit floats have scales"
        )),
        _ => match without_tensor(tensors, &pairs) {
            Some(scale) => Err(format!("it contains `{scale}`, a scale without an 8-bit tensor")),
            None => Ok(pairs),
        },
    }
}

/// What is wrong with scales that go for nothing known.
fn misfit(method: Option<&Method>) -> String {
    let block = match method.and_then(|method| method.block) {
        Some([rows, columns]) => format!("blocks of {rows} x {columns}, as config.json says"),
        None => "blocks, whose size config.json does not give".to_owned(),
    };
    format!("they are neither one for the tensor, nor one per row, nor one for each of its {block}")
}

/// Which part of a tensor each scale goes for: all of it, a row, a matrix among stacked ones, or a block.
fn blocks(shape: &Shape, scales: &Shape, method: Option<&Method>) -> Option<Blocks> {
    let blocks = |edges: Vec<usize>| Some(Blocks { shape: shape.clone(), edges });
    let all: Vec<usize> = shape.0.iter().map(|n| (*n).max(1)).collect();
    if scales.elements() == 1 {
        return blocks(all);
    }
    // A scale for each index along the first axis may be written without the others.
    if scales.0.len() == 1 && shape.0.len() > 1 {
        let edges = [&[1], &all[1..]].concat();
        return blocks(edges).filter(|_| scales.0[0] == shape.0[0]);
    }
    if scales.0.len() != shape.0.len() {
        return None;
    }
    let mut edges = Vec::new();
    let first_of_matrix = shape.0.len().saturating_sub(2);
    for (axis, (n, count)) in shape.0.iter().zip(&scales.0).enumerate() {
        let of_block = axis.checked_sub(first_of_matrix).and_then(|side| Some(method?.block?[side]));
        edges.push(match *count {
            1 if of_block.is_none_or(|edge| n.div_ceil(edge) > 1) => (*n).max(1),
            count if of_block.is_some_and(|edge| n.div_ceil(edge) == count) => of_block?,
            count if count == *n => 1,
            _ => return None,
        });
    }
    blocks(edges)
}

/// A tensor beside this one that is called a scale.
fn beside<'a>(tensors: &'a BTreeMap<String, TensorSpec>, tensor: &str) -> Option<&'a str> {
    let folder = &tensor[..tensor.rfind('.').map_or(0, |dot| dot + 1)];
    tensors
        .range::<str, _>((Bound::Included(folder), Bound::Unbounded))
        .map(|(name, _)| name.as_str())
        .take_while(|name| name.starts_with(folder))
        .find(|name| name[folder.len()..].contains("scale") && !name[folder.len()..].contains('.'))
}

/// A scale that belongs to none of the pairs.
fn without_tensor<'a>(tensors: &'a BTreeMap<String, TensorSpec>, pairs: &Pairs) -> Option<&'a str> {
    let is_scale = |name: &str| ENDINGS.iter().any(|ending| name.ends_with(&format!("weight{ending}")));
    let used: BTreeSet<&str> = pairs.values().map(|(scale, _)| scale.as_str()).collect();
    tensors.keys().map(String::as_str).find(|name| is_scale(name) && !used.contains(name))
}

/// Names of tensors that say how activations of a quantised model are quantised.
pub fn of_activations(tensors: &BTreeMap<String, TensorSpec>) -> Vec<String> {
    let last = |name: &str| name.rsplit('.').next().is_some_and(|last| OF_ACTIVATIONS.contains(&last));
    tensors.keys().filter(|name| last(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(shape: &[usize], scales: &[usize], block: Option<[usize; 2]>) -> Option<Vec<usize>> {
        let dims = |dims: &[usize]| Shape(dims.to_vec());
        blocks(&dims(shape), &dims(scales), Some(&Method { block })).map(|blocks| blocks.edges)
    }

    #[test]
    fn scales_go_for_all_for_rows_or_for_blocks() {
        for scales in [&[][..], &[1], &[1, 1]] {
            assert_eq!(edges(&[6, 8], scales, None), Some(vec![6, 8]), "{scales:?}");
        }
        for scales in [&[6][..], &[6, 1]] {
            assert_eq!(edges(&[6, 8], scales, None), Some(vec![1, 8]), "{scales:?}");
        }
        assert_eq!(edges(&[6, 8], &[1, 8], None), Some(vec![6, 1]));
        assert_eq!(edges(&[6, 8], &[2, 3], Some([4, 3])), Some(vec![4, 3]));
        // A matrix that is no larger than a block.
        assert_eq!(edges(&[6, 8], &[1, 3], Some([128, 3])), Some(vec![128, 3]));
        assert_eq!(edges(&[6, 8], &[6, 1], Some([128, 128])), Some(vec![1, 128]));
        // Stacked matrices: one each, one a column, one a block.
        assert_eq!(edges(&[2, 6, 8], &[2], None), Some(vec![1, 6, 8]));
        assert_eq!(edges(&[2, 6, 8], &[2, 1, 8], None), Some(vec![1, 6, 1]));
        assert_eq!(edges(&[2, 6, 8], &[2, 2, 2], Some([4, 4])), Some(vec![1, 4, 4]));
    }

    #[test]
    fn scales_of_unknown_meaning_are_refused() {
        assert_eq!(edges(&[6, 8], &[2, 3], None), None);
        assert_eq!(edges(&[6, 8], &[2, 4], Some([4, 3])), None);
        assert_eq!(edges(&[6, 8], &[8], None), None);
        assert_eq!(edges(&[6, 8], &[3, 2, 1], None), None);
        assert_eq!(edges(&[2, 6, 8], &[2, 6], None), None);
    }
}
