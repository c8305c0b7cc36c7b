//! A channel's records on disk.

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, Network, ScriptBuf, Transaction};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use streampay_core::backend::RestoredPurse;
use streampay_core::store::ChangeSet;

use crate::codec::{self, Undecodable};
use crate::job::Place;
use crate::script::{FundingOutput, OutputType};
use crate::tx::Contract;

/// The version of all records; the first byte of each.
const VERSION: u8 = 1;

const META: u8 = b'm';
/// The payer's highest signed amount, or the payee's best update.
const BEST: u8 = b'b';
/// What the watch decided: written apart from the session's records, so that neither overwrites
/// the other.
const WATCH: u8 = b'w';
/// The payee's: the funding transaction, where ticks are taken before a block has it.
const PARENT: u8 = b'p';
/// The payer's: what was paid to its address besides.
const STRAYS: u8 = b's';
/// The payee's: what of a close went to others.
const SPLIT: u8 = b'v';

/// What follows from the agreement: the same from the opening on.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Deed {
    #[n(0)]
    pub(crate) kind: u8,
    #[n(1)]
    pub(crate) payer: ByteArray<33>,
    #[n(2)]
    pub(crate) payee: ByteArray<33>,
    #[n(3)]
    pub(crate) expiry: u32,
    #[n(4)]
    pub(crate) value: u64,
    #[n(5)]
    pub(crate) reserve: u64,
    #[n(6)]
    pub(crate) change: ByteVec,
    #[n(7)]
    pub(crate) margin: u32,
    /// One tick in satoshi.
    #[n(8)]
    pub(crate) step: u64,
    /// Confirmations that the payee asks.
    #[n(9)]
    pub(crate) depth: u32,
    /// No block below this height holds the funding.
    #[n(10)]
    pub(crate) since: u32,
}

impl Deed {
    pub(crate) fn output(&self) -> Option<FundingOutput> {
        let kind = OutputType::from_code(self.kind)?;
        let payer = PublicKey::from_slice(&*self.payer).ok()?;
        let payee = PublicKey::from_slice(&*self.payee).ok()?;
        FundingOutput::new(kind, payer, payee, self.expiry).ok()
    }

    pub(crate) fn contract(&self, network: Network, place: &Place) -> Option<Contract> {
        Contract::new(
            network,
            self.output()?,
            place.outpoint(),
            Amount::from_sat(self.value),
            Amount::from_sat(self.reserve),
            ScriptBuf::from_bytes(self.change.to_vec()),
        )
        .ok()
    }
}

/// The channel's own record.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Meta {
    #[n(0)]
    Payer(#[n(0)] PayerMeta),
    #[n(1)]
    Payee(#[n(0)] PayeeMeta),
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PayerMeta {
    /// None until the chain's height is known.
    #[n(0)]
    pub(crate) deed: Option<Deed>,
    #[n(1)]
    pub(crate) place: Option<Place>,
    /// What the funding transaction cost, as far as is known.
    #[n(2)]
    pub(crate) fee: u64,
    /// `Release` was asked.
    #[n(3)]
    pub(crate) closing: bool,
    /// The payee's opening was given out.
    #[n(4)]
    pub(crate) opened: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PayeeMeta {
    #[n(0)]
    pub(crate) deed: Deed,
    #[n(1)]
    pub(crate) place: Place,
    /// The funding was deep enough.
    #[n(2)]
    pub(crate) accepted: bool,
    /// `Settle` was asked.
    #[n(3)]
    pub(crate) settling: bool,
    /// The longest life at acceptance.
    #[n(4)]
    pub(crate) life_min: u32,
    #[n(5)]
    pub(crate) life_max: u32,
}

/// The highest update: signed by the payer, or held by the payee.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Best {
    /// What it pays, settle reserve included.
    #[n(0)]
    pub(crate) paid: u64,
    /// The tick it came with; 0 for the payer.
    #[n(1)]
    pub(crate) seq: u64,
    /// The payer's signature; empty on the payer's side, which can make it again.
    #[n(2)]
    pub(crate) signature: ByteVec,
}

/// What the watch decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Decided {
    /// A close or refund may have been broadcast: no tick any more.
    #[n(0)]
    pub(crate) closing: bool,
    /// The spend is buried, and this came to us.
    #[n(1)]
    pub(crate) settled: Option<u64>,
    /// No spend is in a block below this height, by far: what was seen unspent need not be looked for
    /// further back after a restart.
    #[n(2)]
    pub(crate) unspent: Option<u32>,
    /// The payer's: that spend is its refund, and no close. None before, and in records of older versions.
    #[n(3)]
    pub(crate) refunded: Option<bool>,
}

/// An output to the channel's script that is not the channel.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct StrayRecord {
    #[n(0)]
    pub(crate) place: Place,
    #[n(1)]
    pub(crate) value: u64,
    /// No spend is in a block below this height.
    #[n(2)]
    pub(crate) since: u32,
    /// What came back, once that is buried.
    #[n(3)]
    pub(crate) back: Option<u64>,
}

/// What of a close went to somebody else than the payout.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Part {
    #[n(0)]
    pub(crate) script: ByteVec,
    #[n(1)]
    pub(crate) sat: u64,
}

/// Blocks from one note that an output is unspent to the next, and so deep a reorganisation it bears.
const UNSPENT_EVERY: u32 = 36;

impl Decided {
    /// The same once an output is seen that nothing spends at this height of the chain, in a block at
    /// `height`. It changes now and then only.
    pub(crate) fn with_unspent(self, height: u32, tip: u32) -> Self {
        let known = self.unspent.unwrap_or(height).max(height);
        let old = known.saturating_add(2 * UNSPENT_EVERY) <= tip;
        let unspent = old.then(|| tip.saturating_sub(UNSPENT_EVERY));
        Self {
            unspent: unspent.or(self.unspent),
            ..self
        }
    }

    /// From which height on a spend is to be looked for.
    pub(crate) fn since(self, since: u32) -> u32 {
        self.unspent.unwrap_or(since).max(since)
    }
}

/// A channel's records as they were found.
pub(crate) struct Found {
    pub(crate) meta: Meta,
    pub(crate) best: Option<Best>,
    pub(crate) decided: Decided,
    pub(crate) parent: Option<Transaction>,
    pub(crate) strays: Vec<StrayRecord>,
    pub(crate) split: Vec<Part>,
}

/// None where there is no channel in them.
pub(crate) fn read_all(records: &RestoredPurse) -> Result<Option<Found>, Undecodable> {
    let (mut meta, mut best, mut decided) = (None, None, Decided::default());
    let (mut parent, mut strays, mut split) = (None, Vec::new(), Vec::new());
    for (key, value) in records {
        match key.as_slice() {
            [META] => meta = Some(read(value)?),
            [BEST] => best = Some(read(value)?),
            [WATCH] => decided = read(value)?,
            [PARENT] => {
                // It only helps: without it the channel is as good as one that had to confirm.
                let raw = read::<ByteVec>(value).ok();
                parent = raw.and_then(|raw| deserialize(&raw).ok());
            }
            // What is lost with it a search finds again.
            [STRAYS] => strays = read(value).unwrap_or_default(),
            // It only tells.
            [SPLIT] => split = read(value).unwrap_or_default(),
            _ => {}
        }
    }
    Ok(meta.map(|meta| Found {
        meta,
        best,
        decided,
        parent,
        strays,
        split,
    }))
}

pub(crate) fn put_meta(delta: &mut ChangeSet, meta: &Meta) {
    delta.put([META], write(meta));
}

pub(crate) fn put_best(delta: &mut ChangeSet, best: &Best) {
    delta.put([BEST], write(best));
}

pub(crate) fn put_decided(delta: &mut ChangeSet, decided: Decided) {
    delta.put([WATCH], write(&decided));
}

pub(crate) fn put_parent(delta: &mut ChangeSet, parent: &Transaction) {
    delta.put([PARENT], write(&ByteVec::from(serialize(parent))));
}

pub(crate) fn put_strays(delta: &mut ChangeSet, strays: &[StrayRecord]) {
    delta.put([STRAYS], write(&strays.to_vec()));
}

pub(crate) fn put_split(delta: &mut ChangeSet, split: &[Part]) {
    delta.put([SPLIT], write(&split.to_vec()));
}

pub(crate) fn read<T>(record: &[u8]) -> Result<T, Undecodable>
where
    T: Encode<()> + for<'b> Decode<'b, ()>,
{
    match record.split_first() {
        Some((&VERSION, body)) => codec::decode(body, usize::MAX),
        _ => Err(Undecodable),
    }
}

pub(crate) fn write<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut record = vec![VERSION];
    record.extend_from_slice(&codec::encode(value));
    record
}
