use super::payment_hash;
use crate::session::{Hash, vectors};

#[test]
fn payload_is_known_again_by_the_hash_that_the_vectors_show() {
    assert!(vectors::have(Hash(payment_hash(&[0x70; 47]))));
    assert!(!vectors::have(Hash(payment_hash(&[0x70; 46]))));
}
