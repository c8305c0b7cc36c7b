//! Where the time of all goes, part by part.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

static LAPS: Mutex<BTreeMap<String, (u32, Duration)>> = Mutex::new(BTreeMap::new());

/// Does it, and counts its time as that of `part`.
pub(crate) fn timed<T>(part: &str, what: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let came = what();
    let took = start.elapsed();
    let mut laps = LAPS.lock().unwrap();
    let (times, all) = laps.entry(part.to_owned()).or_default();
    *times += 1;
    *all += took;
    came
}

/// How often each part was done, and how long it took at an average.
pub(crate) fn tell() {
    let laps = LAPS.lock().unwrap();
    for (part, (times, all)) in laps.iter() {
        println!(
            "{part:<40} {times:>6}, {:.1} s each",
            all.as_secs_f64() / f64::from(*times)
        );
    }
}
