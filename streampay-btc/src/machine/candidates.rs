//! Channels that a payer has shown and that are not accepted: strangers' words so far. They cost no
//! disk and little memory, each is looked at by itself when it is shown, and no view of the watch, no
//! fee and no value has anything of them. Spec: bitcoin 3.5.

use std::collections::BTreeMap;

use streampay_core::backend::{Answer, BackendError, Consumed, Outcome, RefusalCode};
use streampay_core::units::PurseKey;

use super::watch::FeeWallet;
use super::{Channel, ChannelMachine, Side};
use crate::chain::{Seen, Watch};
use crate::tx::Contract;

/// The most of them at a time in a node: far more than are looked at together. The one that was shown
/// longest ago makes room.
pub(super) const CANDIDATES_MAX: usize = 64;

/// Takes a channel that is new, unless its output is another one's or too many are looked at.
pub(super) fn admit(
    channels: &mut BTreeMap<PurseKey, Channel>,
    wallet: &FeeWallet,
    role: &Side,
) -> Result<(), BackendError> {
    let Side::Payee(payee) = role else {
        return Ok(());
    };
    let outpoint = payee.contract.outpoint();
    let has = |channel: &Channel| {
        let own = channel.contract().map(Contract::outpoint);
        !channel.is_candidate() && own == Some(outpoint)
    };
    if wallet.knows(outpoint) || channels.values().any(has) {
        // Its script has another purse's keys.
        return Err(BackendError::Rejected(RefusalCode::WrongLock, Consumed::No));
    }
    let shown = || {
        channels.iter().filter_map(|(key, channel)| {
            let Side::Payee(payee) = &channel.role else {
                return None;
            };
            let candidate = channel.is_candidate();
            candidate.then_some((channel.running, payee.asked, *key))
        })
    };
    if shown().count() < CANDIDATES_MAX {
        return Ok(());
    }
    match shown().min() {
        Some((false, _, key)) => {
            channels.remove(&key);
            Ok(())
        }
        // Shown again, it is looked at then.
        _ => Err(BackendError::Transient),
    }
}

/// True where a payer's word is no channel: nothing is kept of it.
pub(super) const fn ends(answer: &Answer) -> bool {
    matches!(
        &answer.outcome,
        Some(
            Outcome::Settled { .. }
                | Outcome::Failed(BackendError::Rejected(..) | BackendError::Fatal(_))
        )
    )
}

impl ChannelMachine {
    /// The output to look at for a channel that is not accepted, apart from all that are watched:
    /// see [`ChainSource::output`](crate::chain::ChainSource::output). None for every other channel.
    #[must_use]
    pub fn candidate(&self, purse: PurseKey) -> Option<Watch> {
        let inner = self.lock();
        let channel = inner.channels.get(&purse)?;
        channel.look_at().filter(|_| channel.is_candidate())
    }

    /// False where there is no such channel any more: nothing is to be looked at for it.
    #[must_use]
    pub fn knows(&self, purse: PurseKey) -> bool {
        self.lock().channels.contains_key(&purse)
    }

    /// What the chain says at this height of an output that [`ChannelMachine::candidate`] gave. A
    /// channel that is accepted is told of by [`ChannelMachine::chain`].
    pub fn show(&self, purse: PurseKey, watch: &Watch, tip: u32, seen: Option<Seen>) {
        let mut inner = self.lock();
        if let Some(Side::Payee(payee)) = inner.channels.get_mut(&purse).map(|of| &mut of.role)
            && !payee.meta.accepted
            // Meanwhile another one may have been shown for the same purse.
            && payee.contract.outpoint() == watch.outpoint
        {
            payee.show(tip, seen);
        }
    }
}
