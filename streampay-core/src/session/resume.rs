//! How long a session without a connection can be resumed.

use super::record::Common;
use crate::units::{Mono, Now};

impl Common {
    /// When nobody may come back any more, and whether that is decided just now and must be made
    /// durable. From the loss of the last bound connection, over restarts; never longer than the
    /// terms say from here, whatever the wall clock did meanwhile. Spec: session 8.1.
    pub(super) fn resume_by(&mut self, now: Now) -> (Mono, bool) {
        let most = u64::from(self.terms().resumable_s);
        let decided = self.resume_by.is_none();
        let unix_s = now.unix.0;
        let by = *(self.resume_by).get_or_insert_with(|| unix_s.saturating_add(most));
        let left = by.saturating_sub(unix_s).min(most);
        (now.mono.after_ms(left.saturating_mul(1_000)), decided)
    }
}
