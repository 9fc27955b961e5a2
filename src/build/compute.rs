//! Runs one operation over one tensor: reads blocks, feeds leaves, rounds and writes the result.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use rayon::prelude::*;

use super::buffers::{Buffers, with_vectors};
use super::bytes::{Bytes, FilePart};
use super::error::BuildError;
use super::geometry::{Geometry, LeafSpan};
use super::masks::Masks;
use super::sink::FileSlice;
use crate::kernels::convert;
use crate::kernels::mask::Mask;
use crate::methods::{Kernel, Leaf, Operation, Pass};
use crate::model::ModelError;
use crate::op::{Tensor, Whole, not_finite};
use crate::store::Store;
use crate::store::blob::Content;
use crate::tensor::{Dtype, Shape, TensorSpec};

/// Where the result of a computation is made.
pub enum Target<'a> {
    Memory,
    /// A temporary file of the store, for results for which memory has no room.
    File(&'a Store),
    /// Where the result will stay.
    Slice(&'a FileSlice),
}

/// One tensor's computation.
pub struct Computation<'a> {
    pub operation: &'a dyn Operation,
    pub inputs: Vec<(Bytes, Dtype)>,
    /// What the operation draws.
    pub masks: &'a Masks,
    /// What inputs are rounded to first.
    pub compute: Option<Dtype>,
    /// The shape of all inputs, and of the result unless it is a table.
    pub shape: &'a Shape,
    pub output: &'a TensorSpec,
    /// Whether to use all threads for this tensor.
    pub parallel: bool,
    /// Called between blocks; an error ends the computation.
    pub proceed: &'a (dyn Fn() -> Result<(), BuildError> + Sync),
}

/// A result's bytes, to be read on, and what the store is to keep of it: nothing of what is in a slice.
pub type Computed = (Bytes, Option<Content>);

fn in_memory(bytes: Vec<u8>) -> Computed {
    let bytes = Arc::new(bytes);
    (Bytes::Memory(Arc::clone(&bytes)), Some(Content::Bytes(bytes)))
}

/// Takes bytes with their offset.
type Write<'a> = &'a (dyn Fn(u64, &[u8]) -> Result<(), BuildError> + Sync);

/// Why a computation has no result.
pub enum Failure {
    Build(BuildError),
    /// The arithmetic has no sound result.
    Undefined(String),
}

impl<E: Into<BuildError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Build(error.into())
    }
}

/// Elements that a piece of a leaf has at least. So few that everything about it stays in a core's nearest
/// cache, beside what is fetched ahead for the next ones.
pub(super) const PIECE: usize = 1 << 8;

/// The same where nothing is decoded first: what a piece costs to begin with is spread over more.
const BF16_PIECE: usize = 1 << 12;

impl Computation<'_> {
    /// Computes the whole result.
    pub fn run(&self, target: Target<'_>) -> Result<Computed, Failure> {
        let (geometry, kernel) = self.prepare()?;
        if let Some(table) = kernel.table() {
            return Ok(in_memory(table.iter().flat_map(|number| number.to_le_bytes()).collect()));
        }
        let computed = self.emit_to_target(&geometry, &*kernel, target)?;
        self.masks.end_pass();
        Ok(computed)
    }

    fn emit_to_target(
        &self,
        geometry: &Geometry,
        kernel: &dyn Kernel,
        target: Target<'_>,
    ) -> Result<Computed, Failure> {
        match target {
            Target::Memory if geometry.is_contiguous() => self.emit_to_memory(geometry, kernel),
            Target::Memory => {
                let bytes = Mutex::new(vec![0; self.output.n_bytes()]);
                self.emit_to(geometry, kernel, &|offset, part| {
                    let at = offset as usize;
                    let mut bytes = bytes.lock().expect("no thread panics with it");
                    bytes[at..at + part.len()].copy_from_slice(part);
                    Ok(())
                })?;
                Ok(in_memory(bytes.into_inner().expect("no thread panicked with it")))
            }
            Target::File(store) => {
                let file = store.new_blob()?;
                self.emit_to(geometry, kernel, &|offset, bytes| Ok(file.write_at(offset, bytes)?))?;
                let part = FilePart {
                    path: file.path().to_owned(),
                    file: file.handle()?,
                    offset: 0,
                    n_bytes: self.output.n_bytes(),
                    is_own: true,
                };
                Ok((Bytes::File(Arc::new(part)), Some(Content::File(file.seal()?))))
            }
            Target::Slice(slice) => {
                self.emit_to(geometry, kernel, &|offset, bytes| slice.write_at(offset, bytes))?;
                Ok((Bytes::File(Arc::new(slice.part())), None))
            }
        }
    }

    /// Computes the whole result into memory that holds just as many bytes. Not for vectors along any but
    /// the last axis.
    pub fn run_into(&self, out: &mut [u8]) -> Result<(), Failure> {
        let (geometry, kernel) = self.prepare()?;
        assert!(geometry.is_contiguous() && out.len() == self.output.n_bytes());
        self.emit_into(&geometry, &*kernel, out)?;
        self.masks.end_pass();
        Ok(())
    }

    /// Carries out all passes that gather. The kernel that it returns may emit.
    pub fn prepare(&self) -> Result<(Geometry, Box<dyn Kernel + '_>), Failure> {
        let geometry = Geometry::new(self.shape, self.operation.cut());
        let mut kernel = self.operation.kernel(geometry.extent());
        loop {
            if let Some(ranking) = kernel.ranking() {
                self.rank(&geometry, ranking)?;
                continue;
            }
            let Some(pass) = kernel.next_pass() else { break };
            let (sums, counts) = self.gather(&geometry, &*kernel, pass)?;
            self.masks.end_pass();
            kernel.absorb(&sums, &counts).map_err(Failure::Undefined)?;
        }
        Ok((geometry, kernel))
    }

    pub(super) fn buffers(&self) -> Buffers {
        Buffers::new(self.inputs.len())
    }

    /// Whether inputs are bf16 side by side, and used as they are.
    fn reads_bf16(&self, geometry: &Geometry) -> bool {
        geometry.is_contiguous()
            && self.inputs.iter().all(|(_, dtype)| *dtype == Dtype::Bf16)
            && self.compute.is_none_or(|compute| Dtype::Bf16.fits_in(compute))
    }

    /// One pass over all leaves: their sums in leaf order, and the counts of all.
    fn gather(
        &self,
        geometry: &Geometry,
        kernel: &dyn Kernel,
        pass: Pass,
    ) -> Result<(Vec<f64>, Vec<u64>), Failure> {
        type Partial = (Vec<(usize, Vec<f64>)>, Vec<u64>);
        let blocks = geometry.blocks();
        let in_bf16 = self.reads_bf16(geometry) && kernel.takes_bf16();
        let block = |buffers: &mut Buffers, partial: &mut Partial, number: usize| -> Result<(), Failure> {
            (self.proceed)()?;
            let leaves = blocks[number].clone();
            let mut sums = vec![0.0; leaves.len() * pass.sums];
            for (nth, index) in leaves.enumerate() {
                let span = geometry.leaf(index);
                let own = &mut sums[nth * pass.sums..(nth + 1) * pass.sums];
                buffers.fetch(&self.inputs, span)?;
                for piece in geometry.pieces(span, least_piece(kernel, in_bf16)) {
                    if in_bf16 {
                        buffers.with_bf16(&self.inputs, piece, |inputs, _, _| {
                            kernel.gather_bf16(&leaf(index, piece, inputs, &[]), own);
                        })?;
                        continue;
                    }
                    buffers.load(&self.inputs, self.compute, piece)?;
                    buffers.with_values(0, |inputs, _, masks, scratch| {
                        self.masks.of_piece(geometry.mask_of(piece), piece.row_len, masks, |mask, drawn| {
                            kernel.draw(mask, &leaf(index, piece, inputs, &[]), drawn, scratch);
                        });
                        with_vectors(&masks.masks, |masks| {
                            let leaf = leaf(index, piece, inputs, masks);
                            kernel.gather(&leaf, own, &mut partial.1, scratch);
                        });
                    });
                }
            }
            partial.0.push((number, sums));
            Ok(())
        };
        let empty = || (Vec::new(), vec![0; pass.counts]);
        let (mut sums, counts) = if self.parallel {
            // Few, long runs of blocks, since each has counts of its own.
            let run = blocks.len().div_ceil(rayon::current_num_threads() * 4).max(1);
            (0..blocks.len())
                .into_par_iter()
                .with_min_len(run)
                .try_fold(
                    || (self.buffers(), empty()),
                    |(mut buffers, mut partial), number| {
                        block(&mut buffers, &mut partial, number)?;
                        Ok::<_, Failure>((buffers, partial))
                    },
                )
                .map(|folded| folded.map(|(_, partial)| partial))
                .try_reduce(empty, |mut a, b| {
                    a.0.extend(b.0);
                    a.1.iter_mut().zip(b.1).for_each(|(count, more)| *count += more);
                    Ok(a)
                })?
        } else {
            let (mut buffers, mut partial) = (self.buffers(), empty());
            for number in 0..blocks.len() {
                block(&mut buffers, &mut partial, number)?;
            }
            partial
        };
        sums.sort_unstable_by_key(|(number, _)| *number);
        Ok((sums.into_iter().flat_map(|(_, sums)| sums).collect(), counts))
    }

    fn emit_to_memory(&self, geometry: &Geometry, kernel: &dyn Kernel) -> Result<Computed, Failure> {
        let blocks = geometry.blocks();
        let size = self.output.dtype.size();
        if !self.parallel {
            let mut bytes = Vec::with_capacity(self.output.n_bytes());
            let mut buffers = self.buffers();
            for leaves in blocks {
                (self.proceed)()?;
                for index in leaves {
                    let (span, at) = (geometry.leaf(index), bytes.len());
                    // Zeroed a leaf at a time, so that the cache has it when it is written to.
                    bytes.resize(at + span.len() * size, 0);
                    self.emit_leaf(geometry, kernel, index, &mut buffers, &mut bytes[at..])?;
                }
            }
            return Ok(in_memory(bytes));
        }
        let mut bytes = vec![0; self.output.n_bytes()];
        self.emit_into(geometry, kernel, &mut bytes)?;
        Ok(in_memory(bytes))
    }

    /// Emits all blocks side by side.
    fn emit_into(&self, geometry: &Geometry, kernel: &dyn Kernel, bytes: &mut [u8]) -> Result<(), Failure> {
        let blocks = geometry.blocks();
        let size = self.output.dtype.size();
        // Blocks are neighbours, so each has a run of the result to itself.
        let mut runs = Vec::with_capacity(blocks.len());
        let mut rest = bytes;
        for leaves in blocks {
            let elements: usize = leaves.clone().map(|index| geometry.leaf(index).len()).sum();
            let (run, more) = rest.split_at_mut(elements * size);
            runs.push((leaves, run));
            rest = more;
        }
        let emit = |buffers: &mut Buffers,
                    (leaves, run): (std::ops::Range<usize>, &mut [u8])|
         -> Result<(), Failure> {
            (self.proceed)()?;
            let mut at = 0;
            for index in leaves {
                let span = geometry.leaf(index);
                let end = at + span.len() * size;
                self.emit_leaf(geometry, kernel, index, buffers, &mut run[at..end])?;
                at = end;
            }
            Ok(())
        };
        runs.into_par_iter().try_for_each_init(|| self.buffers(), emit)
    }

    /// Hands the result to `write`, block by block, in any order and on any thread.
    fn emit_to(&self, geometry: &Geometry, kernel: &dyn Kernel, write: Write<'_>) -> Result<(), Failure> {
        let size = self.output.dtype.size();
        let emit = |(buffers, block): &mut (Buffers, Vec<u8>),
                    leaves: std::ops::Range<usize>|
         -> Result<(), Failure> {
            (self.proceed)()?;
            let first = geometry.leaf(leaves.start);
            let elements: usize = leaves.clone().map(|index| geometry.leaf(index).len()).sum();
            block.resize(elements * size, 0);
            let mut at = 0;
            for index in leaves {
                let span = geometry.leaf(index);
                let end = at + span.len() * size;
                self.emit_leaf(geometry, kernel, index, buffers, &mut block[at..end])?;
                at = end;
            }
            if geometry.is_contiguous() {
                return Ok(write((first.start * size) as u64, block)?);
            }
            // The blocks of strided tensors are single leaves.
            for (run, column) in first.columns().zip(block.chunks(first.rows * size)) {
                write((run.start * size) as u64, column)?;
            }
            Ok(())
        };
        let blocks = geometry.blocks();
        let buffers = || (self.buffers(), Vec::new());
        if self.parallel {
            blocks.into_par_iter().try_for_each_init(buffers, emit)?;
        } else {
            let mut buffers = buffers();
            blocks.into_iter().try_for_each(|leaves| emit(&mut buffers, leaves))?;
        }
        Ok(())
    }

    /// Encodes the leaf's result into `encoded`; strided leaves column by column.
    fn emit_leaf(
        &self,
        geometry: &Geometry,
        kernel: &dyn Kernel,
        index: usize,
        buffers: &mut Buffers,
        encoded: &mut [u8],
    ) -> Result<(), Failure> {
        let span = geometry.leaf(index);
        buffers.fetch(&self.inputs, span)?;
        let dtype = self.output.dtype;
        let in_bf16 = self.reads_bf16(geometry) && dtype == Dtype::Bf16 && kernel.takes_bf16();
        let mut rest = encoded;
        for piece in geometry.pieces(span, least_piece(kernel, in_bf16)) {
            let (encoded, more) = rest.split_at_mut(piece.len() * dtype.size());
            rest = more;
            let place = geometry.mask_of(piece);
            let is_finite = if in_bf16 {
                buffers.with_bf16(&self.inputs, piece, |inputs, masks, scratch| {
                    self.masks.of_piece(place, piece.row_len, masks, |mask, drawn| {
                        kernel.draw_bf16(mask, &leaf(index, piece, inputs, &[]), drawn, scratch);
                    });
                    with_vectors(&masks.masks, |masks| {
                        kernel.emit_bf16(&leaf(index, piece, inputs, masks), encoded.as_chunks_mut().0)
                    })
                })?
            } else {
                buffers.load(&self.inputs, self.compute, piece)?;
                buffers.with_values(piece.len(), |inputs, out, masks, scratch| {
                    self.masks.of_piece(place, piece.row_len, masks, |mask, drawn| {
                        kernel.draw(mask, &leaf(index, piece, inputs, &[]), drawn, scratch);
                    });
                    with_vectors(&masks.masks, |masks| {
                        kernel.emit(&leaf(index, piece, inputs, masks), out, scratch);
                    });
                    if piece.col_step != 1 {
                        *out = transposed(out, piece.rows, piece.row_len);
                    }
                    convert::encode(dtype, out, encoded)
                })
            };
            if !is_finite {
                return Err(Failure::Undefined(not_finite(dtype)));
            }
        }
        Ok(())
    }
}

/// Runs an operation on whole inputs, all in memory.
pub fn run_whole(
    whole: &dyn Whole,
    inputs: &[(Bytes, &TensorSpec)],
    output: &TensorSpec,
) -> Result<Computed, Failure> {
    let mut out = vec![0; output.n_bytes()];
    with_tensors(inputs, |tensors| whole.run(tensors, &mut out))?.map_err(Failure::Undefined)?;
    if output.dtype.is_float() && !convert::is_finite(output.dtype, &out) {
        return Err(Failure::Undefined(not_finite(output.dtype)));
    }
    Ok(in_memory(out))
}

/// Lends inputs in full, reading those that are not at hand.
pub fn with_tensors<T>(
    inputs: &[(Bytes, &TensorSpec)],
    work: impl FnOnce(&[Tensor<'_>]) -> T,
) -> Result<T, ModelError> {
    let held: Vec<Cow<'_, [u8]>> =
        inputs.iter().map(|(bytes, _)| bytes.in_full()).collect::<Result<_, _>>()?;
    let tensors: Vec<Tensor<'_>> =
        held.iter().zip(inputs).map(|(bytes, (_, spec))| Tensor { spec, bytes }).collect();
    Ok(work(&tensors))
}

fn least_piece(kernel: &dyn Kernel, in_bf16: bool) -> usize {
    match (kernel.takes_pieces(), in_bf16) {
        (false, _) => usize::MAX,
        (true, false) => PIECE,
        (true, true) => BF16_PIECE,
    }
}

pub(super) fn leaf<'a, T>(
    index: usize,
    span: LeafSpan,
    inputs: &'a [&'a [T]],
    masks: &'a [&'a [Mask]],
) -> Leaf<'a, T> {
    Leaf {
        index,
        inputs,
        masks,
        rows: span.rows,
        row_len: span.row_len,
        start: span.start as u64,
        row_step: span.row_step as u64,
        col_step: span.col_step as u64,
    }
}

fn transposed(values: &[f32], rows: usize, row_len: usize) -> Vec<f32> {
    let mut columns = vec![0.0; values.len()];
    for row in 0..rows {
        for column in 0..row_len {
            columns[column * rows + row] = values[row * row_len + column];
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows become columns.
    #[derive(Debug)]
    struct Transposed;

    impl Whole for Transposed {
        fn run(&self, inputs: &[Tensor<'_>], out: &mut [u8]) -> Result<(), String> {
            let [Tensor { spec, bytes }] = inputs else { return Err("one input is transposed".to_owned()) };
            let [rows, columns] = spec.shape.0[..] else { return Err("only matrices are".to_owned()) };
            let (from, to) = (bytes.as_chunks::<4>().0, out.as_chunks_mut::<4>().0);
            (0..rows * columns).for_each(|i| to[i % columns * rows + i / columns] = from[i]);
            Ok(())
        }
    }

    #[test]
    fn whole_inputs_are_at_hand_and_results_must_be_finite() {
        let spec = |dims: [usize; 2]| TensorSpec { dtype: Dtype::F32, shape: Shape(dims.to_vec()) };
        let bytes = |values: &[f32]| {
            Bytes::Memory(Arc::new(values.iter().flat_map(|value| value.to_le_bytes()).collect()))
        };
        let run = |values: &[f32]| run_whole(&Transposed, &[(bytes(values), &spec([2, 3]))], &spec([3, 2]));
        let Ok((result, Some(Content::Bytes(kept)))) = run(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) else {
            panic!("it is computed, and kept")
        };
        let expected = bytes(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(result.at_hand(), expected.at_hand());
        assert_eq!(expected.at_hand(), Some(&kept[..]));
        assert!(matches!(run(&[1.0, 2.0, f32::NAN, 4.0, 5.0, 6.0]), Err(Failure::Undefined(_))));
        let two = [(bytes(&[1.0]), &spec([1, 1])), (bytes(&[2.0]), &spec([1, 1]))];
        assert!(matches!(run_whole(&Transposed, &two, &spec([1, 1])), Err(Failure::Undefined(_))));
    }
}
