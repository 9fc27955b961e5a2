//! Embeddings and heads with their rows where the output has them, as actions between a model or stage and the merge.

use std::collections::HashMap;
use std::sync::Arc;

use super::Lowering;
use crate::op::{Convert, Mean, MeanRow, Op, Role, RowRun, Rows, Zeros};
use crate::plan::arguments::Site;
use crate::plan::graph::{Input, Node, NodeId, Origin, Owner};
use crate::plan::rows::{Alignment, Donor, From, Run, push};
use crate::tensor::{Dtype, Shape, TensorSpec};

impl<'a> Lowering<'a> {
    /// A part of an embedding or head with its rows where the output has them.
    pub(super) fn remapped(
        &mut self,
        site: &Site<'a>,
        alignment: &'a Alignment<'a>,
        number: usize,
    ) -> NodeId {
        let donor = &alignment.donors[number];
        let Some(runs) = &alignment.parts[number] else {
            return self.tensor(site, donor.reference, &donor.tensor, &donor.spec);
        };
        let spec = &alignment.specs[number];
        let what = format!("{}, rows of {}", site.name, self.recipe.name_of(donor.reference));
        let real: Vec<Run> = runs.iter().filter(|run| run.from != From::Padding).cloned().collect();
        if real.len() == runs.len() {
            return self.gather(site, alignment, spec.dtype, what, runs, None);
        }
        let unpadded = self.gather(site, alignment, spec.dtype, format!("{what} but padding"), &real, None);
        let shape = self.plan[unpadded].spec().shape.clone();
        let columns = shape.0[1..].iter().product();
        let op = MeanRow { rows: shape.0[0], columns };
        let wide = self.work(site, format!("{what}, their mean"), Arc::new(op), vec![unpadded]);
        let convert = Convert { compute: None, dtype: spec.dtype };
        let padding = self.work(site, format!("{what}, padding"), Arc::new(convert), vec![wide]);
        self.gather(site, alignment, spec.dtype, what, runs, Some(padding))
    }

    /// Rows of donors and of what is made of them, laid one behind the other.
    fn gather(
        &mut self,
        site: &Site<'a>,
        alignment: &'a Alignment<'a>,
        dtype: Dtype,
        what: String,
        runs: &[Run],
        padding: Option<NodeId>,
    ) -> NodeId {
        let row = &alignment.donors[0].spec.shape.0[1..];
        let mut inputs: Vec<NodeId> = Vec::new();
        let mut number_of: HashMap<From, usize> = HashMap::new();
        let mut n_rows = 0;
        let mut taken = Vec::new();
        for run in runs {
            let input = match number_of.get(&run.from) {
                Some(number) => *number,
                None => {
                    inputs.push(match run.from {
                        From::Donor(donor) => self.donor(site, alignment, donor, dtype),
                        From::Mean(mean) => self.mean(site, alignment, mean, dtype),
                        From::Zero => {
                            let shape = Shape([&[1], row].concat());
                            let op = Zeros { spec: TensorSpec { dtype, shape } };
                            self.work(
                                site,
                                format!("{}, a row of zeros as {dtype}", site.name),
                                Arc::new(op),
                                Vec::new(),
                            )
                        }
                        From::Padding => padding.expect("it is made before it is laid behind the others"),
                    });
                    number_of.insert(run.from, inputs.len() - 1);
                    inputs.len() - 1
                }
            };
            let rows = if run.from == From::Zero { 0..1 } else { run.rows.clone() };
            n_rows += if run.from == From::Padding { 1 } else { rows.len() };
            taken.push(RowRun { input, rows });
        }
        let op = Rows { runs: taken, shape: Shape([&[n_rows], row].concat()) };
        self.work(site, what, Arc::new(op), inputs)
    }

    /// A donor's tensor in the dtype of the rows that it is laid beside.
    fn donor(
        &mut self,
        site: &Site<'a>,
        alignment: &'a Alignment<'a>,
        number: usize,
        dtype: Dtype,
    ) -> NodeId {
        let Donor { reference, tensor, spec } = &alignment.donors[number];
        let node = self.tensor(site, reference, tensor, spec);
        if spec.dtype == dtype {
            return node;
        }
        let what = format!("{}, {} as {dtype}", site.name, self.recipe.name_of(reference));
        self.work(site, what, Arc::new(Convert { compute: None, dtype }), vec![node])
    }

    /// Means of rows that several donors have.
    fn mean(&mut self, site: &Site<'a>, alignment: &'a Alignment<'a>, number: usize, dtype: Dtype) -> NodeId {
        let mut gathered = Vec::new();
        for (donor, rows) in &alignment.means[number] {
            let stored = alignment.donors[*donor].spec.dtype;
            let mut runs: Vec<Run> = Vec::new();
            rows.iter().for_each(|row| push(&mut runs, From::Donor(*donor), *row));
            let name = self.recipe.name_of(alignment.donors[*donor].reference);
            let what = format!("{}, rows of {name} for mean {}", site.name, number + 1);
            gathered.push(self.gather(site, alignment, stored, what, &runs, None));
        }
        let what = format!("{}, mean {} as {dtype}", site.name, number + 1);
        self.work(site, what, Arc::new(Mean { dtype }), gathered)
    }

    /// An action that remaps rows, once for all that read it.
    fn work(&mut self, site: &Site<'a>, what: String, op: Arc<dyn Op>, inputs: Vec<NodeId>) -> NodeId {
        let key = (site.id, what);
        if let Some(node) = self.remapped.get(&key) {
            return *node;
        }
        let label = |node: NodeId| match &self.plan[node] {
            Node::Source(source) => self.models[source.model.0].reference.path.clone(),
            Node::Action(action) if action.owner.stage == site.id => action.owner.tensor.clone(),
            Node::Action(action) => self.recipe.stage(action.owner.stage).name.clone(),
        };
        let inputs =
            inputs.into_iter().map(|node| Input { node, label: label(node), role: Role::PART }).collect();
        let span = site.stage().tokenizer.as_ref().map(|tokenizer| tokenizer.span);
        let origins = span.into_iter().map(|span| Origin { param: "rows", input: None, span }).collect();
        let owner = Owner { stage: site.id, tensor: key.1.clone() };
        let node = self
            .plan
            .act(owner, op, inputs, origins)
            .unwrap_or_else(|problem| panic!("`{}` {problem}", key.1));
        self.remapped.insert(key, node);
        node
    }
}
