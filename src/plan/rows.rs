//! Which row of an embedding or head comes from where, for a stage whose inputs have other tokens than its output.
//!
//! For each token, and each tensor that is merged: its own row where it has the token. Where it lacks it: what
//! `tokens` says; else the row of the only one that has it; else the base's; else the mean of those that have it.
//! A token that none of them has gets its row from the stage's other models in the same way, and zeros where no
//! model knows it. Ids without a token, and rows beyond the last, get the mean of the tensor's other rows.

use std::collections::HashMap;
use std::ops::Range;

use super::catalog::Inventory;
use super::token_plan::TokenPlan;
use crate::model::layout::{is_head, is_token_embedding, unwrapped};
use crate::model::tokenizer::Tokens;
use crate::recipe::{Finding, Reference, TokenEntry, TokenRow};
use crate::tensor::{Dtype, Shape, TensorSpec};

/// A tensor whose rows are taken.
#[derive(Clone, Debug)]
pub struct Donor<'r> {
    pub reference: &'r Reference,
    pub tensor: String,
    pub spec: TensorSpec,
}

/// Where neighbouring rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum From {
    /// From a donor, by number.
    Donor(usize),
    /// From a mean, by number.
    Mean(usize),
    Zero,
    /// The mean of the other rows.
    Padding,
}

/// Some neighbouring rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub from: From,
    pub rows: Range<usize>,
}

/// Rows that several donors have: of each, which ones, all in one order.
pub type Mean = Vec<(usize, Vec<usize>)>;

/// The rows of all tensors that an output tensor is made of.
#[derive(Clone, Debug)]
pub struct Alignment<'r> {
    /// The tensors that are merged, in their order, and behind them others whose rows they get.
    pub donors: Vec<Donor<'r>>,
    pub means: Vec<Mean>,
    /// Of each tensor that is merged; `None` for one that stays as it is.
    pub parts: Vec<Option<Vec<Run>>>,
    /// What each of them becomes.
    pub specs: Vec<TensorSpec>,
    pub counts: Vec<RowCount>,
}

/// What becomes of the rows of one tensor that is merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowCount {
    /// The model or stage, as a person would name it.
    pub model: String,
    /// Rows that it has itself.
    pub taken: usize,
    /// Rows of one other model.
    pub from_others: usize,
    /// Means of several models' rows.
    pub averaged: usize,
    pub zeroed: usize,
    /// Rows of no token.
    pub padding: usize,
    /// Tokens of the model that the output does not have.
    pub dropped: usize,
}

/// Looks for the rows of one output tensor.
pub struct Aligner<'r, 'a> {
    pub plan: &'a TokenPlan<'r>,
    /// The output tensor's name.
    pub name: &'a str,
    pub lookup: &'a dyn Fn(&Reference) -> &'a Inventory,
    /// What a tensor of a model reads as.
    pub spec: &'a dyn Fn(&Reference, &str) -> TensorSpec,
    pub label: &'a dyn Fn(&'r Reference) -> String,
    /// What the stage computes in.
    pub compute: Option<Dtype>,
}

/// Donors and means as they turn out to be wanted.
struct Gathered<'r, 'a> {
    donors: Vec<Donor<'r>>,
    tokens: Vec<&'a Tokens>,
    means: Vec<Mean>,
    /// Means by the numbers of their donors.
    mean_of: HashMap<Vec<usize>, usize>,
}

impl<'r, 'a> Aligner<'r, 'a> {
    /// Finds every row. The tensors to be merged are given in their order.
    ///
    /// # Errors
    /// If a token's row is wanted that is not there.
    pub fn align(&self, parts: Vec<Donor<'r>>) -> Result<Alignment<'r>, Finding> {
        let n_parts = parts.len();
        let plan = self.plan;
        let mut gathered = Gathered {
            tokens: parts.iter().map(|part| plan.tokens_of(part.reference)).collect(),
            donors: parts,
            means: Vec::new(),
            mean_of: HashMap::new(),
        };
        let row_len = row_len(&gathered.donors[0].spec);
        let base = (0..n_parts).find(|number| Some(gathered.donors[*number].reference) == plan.base);
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); n_parts];
        let mut counts = vec![RowCount::default(); n_parts];
        let pad = |runs: &mut [Vec<Run>], counts: &mut [RowCount], n: usize| {
            for (runs, count) in runs.iter_mut().zip(counts) {
                (0..n).for_each(|_| runs.push(Run { from: From::Padding, rows: 0..row_len }));
                count.padding += n;
            }
        };
        let mut next = 0;
        for (id, token) in plan.tokens.iter() {
            let id = id as usize;
            // Of several tokens with one id the first stands for it.
            let Some(gap) = id.checked_sub(next) else { continue };
            pad(&mut runs, &mut counts, gap);
            next = id + 1;
            let own: Vec<Option<usize>> = (0..n_parts).map(|part| gathered.row(part, token)).collect();
            let entry = plan.entries.get(token).copied();
            let forced = entry.is_some_and(|entry| entry.force);
            let other = if forced || own.iter().any(Option::is_none) {
                Some(self.other_row(&mut gathered, token, entry, &own, base)?)
            } else {
                None
            };
            for (part, own) in own.iter().enumerate() {
                let count = &mut counts[part];
                let (from, row) = match (own, other) {
                    (Some(row), None) => (From::Donor(part), *row),
                    (Some(row), Some(_)) if !forced => (From::Donor(part), *row),
                    (_, Some(other)) => other,
                    (None, None) => unreachable!("a row is looked for where one is missing"),
                };
                match from {
                    From::Donor(donor) if donor == part => count.taken += 1,
                    From::Donor(_) => count.from_others += 1,
                    From::Mean(_) => count.averaged += 1,
                    From::Zero | From::Padding => count.zeroed += 1,
                }
                push(&mut runs[part], from, row);
            }
        }
        pad(&mut runs, &mut counts, plan.rows - next);
        for (part, count) in counts.iter_mut().enumerate() {
            let tokens = gathered.tokens[part];
            count.model = (self.label)(gathered.donors[part].reference);
            count.dropped = tokens.iter().filter(|(_, token)| plan.tokens.id(token).is_none()).count();
        }
        Ok(self.finish(gathered, runs, counts))
    }

    /// Types the results, and leaves alone what stays as it is.
    fn finish(
        &self,
        gathered: Gathered<'r, 'a>,
        runs: Vec<Vec<Run>>,
        counts: Vec<RowCount>,
    ) -> Alignment<'r> {
        let Gathered { donors, means, .. } = gathered;
        let is_computed = |run: &Run| matches!(run.from, From::Mean(_) | From::Padding);
        let is_any_computed = runs.iter().flatten().any(is_computed);
        let stored =
            donors[1..].iter().fold(donors[0].spec.dtype, |dtype, donor| dtype.promote(donor.spec.dtype));
        // What is computed is not rounded further than the stage asks for.
        let common =
            self.compute.filter(|_| is_any_computed).map_or(stored, |compute| stored.promote(compute));
        let mut specs = Vec::new();
        let parts = runs.into_iter().enumerate().map(|(part, runs)| {
            let spec = &donors[part].spec;
            let is_own = runs
                .iter()
                .all(|run| matches!(run.from, From::Donor(donor) if donor == part) || run.from == From::Zero);
            let mut dims = spec.shape.0.clone();
            dims[0] = self.plan.rows;
            let dtype = if is_own { spec.dtype } else { common };
            let becomes = TensorSpec { dtype, shape: Shape(dims) };
            let stays =
                becomes == *spec && runs == [Run { from: From::Donor(part), rows: 0..self.plan.rows }];
            specs.push(becomes);
            (!stays).then_some(runs)
        });
        let parts = parts.collect();
        Alignment { donors, means, parts, specs, counts }
    }

    /// The row for those that lack a token.
    fn other_row(
        &self,
        gathered: &mut Gathered<'r, 'a>,
        token: &str,
        entry: Option<&'r TokenEntry>,
        own: &[Option<usize>],
        base: Option<usize>,
    ) -> Result<(From, usize), Finding> {
        if let Some(source) = entry.and_then(|entry| entry.source.as_ref()) {
            let entry = entry.expect("it has a source");
            let Some(model) = source.value.model() else { return Ok((From::Zero, 0)) };
            let missing = |what: String| {
                let message = format!("token {:?}: {} has {what}", entry.token.value, (self.label)(model));
                Err(Finding::error("unknown-token", source.span, message))
            };
            let Some(donor) = self.donor(gathered, model) else {
                return missing(format!("no counterpart of `{}`", self.name));
            };
            let row = match &source.value {
                TokenRow::Zero => unreachable!("it names a model"),
                TokenRow::Same(_) => gathered.row(donor, token).ok_or_else(|| format!("no token {token:?}")),
                TokenRow::Token(_, other) => {
                    gathered.row(donor, other).ok_or_else(|| format!("no token {other:?}"))
                }
                TokenRow::Id(_, id) => {
                    let rows = gathered.donors[donor].spec.shape.0[0];
                    let is_there = (*id as usize) < rows;
                    is_there
                        .then_some(*id as usize)
                        .ok_or_else(|| format!("only {rows} rows, so no row {id}"))
                }
            };
            return match row {
                Ok(row) => Ok((From::Donor(donor), row)),
                Err(what) => missing(what),
            };
        }
        let mut having: Vec<(usize, usize)> =
            own.iter().enumerate().filter_map(|(part, row)| Some((part, (*row)?))).collect();
        if having.is_empty() {
            for reference in &self.plan.inputs {
                if self.plan.tokens_of(reference).id(token).is_some()
                    && let Some(donor) = self.donor(gathered, reference)
                    && let Some(row) = gathered.row(donor, token)
                {
                    having.push((donor, row));
                }
            }
        }
        let of_base = base.and_then(|base| Some((base, own[base]?)));
        match (having.as_slice(), of_base) {
            ([], _) => Ok((From::Zero, 0)),
            (&[(donor, row)], _) | (_, Some((donor, row))) => Ok((From::Donor(donor), row)),
            (several, None) => {
                let of: Vec<usize> = several.iter().map(|(donor, _)| *donor).collect();
                let Gathered { means, mean_of, .. } = gathered;
                let number = *mean_of.entry(of.clone()).or_insert_with(|| {
                    means.push(of.iter().map(|donor| (*donor, Vec::new())).collect());
                    means.len() - 1
                });
                let mean = &mut means[number];
                let row = mean[0].1.len();
                mean.iter_mut().zip(several).for_each(|((_, rows), (_, row))| rows.push(*row));
                Ok((From::Mean(number), row))
            }
        }
    }

    /// The number of a model's tensor among the donors, where it has one.
    fn donor(&self, gathered: &mut Gathered<'r, 'a>, reference: &'r Reference) -> Option<usize> {
        if let Some(number) = gathered.donors.iter().position(|donor| donor.reference == reference) {
            return Some(number);
        }
        let inventory = (self.lookup)(reference);
        let row = |spec: &TensorSpec| spec.shape.0.get(1..).map(<[usize]>::to_vec);
        let tensor = counterpart(inventory, self.name)?;
        let spec = (self.spec)(reference, tensor);
        if row(&spec) != row(&gathered.donors[0].spec) {
            return None;
        }
        gathered.donors.push(Donor { reference, tensor: tensor.to_owned(), spec });
        gathered.tokens.push(self.plan.tokens_of(reference));
        Some(gathered.donors.len() - 1)
    }
}

impl Gathered<'_, '_> {
    fn row(&self, donor: usize, token: &str) -> Option<usize> {
        self.tokens[donor].id(token).map(|id| id as usize)
    }
}

/// The tensor of another model that stands for one of this name.
fn counterpart<'i>(inventory: &'i Inventory, name: &str) -> Option<&'i str> {
    let mut names = inventory.tensors.keys().map(String::as_str);
    names
        .clone()
        .find(|other| unwrapped(other) == unwrapped(name))
        .or_else(|| names.clone().find(|other| is_head(name) && is_head(other)))
        .or_else(|| {
            names.find(|other| (is_head(name) || is_token_embedding(name)) && is_token_embedding(other))
        })
}

fn row_len(spec: &TensorSpec) -> usize {
    spec.shape.0[1..].iter().product()
}

/// Lays a row behind others.
pub fn push(runs: &mut Vec<Run>, from: From, row: usize) {
    match runs.last_mut() {
        Some(last) if last.from == from && last.rows.end == row && from != From::Zero => last.rows.end += 1,
        _ => runs.push(Run { from, rows: row..row + 1 }),
    }
}
