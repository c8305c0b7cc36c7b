//! Crash points, one by one: a world is run once without a death, and then again for every output
//! that was taken in it and for operations of its disks, with a process that dies there; and again
//! with one that dies twice.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use streampay_core::planted::Planted;

use super::deaths::{Death, Deaths, How, Moment, Part, Step};
use super::judge::Violation;
use super::run::{Options, run_ordered};
use super::world::Switches;

/// How long a world is rough here, in milliseconds: some thirty ticks, a purse or three.
const ROUGH_MS: u64 = 90_000;
/// One world of so many has its records in redb, on simulated disks.
const REDB_EVERY: u64 = 2;
/// Operations of each disk at which a process dies, in a world that has disks.
const OPERATIONS: u64 = 400;
/// Every so many points one is tried again with a second death.
const TWICE_EVERY: usize = 3;
/// Outputs and operations after a death, before which the second comes: what comes back takes some
/// twenty.
const AGAIN_WITHIN: u64 = 31;
/// Of so many points each way to die has one at least.
const EACH_OF: u64 = 500;
/// Of so many points one at least is of a world with simulated disks.
const DISK_OF: u64 = 2;

/// Where a process dies, and a world in which it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The world.
    pub seed: u64,
    /// The deaths, one after another.
    pub moments: Vec<Moment>,
}

/// What came of points.
#[derive(Clone, Debug, Default)]
pub struct PointReport {
    /// Those at which a process died and everything held.
    pub passed: u64,
    /// Points at which a process died twice.
    pub twice: u64,
    /// Points of worlds whose records are on simulated disks.
    pub on_disk: u64,
    /// Deaths, by whose and how.
    pub deaths: BTreeMap<Death, u64>,
    /// Numbers of points and what did not hold; none where no process died.
    pub failed: Vec<(usize, Point, Option<Violation>)>,
}

impl PointReport {
    /// Ways to die of which there are too few, for so many points; a second death is one too, and one on simulated disks.
    #[must_use]
    pub fn rare(&self) -> u64 {
        let run = self.passed + u64::try_from(self.failed.len()).unwrap_or_default();
        let least = run / EACH_OF;
        let deaths = [true, false]
            .into_iter()
            .flat_map(|of_payer| How::all(of_payer).map(move |how| Death { of_payer, how }));
        let counts = deaths.map(|death| self.deaths.get(&death).copied().unwrap_or_default());
        let counts = counts.chain([self.twice]);
        let rare = u64::try_from(counts.filter(|count| *count < least).count());
        let off_disk = u64::from(self.on_disk < run / DISK_OF);
        rare.unwrap_or(u64::MAX).saturating_add(off_disk)
    }
}

/// How such a world is run.
fn point_options(seed: u64) -> Options {
    Options {
        // Nothing dies but as ordered.
        switches: Switches {
            crashes: false,
            repeats: true,
        },
        rough_ms: ROUGH_MS,
        small: true,
        redb: Some(seed.is_multiple_of(REDB_EVERY)),
        ..Options::default()
    }
}

/// The first `count` points, in an order that does not depend on it, and how many worlds they are
/// of.
///
/// # Errors
/// The first world that breaks a promise without any death.
pub fn points(count: usize) -> Result<(Vec<Point>, u64), (u64, Violation)> {
    let (mut points, mut seed) = (Vec::new(), 0);
    while points.len() < count {
        seed += 1;
        points.extend(points_of(seed).map_err(|violation| (seed, violation))?);
    }
    points.truncate(count);
    Ok((points, seed))
}

/// All points of a world.
///
/// # Errors
/// The promise that it breaks without any death.
pub fn points_of(seed: u64) -> Result<Vec<Point>, Violation> {
    let calm = run_ordered(seed, &point_options(seed), Deaths::default());
    if let Some(violation) = calm.violation {
        return Err(violation);
    }
    let mut singles = of_outputs(&calm.taken);
    for (node, operations) in calm.operations.into_iter().enumerate() {
        singles.extend(of_operations(node, operations));
    }
    let mut points = Vec::new();
    for (number, first) in singles.into_iter().enumerate() {
        let point = |moments| Point { seed, moments };
        points.push(point(vec![first]));
        if number.is_multiple_of(TWICE_EVERY) {
            points.push(point(vec![first, again(number / TWICE_EVERY, first)]));
        }
    }
    Ok(points)
}

fn of_outputs(taken: &[(bool, Step)]) -> Vec<Moment> {
    let numbered = (0_u64..).zip(taken);
    let moments = numbered.flat_map(|(number, (_, step))| {
        let parts: &[Part] = match step {
            Step::Write => &[Part::Before, Part::During, Part::After],
            _ => &[Part::Before],
        };
        parts.iter().map(move |part| Moment::Output(number, *part))
    });
    moments.collect()
}

fn of_operations(node: usize, operations: u64) -> Vec<Moment> {
    let every = (operations / OPERATIONS).max(1);
    let chosen = (0..operations / every).map(|number| {
        // Each kind of operation of a commit, whatever the commit's length.
        let at = number * every + number % every;
        match number % 3 {
            2 => Moment::Failure(node, at),
            _ => Moment::Operation(node, at),
        }
    });
    chosen.collect()
}

/// The second death, so soon after the first that the process is still coming back, or its peer is
/// hearing of it.
fn again(number: usize, first: Moment) -> Moment {
    let number = u64::try_from(number).unwrap_or_default();
    let after = number % AGAIN_WITHIN;
    match first {
        Moment::Output(..) => {
            let part = match number % 3 {
                0 => Part::Before,
                1 => Part::During,
                _ => Part::After,
            };
            Moment::Output(after, part)
        }
        Moment::Operation(node, _) | Moment::Failure(node, _) => Moment::Operation(node, after),
    }
}

/// Runs these points on so many threads, with a bug in both machines if one is to be found.
#[must_use]
pub fn run_points(points: &[Point], planted: Option<Planted>, threads: usize) -> PointReport {
    let next = AtomicUsize::new(0);
    let all = Mutex::new(PointReport::default());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(point) = points.get(number) else {
                return;
            };
            let options = Options {
                planted,
                ..point_options(point.seed)
            };
            let ran = run_ordered(point.seed, &options, Deaths::ordered(&point.moments));
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            all.twice += u64::from(ran.died.len() > 1);
            all.on_disk += u64::from(options.redb == Some(true));
            for death in &ran.died {
                *all.deaths.entry(*death).or_default() += 1;
            }
            if ran.violation.is_some() || ran.died.is_empty() {
                all.failed.push((number, point.clone(), ran.violation));
            } else {
                all.passed += 1;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.failed.sort_by_key(|(number, ..)| *number);
    all
}

/// One point again, with all that happens in its world.
#[must_use]
pub fn replay_point(point: &Point) -> (Vec<String>, Option<Violation>) {
    let options = Options {
        transcript: true,
        ..point_options(point.seed)
    };
    let ran = run_ordered(point.seed, &options, Deaths::ordered(&point.moments));
    (ran.transcript, ran.violation)
}
