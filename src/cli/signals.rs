//! Ctrl-C and its like: the first asks the work to stop, and the process ends within a second; the second ends it at
//! once.
//!
//! Work can be cut off anywhere, so what does not stop in time is not waited for: a large tensor, a disk that takes long
//! to sync.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::error::CliError;
use super::ui::{Live, Ui};
use crate::error::ErrorClass;
use crate::project::{Project, ProjectError};

/// How often it is looked whether a signal came.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long work may take to stop.
const PATIENCE: Duration = Duration::from_millis(900);

/// Whether, and by which signal, the process was asked to stop. A second signal ends it at once.
#[derive(Clone, Default)]
pub struct Asked {
    interrupted: Arc<AtomicBool>,
    which: Arc<AtomicUsize>,
}

impl Asked {
    /// Listens from here on.
    pub fn listen() -> Self {
        Self::listen_with(Arc::default())
    }

    fn listen_with(interrupted: Arc<AtomicBool>) -> Self {
        let asked = Self { interrupted, which: Arc::default() };
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let (interrupted, which) = (&asked.interrupted, &asked.which);
            // Without a handler a signal still ends the process, which is as safe. The order matters: the
            // first signal must not find the flag set.
            let _ = flag::register_conditional_shutdown(
                signal,
                exit_code(signal).into(),
                Arc::clone(interrupted),
            );
            let _ = flag::register_usize(signal, Arc::clone(which), signal as usize);
            let _ = flag::register(signal, Arc::clone(interrupted));
        }
        asked
    }

    /// The exit code of the signal, if there was one.
    pub fn code(&self) -> Option<u8> {
        match self.which.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(exit_code(signal as i32)),
        }
    }
}

/// Signals that stop work, which is given a moment to end well.
pub struct Signals {
    pub interrupted: Arc<AtomicBool>,
    asked: Asked,
    /// Whether the work has ended, however it did.
    ended: Arc<AtomicBool>,
}

impl Signals {
    /// Listens from here on. To be called once, for what listens a second time takes the first signal for the second.
    pub fn listen(project: &Project, ui: &Ui) -> Self {
        let interrupted = project.hub.as_ref().map_or_else(Arc::default, |hub| hub.stop());
        let asked = Asked::listen_with(Arc::clone(&interrupted));
        let signals = Self { interrupted, asked, ended: Arc::default() };
        let (asked, ended) = (signals.asked.clone(), Arc::clone(&signals.ended));
        let (live, quiet) = (ui.live(), ui.quiet);
        thread::spawn(move || watch(&asked, &ended, (&live, quiet)));
        signals
    }

    /// Gives an error of interrupted work the exit code of the signal.
    pub fn explain(&self, error: ProjectError) -> CliError {
        match (error.class(), self.asked.code()) {
            (ErrorClass::Interrupt, Some(code)) => CliError::Interrupted { message: error.to_string(), code },
            _ => error.into(),
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Answers the first signal, and ends the process if the work has not ended soon after it.
fn watch(asked: &Asked, ended: &AtomicBool, (live, quiet): (&Live, bool)) {
    while !asked.interrupted.load(Ordering::Relaxed) {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        thread::sleep(LOOK_EVERY);
    }
    let began = Instant::now();
    // The hub stops its own work by the same flag.
    let Some(code) = asked.code() else { return };
    live.clear();
    if !quiet {
        live.tell("stopping...");
    }
    while began.elapsed() < PATIENCE {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        thread::sleep(LOOK_EVERY);
    }
    live.tell("error: interrupted; finished results are kept; build again to continue");
    process::exit(code.into());
}

/// What shells make of a signal.
fn exit_code(signal: i32) -> u8 {
    128 + signal as u8
}
