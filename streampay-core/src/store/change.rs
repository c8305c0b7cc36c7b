use alloc::vec::Vec;
use core::fmt;

use super::Key;
use crate::units::PurseKey;

/// One record written, or removed.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Change {
    /// Which record.
    pub key: Key,
    /// What it holds from now on; none removes it.
    pub value: Option<Vec<u8>>,
}

/// Records that become durable together or not at all. Later changes of a key replace earlier
/// ones. What the records hold is as secret as money: `Debug` prints sizes only.
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ChangeSet {
    changes: Vec<Change>,
}

impl ChangeSet {
    /// Nothing to write.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            changes: Vec::new(),
        }
    }

    /// Stages `key = value`.
    pub fn put(&mut self, key: impl Into<Key>, value: impl Into<Vec<u8>>) {
        self.stage(Change {
            key: key.into(),
            value: Some(value.into()),
        });
    }

    /// Stages the removal of `key`.
    pub fn remove(&mut self, key: impl Into<Key>) {
        self.stage(Change {
            key: key.into(),
            value: None,
        });
    }

    /// The changes in order, one a key.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// True where there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Adds all of `later` after what is here.
    pub fn merge(&mut self, later: Self) {
        if self.is_empty() {
            *self = later;
            return;
        }
        later
            .changes
            .into_iter()
            .for_each(|change| self.stage(change));
    }

    /// The same changes, each key within the purse's own space. A backend writes sub-keys and so
    /// cannot reach another purse's records.
    #[must_use]
    pub fn within_purse(self, purse: PurseKey) -> Self {
        if self.is_empty() {
            return self;
        }
        self.under(&super::purse_prefix(purse))
    }

    /// The same changes, each key within the method's own space of this node.
    #[must_use]
    pub fn within_node(self, method: &str) -> Self {
        if self.is_empty() {
            return self;
        }
        self.under(&super::key::node_prefix(method))
    }

    fn under(mut self, prefix: &[u8]) -> Self {
        for change in &mut self.changes {
            change.key.splice(0..0, prefix.iter().copied());
        }
        self
    }

    fn stage(&mut self, change: Change) {
        match self
            .changes
            .iter_mut()
            .find(|staged| staged.key == change.key)
        {
            Some(staged) => staged.value = change.value,
            None => self.changes.push(change),
        }
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("key_len", &self.key.len())
            .field("value_len", &self.value.as_ref().map(Vec::len))
            .finish()
    }
}

impl fmt::Debug for ChangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChangeSet")
            .field(&self.changes.len())
            .finish()
    }
}
