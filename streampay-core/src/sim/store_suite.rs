//! What every [`Store`] must do, for those who write one.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Rng;
use crate::store::{ChangeSet, Key, Store, StoreError};

/// A long record, in bytes, and how many short ones are written at once.
const LONG: usize = 1_000_000;
const MANY: u32 = 1_000;
/// Appends in the random part.
const APPENDS: u64 = 200;

/// Runs the suite over a store. `open` opens the same one each time, empty at first; the one
/// before is dropped by then. What a power cut does is beyond what can be asked through the
/// trait: test it with the medium that the store writes to.
///
/// # Panics
/// Where the store does something else, with what it is.
pub fn check_store(mut open: impl FnMut() -> Box<dyn Store>) {
    let mut store = open();
    assert_eq!(store.scan(&[]), Ok(Vec::new()), "a new store is empty");
    later_changes_win(&mut *store);
    prefixes_are_of_bytes(&mut *store);
    takes_much(&mut *store);
    drop(store);
    remembers(&mut open);
}

/// Runs the suite over a store that fails. `open` opens the same one each time, empty at first; where
/// it is asked to, every append to the one that it returns fails.
///
/// # Panics
/// Where the store does something else, with what it is.
pub fn check_failing_store(mut open: impl FnMut(bool) -> Box<dyn Store>) {
    let set = |value: &[u8]| {
        let mut set = ChangeSet::new();
        for key in [b"a", b"b", b"c"] {
            set.put(*key, value);
        }
        set
    };
    let mut store = open(false);
    store.append(&[set(b"before")]).expect("it appends");
    drop(store);
    let mut store = open(true);
    let failed = store.append(&[set(b"lost"), set(b"after")]);
    assert_eq!(failed, Err(StoreError::Failed), "it says so once");
    for _ in 0..2 {
        let refused = store.append(&[set(b"later")]);
        assert_eq!(refused, Err(StoreError::Poisoned), "and refuses then");
    }
    assert_eq!(
        store.scan(b"a"),
        Err(StoreError::Poisoned),
        "it does not tell what may not be there"
    );
    drop(store);
    let mut store = open(false);
    let found = store.scan(&[]).expect("it reads");
    let of = |value: &[u8]| -> Vec<(Key, Vec<u8>)> {
        let keys = [b"a", b"b", b"c"];
        keys.map(|key| (key.to_vec(), value.to_vec())).to_vec()
    };
    assert!(
        found == of(b"before") || found == of(b"after"),
        "opened anew it has all of the append that failed or nothing of it"
    );
    store.append(&[set(b"last")]).expect("it appends again");
    assert_eq!(store.scan(&[]), Ok(of(b"last")));
}

fn later_changes_win(store: &mut dyn Store) {
    let mut first = ChangeSet::new();
    first.put(*b"a1", *b"one");
    first.put(*b"a2", *b"two");
    first.put(*b"b", *b"other");
    let mut second = ChangeSet::new();
    second.put(*b"a1", *b"newer");
    second.remove(*b"a2");
    second.remove(*b"never there");
    store.append(&[first, second]).expect("it appends");
    let found = store.scan(b"a").expect("it reads");
    let wanted = [(b"a1".to_vec(), b"newer".to_vec())];
    assert_eq!(found, wanted, "later sets of one append win");
    store.append(&[]).expect("nothing is appended");
    assert_eq!(store.scan(&[]).map(|found| found.len()), Ok(2));
}

fn prefixes_are_of_bytes(store: &mut dyn Store) {
    let keys: [&[u8]; 6] = [b"p", b"p\x00", b"p\xff", b"p\xff\xff", b"q", b"\xff\xff"];
    let mut set = ChangeSet::new();
    for key in keys.iter().rev() {
        set.put(key.to_vec(), key.to_vec());
    }
    store.append(&[set]).expect("it appends");
    let found = |prefix: &[u8]| -> Vec<Key> {
        let found = store.scan(prefix).expect("it reads");
        found.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(found(b"p"), keys[..4], "in the order of keys");
    assert_eq!(
        found(b"p\xff"),
        keys[2..4],
        "a prefix ends where its bytes end"
    );
    assert_eq!(found(b"\xff"), keys[5..], "up to the last key");
    let mut set = ChangeSet::new();
    keys.iter().for_each(|key| set.remove(key.to_vec()));
    set.remove(*b"a1");
    set.remove(*b"b");
    store.append(&[set]).expect("it appends");
    assert_eq!(store.scan(&[]), Ok(Vec::new()), "what is removed is gone");
}

/// A long record, and many at once.
fn takes_much(store: &mut dyn Store) {
    let mut set = ChangeSet::new();
    set.put(*b"long", alloc::vec![7; LONG]);
    let sets = (0..MANY).map(|number| {
        let mut set = ChangeSet::new();
        let key = [b"m", &number.to_be_bytes()[..]].concat();
        set.put(key, number.to_le_bytes());
        set
    });
    let sets: Vec<ChangeSet> = core::iter::once(set).chain(sets).collect();
    store.append(&sets).expect("it takes many at once");
    let long = store.scan(b"long").expect("it reads");
    assert_eq!(long, [(b"long".to_vec(), alloc::vec![7; LONG])]);
    let many = store.scan(b"m").expect("it reads");
    let numbers = many.iter().map(|(_, value)| value.as_slice());
    let wanted: Vec<[u8; 4]> = (0..MANY).map(u32::to_le_bytes).collect();
    assert!(numbers.eq(wanted.iter().map(|number| number.as_slice())));
    let mut set = ChangeSet::new();
    set.remove(*b"long");
    many.into_iter().for_each(|(key, _)| set.remove(key));
    store.append(&[set]).expect("it appends");
    assert_eq!(store.scan(&[]), Ok(Vec::new()));
}

/// Random appends against a map, opened anew now and then.
fn remembers(open: &mut dyn FnMut() -> Box<dyn Store>) {
    let mut rng = Rng::new(0x57_0e_5e);
    let mut model: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
    let mut store = open();
    for _ in 0..APPENDS {
        let sets: Vec<ChangeSet> = (0..rng.next() % 4).map(|_| random_set(&mut rng)).collect();
        store.append(&sets).expect("it appends");
        for change in sets.iter().flat_map(ChangeSet::changes) {
            match &change.value {
                Some(value) => model.insert(change.key.clone(), value.clone()),
                None => model.remove(&change.key),
            };
        }
        if rng.next().is_multiple_of(16) {
            drop(store);
            store = open();
        }
        let prefix = [key_byte(&mut rng)];
        let wanted = model.iter().filter(|(key, _)| key.starts_with(&prefix));
        let wanted: Vec<(Key, Vec<u8>)> =
            (wanted.map(|(key, value)| (key.clone(), value.clone()))).collect();
        assert_eq!(store.scan(&prefix), Ok(wanted), "it has what was appended");
    }
}

fn key_byte(rng: &mut Rng) -> u8 {
    match rng.next() % 3 {
        0 => b'a',
        1 => b'b',
        _ => 0xff,
    }
}

fn random_set(rng: &mut Rng) -> ChangeSet {
    let mut set = ChangeSet::new();
    for _ in 0..rng.next() % 6 {
        let length = 0..=rng.next() % 4;
        let key: Vec<u8> = length.map(|_| key_byte(rng)).collect();
        if rng.next().is_multiple_of(4) {
            set.remove(key);
        } else {
            let length = usize::try_from(rng.next() % 5_000).unwrap_or_default();
            let byte = key_byte(rng);
            set.put(key, alloc::vec![byte; length]);
        }
    }
    set
}
