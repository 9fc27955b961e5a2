//! Shows a build while it runs: a live line on a terminal, plain lines elsewhere, JSON lines if asked.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::ui::{Ui, print_event};
use super::words::bytes;
use crate::event::{Event, Events};

/// How often a plain line is printed.
pub const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Listens to a build for the terminal.
pub struct Progress<'a> {
    ui: &'a Ui,
    bar: ProgressBar,
    total: u64,
    done: AtomicU64,
    bytes: AtomicU64,
    read: AtomicU64,
    started: Instant,
    last_plain: Mutex<Instant>,
    is_live: bool,
    unprinted: Mutex<Option<io::Error>>,
}

impl<'a> Progress<'a> {
    /// Expects `total` actions.
    pub fn new(ui: &'a Ui, total: u64) -> Self {
        let is_live = ui.is_live();
        let target =
            if is_live { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} actions  {msg}  {eta} left")
            .expect("the template is valid");
        bar.set_style(style);
        let now = Instant::now();
        Self {
            ui,
            bar,
            total,
            done: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            read: AtomicU64::new(0),
            started: now,
            last_plain: Mutex::new(now),
            is_live,
            unprinted: Mutex::default(),
        }
    }

    /// Takes the live line away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Why a line could not be printed, if one could not. The build goes on meanwhile.
    pub fn printed(&self) -> io::Result<()> {
        self.unprinted.lock().expect("no thread panics with it").take().map_or(Ok(()), Err)
    }

    fn step(&self, stage: &str, n_bytes: u64) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let total_bytes = self.bytes.fetch_add(n_bytes, Ordering::Relaxed) + n_bytes;
        let rate = total_bytes as f64 / self.started.elapsed().as_secs_f64().max(1e-3);
        if self.is_live {
            self.bar.set_message(format!("{stage}  {}/s", bytes(rate as u64)));
            self.bar.set_position(done);
            return;
        }
        let mut last = self.last_plain.lock().expect("no thread panics with it");
        if !self.ui.json && last.elapsed() >= PLAIN_EVERY {
            *last = Instant::now();
            let left =
                self.started.elapsed().as_secs_f64() / done as f64 * self.total.saturating_sub(done) as f64;
            self.ui.status(&format!(
                "{stage}: {done}/{} actions, {}/s, about {left:.0} s left",
                self.total,
                bytes(rate as u64)
            ));
        }
    }

    /// Large tensors take a while to be read before anything is made of them.
    fn read(&self, n_bytes: u64) {
        let read = self.read.fetch_add(n_bytes, Ordering::Relaxed) + n_bytes;
        if self.is_live {
            self.bar.set_message(format!("{} of large tensors read", bytes(read)));
        }
    }

    fn line(&self, text: &str) {
        if self.is_live {
            self.bar.suspend(|| self.ui.status(text));
        } else {
            self.ui.status(text);
        }
    }

    fn json(&self, event: serde_json::Value) {
        if let Err(error) = print_event(event) {
            self.unprinted.lock().expect("no thread panics with it").get_or_insert(error);
        }
    }
}

impl Events for Progress<'_> {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Hashed { model, tensor, bytes: n } => {
                if self.ui.json {
                    self.json(json!({ "event": "hashed", "model": model, "tensor": tensor, "bytes": n }));
                } else if self.ui.verbose {
                    self.line(&format!("read {model}: {tensor}"));
                }
            }
            Event::Ran { stage, tensor, bytes: n } => {
                if self.ui.json {
                    self.json(json!({ "event": "ran", "stage": stage, "tensor": tensor, "bytes": n }));
                } else if self.ui.verbose {
                    self.line(&format!("ran {stage}: {tensor}"));
                }
                self.step(stage, n);
            }
            Event::Reused { stage, tensor } => {
                if self.ui.json {
                    self.json(json!({ "event": "reused", "stage": stage, "tensor": tensor }));
                }
                self.step(stage, 0);
            }
            Event::Waiting => {
                if self.ui.json {
                    self.json(json!({ "event": "waiting" }));
                } else {
                    self.line("waiting for another process that is removing results from the cache");
                }
            }
            Event::KeptAside { path } if self.ui.json => {
                self.json(json!({ "event": "kept_aside", "path": path.to_string_lossy() }));
            }
            Event::KeptAside { path } => {
                let was = path.display();
                self.line(&format!("note: a file was not as lamarck wrote it; yours is kept as {was}"));
            }
            Event::NotRemoved { path } if self.ui.json => {
                self.json(json!({ "event": "not_removed", "path": path.to_string_lossy() }));
            }
            Event::NotRemoved { path } => {
                let left = path.display();
                self.line(&format!(
                    "warning: {left} is left of an earlier build and could not be removed; look what it holds"
                ));
            }
            Event::IndexDamaged { problem } => {
                if self.ui.json {
                    self.json(json!({ "event": "index_damaged", "problem": problem }));
                } else {
                    self.line(&format!(
                        "warning: the cache's index was damaged ({problem}); it is put aside, and what it knew is made again"
                    ));
                }
            }
            Event::Progress { bytes: n, .. } => self.read(n),
            Event::Started { .. } | Event::Finished { .. } | Event::Fetched { .. } => {}
            Event::Damaged { digest } => {
                if self.ui.json {
                    self.json(json!({ "event": "damaged", "digest": digest.to_string() }));
                } else {
                    self.line(&format!(
                        "warning: a cached result was damaged and is made again ({})",
                        digest.short()
                    ));
                }
            }
        }
    }
}
