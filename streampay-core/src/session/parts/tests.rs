use super::*;

fn whole(len: usize) -> Vec<Purse> {
    frames(PurseId(0), 0, &Bytes::from(alloc::vec![7; len]))
}

fn collect(parts: &[Purse], again: usize) -> Option<Bytes> {
    let mut collected = Parts::new(parts.first()?);
    for _ in 0..again {
        for part in parts.iter().skip(1) {
            assert!(collected.add(part.clone()), "part {} again", part.part);
        }
    }
    collected.add(parts.first()?.clone()).then_some(())?;
    collected.joined()
}

/// Each repetition once counted towards the size, so that an opening as large as allowed whose
/// first part was lost was called misbehaviour.
#[test]
fn parts_that_come_again_take_no_room() {
    for len in [1, PART, OPENING_MAX - 1, OPENING_MAX] {
        let parts = whole(len);
        assert_eq!(collect(&parts, 3).map(|all| all.len()), Some(len));
    }
}

#[test]
fn one_byte_more_than_an_opening_may_have_is_refused() {
    assert_eq!(collect(&whole(OPENING_MAX + 1), 1), None);
}

#[test]
fn part_with_other_bytes_is_refused() {
    let parts = whole(3 * PART);
    let mut collected = Parts::new(&parts[0]);
    assert!(collected.add(parts[1].clone()));
    let mut other = parts[1].clone();
    other.bytes = Bytes::from_static(b"other");
    assert!(!collected.add(other));
}
