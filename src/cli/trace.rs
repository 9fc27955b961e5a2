//! Writes down what each thread of a build did when, in the Trace Event format that `chrome://tracing`,
//! Perfetto and Speedscope read.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use crate::event::{Event, Events};

/// A trace in the making, beside whoever else listens to the build.
pub struct Trace<'a> {
    inner: &'a dyn Events,
    started: Instant,
    out: Mutex<Out>,
}

struct Out {
    file: BufWriter<File>,
    /// The first error ends the trace, not the build.
    result: io::Result<()>,
}

impl<'a> Trace<'a> {
    /// Starts a trace in a new file; `started` is its time zero.
    pub fn create(path: &Path, started: Instant, inner: &'a dyn Events) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(b"[")?;
        let trace = Self { inner, started, out: Mutex::new(Out { file, result: Ok(()) }) };
        trace
            .write(json!({ "name": "process_name", "ph": "M", "pid": 1, "args": { "name": "lamarck" } }), "");
        Ok(trace)
    }

    /// Ends the file.
    ///
    /// # Errors
    /// If any of it could not be written.
    pub fn finish(self) -> io::Result<()> {
        let Out { mut file, result } = self.out.into_inner().expect("no thread panics with it");
        result?;
        file.write_all(b"\n]\n")?;
        file.flush()
    }

    fn span(&self, what: &str, of: &str, began: Instant) {
        let microseconds =
            |instant: Instant| instant.saturating_duration_since(self.started).as_secs_f64() * 1e6;
        let (start, end) = (microseconds(began), microseconds(Instant::now()));
        let (thread, is_new) = thread_number();
        if is_new {
            let current = thread::current();
            let name = current.name().map_or_else(|| format!("compute {thread}"), str::to_owned);
            let args = json!({ "name": name });
            self.write(
                json!({ "name": "thread_name", "ph": "M", "pid": 1, "tid": thread, "args": args }),
                ",",
            );
        }
        let mut event = json!({
            "name": what, "ph": "X", "pid": 1, "tid": thread, "ts": start, "dur": end - start,
        });
        if !of.is_empty() {
            event["args"] = json!({ "of": of });
        }
        self.write(event, ",");
    }

    fn write(&self, event: Value, before: &str) {
        let mut out = self.out.lock().expect("no thread panics with it");
        if out.result.is_ok() {
            out.result = writeln!(out.file, "{before}").and_then(|()| write!(out.file, "{event}"));
        }
    }
}

impl Events for Trace<'_> {
    fn event(&self, event: Event<'_>) {
        if let Event::Finished { what, of, began, .. } = event {
            self.span(what, of, began);
        }
        self.inner.event(event);
    }
}

/// A number for the current thread, and whether it is new.
fn thread_number() -> (u64, bool) {
    static LAST: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static OWN: Cell<u64> = const { Cell::new(0) };
    }
    OWN.with(|own| {
        let is_new = own.get() == 0;
        if is_new {
            own.set(LAST.fetch_add(1, Ordering::Relaxed) + 1);
        }
        (own.get(), is_new)
    })
}
