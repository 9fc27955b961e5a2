//! What a thread that computes holds: a leaf of every input as it is stored, and a piece of it as f32.

use std::convert::Infallible;

use super::bytes::{Bytes, Window};
use super::geometry::LeafSpan;
use super::masks::MaskBuffers;
use crate::kernels::convert;
use crate::kernels::pairs::Bf16;
use crate::methods::Scratch;
use crate::model::ModelError;
use crate::tensor::Dtype;

/// Buffers that one thread uses again and again, always for the same inputs.
pub struct Buffers {
    /// Of every input that is still in a file, a leaf as stored.
    raw: Vec<Window>,
    values: Vec<Vec<f32>>,
    out: Vec<f32>,
    masks: MaskBuffers,
    scratch: Scratch,
}

impl Buffers {
    pub fn new(n_inputs: usize) -> Self {
        let raw = (0..n_inputs).map(|_| Window::default()).collect();
        Self {
            raw,
            values: vec![Vec::new(); n_inputs],
            out: Vec::new(),
            masks: MaskBuffers::default(),
            scratch: Scratch::default(),
        }
    }

    /// Reads a leaf of those inputs that are still in files, unless it is strided.
    pub fn fetch(&mut self, inputs: &[(Bytes, Dtype)], span: LeafSpan) -> Result<(), ModelError> {
        for ((bytes, dtype), raw) in inputs.iter().zip(&mut self.raw) {
            if span.col_step == 1 {
                raw.range(bytes, span.stored(dtype.size()))?;
            }
        }
        Ok(())
    }

    /// Decodes a piece of a fetched leaf of every input, rounded to the type that the recipe computes in.
    pub fn load(
        &mut self,
        inputs: &[(Bytes, Dtype)],
        compute: Option<Dtype>,
        span: LeafSpan,
    ) -> Result<(), ModelError> {
        for (((bytes, dtype), raw), values) in inputs.iter().zip(&mut self.raw).zip(&mut self.values) {
            values.resize(span.len(), 0.0);
            if span.col_step == 1 {
                decode(*dtype, compute, raw.range(bytes, span.stored(dtype.size()))?, values);
            } else {
                let size = dtype.size();
                let mut column_values = vec![0.0; span.rows];
                for (column, run) in span.columns().enumerate() {
                    let stored = raw.range(bytes, run.start * size..run.end * size)?;
                    decode(*dtype, compute, stored, &mut column_values);
                    for (row, value) in column_values.iter().enumerate() {
                        values[row * span.row_len + column] = *value;
                    }
                }
            }
        }
        Ok(())
    }

    /// Lends what was loaded, and room for so many results.
    pub fn with_values<T>(
        &mut self,
        n_results: usize,
        work: impl FnOnce(&[&[f32]], &mut Vec<f32>, &mut MaskBuffers, &mut Scratch) -> T,
    ) -> T {
        let Self { values, out, masks, scratch, .. } = self;
        out.resize(n_results, 0.0);
        with_vectors(values, |values| work(values, out, masks, scratch))
    }

    /// Lends a piece of a fetched leaf as it is stored, where all inputs are bf16.
    pub fn with_bf16<T>(
        &mut self,
        inputs: &[(Bytes, Dtype)],
        span: LeafSpan,
        work: impl FnOnce(&[&[Bf16]], &mut MaskBuffers, &mut Scratch) -> T,
    ) -> Result<T, ModelError> {
        let Self { raw, masks, scratch, .. } = self;
        let stored = inputs
            .iter()
            .zip(raw)
            .map(|((bytes, dtype), raw)| Ok(raw.range(bytes, span.stored(dtype.size()))?.as_chunks().0));
        with_slices(stored, |stored| work(stored, masks, scratch))
    }
}

/// Decodes elements, rounded to the type that the recipe computes in.
pub fn decode(dtype: Dtype, compute: Option<Dtype>, stored: &[u8], values: &mut [f32]) {
    convert::decode(dtype, stored, values);
    if let Some(compute) = compute.filter(|compute| !dtype.fits_in(*compute)) {
        convert::round(compute, values);
    }
}

/// Lends vectors side by side.
pub fn with_vectors<S, T>(vectors: &[Vec<S>], work: impl FnOnce(&[&[S]]) -> T) -> T {
    let slices = vectors.iter().map(|vector| Ok::<_, Infallible>(vector.as_slice()));
    let Ok(result) = with_slices(slices, work);
    result
}

/// Lends slices side by side; a handful of them without allocating, since pieces are short.
fn with_slices<'a, S: 'a, E, T>(
    mut slices: impl ExactSizeIterator<Item = Result<&'a [S], E>>,
    work: impl FnOnce(&[&[S]]) -> T,
) -> Result<T, E> {
    const HANDFUL: usize = 8;
    let n = slices.len();
    if n > HANDFUL {
        return Ok(work(&slices.collect::<Result<Vec<_>, E>>()?));
    }
    let mut few: [&[S]; HANDFUL] = [&[]; HANDFUL];
    few.iter_mut().zip(&mut slices).try_for_each(|(place, slice)| {
        *place = slice?;
        Ok(())
    })?;
    Ok(work(&few[..n]))
}
