//! What one attempt may use of the machine.

use std::path::Path;

use pintail_protocol::Resources;

/// `memory_limit` covers DuckDB's buffers only; the rest of the memory is for what it allocates beside them.
const MEMORY_PERCENT: u64 = 65;

/// On a machine without a limit nothing is killed for going over; this is DuckDB's own default.
const MACHINE_MEMORY_PERCENT: u64 = 80;

/// Of a pod's scratch volume, what DuckDB may not spill into: results and the log need a place too, and a pod that goes
/// over is evicted.
const RESULTS_PERCENT: u64 = 10;

const CGROUPS: &str = "/sys/fs/cgroup";

/// DuckDB's `memory_limit` in bytes: of what the order gives and the cgroup has, the lesser counts.
pub(crate) fn memory_bytes(resources: &Resources) -> Option<u64> {
    if let Some(limit) = resources.memory_bytes.into_iter().chain(cgroup_memory_bytes()).min() {
        return Some(limit / 100 * MEMORY_PERCENT);
    }
    machine_memory_bytes().map(|total| total / 100 * MACHINE_MEMORY_PERCENT)
}

/// Number of threads. The standard library knows affinity and the cgroup's quota.
pub(crate) fn threads(resources: &Resources) -> u64 {
    let available = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    resources.cpu_millis.map_or(available, |millis| millis.div_ceil(1000).max(1))
}

/// DuckDB's `max_temp_directory_size` in bytes. `used_bytes` is what staged inputs take of the same place.
pub(crate) fn spill_bytes(resources: &Resources, used_bytes: u64) -> Option<u64> {
    Some(resources.scratch_bytes?.saturating_sub(used_bytes) / 100 * (100 - RESULTS_PERCENT))
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
    tightest_memory_limit(&groups, Path::new(CGROUPS)).filter(|limit| *limit < machine)
}

fn tightest_memory_limit(groups: &str, root: &Path) -> Option<u64> {
    groups.lines().filter_map(|line| memory_limit_of(line, root)).min()
}

/// `line` is `0::/path` for version 2, `4:memory:/path` for version 1. In a container the path may be that on its
/// machine, while the folder is the container's own: then only the folder's root is there, which is above any path.
fn memory_limit_of(line: &str, root: &Path) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
    let (root, file) = match controllers {
        "" => (root.to_owned(), "memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
        _ => return None,
    };
    let folder = root.join(group.trim_start_matches('/'));
    let limits = folder.ancestors().take_while(|above| above.starts_with(&root));
    limits.filter_map(|above| std::fs::read_to_string(above.join(file)).ok()?.trim().parse::<u64>().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroups(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn the_tightest_limit_of_a_cgroup_and_those_above_it_counts_in_both_versions() {
        let two = cgroups(&[("pods/memory.max", "1000\n"), ("pods/one/memory.max", "max\n")]);
        assert_eq!(tightest_memory_limit("0::/pods/one\n", two.path()), Some(1000));
        let one = cgroups(&[
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/pods/memory.limit_in_bytes", "3000\n"),
        ]);
        let groups = "4:cpu,cpuacct:/pods\n3:memory:/pods\n0::/\n";
        assert_eq!(tightest_memory_limit(groups, one.path()), Some(3000));
    }

    #[test]
    fn a_container_that_sees_only_its_own_cgroup_finds_its_limit() {
        let two = cgroups(&[("memory.max", "500\n")]);
        assert_eq!(tightest_memory_limit("0::/\n", two.path()), Some(500));
        assert_eq!(tightest_memory_limit("0::/kubepods/pod1/abc\n", two.path()), Some(500));
        let one = cgroups(&[("memory/memory.limit_in_bytes", "700\n")]);
        assert_eq!(tightest_memory_limit("3:memory:/kubepods/pod1/abc\n", one.path()), Some(700));
    }

    #[test]
    fn what_inputs_take_of_the_scratch_space_is_not_spilled_into() {
        let resources = Resources { scratch_bytes: Some(1000), ..Resources::default() };
        assert_eq!(spill_bytes(&resources, 0), Some(900));
        assert_eq!(spill_bytes(&resources, 600), Some(360));
        assert_eq!(spill_bytes(&resources, 2000), Some(0));
        assert_eq!(spill_bytes(&Resources::default(), 0), None);
    }
}
