//! A controller as a process, and what it uses.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use crate::measure::Failure;

/// Ends with the benchmark.
pub struct Process(Child);

/// Since the process started; see proc(5).
#[derive(Clone, Copy)]
pub struct Usage {
    pub processor: Duration,
    pub memory_bytes: u64,
}

impl Usage {
    pub fn since(self, before: Self) -> Self {
        Self { processor: self.processor.saturating_sub(before.processor), memory_bytes: self.memory_bytes }
    }
}

impl Process {
    pub fn start(command: &mut Command) -> Result<Self, Failure> {
        command.spawn().map(Self).map_err(|error| format!("{command:?}: {error}"))
    }

    /// The memory that the processes which it started took at most, together.
    pub fn memory_bytes_of_children(&self) -> Result<u64, Failure> {
        let list = format!("/proc/{0}/task/{0}/children", self.0.id());
        let children = std::fs::read_to_string(&list).map_err(|error| format!("{list}: {error}"))?;
        let usages = children.split_whitespace().map(|id| usage(id).map(|usage| usage.memory_bytes));
        usages.sum()
    }

    pub fn usage(&self) -> Result<Usage, Failure> {
        usage(&self.0.id().to_string())
    }
}

fn usage(id: &str) -> Result<Usage, Failure> {
    let read = |name: &str| {
        let path = PathBuf::from(format!("/proc/{id}/{name}"));
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let stat = read("stat")?;
    // The name may hold spaces; after its bracket, utime and stime are the 12th and 13th fields.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    let status = read("status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = peak.and_then(|text| text.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    Ok(Usage {
        // Linux gives hundredths of a second to programs, whatever its own clock.
        processor: Duration::from_millis((ticks(11) + ticks(12)) * 10),
        memory_bytes: kibibytes.unwrap_or_default() * 1024,
    })
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
