use alloc::vec::Vec;

use super::opening_hash;
use crate::session::{Hash, vectors};

#[test]
fn opening_is_known_again_by_the_hash_that_the_vectors_show() {
    let opening: Vec<u8> = (0..40).collect();
    assert!(vectors::have(Hash(opening_hash(&opening))));
    assert!(!vectors::have(Hash(opening_hash(&opening[1..]))));
}
