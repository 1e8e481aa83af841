//! What the kernel knows of processes: processor time and memory.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// The unit of the kernel's processor times, the same on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// Processor times of a process, and who started it.
#[derive(Clone, Copy, Debug)]
struct Stat {
    parent: u32,
    /// Its own time.
    own: Duration,
    /// That of its children that have ended.
    ended: Duration,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident now.
    pub resident: u64,
    /// Resident at most, since its start.
    pub peak: u64,
}

fn stat(pid: u32) -> Result<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = text.rsplit_once(") ").context("no name")?;
    let fields: Vec<_> = rest.split(' ').collect();
    let field = |index: usize| fields.get(index).context("too short");
    let ticks = |index: usize| -> Result<Duration> { Ok(TICK * field(index)?.parse()?) };
    Ok(Stat {
        parent: field(1)?.parse()?,
        own: ticks(11)? + ticks(12)?,
        ended: ticks(13)? + ticks(14)?,
    })
}

/// Who started a process.
///
/// # Errors
/// When there is no such process.
pub fn parent(pid: u32) -> Result<u32> {
    let stat = stat(pid).with_context(|| format!("process {pid}"));
    Ok(stat?.parent)
}

/// The processor time of a process, all its threads together.
///
/// # Errors
/// When there is no such process.
pub fn processor_time(pid: u32) -> Result<Duration> {
    let stat = stat(pid).with_context(|| format!("process {pid}"));
    Ok(stat?.own)
}

/// The processor time of a process and of all that it has started, also of those that have ended.
///
/// # Errors
/// When there is no such process.
pub fn processor_time_of_tree(root: u32) -> Result<Duration> {
    // The root first: one that ends meanwhile is left out rather than counted twice.
    let stat_of_root = stat(root).with_context(|| format!("process {root}"))?;
    let mut time = stat_of_root.own + stat_of_root.ended;
    for entry in Path::new("/proc").read_dir()? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Others come and go as they like.
        if let Ok(stat) = stat(pid)
            && stat.parent == root
        {
            time += stat.own + stat.ended;
        }
    }
    Ok(time)
}

/// The memory of a process.
///
/// # Errors
/// When there is no such process.
pub fn memory(pid: u32) -> Result<Memory> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid}"))?;
    let bytes = |name: &str| -> Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(number.context("no memory")?.trim().parse::<u64>()? * 1024)
    };
    Ok(Memory {
        resident: bytes("VmRSS:")?,
        peak: bytes("VmHWM:")?,
    })
}
