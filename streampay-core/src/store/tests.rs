use super::*;
use crate::units::{PurseId, PurseKey, SessionId};

fn conforms(store: &mut dyn Store) {
    let mut first = ChangeSet::new();
    first.put(*b"a1", *b"one");
    first.put(*b"a2", *b"two");
    first.put(*b"b", *b"other");
    let mut second = ChangeSet::new();
    second.put(*b"a1", *b"newer");
    second.remove(*b"a2");
    store.append(&[first, second]).unwrap();
    assert_eq!(
        store.scan(b"a").unwrap(),
        [(b"a1".to_vec(), b"newer".to_vec())]
    );
    assert_eq!(store.scan(b"").unwrap().len(), 2);
}

#[test]
fn later_sets_of_one_append_win() {
    conforms(&mut MemoryStore::new());
}

#[test]
fn redb_keeps_what_was_appended_after_it_is_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    conforms(&mut RedbStore::open(folder.path()).unwrap());
    let store = RedbStore::open(folder.path()).unwrap();
    assert_eq!(
        store.scan(b"a").unwrap(),
        [(b"a1".to_vec(), b"newer".to_vec())]
    );
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
