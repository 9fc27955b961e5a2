//! The steps at which a disk can fail us.
//!
//! Whatever changes a file of the store or of an output announces it here first. Outside of tests that is
//! nothing; in tests any step can be made to fail, or everything from a step on, as if the process had
//! died there.

use std::io;
use std::path::Path;

/// Announces a change of `path`; an error stands for the change having failed.
#[cfg(not(test))]
#[inline(always)]
pub fn step(_what: &'static str, _path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub use faults::step;

#[cfg(test)]
pub mod faults {
    use std::path::PathBuf;
    use std::sync::Mutex;

    use super::*;

    /// What goes wrong below a folder.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Fault {
        /// Nothing; steps are only counted.
        None,
        /// The step of this number fails.
        Once(usize, io::ErrorKind),
        /// The step of this number and everything after it fails.
        From(usize),
    }

    struct Armed {
        root: PathBuf,
        fault: Fault,
        steps: Vec<&'static str>,
    }

    static ARMED: Mutex<Option<Armed>> = Mutex::new(None);

    /// Arms a fault below a folder until the returned function is called, which gives the steps taken.
    pub fn arm(root: &Path, fault: Fault) -> impl FnOnce() -> Vec<&'static str> {
        let armed = Armed { root: root.to_owned(), fault, steps: Vec::new() };
        *ARMED.lock().expect("no test panics with it") = Some(armed);
        || ARMED.lock().expect("no test panics with it").take().map_or(Vec::new(), |armed| armed.steps)
    }

    pub fn step(what: &'static str, path: &Path) -> io::Result<()> {
        let mut armed = ARMED.lock().expect("no test panics with it");
        let Some(armed) = armed.as_mut().filter(|armed| path.starts_with(&armed.root)) else { return Ok(()) };
        let number = armed.steps.len();
        armed.steps.push(what);
        match armed.fault {
            Fault::Once(at, kind) if at == number => Err(kind.into()),
            Fault::From(at) if number >= at => Err(io::ErrorKind::BrokenPipe.into()),
            Fault::None | Fault::Once(..) | Fault::From(_) => Ok(()),
        }
    }
}
