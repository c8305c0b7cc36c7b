//! What every [`Store`] must do, for those who write one.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Rng;
use crate::store::{ChangeSet, Key, Store};

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
    drop(store);
    remembers(&mut open);
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
