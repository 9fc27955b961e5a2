//! A target's tensors as its files hold them: experts that its donor stores one by one are merged as one tensor, and
//! are written as pieces of it.
//!
//! Where every element of a result follows from the same element of each input, pieces are made of pieces, which
//! inputs may store as they are. Otherwise they are rows of the whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Lowering, Written, counted, merge, part_name, read};
use crate::methods::{Cut, Extent, Operation, Simplified};
use crate::model::view::View;
use crate::op::{Access, Concat, Convert, Op, Role, RowRun, Rows};
use crate::plan::arguments::{Resolved, Site};
use crate::plan::catalog::{ModelId, model_id};
use crate::plan::graph::{Input, NodeId, Origin, Owner};
use crate::plan::stage_shape::{Part, keeps_bytes};
use crate::recipe::{Reference, StageId};
use crate::tensor::{Shape, TensorSpec};

/// One of the pieces, of one size and shape, that a tensor is cut into.
#[derive(Clone, Copy)]
struct Piece<'p> {
    number: usize,
    spec: &'p TensorSpec,
}

impl<'a> Lowering<'a> {
    /// Lowers everything that a target's files hold.
    pub(super) fn written(&mut self, target: StageId) -> Written {
        let shape = self.shapes[target.0].as_ref().expect("targets are shaped");
        let tensors = &shape.inventory.tensors;
        let mut written = Written { tensors: BTreeMap::new(), nodes: BTreeMap::new() };
        for (name, spec) in tensors {
            let apart = shape.inventory.apart.as_ref().and_then(|apart| apart.stored(name, spec, tensors));
            let pieces = apart.unwrap_or_else(|| vec![(name.clone(), spec.clone())]);
            for (number, (stored, piece)) in pieces.into_iter().enumerate() {
                let node = if piece == *spec {
                    self.output(target, name)
                } else {
                    self.piece(target, name, Piece { number, spec: &piece })
                };
                written.nodes.insert(stored.clone(), node);
                written.tensors.insert(stored, piece);
            }
        }
        written
    }

    /// A piece of a stage's tensor.
    fn piece(&mut self, stage: StageId, tensor: &str, piece: Piece<'_>) -> NodeId {
        let key = (stage, tensor.to_owned(), piece.number);
        if let Some(node) = self.pieces.get(&key) {
            return *node;
        }
        // What is there as a whole need not be made in pieces, and what could not be made so once cannot be again.
        let is_whole = self.outputs[stage.0].contains_key(tensor);
        let by_element = if is_whole { None } else { self.by_element(&self.site(stage, tensor), piece) };
        let node = match by_element {
            Some(node) => node,
            None => {
                let whole = self.output(stage, tensor);
                let name = self.piece_name(stage, tensor, piece.number);
                self.rows_of(stage, whole, (tensor, name), piece)
            }
        };
        self.pieces.insert(key, node);
        node
    }

    /// A piece that is made of pieces of the inputs, if that gives the same bytes.
    fn by_element(&mut self, site: &Site<'a>, piece: Piece<'_>) -> Option<NodeId> {
        let output = site.output;
        let parts = &output.parts;
        if output.copied {
            return self.copied_piece(site, &parts[0], piece);
        }
        // What is wrong is told of when the whole is lowered.
        let Resolved { arguments, origins } =
            site.arguments().ok().filter(|_| output.spec.dtype.is_float())?;
        let method = site.stage().method;
        match method.simplify(&arguments).ok()? {
            Simplified::Input(number) => self.copied_piece(site, &parts[number], piece),
            Simplified::Operation { operation, inputs } => {
                if method.spec().draws || !is_by_element(&*operation, &output.spec) {
                    return None;
                }
                let op = Arc::new(merge(site, operation));
                self.piece_of(site, op, read(&arguments, &inputs, parts), counted(&origins, &inputs), piece)
            }
        }
    }

    fn copied_piece(&mut self, site: &Site<'a>, part: &'a Part, piece: Piece<'_>) -> Option<NodeId> {
        let compute = site.stage().dtype.as_ref().map(|dtype| dtype.value);
        let dtype = site.output.spec.dtype;
        if !part.spec.dtype.is_float() || keeps_bytes(part.spec.dtype, compute, dtype) {
            return Some(self.piece_of_part(site, part, piece));
        }
        self.piece_of(
            site,
            Arc::new(Convert { compute, dtype }),
            vec![(part, Role::MODEL)],
            Vec::new(),
            piece,
        )
    }

    /// An operation on pieces of parts.
    fn piece_of(
        &mut self,
        site: &Site<'a>,
        op: Arc<dyn Op>,
        parts: Vec<(&'a Part, Role)>,
        origins: Vec<Origin>,
        piece: Piece<'_>,
    ) -> Option<NodeId> {
        if site.output.spec.dtype.is_eight_bits() {
            return None;
        }
        let input = |(part, role): (&'a Part, Role)| Input {
            node: self.piece_of_part(site, part, piece),
            label: site.label(part).to_owned(),
            role,
        };
        let inputs = parts.into_iter().map(input).collect();
        let owner = Owner { stage: site.id, tensor: self.piece_name(site.id, site.name, piece.number) };
        let origins = self.shared(site.id, origins);
        self.plan.act(owner, op, inputs, origins).ok()
    }

    fn piece_of_part(&mut self, site: &Site<'a>, part: &'a Part, piece: Piece<'_>) -> NodeId {
        let reference = site.segment.sources[part.source].reference;
        self.piece_of_reference(site, reference, part, piece)
    }

    fn piece_of_reference(
        &mut self,
        site: &Site<'a>,
        reference: &'a Reference,
        part: &'a Part,
        piece: Piece<'_>,
    ) -> NodeId {
        let shapes = self.shapes;
        match reference {
            Reference::Stage(stage) => self.piece(*stage, &part.tensor, piece),
            Reference::Model(name) => {
                let model = model_id(self.models, name);
                match self.stored_piece(site.id, model, &part.tensor, piece) {
                    Some(node) => node,
                    None => {
                        let whole = self.of_model(site.id, model, &part.tensor, &part.spec);
                        self.rows_of_input(site, whole, part, piece)
                    }
                }
            }
            Reference::Adapted(adapted) if !shapes.adapted[reference].changes.contains_key(&part.tensor) => {
                self.piece_of_reference(site, &adapted.of, part, piece)
            }
            Reference::Adapted(_) => {
                let whole = self.tensor(site, reference, &part.tensor, &part.spec);
                self.rows_of_input(site, whole, part, piece)
            }
        }
    }

    /// The stored tensor that is just this piece of a model's tensor.
    fn stored_piece(
        &mut self,
        stage: StageId,
        model: ModelId,
        tensor: &str,
        piece: Piece<'_>,
    ) -> Option<NodeId> {
        let models = self.models;
        let View::Made { op, inputs } = models[model.0].inventory.views.get(tensor)? else { return None };
        let Access::Rows(runs) = op.access() else { return None };
        let mut first = 0;
        for RowRun { input, rows } in runs.iter() {
            let part = &inputs[*input].1;
            let all = part.spec.shape.0.first().copied().unwrap_or(1);
            if first == piece.number * piece.spec.shape.elements()
                && *rows == (0..all)
                && part.spec.shape == piece.spec.shape
            {
                return Some(self.view(stage, model, &part_name(tensor, *input), &part.spec, &part.view));
            }
            first += part.spec.shape.elements() / all.max(1) * rows.len();
        }
        None
    }

    /// What a piece of a stage's tensor is called: as the stage is written, if it is written in such pieces.
    fn piece_name(&mut self, stage: StageId, tensor: &str, number: usize) -> String {
        let shape = self.shapes[stage.0].as_ref().expect("stages are shaped before they are lowered");
        let key = (stage, tensor.to_owned());
        let stored = self.stored.entry(key).or_insert_with(|| shape.inventory.pieces(tensor));
        stored.get(number).cloned().unwrap_or_else(|| part_name(tensor, number))
    }

    /// A piece of an input's tensor as its rows, told as work of the stage that reads it.
    fn rows_of_input(&mut self, site: &Site<'a>, whole: NodeId, part: &Part, piece: Piece<'_>) -> NodeId {
        let key = (whole, piece.number);
        if let Some(node) = self.rows.get(&key) {
            return *node;
        }
        let of = format!("{} of {}", part.tensor, site.label(part));
        let name = format!("{}, {of}", part_name(&part.tensor, piece.number));
        let node = self.rows_of(site.id, whole, (&of, name), piece);
        self.rows.insert(key, node);
        node
    }

    /// A piece of a node as its rows, told as work of a stage by the names of the whole and of the piece.
    fn rows_of(
        &mut self,
        stage: StageId,
        node: NodeId,
        (whole, name): (&str, String),
        piece: Piece<'_>,
    ) -> NodeId {
        let shape = self.plan[node].spec().shape.clone();
        let each = piece.spec.shape.elements();
        let count = shape.elements() / each.max(1);
        let mut act = |tensor: String, op: Arc<dyn Op>, node: NodeId| {
            let input = Input { node, label: whole.to_owned(), role: Role::PART };
            let made = self.plan.act(Owner { stage, tensor }, op, vec![input], Arc::default());
            made.unwrap_or_else(|problem| panic!("a piece of `{whole}` {problem}"))
        };
        let of_pieces = if shape.0[0] == count {
            node
        } else if let Some(node) = self.by_piece.get(&node) {
            *node
        } else {
            let dims = [&[count], piece.spec.shape.0.as_slice()].concat();
            let op = Concat { rows: vec![shape.0[0]], shape: Shape(dims) };
            let made = act(format!("{whole}, by matrix"), Arc::new(op), node);
            self.by_piece.insert(node, made);
            made
        };
        let runs = vec![RowRun { input: 0, rows: piece.number..piece.number + 1 }];
        act(name, Arc::new(Rows { runs, shape: piece.spec.shape.clone() }), of_pieces)
    }
}

/// Whether every element of a result follows from the same element of each input, wherever in a tensor it is. The
/// method must draw nothing.
fn is_by_element(operation: &dyn Operation, spec: &TensorSpec) -> bool {
    let extent = Extent { n_elements: spec.shape.elements(), rows: 1 };
    let mut kernel = operation.kernel(extent);
    operation.cut() == Cut::Elements && kernel.ranking().is_none() && kernel.next_pass().is_none()
}
