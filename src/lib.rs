//! lamarck builds model merges as Make builds programs.
//!
//! A recipe names merge stages that feed one another. lamarck turns it into a graph of per-tensor
//! actions, keys every action by what can change its bytes, keeps every result in a content-addressed
//! store, and computes again only what a change can reach.
//!
//! ```text
//! recipe text -> Recipe -> Catalog -> Plan (stages -> actions) -> resolve (key, look up) -> run what is missing -> store -> output
//! ```
//!
//! # As a library
//!
//! The [`project`] module is the way in. This builds the recipe that comes with the code:
//!
//! ```
//! use std::path::Path;
//!
//! use lamarck::project::{Builder, Project};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let project = Project::new(folder.path(), vec!["recipes/ancestors".into()]);
//! let path = Path::new("recipes/lamarck-14b-v0.3-full.yaml");
//! let loaded = project.load(path, &std::fs::read_to_string(path)?, &[], None);
//! let recipe = loaded.recipe.ok_or("the recipe has errors, which are among the findings")?;
//! let catalog = project.catalog(&recipe, &[])?.0.ok_or("a model was not found")?;
//! let planned = catalog.plan(&recipe, &[]).0.ok_or("the models do not fit the recipe")?;
//! let report = Builder::new(&project, &recipe, &planned).build()?;
//! assert!(report.outputs[0].dir.join("lamarck.lock.json").is_file());
//! # Ok(())
//! # }
//! ```
//!
//! # Map of the code
//!
//! Modules in the order in which they build on one another; a test holds them to it.
//!
//! | module | what it is |
//! | --- | --- |
//! | `digest`, `identity`, `tensor`, `manifest` | the small words: digests and keys, what tells two states of a file apart, dtypes and shapes, named fields that are hashed and shown by one writer |
//! | [`event`] | what work tells of itself; whoever listens decides what to show |
//! | [`error`] | the classes of errors, which every error type tells |
//! | `draw` | pictures and pages as text, from plain data |
//! | `disk` | the steps at which a disk can fail us; writing past the page cache |
//! | `kernels` | loops over slices: conversion, random draws, sums over a fixed tree, selection by rank; compiled for every width of vectors (unsafe code) |
//! | `methods` | merge methods, one file each: parameters, documentation, arithmetic, tests |
//! | `op` | operations, one file each: everything that an action can be |
//! | `reference` | how models are named |
//! | `hub` | the Hugging Face hub and the cache that its files are fetched into |
//! | `model` | checkpoints: where they are, their headers, what their layers are |
//! | [`recipe`] | from YAML to stages whose every reference and parameter has been checked |
//! | `plan` | a pure function from a recipe and headers to the graph of actions; their keys |
//! | `store` | blobs named by digest, and an index from action keys to digests |
//! | `history` | the builds so far |
//! | `gc` | what a store holds for whom, and what of it can go |
//! | `build` | resolves the graph: looks up, schedules, runs, keeps; reasons for what must run |
//! | `output` | shards, configuration, tokenizer, card and lockfile of a merged model |
//! | [`project`] | the facade: wires the layers together |
//! | [`cli`] | the command line, which alone prints, reads the environment and exits |
//!
//! # Files on disk
//!
//! | file | written by |
//! | --- | --- |
//! | `cache/CACHEDIR.TAG`, `cache/v2/` | `store`; the version is the format's |
//! | `cache/v2/blobs/ab/abcd...` | `store::blob`: a result's bytes, named by their digest |
//! | `cache/v2/packs/0123...` | `store::packs`: a file that was an output's, with results that nothing else holds |
//! | `cache/v2/index.redb` | `store::index`: action key -> digest, source memo, ranges outside and of packs, builds, what work took; every row checks itself |
//! | `cache/v2/lock` | `store::lock`: held shared by builds, alone by what removes blobs |
//! | `cache/v2/gate` | `store::lock`: held by who waits to remove blobs, so that new builds let it go first |
//! | `cache/v2/tmp/` | `store::session`: files in the making, a folder for each process |
//! | `cache/headers/` | `model::streamed_file`: headers of files that stay on the hub, by the names of their content |
//! | `merges/NAME/` | `output`: shards, config.json, tokenizer, card, recipe, `lamarck.lock.json`, which marks the folder as ours |
//! | `merges/.lamarck-NAME-*` | `output::workbench`: the next version of that folder, with a lock and a journal, until it is in place; final results are written straight into it |
//!
//! # Invariants
//!
//! - A build never gives stale or corrupt bytes. Keys hold input digests; blobs and rows of the index are
//!   checked when read; a key is committed after the bytes it names are durable.
//! - What is computed with is checked in the pass that reads it, by its digest or by checksums taken when it
//!   was hashed; a difference is an error or makes the result anew.
//! - An output folder is the old model, whole, or the new one; where it cannot be replaced in one step, a mixture
//!   of the two never loads, and is finished by the next build.
//! - Only regular files that lamarck wrote, and that are as it wrote them, are replaced or removed.
//! - The cache keeps no tensor that a source or an output holds: such a result has no blob, and no range of a pack.
//! - What becomes a pack is not written to again: somebody may have mapped it while it was an output's.
//! - The same sources, recipe and seed give the same bytes with any number of threads and any memory
//!   limit: draws are counted, not drawn in order, and sums follow a tree fixed by the tensor's shape.
//! - Nothing in a recipe is ignored silently.
//! - The plan does no I/O; the store knows no tensors; methods know no files; only the command line
//!   prints.
//! - An intermediate is written once, and not at all if it is not to be stored; it stays in memory until the last that
//!   reads it has run. Only where memory is too small is it read back, from the cache or from a temporary file.
//!
//! # The way of a tensor
//!
//! Threads take nodes of the graph, those of the first output first; what is too large for memory is worked on by
//! all of them together. Sources are read once, hashed, and stay in memory for the actions that read them, as
//! results do, as long as there is room; what does not stay is read again, in blocks, each held to its checksum. A
//! result that nothing else holds is the last to go, into a temporary file without a name.
//! Arithmetic runs on pieces of a few hundred elements, from decoding to encoding, in a core's nearest cache; its
//! loops are compiled for several widths of vectors, and give the same bits at each. A writer thread hands results
//! to the disk past the page cache: intermediates into blobs, final ones into their shards. A committer syncs many
//! blobs at a time, names them and commits their keys.
//! `lamarck build --trace FILE` shows all of this on a time line.

#![warn(missing_docs)]

#[doc(hidden)]
pub mod build;
pub mod cli;
pub(crate) mod digest;
pub(crate) mod disk;
#[doc(hidden)]
pub mod draw;
pub mod error;
pub mod event;
pub(crate) mod gc;
pub(crate) mod history;
pub(crate) mod hub;
pub(crate) mod identity;
#[doc(hidden)]
pub mod kernels;
pub(crate) mod manifest;
#[doc(hidden)]
pub mod methods;
pub(crate) mod model;
#[doc(hidden)]
pub mod op;
pub(crate) mod output;
pub(crate) mod plan;
pub mod project;
pub mod recipe;
pub(crate) mod reference;
pub(crate) mod store;
#[doc(hidden)]
pub mod tensor;
