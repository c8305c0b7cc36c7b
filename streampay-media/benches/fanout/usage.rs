//! What a process uses, as the kernel counts it.

use std::{fs, path::PathBuf};

/// Processor time of all threads of a process, in nanoseconds: in user mode and in the kernel.
/// Finer than the ticks of `/proc/PID/stat`, which are 10 ms.
pub(crate) fn processor_ns(pid: u32) -> u64 {
    let tasks = fs::read_dir(PathBuf::from(format!("/proc/{pid}/task"))).unwrap();
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|stat| stat.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// Resident memory, in MiB.
pub(crate) fn resident_mb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}
