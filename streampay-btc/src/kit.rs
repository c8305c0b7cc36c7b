//! What brings a payer's money home without this software, and what a watchtower needs.

use std::collections::BTreeMap;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Address, Amount, FeeRate, Network, OutPoint, PrivateKey, ScriptBuf, Transaction};

use crate::chain::{ChainView, Seen, Watch};
use crate::keys::ChannelSecret;
use crate::machine::rate_of;
use crate::script::FundingOutput;
use crate::tx::{Contract, refund_tx};

/// Feerates of the refunds that are signed ahead, in sat/vB.
const RATES: [u32; 3] = [1, 10, 50];

/// A payer's channel on paper. Shown and stored before money moves; again, with the outpoint and
/// refunds, once it is funded. It holds a secret key: as secret as the money.
#[derive(Clone, PartialEq, Eq)]
pub struct RescueKit {
    /// The descriptor of the channel's output, without secrets.
    pub descriptor: String,
    /// The address.
    pub address: Option<Address>,
    /// What belongs into it.
    pub value: Amount,
    /// From a tip at this height on the refund can be broadcast.
    pub expiry: u32,
    /// Where the key is under the seed. Source: BIP 32.
    pub key_path: String,
    /// The payer's key as wallets import it.
    pub dangerous_wif: String,
    /// Where the money is; none before it is funded.
    pub outpoint: Option<OutPoint>,
    /// Refunds ready to broadcast, each with its feerate in sat/vB: the same money, only one counts.
    pub refunds: Vec<(u32, Transaction)>,
}

impl RescueKit {
    pub(crate) fn new(
        network: Network,
        output: &FundingOutput,
        value: Amount,
        contract: Option<&Contract>,
        secret: &ChannelSecret,
        key_path: String,
        home: &ScriptBuf,
    ) -> Self {
        let refund = |rate: u32| {
            let at = FeeRate::from_sat_per_vb_u32(rate);
            let tx = refund_tx(contract?, secret, home, at, 0).ok()?;
            Some((rate, tx))
        };
        let key = PrivateKey::new(secret.keypair().secret_key(), network);
        Self {
            descriptor: output.descriptor(),
            address: output.address(network),
            value,
            expiry: output.expiry(),
            key_path,
            dangerous_wif: key.to_wif(),
            outpoint: contract.map(Contract::outpoint),
            refunds: RATES.into_iter().filter_map(refund).collect(),
        }
    }

    /// The address and amount as wallets read them. Source: BIP 21.
    #[must_use]
    pub fn uri(&self) -> Option<String> {
        let address = self.address.as_ref()?;
        Some(funding_uri(address, self.value))
    }

    /// All of it as a text to print. It holds the key.
    #[must_use]
    pub fn dangerous_text(&self) -> String {
        let how = if self.refunds.is_empty() {
            "Any wallet for descriptors spends the output then, with the key below in place of its \
             public key."
        } else {
            "Any node takes one of the refunds below then, such as by `bitcoin-cli \
             sendrawtransaction HEX`: they pay to where your bitcoin comes back to."
        };
        let mut text = format!(
            "Of use from block {} on, where nothing else brings the money back. {how}\n\
             descriptor {}\nkey {} ({})\nexpiry block {}\nvalue {}\n",
            self.expiry,
            self.descriptor,
            self.dangerous_wif,
            self.key_path,
            self.expiry,
            self.value
        );
        if let Some(outpoint) = self.outpoint {
            text.push_str(&format!("output {outpoint}\n"));
        }
        for (rate, tx) in &self.refunds {
            text.push_str(&format!("refund at {rate} sat/vB {}\n", serialize_hex(tx)));
        }
        text
    }
}

impl core::fmt::Debug for RescueKit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RescueKit")
            .field("descriptor", &self.descriptor)
            .field("outpoint", &self.outpoint)
            .finish_non_exhaustive()
    }
}

/// A request for exactly `value`. Source: BIP 21.
#[must_use]
pub fn funding_uri(address: &Address, value: Amount) -> String {
    let amount = value.to_string_in(bitcoin::Denomination::Bitcoin);
    format!("bitcoin:{address}?amount={amount}")
}

/// A payee's channel as a watchtower holds it: finished closes, no key. An old one pays its owner
/// less and harms nobody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TowerEntry {
    /// What to look at.
    pub watch: Watch,
    /// When the payer may take it back.
    pub expiry: u32,
    /// So many blocks before that the tower acts.
    pub margin: u32,
    /// Closes of this channel alone, each with its feerate, ascending. None costs more than it may in
    /// the last 6 blocks before the expiry. Spec: bitcoin 5.4.
    pub closes: Vec<(FeeRate, Transaction)>,
    /// So many of them, the cheapest, may be broadcast before those blocks.
    pub early: usize,
}

/// Closes channels whose owner is away. It needs no key and makes no decision but which of the
/// finished transactions to broadcast.
#[derive(Clone, Debug, Default)]
pub struct Watchtower {
    entries: Vec<TowerEntry>,
    /// The height and rate of the last close that was broadcast over one that waits.
    bids: BTreeMap<OutPoint, (u32, FeeRate)>,
}

impl Watchtower {
    /// A tower that watches nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches a channel, in place of what it knew of it before.
    pub fn put(&mut self, entry: TowerEntry) {
        let outpoint = entry.watch.outpoint;
        self.entries
            .retain(|known| known.watch.outpoint != outpoint);
        self.entries.push(entry);
    }

    /// Watches these channels and no others. What it has bid for them it still knows.
    pub fn set(&mut self, entries: impl IntoIterator<Item = TowerEntry>) {
        self.entries.clear();
        entries.into_iter().for_each(|entry| self.put(entry));
    }

    /// The outputs that the next view should hold.
    #[must_use]
    pub fn watched(&self) -> Vec<Watch> {
        self.entries
            .iter()
            .map(|entry| entry.watch.clone())
            .collect()
    }

    /// What to broadcast now: of each channel within its margin that nothing spends the cheapest close
    /// that pays enough, else the dearest. Over a close that waits, whoever's it is, the next dearer one,
    /// one step a block: what hangs on it is to be paid for as well, and not known. Before the margin
    /// only a close of its own that waits at too low a rate is replaced. Channels with a spend that is
    /// buried are let go.
    #[must_use]
    pub fn chain(&mut self, view: &ChainView) -> Vec<Transaction> {
        let mut out = Vec::new();
        let bids = &mut self.bids;
        self.entries.retain(|entry| {
            let outpoint = entry.watch.outpoint;
            let mut outputs = view.outputs.iter();
            let state = outputs.find(|state| state.outpoint == outpoint);
            let Some(seen) = state.and_then(|state| state.seen.as_ref()) else {
                return true;
            };
            let bid = bids.get(&outpoint).copied();
            if let Some((rate, tx)) = entry.next_close(seen, bid, view) {
                bids.insert(outpoint, (view.tip, rate));
                out.push(tx.clone());
            }
            let spend = seen.spend.as_ref();
            spend.is_none_or(|spend| spend.depth(view.tip) < crate::machine::FINAL_DEPTH)
        });
        let entries = &self.entries;
        bids.retain(|outpoint, _| entries.iter().any(|of| of.watch.outpoint == *outpoint));
        out
    }
}

impl TowerEntry {
    fn next_close(
        &self,
        seen: &Seen,
        bid: Option<(u32, FeeRate)>,
        view: &ChainView,
    ) -> Option<(FeeRate, &Transaction)> {
        let left = self.expiry.saturating_sub(view.tip);
        let urgent = left <= self.margin;
        let wanted = view.fees.rate((left / 2).max(1));
        let early = self.closes.get(..self.early);
        let allowed = early.filter(|_| left > crate::machine::LAST_BLOCKS);
        let allowed = allowed.unwrap_or(&self.closes);
        let above = |least: &dyn Fn(FeeRate) -> bool| {
            let enough = allowed.iter().find(|(rate, _)| least(*rate));
            let found = enough.or_else(|| allowed.last());
            found.map(|(rate, tx)| (*rate, tx))
        };
        let Some(spend) = &seen.spend else {
            let found = above(&|rate| rate >= wanted && bid.is_none_or(|(_, last)| rate >= last));
            return found.filter(|_| urgent);
        };
        if spend.height.is_some() || spend.tx.lock_time != LockTime::ZERO {
            return None;
        }
        let txid = spend.tx.compute_txid();
        let own = self.closes.iter().find(|(_, tx)| tx.compute_txid() == txid);
        let own = own.map(|(rate, _)| *rate);
        if !urgent {
            return above(&|rate| rate >= wanted)
                .filter(|(rate, _)| own.is_some_and(|old| *rate > old));
        }
        let last = match bid {
            // One step a block.
            Some((height, _)) if height == view.tip => return None,
            Some((_, last)) => Some(own.map_or(last, |own| own.max(last))),
            None => own.or_else(|| alone_rate(seen, &spend.tx)),
        };
        let more = |rate| rate >= wanted && last.is_none_or(|last| rate > last);
        above(&more).filter(|(_, tx)| tx.compute_txid() != txid)
    }
}

/// What a close of this channel alone pays; none of one with others.
fn alone_rate(seen: &Seen, tx: &Transaction) -> Option<FeeRate> {
    if tx.input.len() != 1 {
        return None;
    }
    let mut out = tx.output.iter().map(|output| output.value);
    let out = out.try_fold(Amount::ZERO, Amount::checked_add)?;
    Some(rate_of(seen.output.value.checked_sub(out)?, tx.weight()))
}
