//! What was paid to a channel's address and is not the channel: a second payment, or one of another value.
//! It opens nothing and no tick is paid from it. The user is told, and it comes home after the expiry, as
//! the channel would. Spec: bitcoin 6.

use bitcoin::{Amount, Network, OutPoint, ScriptBuf};
use streampay_core::store::ChangeSet;
use streampay_core::units::PurseKey;

use super::payer::{FORGOTTEN, Payer};
use super::record::{self, Deed, StrayRecord};
use super::watch::Refunding;
use super::{Action, ChannelMachine, Side, WalletCoin, WatchEvent};
use crate::chain::{Seen, Watch};
use crate::tx::Contract;

/// What is worth less than its refund and an output at 1 sat/vB is left where it is: whoever knows an
/// address can pay to it.
const LEAST: Amount = Amount::from_sat(500);
/// The most of one channel that have not come back; the largest are taken. As many that came back stay
/// known, the newest.
const STRAYS_MAX: usize = 64;

/// One of them.
pub(super) struct Stray {
    /// Its output, as if it were a channel.
    pub(super) contract: Contract,
    /// No spend is in a block below this height.
    pub(super) since: u32,
    pub(super) seen: Option<Seen>,
    /// What was done to take it back.
    pub(super) refunding: Refunding,
    /// What came back, once that is buried.
    pub(super) back: Option<u64>,
    /// Half of it does not pay for its refund now.
    pub(super) aside: bool,
}

/// A channel whose address may have been paid to besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Besides {
    /// The channel.
    pub purse: PurseKey,
    /// The script of its output.
    pub script: ScriptBuf,
    /// No payment to it is in a block below this height.
    pub since: u32,
}

impl Stray {
    fn new(network: Network, deed: &Deed, record: &StrayRecord) -> Option<Self> {
        let contract = Contract::new(
            network,
            deed.output()?,
            record.place.outpoint(),
            Amount::from_sat(record.value),
            Amount::ZERO,
            ScriptBuf::from_bytes(deed.change.to_vec()),
        );
        Some(Self {
            contract: contract.ok()?,
            since: record.since,
            seen: None,
            refunding: Refunding::default(),
            back: record.back,
            aside: false,
        })
    }

    fn record(&self) -> StrayRecord {
        StrayRecord {
            place: self.contract.outpoint().into(),
            value: self.contract.value().to_sat(),
            since: self.since,
            back: self.back,
        }
    }

    /// True where something spends it, or was broadcast to.
    fn is_under_way(&self) -> bool {
        let spend = self.seen.as_ref().and_then(|seen| seen.spend.as_ref());
        spend.is_some() || self.refunding.is_under_way()
    }

    /// What every view should hold of it.
    pub(super) fn watch(&self) -> Option<Watch> {
        self.back.is_none().then(|| Watch {
            outpoint: self.contract.outpoint(),
            script: self.contract.output().script_pubkey(),
            since: self.since,
        })
    }
}

impl Payer {
    /// Those that its records tell of.
    pub(super) fn with_strays(mut self, network: Network, records: &[StrayRecord]) -> Self {
        if let Some(deed) = &self.meta.deed {
            let all = records.iter();
            self.strays = all
                .filter_map(|record| Stray::new(network, deed, record))
                .collect();
        }
        self
    }

    pub(super) fn put_strays(&self, delta: &mut ChangeSet) {
        let all: Vec<StrayRecord> = self.strays.iter().map(Stray::record).collect();
        record::put_strays(delta, &all);
    }

    /// Lets the oldest go of those that came back: whoever knows an address can pay to it for ever.
    pub(super) fn forget_returned(&mut self) {
        let returned = self.strays.iter().filter(|of| of.back.is_some());
        let mut over = returned.count().saturating_sub(STRAYS_MAX);
        self.strays.retain(|of| {
            let goes = of.back.is_some() && over > 0;
            over = over.saturating_sub(usize::from(goes));
            !goes
        });
    }

    /// One of them is the channel after all: what it was has been replaced.
    pub(super) fn is_no_stray(&mut self, outpoint: OutPoint, delta: &mut ChangeSet) {
        let known = self.strays.len();
        self.strays.retain(|of| of.contract.outpoint() != outpoint);
        if self.strays.len() < known {
            self.put_strays(delta);
        }
    }

    /// True where this is, for certain, not what the channel is or will be.
    fn is_stray(&self, coin: &WalletCoin) -> bool {
        let known = |of: &Stray| of.contract.outpoint() == coin.outpoint;
        if self.outpoint() == Some(coin.outpoint) || self.strays.iter().any(known) {
            return false;
        }
        let value = self.meta.deed.as_ref().map(|deed| deed.value);
        if value != Some(coin.value.to_sat()) {
            return true;
        }
        // Of the right value it may be the funding, or have replaced it.
        let height = self.seen.as_ref().and_then(|seen| seen.height);
        self.decided.settled.is_some() || !self.stale && height.is_some()
    }

    fn note_strays(&mut self, network: Network, coins: &[WalletCoin]) -> Vec<WalletCoin> {
        let mut new: Vec<WalletCoin> = (coins.iter())
            .filter(|coin| coin.value >= LEAST && self.is_stray(coin))
            .copied()
            .collect();
        new.sort_by_key(|coin| core::cmp::Reverse(coin.value));
        let Some(deed) = self.meta.deed.clone() else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        for coin in new {
            if !self.makes_room(coin.value) {
                break;
            }
            let record = StrayRecord {
                place: coin.outpoint.into(),
                value: coin.value.to_sat(),
                since: coin.since,
                back: None,
            };
            self.strays.extend(Stray::new(network, &deed, &record));
            taken.push(coin);
        }
        taken
    }

    /// True where there is a place for one of this value: if need be that of the smallest, for whoever
    /// knows an address can fill them all. What is let go is found again once there is room.
    fn makes_room(&mut self, value: Amount) -> bool {
        let open = self.strays.iter().filter(|of| of.back.is_none());
        if open.count() < STRAYS_MAX {
            return true;
        }
        let idle = (self.strays.iter().enumerate()).filter(|(_, of)| {
            of.back.is_none() && !of.is_under_way() && of.contract.value() < value
        });
        let smallest = idle.min_by_key(|(_, of)| of.contract.value());
        let Some(at) = smallest.map(|(at, _)| at) else {
            return false;
        };
        self.strays.remove(at);
        true
    }
}

impl ChannelMachine {
    /// Addresses of the payer's channels that were not looked through since the newest view's block:
    /// what is unspent there is to be given to [`ChannelMachine::paid_besides`].
    #[must_use]
    pub fn besides(&self) -> Vec<Besides> {
        let inner = self.lock();
        let Some(tip) = inner.chain.as_ref().map(|chain| chain.tip) else {
            return Vec::new();
        };
        let channels = inner.channels.iter();
        let wanted = channels.filter_map(|(key, channel)| {
            let Side::Payer(payer) = &channel.role else {
                return None;
            };
            let deed = payer.meta.deed.as_ref()?;
            let over = tip >= deed.expiry.saturating_add(FORGOTTEN);
            let script = deed.output()?.script_pubkey();
            let wanted = payer.sought || !over;
            (wanted && payer.searched != Some(tip)).then_some(Besides {
                purse: *key,
                script,
                since: deed.since,
            })
        });
        wanted.collect()
    }

    /// Has a payer's channel looked through at the next look, however long ago its time was.
    pub fn seek_besides(&self, purse: PurseKey) {
        let mut inner = self.lock();
        if let Some(Side::Payer(payer)) = inner.channels.get_mut(&purse).map(|of| &mut of.role) {
            payer.sought = true;
        }
    }

    /// What blocks hold unspent at a channel's address, the channel itself among it or not. What this asks
    /// for is to be done as after a view; what is lost with a crash is found again. Unless this is the
    /// `whole` of it, the address is to be looked through again.
    #[must_use]
    pub fn paid_besides(&self, purse: PurseKey, coins: &[WalletCoin], whole: bool) -> Vec<Action> {
        let mut inner = self.lock();
        let network = inner.config.network;
        let tip = inner.chain.as_ref().map(|chain| chain.tip);
        let Some(Side::Payer(payer)) = inner.channels.get_mut(&purse).map(|of| &mut of.role) else {
            return Vec::new();
        };
        if whole {
            (payer.searched, payer.sought) = (tip, false);
        }
        let new = payer.note_strays(network, coins);
        if new.is_empty() {
            return Vec::new();
        }
        let mut delta = ChangeSet::new();
        payer.put_strays(&mut delta);
        let event = |coin: WalletCoin| {
            let (outpoint, value) = (coin.outpoint, coin.value);
            Action::Event(purse, WatchEvent::PaidBesides { outpoint, value })
        };
        let first = Action::Persist(delta.within_purse(purse));
        let events = new.into_iter().map(event);
        core::iter::once(first).chain(events).collect()
    }
}
