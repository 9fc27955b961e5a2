//! What one run of a program takes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// How finely the kernel tells CPU time: in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// What one process took.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub wall: Duration,
    /// Of user and system together, in steps of 10 ms; what steps hide of one run, the next ones show.
    pub cpu: Duration,
    /// Bytes handed to disks.
    pub written: u64,
    /// The most anonymous memory that was seen, in bytes.
    pub anonymous: u64,
    /// The most memory that was resident, in bytes, that of mapped files included.
    pub resident: u64,
}

/// Runs a program to its end.
pub fn measure(command: &mut Command) -> io::Result<Run> {
    let before = children()?;
    let started = Instant::now();
    let mut child = command.spawn()?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let (mut anonymous, mut resident) = (0, 0);
    // Often enough for a short run, and seldom enough to leave the processors to a long one.
    let mut pause = Duration::from_micros(500);
    let result = loop {
        if let Some(result) = child.try_wait()? {
            break result;
        }
        if let Ok(text) = fs::read_to_string(&status) {
            anonymous = anonymous.max(number(&text, "RssAnon:").unwrap_or(0) * 1024);
            resident = resident.max(number(&text, "VmHWM:").unwrap_or(0) * 1024);
        }
        thread::sleep(pause);
        pause = (pause + pause / 8).min(Duration::from_millis(5));
    };
    let wall = started.elapsed();
    if !result.success() {
        return Err(io::Error::other(format!("{command:?} failed")));
    }
    let after = children()?;
    Ok(Run {
        wall,
        cpu: TICK * (after.ticks - before.ticks) as u32,
        written: after.written - before.written,
        anonymous,
        resident,
    })
}

/// What all children took that have ended. (What this process writes itself counts, too; it does not write here.)
struct Children {
    ticks: u64,
    written: u64,
}

fn children() -> io::Result<Children> {
    let unknown = || io::Error::other("the kernel keeps no account of processes");
    let stat = fs::read_to_string(Path::new("/proc/self/stat"))?;
    // Behind the name, which may hold anything, children's times are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let time = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = time(13).zip(time(14)).map(|(user, system)| user + system).ok_or_else(unknown)?;
    let written = number(&fs::read_to_string("/proc/self/io")?, "write_bytes:").ok_or_else(unknown)?;
    Ok(Children { ticks, written })
}

/// The number behind a field's name.
fn number(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}
