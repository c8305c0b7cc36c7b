//! What a user may be told of a channel.

use bitcoin::{Address, Amount, Network, OutPoint, ScriptBuf};
use streampay_core::units::PurseKey;

use super::record::Part;
use super::strays::Stray;
use super::{Channel, Side};
use crate::chain::{Seen, Watch};
use crate::script::FundingOutput;
use crate::tx::Contract;

/// Which side of a channel this node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It pays.
    Payer,
    /// It is paid.
    Payee,
}

/// Where a channel is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelState {
    /// Nobody has paid to its address, as far as is known.
    Unfunded,
    /// Funded, and not deep enough, or not looked at since a restart.
    Confirming,
    /// It takes ticks.
    Open,
    /// No tick any more; what is due is not buried yet.
    Closing,
    /// The money is where it belongs.
    Settled,
}

/// One channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelReport {
    /// Its purse.
    pub purse: PurseKey,
    /// Which side this node is.
    pub role: Role,
    /// Where it is on its way.
    pub state: ChannelState,
    /// The descriptor of its output.
    pub descriptor: String,
    /// Its address.
    pub address: Option<Address>,
    /// All that is in it.
    pub value: Amount,
    /// What the payee could take, settle reserve included.
    pub paid: Amount,
    /// The part of that which is no credit: for closing.
    pub reserve: Amount,
    /// Payer: what the funding transaction cost, as far as is known.
    pub funding_fee: Amount,
    /// Where the money is, once it is funded.
    pub outpoint: Option<OutPoint>,
    /// From this height on the payer takes back what is left.
    pub expiry: u32,
    /// Blocks until then.
    pub left: Option<u32>,
    /// Payer: what a transaction that spends it gives back, as far as the chain shows one.
    pub coming: Option<Amount>,
    /// What came of it, once settled.
    pub settled: Option<Amount>,
    /// Payer: that came by its refund, what was paid too; false where the payee closed the channel. None until it is
    /// settled, and where an older version settled it.
    pub refunded: Option<bool>,
    /// What closing it, or taking it back, should cost at today's fees, where that is more than it may.
    pub short: Option<Amount>,
    /// Payer: what was paid to its address besides, in no sum above.
    pub besides: Vec<PaidBesides>,
    /// Payee: what of [`settled`](Self::settled) went to others by [shares](crate::policy::PayeePolicy::shares),
    /// each by its script, and by its address where it has one.
    pub split: Vec<PaidOut>,
}

/// A share of what came of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaidOut {
    /// To whom.
    pub script: ScriptBuf,
    /// The same as an address, where it has one.
    pub address: Option<Address>,
    /// How much.
    pub amount: Amount,
}

/// An output to a channel's address that is not the channel: it opens nothing, and comes back after the
/// expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaidBesides {
    /// Which.
    pub outpoint: OutPoint,
    /// What it is worth.
    pub value: Amount,
    /// What came back of it, once that is buried.
    pub back: Option<Amount>,
    /// Half of it does not pay for its refund now: it waits for nodes to relay for less.
    pub aside: bool,
}

impl ChannelReport {
    /// Payer: what was paid to its address besides and has not come back, but for what is set aside.
    #[must_use]
    pub fn besides_open(&self) -> Amount {
        let open = (self.besides.iter()).filter(|of| of.back.is_none() && !of.aside);
        let sum = open.map(|of| of.value.to_sat());
        Amount::from_sat(sum.fold(0, u64::saturating_add))
    }
}

impl Channel {
    pub(super) fn seen(&self) -> Option<&Seen> {
        match &self.role {
            Side::Payer(payer) => payer.seen.as_ref(),
            Side::Payee(payee) => payee.seen.as_ref(),
        }
    }

    pub(super) fn contract(&self) -> Option<&Contract> {
        match &self.role {
            Side::Payer(payer) => payer.contract.as_ref(),
            Side::Payee(payee) => Some(&payee.contract),
        }
    }

    /// True where nothing is to be done or seen any more.
    pub(super) fn is_over(&self) -> bool {
        match &self.role {
            Side::Payer(payer) => {
                payer.is_over() && payer.strays.iter().all(|of| of.back.is_some())
            }
            Side::Payee(payee) => {
                let nothing = payee.best.is_none() && payee.meta.settling;
                payee.decided.settled.is_some() || nothing
            }
        }
    }

    /// True for a payee's channel that is a payer's word so far.
    pub(super) fn is_candidate(&self) -> bool {
        matches!(&self.role, Side::Payee(payee) if !payee.meta.accepted)
    }

    /// What every view should hold of it.
    pub(super) fn watches(&self) -> Vec<Watch> {
        let own = self.look_at().filter(|_| !self.is_candidate());
        let strays = match &self.role {
            Side::Payer(payer) => payer.strays.as_slice(),
            Side::Payee(_) => &[],
        };
        let strays = strays.iter().filter_map(Stray::watch);
        own.into_iter().chain(strays).collect()
    }

    pub(super) fn look_at(&self) -> Option<Watch> {
        let over = match &self.role {
            Side::Payer(payer) => payer.is_over(),
            Side::Payee(_) => self.is_over(),
        };
        let contract = self.contract().filter(|_| !over)?;
        let since = match &self.role {
            Side::Payer(payer) => {
                let since = payer.meta.deed.as_ref().map_or(0, |deed| deed.since);
                payer.decided.since(since)
            }
            Side::Payee(payee) => payee.decided.since(payee.meta.deed.since),
        };
        Some(Watch {
            outpoint: contract.outpoint(),
            script: contract.output().script_pubkey(),
            since,
        })
    }

    pub(super) fn report(
        &self,
        purse: PurseKey,
        tip: Option<u32>,
        network: Network,
    ) -> Option<ChannelReport> {
        let (role, deed, paid, settled, closing) = match &self.role {
            Side::Payer(payer) => (
                Role::Payer,
                payer.meta.deed.as_ref()?,
                payer.signed,
                payer.decided.settled,
                payer.decided.closing || payer.meta.closing,
            ),
            Side::Payee(payee) => (
                Role::Payee,
                &payee.meta.deed,
                payee.best.as_ref().map_or(0, |best| best.paid),
                payee.decided.settled,
                payee.decided.closing || payee.meta.settling,
            ),
        };
        let coming = match &self.role {
            Side::Payer(payer) => payer.coming().map(Amount::from_sat),
            Side::Payee(_) => None,
        };
        let short = match &self.role {
            Side::Payer(payer) => payer.refunding.short(),
            Side::Payee(payee) => payee.short,
        };
        let funding_fee = match &self.role {
            Side::Payer(payer) => payer.meta.fee,
            Side::Payee(_) => 0,
        };
        let refunded = match &self.role {
            Side::Payer(payer) => payer.decided.refunded,
            Side::Payee(_) => None,
        };
        let besides = match &self.role {
            Side::Payer(payer) => payer.strays.iter().map(paid_besides).collect(),
            Side::Payee(_) => Vec::new(),
        };
        let split = match &self.role {
            Side::Payer(_) => Vec::new(),
            Side::Payee(payee) => {
                let parts = payee.split.iter();
                parts.map(|part| paid_out(part, network)).collect()
            }
        };
        let output: FundingOutput = deed.output()?;
        let depth = self.seen().zip(tip).map(|(seen, tip)| seen.depth(tip));
        let state = match (settled, closing, self.contract(), depth) {
            (Some(_), ..) => ChannelState::Settled,
            (_, _, None, _) => ChannelState::Unfunded,
            (_, true, ..) => ChannelState::Closing,
            (_, _, _, Some(depth)) if depth >= deed.depth => ChannelState::Open,
            _ => ChannelState::Confirming,
        };
        Some(ChannelReport {
            purse,
            role,
            state,
            descriptor: output.descriptor(),
            address: output.address(network),
            value: Amount::from_sat(deed.value),
            paid: Amount::from_sat(paid),
            reserve: Amount::from_sat(deed.reserve),
            funding_fee: Amount::from_sat(funding_fee),
            outpoint: self.contract().map(Contract::outpoint),
            expiry: deed.expiry,
            left: tip.map(|tip| deed.expiry.saturating_sub(tip)),
            coming,
            settled: settled.map(Amount::from_sat),
            refunded,
            short: short.filter(|_| settled.is_none()),
            besides,
            split,
        })
    }
}

fn paid_out(part: &Part, network: Network) -> PaidOut {
    let script = ScriptBuf::from_bytes(part.script.to_vec());
    PaidOut {
        address: Address::from_script(&script, network).ok(),
        script,
        amount: Amount::from_sat(part.sat),
    }
}

fn paid_besides(stray: &Stray) -> PaidBesides {
    PaidBesides {
        outpoint: stray.contract.outpoint(),
        value: stray.contract.value(),
        back: stray.back.map(Amount::from_sat),
        aside: stray.aside,
    }
}
