use alloc::boxed::Box;

use super::*;
use crate::sim::{check_failing_store, check_store};
use crate::units::{PurseId, PurseKey, SessionId};

#[test]
fn both_stores_do_what_every_store_must() {
    let memory = MemoryStore::new();
    check_store(|| Box::new(memory.clone()));
    let folder = tempfile::tempdir().unwrap();
    check_store(|| Box::new(RedbStore::open(folder.path()).unwrap()));
}

#[test]
fn failing_stores_do_what_every_failing_store_must() {
    let memory = MemoryStore::new();
    check_failing_store(|fails| {
        let mut store = memory.clone();
        if fails {
            store.fail_from_now_on();
        }
        Box::new(store)
    });
}

#[test]
fn store_that_failed_refuses_everything() {
    let mut store = MemoryStore::new();
    store.fail_from_now_on();
    assert_eq!(store.append(&[]), Err(StoreError::Failed));
    assert_eq!(store.append(&[]), Err(StoreError::Poisoned));
    assert_eq!(store.scan(&[]), Err(StoreError::Poisoned));
}

#[test]
fn second_process_is_refused_while_the_first_has_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = RedbStore::open(folder.path()).unwrap();
    assert_eq!(
        RedbStore::open(folder.path()).unwrap_err(),
        StoreError::Locked
    );
    drop(first);
    assert!(RedbStore::open(folder.path()).is_ok());
}

#[test]
fn backend_cannot_write_outside_its_purse() {
    let purse = PurseKey {
        session: SessionId([7; 32]),
        purse: PurseId(1),
    };
    let mut delta = ChangeSet::new();
    delta.put(Key::new(), *b"x");
    let delta = delta.within_purse(purse);
    let key = &delta.changes()[0].key;
    assert!(key.starts_with(&purse_prefix(purse)));
    assert_eq!(session_of(key), Some(purse.session));
}

#[test]
fn debug_output_shows_no_record() {
    let mut set = ChangeSet::new();
    set.put(*b"key-canary", *b"value-canary");
    let shown = alloc::format!("{set:?} {:?}", set.changes());
    assert!(!shown.contains("canary") && !shown.contains("99, 97"));
}
