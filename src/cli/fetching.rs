//! Shows what comes from the hub: a live line on a terminal, plain lines elsewhere, JSON lines if asked.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::progress::PLAIN_EVERY;
use super::ui::{Ui, print_event};
use super::words::bytes;
use crate::event::{Event, Events};

/// What comes in less time than this is not worth a line.
const PATIENCE: Duration = Duration::from_millis(500);

/// Listens to the fetching of files.
pub struct Fetching<'a> {
    ui: &'a Ui,
    bar: ProgressBar,
    /// Bytes that are to come, where that is known.
    total: Option<u64>,
    came: AtomicU64,
    started: Instant,
    last_plain: Mutex<Instant>,
}

impl<'a> Fetching<'a> {
    pub fn new(ui: &'a Ui, total: Option<u64>) -> Self {
        let is_live = ui.is_live();
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        bar.set_draw_target(ProgressDrawTarget::hidden());
        let template = match total {
            Some(_) => {
                "{bar:24} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left  {msg}"
            }
            None => "reading model headers: {decimal_bytes}  {decimal_bytes_per_sec}  {msg}",
        };
        bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
        if is_live {
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            ui.show_live(&bar);
        }
        let now = Instant::now();
        Self { ui, bar, total, came: AtomicU64::new(0), started: now, last_plain: Mutex::new(now) }
    }

    /// Takes the live line away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
        self.ui.hide_live();
    }

    fn came(&self, n_bytes: u64) {
        let came = self.came.fetch_add(n_bytes, Ordering::Relaxed) + n_bytes;
        if self.started.elapsed() > PATIENCE {
            self.bar.set_position(came);
        }
        let mut last = self.last_plain.lock().expect("no thread panics with it");
        if self.bar.is_hidden() && !self.ui.json && last.elapsed() >= PLAIN_EVERY {
            *last = Instant::now();
            let rate = came as f64 / self.started.elapsed().as_secs_f64().max(1e-3);
            let of = self.total.map_or_else(String::new, |total| {
                let left = total.saturating_sub(came) as f64 / rate.max(1.0);
                format!(" of {}, about {left:.0} s left", bytes(total))
            });
            self.ui.status(&format!("fetched {}{of}, {}/s", bytes(came), bytes(rate as u64)));
        }
    }
}

impl Events for Fetching<'_> {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Progress { bytes, .. } => self.came(bytes),
            Event::Started { what: "fetch", of, .. } => self.bar.set_message(of.to_owned()),
            Event::Fetched { model, file, bytes: n } => {
                if self.ui.json && self.ui.is_by_line() {
                    // Whoever does not read them has closed the output, which printing the result will tell.
                    let line = json!({ "event": "fetched", "model": model, "file": file, "bytes": n });
                    let _ = print_event(line);
                } else if self.ui.verbose && !self.ui.json {
                    let line = format!("fetched {model}: {file}, {}", bytes(n));
                    self.ui.status(&line);
                }
            }
            _ => {}
        }
    }
}
