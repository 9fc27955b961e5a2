//! Shows a build while it runs: live lines on a terminal, plain lines elsewhere, JSON lines if asked.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use console::truncate_str;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::pace::Pace;
use super::terminal::width_of_stderr;
use super::ui::{Ui, print_event, tell};
use super::words::{bytes, duration};
use crate::event::{Event, Events};
use crate::project::Forecast;

/// How often a plain line is printed.
pub const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// How often live lines are drawn.
const LIVE_EVERY: Duration = Duration::from_millis(100);

/// The width of terminals that do not tell.
const NO_WIDTH: usize = 80;

/// Parts that the bar is long.
const PARTS: f64 = 1000.0;

/// Listens to a build for the terminal.
pub struct Progress<'a> {
    ui: &'a Ui,
    pace: Arc<Mutex<Pace>>,
    bar: ProgressBar,
    /// Who shows how far the build is, whether or not something happens; told to end.
    teller: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
    unprinted: Mutex<Option<io::Error>>,
}

impl<'a> Progress<'a> {
    /// Expects work as it was forecast.
    pub fn new(ui: &'a Ui, forecast: Forecast) -> Self {
        let is_live = ui.is_live();
        let pace = Arc::new(Mutex::new(Pace::new(forecast)));
        let target =
            if is_live { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(PARTS as u64), target);
        let style = ProgressStyle::with_template("{bar:16.green} {prefix}\n{msg:.dim}");
        bar.set_style(style.expect("the template is valid"));
        let teller = (!ui.quiet && !ui.json).then(|| {
            let (end, ended) = channel();
            let (pace, bar) = (Arc::clone(&pace), bar.clone());
            let every = if is_live { LIVE_EVERY } else { PLAIN_EVERY };
            let show = move || {
                while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(every) {
                    show(&lock(&pace), is_live.then_some(&bar));
                }
            };
            (end, thread::spawn(show))
        });
        if is_live {
            ui.show_live(&bar);
        }
        Self { ui, pace, bar, teller: Mutex::new(teller), unprinted: Mutex::default() }
    }

    /// Takes the live lines away.
    pub fn finish(&self) {
        if let Some((end, teller)) = self.teller.lock().expect("no thread panics with it").take() {
            drop(end);
            // If it has panicked, a build is none the worse.
            let _ = teller.join();
        }
        self.bar.finish_and_clear();
        self.ui.hide_live();
    }

    /// Why a line could not be printed, if one could not. The build goes on meanwhile.
    pub fn printed(&self) -> io::Result<()> {
        self.unprinted.lock().expect("no thread panics with it").take().map_or(Ok(()), Err)
    }

    fn json(&self, event: serde_json::Value) {
        if let Err(error) = print_event(event) {
            self.unprinted.lock().expect("no thread panics with it").get_or_insert(error);
        }
    }

    fn tell(&self, event: &Event<'_>) {
        match event {
            Event::Hashed { model, tensor, .. } if self.ui.verbose => {
                self.ui.status(&format!("read {model}: {tensor}"));
            }
            Event::Ran { stage, tensor, .. } if self.ui.verbose => {
                self.ui.status(&format!("ran {stage}: {tensor}"));
            }
            Event::Waiting => {
                self.ui.status("waiting for another process that is removing results from the cache");
            }
            Event::KeptAside { path } => {
                let was = path.display();
                self.ui.status(&format!("note: a file had been changed since lamarck wrote it; yours is kept as {was}"));
            }
            Event::NotRemoved { path } => {
                let left = path.display();
                self.ui.status(&format!(
                    "warning: {left} was left by an earlier build and could not be removed; check what it contains"
                ));
            }
            Event::IndexDamaged { problem } => self.ui.status(&format!(
                "warning: the cache's index was damaged ({problem}); it was set aside, and what it recorded is rebuilt"
            )),
            Event::Damaged { digest } => self.ui.status(&format!(
                "warning: a cached result was damaged and is rebuilt ({})",
                digest.short()
            )),
            _ => {}
        }
    }
}

/// The event as programs are told of it, if they are.
fn as_json(event: &Event<'_>) -> Option<serde_json::Value> {
    Some(match event {
        Event::Hashed { model, tensor, bytes } => {
            json!({ "event": "hashed", "model": model, "tensor": tensor, "bytes": bytes })
        }
        Event::Ran { stage, tensor, bytes } => {
            json!({ "event": "ran", "stage": stage, "tensor": tensor, "bytes": bytes })
        }
        Event::Reused { stage, tensor } => json!({ "event": "reused", "stage": stage, "tensor": tensor }),
        Event::Waiting => json!({ "event": "waiting" }),
        Event::KeptAside { path } => json!({ "event": "kept_aside", "path": path.to_string_lossy() }),
        Event::NotRemoved { path } => json!({ "event": "not_removed", "path": path.to_string_lossy() }),
        Event::IndexDamaged { problem } => json!({ "event": "index_damaged", "problem": problem }),
        Event::Damaged { digest } => json!({ "event": "damaged", "digest": digest.to_string() }),
        Event::Unread { .. }
        | Event::Running { .. }
        | Event::Progress { .. }
        | Event::Started { .. }
        | Event::Finished { .. }
        | Event::Fetched { .. } => return None,
    })
}

fn lock(pace: &Mutex<Pace>) -> MutexGuard<'_, Pace> {
    pace.lock().expect("no thread panics with it")
}

/// Shows how far a build is, on the live lines or as a line of its own.
fn show(pace: &Pace, bar: Option<&ProgressBar>) {
    let now = Instant::now();
    let (done, all) = pace.actions();
    let left = pace.left(now).map_or_else(String::new, |left| duration(left.as_secs_f64()));
    let rate = bytes(pace.bytes_per_second(now) as u64);
    match bar {
        Some(bar) => {
            let left = if left.is_empty() { left } else { format!("  {left} left") };
            bar.set_prefix(format!("{done}/{all} actions  {rate}/s{left}"));
            let width = width_of_stderr().unwrap_or(NO_WIDTH) - 1;
            let (work, tensor) = pace.current().unwrap_or_default();
            let lines = [work, tensor].map(|line| truncate_str(&line, width, "...").into_owned());
            bar.set_message(lines.join("\n"));
            bar.set_position((pace.part_done() * PARTS) as u64);
            bar.tick();
        }
        None => {
            let current =
                pace.current().map_or_else(String::new, |(work, tensor)| format!("{work}, {tensor}: "));
            let left = if left.is_empty() { left } else { format!(", about {left} left") };
            tell(&format!("{current}{done}/{all} actions, {rate}/s{left}"));
        }
    }
}

impl Events for Progress<'_> {
    fn event(&self, event: Event<'_>) {
        lock(&self.pace).take(&event);
        if !self.ui.json {
            self.tell(&event);
        } else if let Some(line) = as_json(&event) {
            self.json(line);
        }
    }
}
