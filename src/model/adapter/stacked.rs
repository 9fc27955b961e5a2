//! Factors of the matrices of experts, which adapters and models both have one by one or stacked.

use super::experts::{self, Expert};
use super::gathering::{A, B, Gathering, MAGNITUDE, Product};
use crate::op::{Block, Factor, Vectors};
use crate::tensor::Shape;

impl<'a> Gathering<'a> {
    /// A matrix of one expert among those of all. False if the model has none of the kind.
    pub fn expert(&mut self, module: &str, expert: Expert<'_>, product: Product<'a>) -> bool {
        let Some(target) = self.names.find(&expert.fused()) else { return false };
        let spec = self.names.tensors[target].clone();
        let Product { a, b, magnitude, .. } = product;
        let (&[n_experts, each, columns], &[rank, inputs], &[outputs, rank_of_b]) =
            (spec.shape.0.as_slice(), self.shape(a), self.shape(b))
        else {
            self.misfit(a, target);
            return true;
        };
        if !self.config.targets(module) {
            self.not_targeted.push(a);
            return true;
        }
        if !self.check_rank(module, product, [rank, rank_of_b]) {
            return true;
        }
        let rows = expert.rows(each);
        if let Some(key) = magnitude.filter(|key| self.elements(key) != rows.len()) {
            self.misfit(key, target);
            return true;
        }
        if expert.number >= n_experts || inputs != columns || outputs != rows.len() {
            self.misfit(if inputs == columns { b } else { a }, target);
            return true;
        }
        let scale = self.config.scale(module);
        let vectors = Vectors::Rows { count: n_experts * each, len: columns };
        let Some(pending) = self.pending(target, &spec, None, vectors) else { return true };
        let right = Factor { input: pending.input(A, a), first: 0, step: 1, rank_step: columns };
        let left = Factor { input: pending.input(B, b), first: 0, step: rank, rank_step: 1 };
        let magnitude = magnitude.map(|key| pending.input(MAGNITUDE, key));
        pending.blocks.push(Block { vectors: rows, left: Some(left), right, rank, scale, magnitude });
        true
    }

    /// A parameter that is no module's weight, such as the matrices of all experts. PEFT wraps the module once for each
    /// of its parameters, in the order in which the module has them, so the last one's factors have the module's own
    /// name, and each before it one `base_layer` more. False if the configuration names no such parameter.
    pub fn parameter(&mut self, module: &str, product: Product<'a>) -> bool {
        const IN_ORDER: [&str; 4] = ["gate_proj", "gate_up_proj", "up_proj", "down_proj"];
        let mut path = module;
        let mut depth = 0;
        while let Some(inner) = path.strip_suffix(".base_layer") {
            (path, depth) = (inner, depth + 1);
        }
        let mut targeted: Vec<&str> = (self.config.target_parameters.iter())
            .filter_map(|name| {
                let (folder, parameter) = name.rsplit_once('.').unwrap_or(("", name));
                let is_there = folder.is_empty() || path == folder || path.ends_with(&format!(".{folder}"));
                is_there.then_some(parameter)
            })
            .filter(|name| {
                self.names.find(&format!("{path}.{name}")).is_some() || !experts::parts(name).is_empty()
            })
            .collect();
        let place = |name: &&str| IN_ORDER.iter().position(|known| known == name);
        targeted.sort_by_key(place);
        targeted.dedup();
        if targeted.len() > 1 && targeted.iter().any(|name| place(name).is_none()) {
            self.errors.push(format!("`{}`: it could belong to any of {}", product.a, targeted.join(", ")));
            return true;
        }
        let Some(name) = targeted.iter().rev().nth(depth).map(|name| (*name).to_owned()) else {
            return false;
        };
        let parameter = format!("{path}.{name}");
        match self.names.find(&parameter) {
            Some(target) => self.stacked(&parameter, target, product),
            None => return self.apart(path, &name, product),
        }
        true
    }

    /// The rank of each of some stacked matrices.
    fn stacked_rank(&mut self, parameter: &str, product: Product<'a>, n_stacked: usize) -> Option<usize> {
        let Product { a, b, magnitude, .. } = product;
        let (&[of_a, _], &[_, of_b]) = (self.shape(a), self.shape(b)) else {
            self.errors.push(format!("`{a}` {} is not a matrix", self.tensors[a].shape));
            return None;
        };
        if let Some(key) = magnitude {
            self.errors
                .push(format!("`{key}`: magnitudes of a parameter are not supported, nor are they in PEFT"));
            return None;
        }
        if of_a % n_stacked != 0 || of_b % n_stacked != 0 {
            self.errors.push(format!(
                "`{a}` {} cannot be divided into the {n_stacked} matrices of `{parameter}`",
                self.tensors[a].shape
            ));
            return None;
        }
        let rank = of_a / n_stacked;
        self.check_rank(parameter, product, [rank, of_b / n_stacked]).then_some(rank)
    }

    /// A tensor of stacked matrices. The factors of one lie behind those of another in A, and between them in B.
    fn stacked(&mut self, parameter: &str, target: &'a str, product: Product<'a>) {
        let Product { a, b, .. } = product;
        let spec = self.names.tensors[target].clone();
        let (n_stacked, rows, columns) = match spec.shape.0[..] {
            [n_stacked, rows, columns] => (n_stacked, rows, columns),
            [rows, columns] => (1, rows, columns),
            _ => return self.misfit(a, target),
        };
        let Some(rank) = self.stacked_rank(parameter, product, n_stacked) else { return };
        let (inputs, outputs) = (self.shape(a)[1], self.shape(b)[0]);
        let is_straight = inputs == columns && outputs == rows;
        let is_turned = n_stacked > 1 && inputs == rows && outputs == columns;
        let is_turned = is_turned && (!is_straight || self.turned_beside(target));
        if !(is_straight || is_turned) {
            return self.misfit(if inputs == columns || inputs == rows { b } else { a }, target);
        }
        let scale = self.config.scale(parameter);
        let vectors = Vectors::Rows { count: n_stacked * rows, len: columns };
        let Some(pending) = self.pending(target, &spec, None, vectors) else { return };
        let (a, b) = (pending.input(A, a), pending.input(B, b));
        for number in 0..n_stacked {
            let by_input = Factor { input: a, first: number * rank * inputs, step: 1, rank_step: inputs };
            let by_output = Factor { input: b, first: number, step: rank * n_stacked, rank_step: n_stacked };
            let (left, right) = if is_turned { (by_input, by_output) } else { (by_output, by_input) };
            let vectors = number * rows..(number + 1) * rows;
            pending.blocks.push(Block { vectors, left: Some(left), right, rank, scale, magnitude: None });
        }
    }

    /// Whether stacked square matrices are stored as inputs by outputs, which the tensor beside them tells.
    fn turned_beside(&self, target: &str) -> bool {
        let (folder, name) = target.rsplit_once('.').unwrap_or(("", target));
        let other = if name == "down_proj" { "gate_up_proj" } else { "down_proj" };
        let beside = self.names.tensors.get(&format!("{folder}.{other}"));
        matches!(beside.map(|spec| spec.shape.0.as_slice()), Some([_, rows, columns]) if rows < columns)
    }

    /// The stacked matrices of experts that the model stores one by one. False if it stores none.
    fn apart(&mut self, folder: &str, name: &str, product: Product<'a>) -> bool {
        let parts = experts::parts(name);
        let folders = [folder.to_owned(), folder.replace(".mlp.", ".block_sparse_moe.")];
        let find = |number: usize, part: &[&str]| {
            let candidates = folders.iter().flat_map(|folder| part.iter().map(move |name| (folder, name)));
            candidates
                .map(|(folder, name)| format!("{folder}.{number}.{name}.weight"))
                .find_map(|name| self.names.find(&name))
        };
        let of_expert =
            |number| parts.iter().map(|part| find(number, part)).collect::<Option<Vec<&'a str>>>();
        let found: Vec<Vec<&'a str>> = (0..).map_while(of_expert).collect();
        if found.is_empty() {
            return false;
        }
        let parameter = format!("{folder}.{name}");
        let Some(rank) = self.stacked_rank(&parameter, product, found.len()) else { return true };
        let Product { a, b, .. } = product;
        let (inputs, outputs) = (self.shape(a)[1], self.shape(b)[0]);
        let scale = self.config.scale(&parameter);
        let n_experts = found.len();
        for (number, targets) in found.into_iter().enumerate() {
            for (part, target) in targets.into_iter().enumerate() {
                let spec = self.names.tensors[target].clone();
                let rows = outputs / parts.len();
                if spec.shape != Shape(vec![rows, inputs]) {
                    self.misfit(b, target);
                    return true;
                }
                let vectors = Vectors::Rows { count: rows, len: inputs };
                let Some(pending) = self.pending(target, &spec, None, vectors) else { return true };
                let right = Factor {
                    input: pending.input(A, a),
                    first: number * rank * inputs,
                    step: 1,
                    rank_step: inputs,
                };
                let left = Factor {
                    input: pending.input(B, b),
                    first: part * rows * rank * n_experts + number,
                    step: rank * n_experts,
                    rank_step: n_experts,
                };
                pending.blocks.push(Block {
                    vectors: 0..rows,
                    left: Some(left),
                    right,
                    rank,
                    scale,
                    magnitude: None,
                });
            }
        }
        true
    }
}
