//! What the machine has.

use std::fs;
use std::path::{Path, PathBuf};

use crate::project::Project;

/// Bytes of memory that a build may use unless somebody says otherwise: a quarter of what the machine has, or of what
/// the system lets this process have.
pub fn default_memory() -> u64 {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|file| fs::read_to_string(file).ok());
    share(total.into_iter().chain(limits.filter_map(|text| text.trim().parse().ok())))
}

/// A quarter of the least, but no less than can be counted on anywhere.
fn share(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.min().map_or(0, |least| least / 4).max(Project::DEFAULT_MEMORY)
}

/// All memory, of the kernel's account of it.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// The files that hold the limits of control groups, of the kernel's list of those that a process is in. What is not
/// there sets no limit.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => (Path::new("/sys/fs/cgroup"), "memory.max"),
            "memory" => (Path::new("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        // In a container the group's name may be one of outside, and its root the container's.
        let group = Path::new(group.trim_start_matches('/'));
        files.extend(group.ancestors().map(|group| root.join(group).join(file)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_counts() {
        assert_eq!(total("MemTotal:       24609784 kB\nMemFree:  1 kB\n"), Some(24_609_784 << 10));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert_eq!(share([64 << 30, 32 << 30].into_iter()), 8 << 30);
        assert_eq!(share([2 << 30].into_iter()), 1 << 30);
        assert_eq!(share([].into_iter()), 1 << 30);
    }

    #[test]
    fn a_group_is_limited_by_those_that_it_is_in() {
        let files = |groups: &str| -> Vec<String> {
            limit_files(groups).iter().map(|path| path.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(
            files("0::/a/b\n"),
            ["/sys/fs/cgroup/a/b/memory.max", "/sys/fs/cgroup/a/memory.max", "/sys/fs/cgroup/memory.max"]
        );
        assert_eq!(files("3:cpu,cpuacct:/\n4:memory:/\n"), ["/sys/fs/cgroup/memory/memory.limit_in_bytes"]);
        assert!(files("nonsense\n").is_empty() && default_memory() >= 1 << 30);
    }
}
