//! Tensors that an adapter changes, as actions between their model or stage and the merge.

use std::sync::Arc;

use super::Lowering;
use crate::model::adapter::{BaseTensor, Change};
use crate::op::{Convert, LowRank, Op, Role};
use crate::plan::arguments::Site;
use crate::plan::catalog::model_id;
use crate::plan::graph::{Input, NodeId, Owner};
use crate::plan::stage_shape::inventory_of;
use crate::recipe::{Adapted, Reference, StageId};
use crate::tensor::{Dtype, TensorSpec};

impl<'a> Lowering<'a> {
    /// A tensor that an adapter changes, told as work of the first stage that reads it.
    pub(super) fn changed(
        &mut self,
        site: &Site<'a>,
        (reference, adapted): (&'a Reference, &'a Adapted),
        (tensor, change): (&'a str, &'a Change),
        spec: &TensorSpec,
    ) -> NodeId {
        let key = (reference, tensor.to_owned(), spec.dtype);
        if let Some(node) = self.adapted.get(&key) {
            return *node;
        }
        let owner = Owner { stage: site.id, tensor: format!("{tensor} of {}", adapted.name) };
        let node = match change {
            Change::Whole { key, .. } => {
                let input = self.of_adapter(site.id, adapted, Role::MODEL, key);
                self.as_dtype(owner, input, spec.dtype).node
            }
            Change::OfModel(name) => self.tensor(site, &adapted.of, name, spec),
            Change::Updated { base, update, beside } => {
                let base = match base {
                    BaseTensor::OfModel(name) => self.beneath(site, adapted, name),
                    BaseTensor::OfAdapter(key) => self.of_adapter(site.id, adapted, Role::BASE, key),
                };
                let beside = beside.iter().map(|(role, key)| self.of_adapter(site.id, adapted, *role, key));
                let inputs = [base].into_iter().chain(beside.collect::<Vec<_>>()).collect();
                let op = LowRank { update: update.clone(), dtype: spec.dtype };
                self.act(owner, Arc::new(op), inputs)
            }
            Change::Rows { base, rows, from } => {
                let part =
                    |number: usize| Owner { tensor: format!("{}[{number}]", owner.tensor), ..owner.clone() };
                let base = self.beneath(site, adapted, base);
                let base = self.as_dtype(part(0), base, spec.dtype);
                let new = self.of_adapter(site.id, adapted, Role::MODEL, from);
                let new = self.as_dtype(part(1), new, spec.dtype);
                self.act(owner, Arc::new(rows.clone()), vec![base, new])
            }
        };
        self.adapted.insert(key, node);
        node
    }

    /// A tensor of an adapter as an input.
    fn of_adapter(&mut self, stage: StageId, adapted: &Adapted, role: Role, key: &'a str) -> Input {
        let model = model_id(self.models, &adapted.adapter);
        let spec = self.models[model.0].inventory.tensors[key].clone();
        Input { node: self.of_model(stage, model, key, &spec), label: adapted.adapter.path.clone(), role }
    }

    /// A tensor of what is beneath an adapter as an input.
    fn beneath(&mut self, site: &Site<'a>, adapted: &'a Adapted, tensor: &'a str) -> Input {
        let label = self.recipe.name_of(&adapted.of).to_owned();
        let inventory = inventory_of(self.models, self.shapes, &adapted.of);
        let spec = inventory.tensors[tensor].clone();
        Input { node: self.tensor(site, &adapted.of, tensor, &spec), label, role: Role::BASE }
    }

    /// An input rounded to a dtype, if it is of another.
    fn as_dtype(&mut self, owner: Owner, input: Input, dtype: Dtype) -> Input {
        if self.plan[input.node].spec().dtype == dtype {
            return input;
        }
        let node = self.act(owner, Arc::new(Convert { compute: None, dtype }), vec![input.clone()]);
        Input { node, ..input }
    }

    /// Adds an action on inputs that were checked when an adapter was applied.
    fn act(&mut self, owner: Owner, op: Arc<dyn Op>, inputs: Vec<Input>) -> NodeId {
        let what = owner.tensor.clone();
        self.plan
            .act(owner, op, inputs, Arc::default())
            .unwrap_or_else(|problem| panic!("`{what}` {problem}"))
    }
}
