//! What one attempt may use of the machine.

use std::path::Path;

use pintail_protocol::Resources;

/// `memory_limit` covers DuckDB's buffers only; the rest of the memory is for what it allocates beside them.
const MEMORY_PERCENT: u64 = 65;

/// On a machine without a limit nothing is killed for going over; this is DuckDB's own default.
const MACHINE_MEMORY_PERCENT: u64 = 80;

/// DuckDB's `memory_limit` in bytes.
pub(crate) fn memory_bytes(resources: &Resources) -> Option<u64> {
    if let Some(limit) = resources.memory_bytes.or_else(cgroup_memory_bytes) {
        return Some(limit / 100 * MEMORY_PERCENT);
    }
    machine_memory_bytes().map(|total| total / 100 * MACHINE_MEMORY_PERCENT)
}

/// Number of threads. The standard library knows affinity and the cgroup's quota.
pub(crate) fn threads(resources: &Resources) -> u64 {
    let available = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    resources.cpu_millis.map_or(available, |millis| millis.div_ceil(1000).max(1))
}

fn machine_memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

/// The tightest limit of this process's cgroup and those above it.
fn cgroup_memory_bytes() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let machine = machine_memory_bytes().unwrap_or(u64::MAX);
    groups.lines().filter_map(memory_limit_of).filter(|limit| *limit < machine).min()
}

/// `line` is `0::/path` for version 2, `4:memory:/path` for version 1.
fn memory_limit_of(line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return None,
    };
    let folder = Path::new(root).join(group.trim_start_matches('/'));
    let limits = folder.ancestors().take_while(|above| above.starts_with(root));
    limits.filter_map(|above| std::fs::read_to_string(above.join(file)).ok()?.trim().parse::<u64>().ok()).min()
}
