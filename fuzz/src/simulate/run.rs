//! Whole runs: one world from a seed, and many of them on all cores.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use streampay_core::planted::{Planted, dangerous_fake_crypto, dangerous_plant};
use streampay_core::session::{CloseCode, Command, Entropy, SecretKey};
use streampay_core::sim::Rng;

use super::deaths::{Death, Deaths, Step};
use super::judge::Violation;
use super::kinds::Counts;
use super::world::{Ev, PAYEE, PAYER, Setting, Switches, World};

/// An hour, in milliseconds.
const HOUR_MS: u64 = 3_600_000;
/// What an hour must have to count.
pub const TICKS_MIN: u64 = 300;
/// Likewise.
pub const FAULTS_MIN: u64 = 60;
/// How long ticks may take to flow again once all is healed, in milliseconds.
const HEAL_MS: u64 = 1_600_000;
/// How long everything may take to settle then.
const SETTLE_MS: u64 = 1_600_000;
/// Ticks of each slot that show that it goes on.
const HEALED_TICKS: u64 = 3;

/// How worlds are run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Signatures that protect nothing and cost next to nothing.
    pub fake_crypto: bool,
    /// A bug in both machines.
    pub planted: Option<Planted>,
    /// What may go wrong.
    pub switches: Switches,
    /// Writes down all that happens.
    pub transcript: bool,
    /// How long a world is rough, in milliseconds.
    pub rough_ms: u64,
    /// One viewer with one session at a time.
    pub small: bool,
    /// Whether records are in redb on simulated disks; none where the seed says it.
    pub redb: Option<bool>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fake_crypto: true,
            planted: None,
            switches: Switches {
                crashes: true,
                repeats: true,
            },
            transcript: false,
            rough_ms: HOUR_MS,
            small: false,
            redb: None,
        }
    }
}

/// What came of runs.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Worlds that were run.
    pub worlds: u64,
    /// Session-hours with enough ticks and faults.
    pub hours: u64,
    /// Those of them on redb and the simulated disk.
    pub hours_on_redb: u64,
    /// Session-hours with too few of either.
    pub thin: u64,
    /// Ticks credited.
    pub ticks: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Everything by kind.
    pub counts: Counts,
    /// Seeds and what did not hold, in order.
    pub violations: Vec<(u64, Violation)>,
    /// What happened, where that was asked for.
    pub transcript: Vec<String>,
}

impl Report {
    fn merge(&mut self, other: Self) {
        self.worlds += other.worlds;
        self.hours += other.hours;
        self.hours_on_redb += other.hours_on_redb;
        self.thin += other.thin;
        self.ticks += other.ticks;
        self.faults += other.faults;
        self.counts.merge(&other.counts);
        self.violations.extend(other.violations);
        self.transcript.extend(other.transcript);
    }
}

fn setting(rng: &mut Rng, seed: u64) -> Setting {
    let mut pick = |of: &[u64]| {
        let at = usize::try_from(rng.next()).unwrap_or_default() % of.len();
        of[at]
    };
    Setting {
        tick_ms: pick(&[3_000, 4_000, 5_000, 5_000]),
        bytes_msat: pick(&[0, 0, 0, 20]),
        purse_ticks: pick(&[16, 30, 60, 100]),
        life_s: pick(&[120, 400, 900]),
        preview: pick(&[0, 0, 1_000, 10_000]),
        window: pick(&[0, 0, 0, 500]),
        sample_ms: pick(&[400, 1_000, 1_000, 1_000]),
        packet_ms: pick(&[20, 40]),
        // One world of so many: a commit of redb costs as much as a hundred in memory.
        redb: seed.is_multiple_of(64),
    }
}

/// Runs the world that this seed makes: rough weather, then fair, then everybody settles.
#[must_use]
pub fn run_world(seed: u64, options: &Options) -> Report {
    dangerous_plant(options.planted);
    dangerous_fake_crypto(options.fake_crypto);
    let mut world = make_world(seed, options);
    play(&mut world, options.rough_ms);
    dangerous_plant(None);
    dangerous_fake_crypto(false);
    let mut report = Report {
        worlds: 1,
        transcript: world.transcript.take().unwrap_or_default(),
        ..Report::default()
    };
    if let Some(violation) = world.violation.take() {
        report.violations.push((seed, violation));
    }
    for slot in &world.slots {
        let full = slot.ticks >= TICKS_MIN && slot.struck >= FAULTS_MIN;
        report.hours += u64::from(full);
        report.hours_on_redb += u64::from(full && world.setting.redb);
        report.thin += u64::from(!full);
        (report.ticks, report.faults) = (report.ticks + slot.ticks, report.faults + slot.struck);
    }
    report.counts = world.counts;
    report
}

/// What came of a world with deaths that were ordered.
pub(super) struct Ordered {
    pub(super) violation: Option<Violation>,
    pub(super) died: Vec<Death>,
    /// Every output, where no death was ordered: whether the payer's, and what it was.
    pub(super) taken: Vec<(bool, Step)>,
    /// Operations of each node's disk since its file was made.
    pub(super) operations: Vec<u64>,
    pub(super) transcript: Vec<String>,
}

/// As [`run_world`], with these deaths.
pub(super) fn run_ordered(seed: u64, options: &Options, deaths: Deaths) -> Ordered {
    dangerous_plant(options.planted);
    dangerous_fake_crypto(options.fake_crypto);
    let mut world = make_world(seed, options);
    world.deaths = deaths;
    world.order_disk();
    let operations = |world: &World| -> Vec<u64> {
        let stores = world.nodes.iter().map(|node| node.store.operations());
        stores.collect()
    };
    let made = operations(&world);
    play(&mut world, options.rough_ms);
    dangerous_plant(None);
    dangerous_fake_crypto(false);
    let after = operations(&world).into_iter().zip(made);
    Ordered {
        operations: after.map(|(all, made)| all.saturating_sub(made)).collect(),
        violation: world.violation,
        died: world.deaths.died,
        taken: world.deaths.taken,
        transcript: world.transcript.unwrap_or_default(),
    }
}

pub(super) fn make_world(seed: u64, options: &Options) -> World {
    let mut rng = Rng::new(seed ^ 0x5eed_0f5e_5510_4123);
    let mut setting = setting(&mut rng, seed);
    setting.redb = options.redb.unwrap_or(setting.redb);
    let streamer = SecretKey::derive(&Entropy(rng.bytes()), "streamer");
    let streamer = streamer.expect("derived keys are valid");
    let mut world = World::new(rng, streamer, options.switches, setting);
    world.transcript = options.transcript.then(Vec::new);
    world.add_node(PAYEE);
    let viewers = if options.small { 1 } else { 2 };
    for viewer in 1..=viewers {
        world.add_node(PAYER);
        for _ in 0..viewer {
            world.add_slot(viewer);
        }
    }
    for slot in 0..world.slots.len() {
        let first = world.below(20_000);
        world.after(first, Ev::Strike { slot });
    }
    world
}

fn play(world: &mut World, rough_ms: u64) {
    world.run(rough_ms, |_| false);
    let ticks: Vec<(u64, u64)> = (world.slots.iter())
        .map(|slot| (slot.ticks, slot.struck))
        .collect();
    world.heal();
    let until = world.now + HEAL_MS;
    let flows = |world: &World| world.slots.iter().all(|slot| slot.healed >= HEALED_TICKS);
    world.run(until, flows);
    if let Some(slot) = world
        .slots
        .iter()
        .position(|slot| slot.healed < HEALED_TICKS)
    {
        world.violate(slot, "Progress", "no ticks though all is healed".into());
    }
    world.goes_on = false;
    for slot in 0..world.slots.len() {
        world.command(slot, PAYER, Command::Close(CloseCode::Done));
        world.command(slot, PAYEE, Command::Close(CloseCode::Done));
    }
    let until = world.now + SETTLE_MS;
    let settled = |world: &World| world.slots.iter().all(|slot| slot.over);
    world.run(until, settled);
    if let Some(slot) = world.slots.iter().position(|slot| !slot.over) {
        world.violate(slot, "Settles", "not settled though all is healed".into());
    }
    // What counts is what happened while it was rough.
    for (slot, (ticks, struck)) in world.slots.iter_mut().zip(ticks) {
        (slot.ticks, slot.struck) = (ticks, struck);
    }
}

/// Runs worlds from `first` on, on `threads` threads, until `enough` says so of what was found.
#[must_use]
pub fn run_worlds(
    first: u64,
    worlds: u64,
    threads: usize,
    options: &Options,
    enough: impl Fn(&Report) -> bool + Sync,
) -> Report {
    let next = AtomicU64::new(first);
    let over = AtomicBool::new(false);
    let all = Mutex::new(Report::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if over.load(Ordering::Relaxed) || seed >= first.saturating_add(worlds) {
                return;
            }
            let report = run_world(seed, options);
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            all.merge(report);
            if enough(&all) {
                over.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.violations.sort_by_key(|(seed, _)| *seed);
    all
}
