use alloc::vec::Vec;

use super::{Answer, EffectResult, Request};
use crate::store::Key;
use crate::units::{Now, PurseKey, RequestId, Unix};

/// A purse's records as they were found on disk: sub-keys and values.
pub type RestoredPurse = Vec<(Key, Vec<u8>)>;

/// A payment method's machine: sync, no I/O, all purses of this node.
///
/// Contract:
/// - **Idempotent**: the same request, by `(purse, id)`, gets the same answer again. An effect
///   result that was answered before changes nothing and has no outcome: an outcome does not say
///   of which request it is, and a session would take it for that of the request under way.
/// - **Delta first**: nothing in `effects` or `outcome` may depend on a change that is not in
///   `delta` or `node_delta`. The caller makes both durable before it acts on either.
/// - **Restorable**: after [`BackendMachine::restore`] with the records that became durable, the
///   machine answers as it would have without the restart, and names again every effect whose
///   result it has not seen.
pub trait BackendMachine: Send {
    /// The method's name in terms and in the store, at most 16 ASCII letters, `-` and digits.
    fn method(&self) -> &'static str;

    /// Takes a session's request.
    fn request(&mut self, now: Now, purse: PurseKey, id: RequestId, request: Request) -> Answer;

    /// Takes the end of an effect. The answer's outcome, if any, is that of the request which
    /// wanted the effect.
    fn effect_done(&mut self, now: Now, result: EffectResult) -> Answer;

    /// Takes the node's records as found on disk, before any purse.
    fn restore_node(&mut self, records: RestoredPurse);

    /// Takes a purse's records as found on disk. The answer holds the effects to run again.
    fn restore(&mut self, now: Now, purse: PurseKey, records: RestoredPurse) -> Answer;

    /// When the machine wants to be told the time for this purse, if nothing else tells it before:
    /// locks that run out, with a session or without. None where it waits for nothing.
    fn wake_at(&self, purse: PurseKey) -> Option<Unix> {
        let _ = purse;
        None
    }

    /// [`BackendMachine::wake_at`] has come, which must be later or none after this, or an effect
    /// under way. An outcome is that of the request under way.
    fn wake(&mut self, now: Now, purse: PurseKey) -> Answer {
        let _ = (now, purse);
        Answer::default()
    }

    /// Drops what it has of a purse in memory: its session is over, all its money is where it
    /// belongs, and durably so. Its records stay.
    fn forget(&mut self, purse: PurseKey);
}
