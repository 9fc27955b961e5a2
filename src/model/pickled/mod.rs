//! Checkpoints that PyTorch has pickled: `pytorch_model.bin`, `.pt`, `.pth`, `.ckpt`.
//!
//! Such a file is a zip archive: a pickle that describes objects, and the tensors' bytes beside it. The pickle is
//! read as data, and tensors' bytes are read where they lie; nothing in it is ever carried out.

mod archive;
mod state_dict;
mod unpickle;

pub use archive::open;
