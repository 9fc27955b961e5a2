//! `lamarck --version`, and with `--verbose` what the binary is and what it uses.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::kernels::simd::{self, Level};

/// The version, and the commit where that is known.
pub fn line() -> String {
    let commit = option_env!("LAMARCK_COMMIT").map_or_else(String::new, |commit| format!(" ({commit})"));
    format!("lamarck {}{commit}\n", env!("CARGO_PKG_VERSION"))
}

/// What tells this program from every other, also from one of the same version; `None` where the system does not say.
pub fn identity() -> Option<String> {
    let file = env::current_exe().and_then(fs::metadata).ok()?;
    let (seconds, nanoseconds) = (file.mtime(), file.mtime_nsec());
    Some(format!("{}{} {} {} {seconds} {nanoseconds}", line(), file.dev(), file.ino(), file.size()))
}

/// With what the binary was made for, and what it uses of this machine.
pub fn verbose() -> String {
    let vectors = match simd::level() {
        Level::Baseline => "baseline",
        Level::Avx2 => "avx2",
        Level::Avx512 => "avx512",
    };
    let commit = option_env!("LAMARCK_COMMIT").unwrap_or("unknown");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{}commit: {commit}\ntarget: {}\nprofile: {}\nvectors: {vectors}\nthreads: {threads}\n",
        line(),
        env!("LAMARCK_TARGET"),
        env!("LAMARCK_PROFILE"),
    )
}

/// Whether arguments that ask for the version ask for all of it: `-vV`, or `--version --verbose`.
pub fn is_verbose(args: impl Iterator<Item = OsString>) -> bool {
    args.map(|arg| arg.to_string_lossy().into_owned()).any(|arg| match arg.strip_prefix('-') {
        Some("-verbose") => true,
        Some(letters) => !letters.starts_with('-') && letters.contains('v'),
        None => false,
    })
}
