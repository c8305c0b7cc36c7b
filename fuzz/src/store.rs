//! The default store on a disk that forgets, against a model of what it promised.

use std::collections::BTreeMap;

use streampay_core::sim::Rng;
use streampay_core::store::{ChangeSet, Key, RedbStore, Store, StoreError};

use crate::actions::Actions;
use crate::disk::Disk;

/// Actions of one input.
const ACTIONS_MAX: usize = 48;
/// The longest record written.
const VALUE_MAX: u64 = 20_000;
/// Tries of one start that may die.
const STARTS_MAX: u8 = 3;

type Records = BTreeMap<Key, Vec<u8>>;

/// A history of a store that the bytes choose: appends of any size, processes that die and disks
/// that fail at any operation of a write, of a clean end and of the start after it; what was not
/// synced is lost in part, in any order. After each start the store holds all that it
/// acknowledged, and of what it did not, a whole append or nothing.
///
/// # Panics
/// Where it does not open, holds anything else, or answers after a failure.
pub fn store(bytes: &[u8]) {
    let mut actions = Actions(bytes);
    let mut history = History {
        rng: Rng::new(u64::from(actions.byte())),
        disk: Disk::default(),
        open: None,
        held: vec![Records::new()],
    };
    history.start(&mut actions);
    for _ in 0..ACTIONS_MAX {
        if actions.is_empty() {
            break;
        }
        match actions.byte() % 8 {
            0..=3 => {
                history.append(&mut actions, None);
            }
            4 => {
                let operations = u32::from(actions.byte() % 64);
                history.append(&mut actions, Some(operations));
                history.cut();
            }
            5 => {
                let operations = u32::from(actions.byte());
                let failed = history.append(&mut actions, Some(operations));
                history.refuses(failed);
            }
            6 => history.cut(),
            _ => history.end(u32::from(actions.byte())),
        }
        history.start(&mut actions);
    }
    history.cut();
    history.start(&mut Actions(&[]));
}

struct History {
    rng: Rng,
    disk: Disk,
    open: Option<RedbStore>,
    /// What the store may hold: more than one where it is not known what came of an append.
    held: Vec<Records>,
}

impl History {
    /// Opens it, if it is not; the process may die on the way.
    fn start(&mut self, actions: &mut Actions<'_>) {
        if self.open.is_some() {
            return self.look();
        }
        for _ in 0..actions.byte() % (STARTS_MAX + 1) {
            self.disk.fail_in(u32::from(actions.byte() % 64));
            // It may die right after it opened, before it wrote anything.
            drop(RedbStore::open_on(self.disk.clone()));
            self.cut();
        }
        let opened = RedbStore::open_on(self.disk.clone());
        self.open = Some(opened.expect("the file opens on a sound disk"));
        self.look();
    }

    fn look(&mut self) {
        let store = self.open.as_ref().expect("it is open");
        let found = store.scan(&[]).expect("a sound disk is read");
        let found: Records = found.into_iter().collect();
        assert!(
            self.held.contains(&found),
            "{} records, none of {} states that were promised",
            found.len(),
            self.held.len()
        );
        self.held = vec![found];
    }

    /// Appends; the disk fails at one of its operations. True where that failed it.
    fn append(&mut self, actions: &mut Actions<'_>, fails: Option<u32>) -> bool {
        let sets = sets(actions);
        let after = self.held.iter().map(|before| {
            let mut after = before.clone();
            sets.iter().for_each(|set| apply(&mut after, set));
            after
        });
        let after: Vec<Records> = after.collect();
        if let Some(operations) = fails {
            self.disk.fail_in(operations);
        }
        let store = self.open.as_mut().expect("it is open");
        match store.append(&sets) {
            Ok(()) => {
                self.held = after;
                false
            }
            Err(error) => {
                assert!(fails.is_some(), "a sound disk: {error}");
                assert_eq!(error, StoreError::Failed);
                self.held.extend(after);
                true
            }
        }
    }

    /// After a failure it says so until it is opened anew; without one the disk is sound again.
    fn refuses(&mut self, failed: bool) {
        self.disk.heal();
        if !failed {
            return;
        }
        let store = self.open.as_mut().expect("it is open");
        assert_eq!(store.append(&[]), Err(StoreError::Poisoned));
        assert_eq!(store.scan(&[]), Err(StoreError::Poisoned));
        self.cut();
    }

    /// The power is cut.
    fn cut(&mut self) {
        (self.disk, _) = self.disk.crash(&mut self.rng);
        self.open = None;
    }

    /// The process ends as it should, unless the power is cut at so many operations.
    fn end(&mut self, operations: u32) {
        self.disk.fail_in(operations);
        self.open = None;
        if operations < 200 {
            self.cut();
        }
        self.disk.heal();
    }
}

fn sets(actions: &mut Actions<'_>) -> Vec<ChangeSet> {
    let sets = 1 + actions.byte() % 2;
    (0..sets).map(|_| set(actions)).collect()
}

fn set(actions: &mut Actions<'_>) -> ChangeSet {
    let mut set = ChangeSet::new();
    for _ in 0..=actions.byte() % 4 {
        let key = vec![b'k', actions.byte() % 16];
        match actions.byte() {
            fill @ 0..=40 => {
                let size = actions.number() % VALUE_MAX;
                let size = usize::try_from(size).unwrap_or_default();
                set.put(key, vec![fill; size]);
            }
            fill @ 41..=200 => set.put(key, vec![fill; usize::from(fill)]),
            _ => set.remove(key),
        }
    }
    set
}

fn apply(records: &mut Records, set: &ChangeSet) {
    for change in set.changes() {
        match &change.value {
            Some(value) => records.insert(change.key.clone(), value.clone()),
            None => records.remove(&change.key),
        };
    }
}
