use alloc::vec::Vec;

use super::{ChangeSet, Key, StoreError};

/// Durable records. Blocking; the driver calls it from a thread of its own.
pub trait Store: Send {
    /// Makes all of `sets` durable, in order, together. When this returns `Ok`, a power cut loses
    /// none of it; when it fails, the store refuses everything until opened anew.
    ///
    /// # Errors
    /// [`StoreError::Failed`] once, then [`StoreError::Poisoned`].
    fn append(&mut self, sets: &[ChangeSet]) -> Result<(), StoreError>;

    /// All records whose key begins with `prefix`, in key order.
    ///
    /// # Errors
    /// [`StoreError`] where they cannot be read.
    fn scan(&self, prefix: &[u8]) -> Result<Vec<(Key, Vec<u8>)>, StoreError>;
}
