//! A purse's records on disk: what rarely changes, what changes with every tick, and what is
//! large, each by itself.

use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use streampay_core::backend::RestoredPurse;
use streampay_core::store::ChangeSet;

use super::drain::Drain;
use super::job::{Agreed, Locked, Secret32};
use crate::codec::{self, Undecodable};
use crate::coin::Seed;
use crate::job::{Listed, Place, Plan};
use crate::keysets::Keysets;
use crate::machine::record::Sought;

/// The version of all records; the first byte of each.
const VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Meta {
    #[n(0)]
    Payer(#[n(0)] PayerMeta),
    #[n(1)]
    Payee(#[n(0)] PayeeMeta),
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PayerMeta {
    #[n(0)]
    pub(crate) agreed: Agreed,
    /// One step in the unit.
    #[n(1)]
    pub(crate) step: u64,
    #[n(2)]
    pub(crate) mints: Vec<Listed>,
    /// What may leave the wallet in all, in the unit.
    #[n(3)]
    pub(crate) budget: u64,
    /// The payee's key of this purse.
    #[n(4)]
    pub(crate) receiver: ByteArray<33>,
    #[n(5)]
    pub(crate) stage: Stage,
    /// `Release` was asked.
    #[n(6)]
    pub(crate) closing: bool,
    /// Why opening failed for good; what was reserved goes back first.
    #[n(7)]
    pub(crate) failed: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Stage {
    #[n(0)]
    Planning,
    #[n(1)]
    Funding(#[n(0)] Planned),
    #[n(2)]
    Open(#[n(0)] Planned),
    /// What came back, in the unit.
    #[n(3)]
    Released(#[n(0)] u64),
    /// The funding was asked for and failed for good, by the mint's word. Should it have been carried
    /// out all the same, its outputs come from this alone.
    #[n(4)]
    Lost(#[n(0)] Planned, #[n(1)] Option<Sought>),
}

/// A plan, when its locks give way, and what redeeming costs.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Planned {
    #[n(0)]
    pub(crate) plan: Plan,
    #[n(1)]
    pub(crate) locktime: u64,
    #[n(2)]
    pub(crate) ppk: u64,
}

/// Which steps the payer has shown, and which were acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Paid {
    #[n(0)]
    pub(crate) revealed: u64,
    #[n(1)]
    pub(crate) acked: u64,
    /// The newest tick's number.
    #[n(2)]
    pub(crate) seq: u64,
    /// The step that it was for.
    #[n(3)]
    pub(crate) step: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PayeeMeta {
    #[n(0)]
    pub(crate) agreed: Agreed,
    #[n(1)]
    pub(crate) step: u64,
    #[n(2)]
    pub(crate) place: Place,
    /// The secret key of this purse.
    #[n(3)]
    pub(crate) key: Secret32,
    #[n(4)]
    pub(crate) ppk: u64,
    #[n(5)]
    pub(crate) keysets: Keysets,
    #[n(6)]
    pub(crate) seed: Seed,
    /// `Settle` was asked: no tick is credited any more.
    #[n(7)]
    pub(crate) closed: bool,
    /// It has ended before.
    #[n(8)]
    pub(crate) settled: Option<u64>,
    /// It was refused, and is signed over to its payer: for how long it is remembered, in seconds
    /// since 1970. Then its locks give way anyhow.
    #[n(9)]
    pub(crate) refused_until: Option<u64>,
    /// The steps that the session had credited when it asked to settle: they may be more than are
    /// known here.
    #[n(10)]
    pub(crate) due: Option<u64>,
}

/// Which steps the payee has credited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Credited {
    #[n(0)]
    pub(crate) step: u64,
    /// The preimage of that step.
    #[n(1)]
    pub(crate) preimage: Option<Secret32>,
    #[n(2)]
    pub(crate) seq: u64,
    /// SHA-256 of that tick's payload.
    #[n(3)]
    pub(crate) digest: Option<ByteArray<32>>,
}

/// All that is on disk of one purse.
#[derive(Default)]
pub(crate) struct Records {
    pub(crate) meta: Option<Meta>,
    pub(crate) locked: Option<Locked>,
    /// Payer: the proofs' own bytes where the funding does not carry them. Payee: those of the
    /// steps that were paid.
    pub(crate) pieces: Vec<u8>,
    pub(crate) paid: Paid,
    pub(crate) credited: Credited,
    pub(crate) drain: Drain,
    pub(crate) release: Option<Vec<u8>>,
}

const META: u8 = b'm';
const LOCKED: u8 = b'f';
const PIECES: u8 = b'c';
const STEP: u8 = b't';
const PAID: u8 = b'p';
const CREDITED: u8 = b'q';
const DRAIN: u8 = b'd';
const RELEASE: u8 = b'r';

impl Records {
    pub(crate) fn read(records: &RestoredPurse) -> Result<Self, Undecodable> {
        let mut all = Self::default();
        let mut steps = std::collections::BTreeMap::new();
        for (key, value) in records {
            let Some((kind, rest)) = key.split_first() else {
                continue;
            };
            match *kind {
                META => all.meta = Some(read(value)?),
                LOCKED => all.locked = Some(read(value)?),
                PIECES => all.pieces = read::<ByteVec>(value)?.into(),
                STEP => {
                    let step = rest.try_into().map(u64::from_be_bytes);
                    let pieces: ByteVec = read(value)?;
                    steps.insert(step.map_err(|_| Undecodable)?, pieces);
                }
                PAID => all.paid = read(value)?,
                CREDITED => all.credited = read(value)?,
                DRAIN => all.drain = read(value)?,
                RELEASE => all.release = Some(read::<ByteVec>(value)?.into()),
                _ => {}
            }
        }
        steps
            .values()
            .for_each(|pieces| all.pieces.extend_from_slice(pieces));
        Ok(all)
    }
}

fn read<T>(record: &[u8]) -> Result<T, Undecodable>
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

pub(crate) fn put_locked(delta: &mut ChangeSet, locked: &Locked) {
    delta.put([LOCKED], write(locked));
}

pub(crate) fn put_pieces(delta: &mut ChangeSet, pieces: &[u8]) {
    delta.put([PIECES], write(&ByteVec::from(pieces.to_vec())));
}

pub(crate) fn put_step(delta: &mut ChangeSet, step: u64, pieces: &[u8]) {
    let mut key = vec![STEP];
    key.extend_from_slice(&step.to_be_bytes());
    delta.put(key, write(&ByteVec::from(pieces.to_vec())));
}

pub(crate) fn put_paid(delta: &mut ChangeSet, paid: &Paid) {
    delta.put([PAID], write(paid));
}

pub(crate) fn put_credited(delta: &mut ChangeSet, credited: &Credited) {
    delta.put([CREDITED], write(credited));
}

pub(crate) fn put_drain(delta: &mut ChangeSet, drain: &Drain) {
    delta.put([DRAIN], write(drain));
}

pub(crate) fn put_release(delta: &mut ChangeSet, release: &[u8]) {
    delta.put([RELEASE], write(&ByteVec::from(release.to_vec())));
}

/// The mint does not take it.
pub(crate) fn remove_release(delta: &mut ChangeSet) {
    delta.remove([RELEASE]);
}

/// All that is kept of an opening that was refused.
pub(crate) fn remove_refused(delta: &mut ChangeSet) {
    for kind in [META, LOCKED] {
        delta.remove([kind]);
    }
}

/// The large ones of a payer's purse that is home.
pub(crate) fn remove_rest(delta: &mut ChangeSet) {
    for kind in [LOCKED, PIECES, DRAIN, RELEASE] {
        delta.remove([kind]);
    }
}
