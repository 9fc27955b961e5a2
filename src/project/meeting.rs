//! Which tensor of one model is which of another, for the two to be compared.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::kinds::Kinds;
use crate::model::layout::{Layout, Position};
use crate::model::naming::Naming;
use crate::tensor::TensorSpec;

/// Two models, tensor by tensor.
pub struct Meeting {
    /// Tensors that both have in one shape, in the order of their names in the first.
    pub met: Vec<Met>,
    /// Tensors that only the first has, and only the second.
    pub only: [Vec<(String, TensorSpec)>; 2],
    /// Tensors that the two have in other shapes, by their names in the first.
    pub unlike: Vec<(String, [TensorSpec; 2])>,
    /// Beginnings of names of the second model, and what the first calls them.
    pub renamed: Vec<(String, String)>,
    /// Of all tensors of the first model.
    pub kinds: Kinds,
}

/// A tensor that both have.
pub struct Met {
    /// What each calls it.
    pub names: [String; 2],
    pub specs: [TensorSpec; 2],
}

/// A model's tensors and its configuration, which is null where there is none.
pub type Tensors<'a> = (BTreeMap<&'a String, &'a TensorSpec>, &'a Value);

impl Meeting {
    pub fn new([(a, a_config), (b, b_config)]: [Tensors<'_>; 2]) -> Self {
        let layout = |tensors: &BTreeMap<&String, &TensorSpec>, config| {
            Layout::infer(tensors.keys().map(|name| name.as_str()), config)
        };
        let layouts = [layout(&a, a_config), layout(&b, b_config)];
        let names = |tensors: &'_ BTreeMap<&'_ String, &'_ TensorSpec>| -> Vec<String> {
            tensors.keys().map(|name| (*name).clone()).collect()
        };
        let (a_names, b_names) = (names(&a), names(&b));
        let naming = Naming::new(
            (&layouts[0], a_names.iter().map(String::as_str)),
            (&layouts[1], b_names.iter().map(String::as_str)),
        );
        let mut theirs: BTreeMap<String, (&String, &TensorSpec)> =
            b.into_iter().map(|(name, spec)| (called(name, &naming, &layouts), (name, spec))).collect();
        let kinds = Kinds::new(a_names.iter().map(String::as_str), &layouts[0]);
        let renamed = naming.moved.into_iter().collect();
        let mut meeting =
            Self { met: Vec::new(), only: Default::default(), unlike: Vec::new(), renamed, kinds };
        for (name, spec) in a {
            match theirs.remove(name) {
                None => meeting.only[0].push((name.clone(), spec.clone())),
                Some((_, other)) if other.shape != spec.shape => {
                    meeting.unlike.push((name.clone(), [spec.clone(), other.clone()]));
                }
                Some((their, other)) => meeting
                    .met
                    .push(Met { names: [name.clone(), their.clone()], specs: [spec.clone(), other.clone()] }),
            }
        }
        let rest = theirs.into_values().map(|(name, spec)| (name.clone(), spec.clone()));
        meeting.only[1].extend(rest);
        meeting
    }
}

/// What the first model calls a tensor of the second.
fn called(name: &str, naming: &Naming, [a, b]: &[Layout; 2]) -> String {
    let (module, position) = b.place(name);
    let lender = (0..a.modules.len()).find(|lender| naming.module(*lender) == Some(module));
    match (position, lender) {
        (Position::Layer(layer), Some(lender)) => {
            let (own, their) = (&b.modules[module], &a.modules[lender]);
            let rest = &name[own.prefix.len() + 1..];
            let rest = rest.split_once('.').map_or("", |(_, rest)| rest);
            format!("{}.{layer:0digits$}.{rest}", their.prefix, digits = their.digits)
        }
        _ => naming.name(name).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tensor::{Dtype, Shape};

    #[test]
    fn tensors_meet_by_what_they_are_called_now() {
        let spec = |len| TensorSpec { dtype: Dtype::F32, shape: Shape(vec![len]) };
        let of = |names: &[(&str, usize)]| -> BTreeMap<String, TensorSpec> {
            names.iter().map(|(name, len)| ((*name).to_owned(), spec(*len))).collect()
        };
        let a = of(&[
            ("lm_head.weight", 3),
            ("model.layers.00.w", 1),
            ("model.layers.10.x", 2),
            ("model.norm.weight", 4),
        ]);
        let b = of(&[("layers.0.w", 1), ("layers.10.x", 7), ("layers.9.y", 2), ("norm.weight", 4)]);
        let config = json!({});
        let Meeting { met, only, unlike, renamed, kinds } =
            Meeting::new([(a.iter().collect(), &config), (b.iter().collect(), &config)]);
        let names: Vec<[&str; 2]> =
            met.iter().map(|Met { names: [a, b], .. }| [a.as_str(), b.as_str()]).collect();
        assert_eq!(names, [["model.layers.00.w", "layers.0.w"], ["model.norm.weight", "norm.weight"]]);
        assert_eq!(unlike, [("model.layers.10.x".to_owned(), [spec(2), spec(7)])]);
        assert_eq!(
            only,
            [vec![("lm_head.weight".to_owned(), spec(3))], vec![("layers.9.y".to_owned(), spec(2))]]
        );
        assert_eq!(renamed, [(String::new(), "model".to_owned())]);
        assert_eq!(kinds.names.len(), 4);
    }
}
