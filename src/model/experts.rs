//! Checkpoints that store each expert by itself, seen in the layout that transformers 5 gives them.
//!
//! A layer's experts are one `experts.gate_up_proj` of shape [experts, gate rows + up rows, columns] and one
//! `experts.down_proj`, which methods see whole, as in mergekit. Files may have a matrix for each expert instead:
//! laid one behind the other they are the same bytes, so what is merged can be written as its model stores it.
//!
//! Mixtral and its kin keep theirs in a folder that is called otherwise where they are joined. They are written
//! joined, as mergekit writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::view::{LogicalTensor, View};
use crate::op::{Concat, Role};
use crate::tensor::{Shape, TensorSpec};

/// What the matrices of an expert are called, by family, and the tensor that joins them.
const MATRICES: [Matrices; 3] = [
    [("gate_up_proj", &["gate_proj", "up_proj"]), ("down_proj", &["down_proj"])],
    [("gate_up_proj", &["w1", "w3"]), ("down_proj", &["w2"])],
    [("up_proj", &["up_proj"]), ("down_proj", &["down_proj"])],
];

/// The folder of Mixtral's experts, and what it is called where they are joined.
const FOLDER: (&str, &str) = ("block_sparse_moe", "mlp");

/// What moves with them.
const ROUTER: &str = "gate.weight";

/// How a model stores experts one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apart {
    matrices: &'static Matrices,
}

/// Of each tensor that joins matrices, its name behind `experts.`, and theirs.
type Matrices = [(&'static str, &'static [&'static str]); 2];

/// Replaces the experts' tensors by the joined ones. `views` has those of tensors that are not stored as they are.
/// Gives how the model stores them, if it stores any one by one.
pub fn join(tensors: &mut BTreeMap<String, TensorSpec>, views: &mut BTreeMap<String, View>) -> Option<Apart> {
    let mut apart: Option<Apart> = None;
    for folder in folders(tensors) {
        let Some((matrices, joined)) =
            MATRICES.iter().find_map(|matrices| Some((matrices, joined(tensors, &folder, matrices)?)))
        else {
            continue;
        };
        let moved = moved(&folder);
        let router = moved.is_some() && tensors.contains_key(&format!("{folder}{ROUTER}"));
        let is_moved = moved.is_some();
        let moved = moved.unwrap_or_else(|| folder.clone());
        let new = |name: &str| format!("{moved}{name}");
        let is_taken = |name: &str| tensors.contains_key(&new(name));
        // A file that has tensors under the new names too is taken as it is, for none may be lost.
        if joined.iter().any(|(name, ..)| is_taken(&format!("experts.{name}")))
            || (router && is_taken(ROUTER))
        {
            continue;
        }
        for (name, spec, parts) in joined {
            let name = new(&format!("experts.{name}"));
            let view = concat(tensors, views, parts, &spec);
            views.insert(name.clone(), view);
            tensors.insert(name, spec);
        }
        if router {
            let old = format!("{folder}{ROUTER}");
            let spec = tensors.remove(&old).expect("it is there");
            let view = views.remove(&old).unwrap_or(View::Stored(old));
            views.insert(new(ROUTER), view);
            tensors.insert(new(ROUTER), spec);
        }
        if !is_moved {
            apart.get_or_insert(Apart { matrices });
        }
    }
    apart
}

impl Apart {
    /// The tensors as which a joined one is stored, which lie in it one behind the other. `None` if it is stored as it
    /// is; `tensors` are all of its model.
    pub fn stored(
        &self,
        name: &str,
        spec: &TensorSpec,
        tensors: &BTreeMap<String, TensorSpec>,
    ) -> Option<Vec<(String, TensorSpec)>> {
        let (experts, parts) = self.matrices.iter().find_map(|(joined, parts)| {
            let experts = name.strip_suffix(joined)?;
            let is_folder = experts == "experts." || experts.ends_with(".experts.");
            is_folder.then_some((experts, parts))
        })?;
        let [n_experts, rows, columns] = spec.shape.0[..] else { return None };
        if rows % parts.len() != 0 {
            return None;
        }
        let piece = TensorSpec { dtype: spec.dtype, shape: Shape(vec![rows / parts.len(), columns]) };
        let named = |expert: usize| parts.iter().map(move |part| format!("{experts}{expert}.{part}.weight"));
        let pieces: Vec<(String, TensorSpec)> =
            (0..n_experts).flat_map(named).map(|name| (name, piece.clone())).collect();
        pieces.iter().all(|(name, _)| !tensors.contains_key(name)).then_some(pieces)
    }
}

/// What stands before `experts.0.` in names: each once.
fn folders(tensors: &BTreeMap<String, TensorSpec>) -> BTreeSet<String> {
    let folder = |name: &String| {
        let (folder, rest) = name.split_once("experts.0.")?;
        let is_matrix = rest.strip_suffix(".weight").is_some_and(|matrix| !matrix.contains('.'));
        let is_word = folder.is_empty() || folder.ends_with('.');
        (is_matrix && is_word).then(|| folder.to_owned())
    };
    tensors.keys().filter_map(folder).collect()
}

/// Where a folder's tensors are when its experts are joined, if elsewhere.
fn moved(folder: &str) -> Option<String> {
    let outside = folder.strip_suffix('.')?.strip_suffix(FOLDER.0)?;
    Some(format!("{outside}{}.", FOLDER.1))
}

/// What stands in a folder, by the names below it.
fn within<'a>(
    tensors: &'a BTreeMap<String, TensorSpec>,
    folder: &'a str,
) -> impl Iterator<Item = (&'a str, &'a TensorSpec)> {
    tensors
        .range::<str, _>((Bound::Included(folder), Bound::Unbounded))
        .map_while(move |(name, spec)| Some((name.strip_prefix(folder)?, spec)))
}

/// A joined tensor: its name behind `experts.`, what it is, and the tensors that it is made of.
type Joined = (&'static str, TensorSpec, Vec<String>);

/// The joined tensors of the experts in a folder. `None` if these are not their matrices, if they are not alike, or
/// if one is missing.
fn joined(tensors: &BTreeMap<String, TensorSpec>, folder: &str, matrices: &Matrices) -> Option<Vec<Joined>> {
    let experts = format!("{folder}experts.");
    // Matrices of other names are no matrices of such experts, of which none may be left behind.
    let is_matrix = |name: &str| {
        let split = name.strip_suffix(".weight").and_then(|name| name.split_once('.'));
        split.is_some_and(|(number, matrix)| {
            number.bytes().all(|byte| byte.is_ascii_digit()) && !matrix.contains('.')
        })
    };
    let found: Vec<&str> = within(tensors, &experts)
        .filter(|(name, _)| is_matrix(name))
        .map(|(name, _)| name.rsplit('.').nth(1).unwrap_or_default())
        .collect();
    let mut n_joined = 0;
    let mut joined = Vec::new();
    for (name, parts) in matrices {
        let n_experts = found.iter().filter(|matrix| parts.contains(*matrix)).count() / parts.len();
        let names = (0..n_experts)
            .flat_map(|expert| parts.iter().map(move |part| (expert, part)))
            .map(|(expert, part)| format!("{experts}{expert}.{part}.weight"));
        let names: Vec<String> = names.collect();
        let spec = stacked(tensors, &names, parts.len())?;
        n_joined += names.len();
        joined.push((*name, spec, names));
    }
    (n_joined == found.len()).then_some(joined)
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

/// The spec of pieces stacked `each` to an expert, if they are all there, matrices of one shape and dtype.
fn stacked(tensors: &BTreeMap<String, TensorSpec>, pieces: &[String], each: usize) -> Option<TensorSpec> {
    let first = tensors.get(pieces.first()?)?;
    let [rows, columns] = first.shape.0[..] else { return None };
    let alike = pieces.iter().all(|piece| tensors.get(piece) == Some(first));
    alike.then(|| TensorSpec {
        dtype: first.dtype,
        shape: Shape(vec![pieces.len() / each, each * rows, columns]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dtype;

    fn spec(dims: &[usize]) -> TensorSpec {
        TensorSpec { dtype: Dtype::F32, shape: Shape(dims.to_vec()) }
    }

    fn experts(folder: &str, matrices: [&str; 3], n: usize) -> BTreeMap<String, TensorSpec> {
        let dims = [[5, 4], [5, 4], [4, 5]];
        let of = |expert| {
            matrices.iter().zip(dims).map(move |(matrix, dims)| {
                (format!("l.0.{folder}.experts.{expert}.{matrix}.weight"), spec(&dims))
            })
        };
        (0..n).flat_map(of).collect()
    }

    fn listed(tensors: &BTreeMap<String, TensorSpec>) -> Vec<String> {
        tensors.iter().map(|(name, spec)| format!("{name} {}", spec.shape)).collect()
    }

    /// What a model has that stores its experts so, when they are joined, and how it stores them.
    fn seen(stored: &BTreeMap<String, TensorSpec>) -> (BTreeMap<String, TensorSpec>, Option<Apart>) {
        let (mut tensors, mut views) = (stored.clone(), BTreeMap::new());
        let apart = join(&mut tensors, &mut views);
        let mut all: Vec<&str> = views.values().flat_map(View::stored).collect();
        all.extend(tensors.keys().filter(|name| !views.contains_key(*name)).map(String::as_str));
        all.sort_unstable();
        assert_eq!(all, stored.keys().collect::<Vec<_>>(), "none is lost, and none comes twice");
        (tensors, apart)
    }

    #[test]
    fn experts_are_joined_in_order() {
        let mut tensors = experts("block_sparse_moe", ["w1", "w3", "w2"], 12);
        tensors.insert("l.0.block_sparse_moe.gate.weight".to_owned(), spec(&[12, 4]));
        tensors.insert("l.0.block_sparse_moe.bias".to_owned(), spec(&[12]));
        let (seen, apart) = seen(&tensors);
        let expected = [
            "l.0.block_sparse_moe.bias [12]",
            "l.0.mlp.experts.down_proj [12, 4, 5]",
            "l.0.mlp.experts.gate_up_proj [12, 10, 4]",
            "l.0.mlp.gate.weight [12, 4]",
        ];
        assert_eq!(listed(&seen), expected);
        assert_eq!(apart, None, "they are written joined");
        let mut views = BTreeMap::new();
        join(&mut tensors, &mut views);
        let up = views["l.0.mlp.experts.gate_up_proj"].stored();
        assert_eq!(up[1], "l.0.block_sparse_moe.experts.0.w3.weight");
        assert_eq!(up[4], "l.0.block_sparse_moe.experts.2.w1.weight");
    }

    #[test]
    fn what_is_joined_is_stored_as_it_was() {
        let there_and_back = |stored: BTreeMap<String, TensorSpec>| {
            let (tensors, apart) = seen(&stored);
            let apart = apart.expect("they lie apart");
            let pieces = |(name, spec): (&String, &TensorSpec)| {
                apart.stored(name, spec, &tensors).expect("all of them are experts'")
            };
            assert_eq!(tensors.iter().flat_map(pieces).collect::<BTreeMap<_, _>>(), stored);
            listed(&tensors)
        };
        let gated = experts("feed_forward", ["w1", "w3", "w2"], 2);
        let joined = [
            "l.0.feed_forward.experts.down_proj [2, 4, 5]",
            "l.0.feed_forward.experts.gate_up_proj [2, 10, 4]",
        ];
        assert_eq!(there_and_back(gated), joined);
        let mut ungated = experts("mixer", ["gate_proj", "up_proj", "down_proj"], 13);
        ungated.retain(|name, _| !name.contains("gate_proj"));
        let joined = ["l.0.mixer.experts.down_proj [13, 4, 5]", "l.0.mixer.experts.up_proj [13, 5, 4]"];
        assert_eq!(there_and_back(ungated), joined);
    }

    #[test]
    fn what_cannot_be_joined_without_loss_is_left_alone() {
        let left_alone = |tensors: BTreeMap<String, TensorSpec>| {
            let (mut now, mut views) = (tensors.clone(), BTreeMap::new());
            assert_eq!(join(&mut now, &mut views), None);
            assert!(views.is_empty());
            assert_eq!(now, tensors);
        };
        let mixtral = || experts("block_sparse_moe", ["w1", "w3", "w2"], 3);
        for taken in ["experts.down_proj", "gate.weight"] {
            let mut tensors = mixtral();
            tensors.insert("l.0.block_sparse_moe.gate.weight".to_owned(), spec(&[4, 4]));
            tensors.insert(format!("l.0.mlp.{taken}"), spec(&[4, 4]));
            left_alone(tensors);
        }
        let qwen = || experts("mlp", ["gate_proj", "up_proj", "down_proj"], 3);
        for (all, missing) in
            [(mixtral(), ["w1", "w2", "w3"]), (qwen(), ["gate_proj", "down_proj", "up_proj"])]
        {
            for (expert, matrix) in missing.iter().enumerate() {
                let mut tensors = all.clone();
                tensors.retain(|name, _| !name.ends_with(&format!("experts.{expert}.{matrix}.weight")));
                assert_eq!(tensors.len(), 8);
                left_alone(tensors);
            }
        }
        let mut tensors = mixtral();
        tensors.insert("l.0.block_sparse_moe.experts.1.w1.weight".to_owned(), spec(&[6, 4]));
        left_alone(tensors);
    }
}
