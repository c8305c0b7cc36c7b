//! Payments that the watch looks for by itself: to addresses that were shown for channels that nobody
//! waits for any more, and those that replaced a funding that was known. What is paid comes back.

use bitcoin::{Amount, OutPoint, ScriptBuf};
use streampay_core::store::ChangeSet;
use streampay_core::units::PurseKey;

use super::payer::Payer;
use super::{Channel, ChannelMachine, Side};

impl Payer {
    /// What to look for on the chain: the payment to an address that was shown, of a channel that
    /// only has to come home. While it is to open its session asks for it. And where the funding is
    /// not on the chain any more, the one that replaced it.
    fn unpaid_order(&self, purse: PurseKey) -> Option<Unpaid> {
        let deed = self.meta.deed.as_ref()?;
        let given_up = self.meta.closing && self.contract.is_none();
        let wanted = (given_up || self.adrift) && !self.is_over();
        wanted.then_some(Unpaid {
            purse,
            script: deed.output()?.script_pubkey(),
            value: Amount::from_sat(deed.value),
            since: deed.since,
        })
    }
}

/// A channel whose address may have been paid to.
#[derive(Clone, Debug)]
pub(crate) struct Unpaid {
    pub(crate) purse: PurseKey,
    pub(crate) script: ScriptBuf,
    pub(crate) value: Amount,
    pub(crate) since: u32,
}

impl ChannelMachine {
    /// Payments that the watch looks for by themselves.
    pub(crate) fn unpaid(&self) -> Vec<Unpaid> {
        let inner = self.lock();
        let channels = inner.channels.iter();
        let unpaid = |(key, channel): (&PurseKey, &Channel)| match &channel.role {
            Side::Payer(payer) => payer.unpaid_order(*key),
            Side::Payee(_) => None,
        };
        channels.filter_map(unpaid).collect()
    }

    /// One of them was paid: from now on that output is watched, and refunded after the expiry. Make
    /// the changes durable, where there are any. Lost with a crash, it is found again.
    pub(crate) fn paid_late(&self, purse: PurseKey, outpoint: OutPoint) -> ChangeSet {
        let mut inner = self.lock();
        let (network, mut delta) = (inner.config.network, ChangeSet::new());
        if let Some(Side::Payer(payer)) = inner.channels.get_mut(&purse).map(|of| &mut of.role) {
            payer.funded(network, outpoint.into(), 0, &mut delta);
        }
        delta.within_purse(purse)
    }
}
