//! A purse's records on disk: one for the purse, one for each token or receipt.

use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use streampay_core::store::{ChangeSet, Key};

use super::doubt::Doubt;
use crate::codec::{self, Undecodable};
use crate::coin::{Coin, Seed};
use crate::job::{Listed, Place, Plan};
use crate::keysets::Keysets;

/// The version of all records; the first byte of each.
const VERSION: u8 = 1;

/// The purse's own record.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Meta {
    #[n(0)]
    Payer(#[n(0)] PayerMeta),
    #[n(1)]
    Payee(#[n(0)] PayeeMeta),
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PayerMeta {
    /// One tick in the unit.
    #[n(0)]
    pub(crate) tick: u64,
    #[n(1)]
    pub(crate) mints: Vec<Listed>,
    #[n(2)]
    pub(crate) stage: PayerStage,
    /// `Release` was asked.
    #[n(3)]
    pub(crate) closing: bool,
    /// What may leave the wallet in all, in the unit.
    #[n(4)]
    pub(crate) budget: u64,
    /// Why opening failed for good; what was reserved goes back first.
    #[n(5)]
    pub(crate) failed: Option<u16>,
    /// The most of a tick that its token may cost on top, in thousandths. None in records of before there
    /// was a limit: all of it.
    #[n(6)]
    pub(crate) max_fee_permille: Option<u64>,
    /// Since when nobody can say what has become of its split, while it is to be called off; by our own
    /// clock, in seconds since 1970.
    #[n(7)]
    pub(crate) unknown: Option<u64>,
}

impl PayerMeta {
    /// What a token of `place` gives after its fee: a tick at that mint's price.
    pub(crate) fn net_at(&self, place: &Place) -> u64 {
        let mut mints = self.mints.iter();
        let listed = mints.find(|listed| listed.place == *place);
        listed.map_or(self.tick, |listed| listed.tick)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum PayerStage {
    #[n(0)]
    Planning,
    #[n(1)]
    Funding(#[n(0)] Plan),
    #[n(2)]
    Open(#[n(0)] Tokens),
    /// What came back, in the unit.
    #[n(3)]
    Released(#[n(0)] u64),
    /// The funding was asked for and failed for good, by the mint's word. Should it have been carried
    /// out all the same, its outputs come from this alone.
    #[n(4)]
    Lost(#[n(0)] Plan, #[n(1)] Option<Sought>),
}

/// What has come of asking for a funding that failed by the mint's word. None where nobody has asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Sought {
    /// The mint denied it once more: when first, by its own clock, in seconds since 1970; 0 where it
    /// denied only that a part is the payer's.
    #[n(0)]
    Denied(#[n(0)] u64),
    /// It is taken for lost. Should the mint give it back after all, it is found.
    #[n(1)]
    GivenUp,
    /// It is home: the mint is not asked again.
    #[n(2)]
    Home,
}

impl Sought {
    /// What is to be written where this has come of asking again; none for what is known.
    pub(crate) fn after(self, before: Option<Self>) -> Option<Self> {
        match (before, self) {
            (Some(_), Self::Denied(_)) | (Some(Self::Home), _) => None,
            (Some(Self::GivenUp), Self::GivenUp) => None,
            _ => Some(self),
        }
    }
}

/// What all tokens of an open purse share.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Tokens {
    #[n(0)]
    pub(crate) place: Place,
    #[n(1)]
    pub(crate) seed: Seed,
    #[n(2)]
    pub(crate) keysets: Keysets,
    #[n(3)]
    pub(crate) count: u64,
    /// What left the wallet for it: the tokens' faces and the fee of splitting, in the unit.
    #[n(4)]
    pub(crate) cost: u64,
}

/// One token of a payer's purse.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Token {
    #[n(0)]
    pub(crate) coins: Vec<Coin>,
    #[n(1)]
    pub(crate) state: TokenState,
    /// The keyset of the outputs that a reclaiming swap asks for, from its first run on.
    #[n(2)]
    pub(crate) outputs: Option<ByteVec>,
    /// What those come to, in the unit, where the mint takes another fee than when the purse was opened.
    #[n(3)]
    pub(crate) net: Option<u64>,
    /// Since when the mint says that it is worth no more than its fee, by our own clock, in seconds since
    /// 1970.
    #[n(4)]
    pub(crate) worthless: Option<u64>,
    /// That it may have been swapped back.
    #[n(5)]
    pub(crate) doubt: Option<Doubt>,
}

/// Where a token is. The number is the tick it was handed out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum TokenState {
    #[n(0)]
    Fresh,
    #[n(1)]
    Sent(#[n(0)] u64),
    #[n(2)]
    Acked(#[n(0)] u64),
    #[n(3)]
    Reclaiming(#[n(0)] u64),
    #[n(4)]
    Back(#[n(0)] u64),
    #[n(5)]
    Spent(#[n(0)] u64),
}

impl TokenState {
    pub(crate) const fn seq(self) -> Option<u64> {
        match self {
            Self::Fresh => None,
            Self::Sent(seq)
            | Self::Acked(seq)
            | Self::Reclaiming(seq)
            | Self::Back(seq)
            | Self::Spent(seq) => Some(seq),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PayeeMeta {
    /// One tick in the unit.
    #[n(0)]
    pub(crate) tick: u64,
    #[n(1)]
    pub(crate) place: Place,
    /// Tokens that the purse holds.
    #[n(2)]
    pub(crate) count: u64,
    /// None until the mint's keysets are known.
    #[n(3)]
    pub(crate) ready: Option<Ready>,
    /// `Settle` was asked and has not ended.
    #[n(4)]
    pub(crate) settling: bool,
    /// What a token gives after its fee: a tick at this mint's price, in the unit.
    #[n(5)]
    pub(crate) net: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Ready {
    #[n(0)]
    pub(crate) keysets: Keysets,
    #[n(1)]
    pub(crate) seed: Seed,
}

/// One tick of a payee's purse.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Receipt {
    /// SHA-256 of the payload.
    #[n(0)]
    pub(crate) payload: ByteArray<32>,
    /// The coins while their swap is under way; empty once they are ours.
    #[n(1)]
    pub(crate) coins: Vec<Coin>,
    #[n(2)]
    pub(crate) credited: bool,
    /// The keyset of the outputs that the swap asks for, from its first run on: outputs of
    /// another keyset would not find what the first run did.
    #[n(3)]
    pub(crate) outputs: Option<ByteVec>,
    /// That the swap may be done.
    #[n(4)]
    pub(crate) doubt: Option<Doubt>,
}

/// A payment of which the mint said that somebody else had spent it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Denied {
    /// The tick that it was for.
    #[n(0)]
    pub(crate) seq: u64,
    #[n(1)]
    pub(crate) receipt: Receipt,
}

const META: u8 = b'm';
const TOKEN: u8 = b't';
const RECEIPT: u8 = b'r';
const DENIED: u8 = b'd';

/// What a key of a purse's records is of.
pub(crate) enum Kind {
    Meta,
    Token(u64),
    Receipt(u64),
    Denied(u64),
}

pub(crate) fn kind(key: &[u8]) -> Option<Kind> {
    let (first, rest) = key.split_first()?;
    match (*first, rest.is_empty()) {
        (META, true) => Some(Kind::Meta),
        (TOKEN, _) => Some(Kind::Token(number(rest)?)),
        (RECEIPT, _) => Some(Kind::Receipt(number(rest)?)),
        (DENIED, _) => Some(Kind::Denied(number(rest)?)),
        _ => None,
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

fn numbered(kind: u8, number: u64) -> Key {
    let mut key = vec![kind];
    key.extend_from_slice(&number.to_be_bytes());
    key
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

fn write<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut record = vec![VERSION];
    record.extend_from_slice(&codec::encode(value));
    record
}

pub(crate) fn put_meta(delta: &mut ChangeSet, meta: &Meta) {
    delta.put([META], write(meta));
}

pub(crate) fn remove_meta(delta: &mut ChangeSet) {
    delta.remove([META]);
}

pub(crate) fn put_token(delta: &mut ChangeSet, index: u64, token: &Token) {
    delta.put(numbered(TOKEN, index), write(token));
}

pub(crate) fn remove_token(delta: &mut ChangeSet, index: u64) {
    delta.remove(numbered(TOKEN, index));
}

pub(crate) fn put_receipt(delta: &mut ChangeSet, seq: u64, receipt: &Receipt) {
    delta.put(numbered(RECEIPT, seq), write(receipt));
}

pub(crate) fn remove_receipt(delta: &mut ChangeSet, seq: u64) {
    delta.remove(numbered(RECEIPT, seq));
}

pub(crate) fn put_denied(delta: &mut ChangeSet, at: u64, denied: &Denied) {
    delta.put(numbered(DENIED, at), write(denied));
}

pub(crate) fn remove_denied(delta: &mut ChangeSet, at: u64) {
    delta.remove(numbered(DENIED, at));
}
