//! What Linux says of this process.

use std::fs::read_to_string;

/// The processor's time that it had, in seconds. Source: proc(5), `stat`, at 100 ticks a second.
pub(crate) fn cpu_s() -> f64 {
    let stat = read_to_string("/proc/self/stat").unwrap();
    let after = &stat[stat.rfind(')').unwrap()..];
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
    (ticks(12) + ticks(13)) / 100.0
}

/// Its memory, in KiB.
pub(crate) fn rss_kib() -> f64 {
    let status = read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.unwrap().split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}

/// The value below which this part of sorted microseconds lies, in milliseconds.
pub(crate) fn percentile(sorted_us: &[u32], part: f64) -> f64 {
    let last = sorted_us.len().saturating_sub(1);
    let skip = (0..last)
        .filter(|at| float(*at) < part * float(last))
        .count();
    f64::from(sorted_us.get(skip).copied().unwrap_or_default()) / 1_000.0
}

pub(crate) fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}
