//! What the payer's side sends to the payee's: the opening of a purse, and one token a tick.

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};
use streampay_core::backend::RefusalCode;
use streampay_core::units::{PurseKey, Seq};

use crate::codec;
use crate::coin::{self, Coin};
use crate::fee::PROOFS_MAX;
use crate::keysets::Keysets;

/// The most tokens of one purse: the payer splits them all before the first tick, and one purse's
/// records stay below 64 KiB.
pub(crate) const TOKENS_MAX: u64 = 64;
const OPENING_MAX: usize = 1024;
const PAYLOAD_MAX: usize = 8 * 1024;

/// The payer's choice of a mint, bound to session and purse.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Opening {
    #[n(0)]
    session: ByteArray<32>,
    #[n(2)]
    purse: u32,
    #[n(4)]
    pub(crate) mint: String,
    #[n(6)]
    pub(crate) unit: String,
    #[n(8)]
    pub(crate) count: u64,
}

impl Opening {
    pub(crate) fn new(key: PurseKey, mint: String, unit: String, count: u64) -> Self {
        Self {
            session: key.session.0.into(),
            purse: key.purse.0,
            mint,
            unit,
            count,
        }
    }

    pub(crate) fn decode(key: PurseKey, bytes: &[u8]) -> Result<Self, RefusalCode> {
        let opening: Self =
            codec::decode(bytes, OPENING_MAX).map_err(|_| RefusalCode::Malformed)?;
        if *opening.session != key.session.0 || opening.purse != key.purse.0 {
            return Err(RefusalCode::WrongSession);
        }
        if opening.count == 0 || opening.count > TOKENS_MAX {
            return Err(RefusalCode::Malformed);
        }
        Ok(opening)
    }
}

/// One tick's token, bound to session, purse and tick.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Payload {
    #[n(0)]
    session: ByteArray<32>,
    #[n(2)]
    purse: u32,
    #[n(4)]
    seq: u64,
    #[n(6)]
    mint: String,
    #[n(8)]
    unit: String,
    #[n(10)]
    coins: Vec<Coin>,
}

/// What a payload must be, besides its amount.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) key: PurseKey,
    pub(crate) seq: Seq,
    pub(crate) mint: &'a str,
    pub(crate) unit: &'a str,
}

impl Payload {
    pub(crate) fn new(expected: Expected<'_>, coins: Vec<Coin>) -> Self {
        Self {
            session: expected.key.session.0.into(),
            purse: expected.key.purse.0,
            seq: expected.seq.0,
            mint: expected.mint.to_owned(),
            unit: expected.unit.to_owned(),
            coins,
        }
    }

    /// Decodes and checks all that needs neither amount nor keysets: shape, binding, mint, unit,
    /// no coin twice, no spending condition.
    pub(crate) fn decode(expected: Expected<'_>, bytes: &[u8]) -> Result<Vec<Coin>, RefusalCode> {
        let payload: Self = match codec::decode(bytes, PAYLOAD_MAX) {
            Ok(payload) => payload,
            Err(_) if has_condition(bytes) => return Err(RefusalCode::WrongLock),
            Err(_) => return Err(RefusalCode::Malformed),
        };
        let bound = *payload.session == expected.key.session.0
            && payload.purse == expected.key.purse.0
            && payload.seq == expected.seq.0;
        if !bound {
            return Err(RefusalCode::WrongSession);
        }
        if payload.mint != expected.mint {
            return Err(RefusalCode::WrongMint);
        }
        if payload.unit != expected.unit {
            return Err(RefusalCode::WrongUnit);
        }
        let count = payload.coins.len();
        if count == 0 || count > PROOFS_MAX {
            return Err(RefusalCode::Malformed);
        }
        let mut secrets: Vec<_> = payload.coins.iter().map(Coin::secret).collect();
        secrets.sort_unstable();
        secrets.dedup();
        let distinct = secrets.len() == count;
        let valid = payload.coins.iter().all(|coin| coin.to_proof().is_ok());
        if distinct && valid {
            Ok(payload.coins)
        } else {
            Err(RefusalCode::Malformed)
        }
    }
}

/// A secret that is no 32 bytes but the text of a NUT-10 condition makes the payload undecodable;
/// this only chooses the better name for the refusal.
fn has_condition(bytes: &[u8]) -> bool {
    [b"[\"P2PK\"".as_slice(), b"[\"HTLC\""]
        .iter()
        .any(|kind| bytes.windows(kind.len()).any(|part| part == *kind))
}

/// What the coins come to once redeemed together must be exactly `net_sat`.
pub(crate) fn check_amount(
    coins: &[Coin],
    keysets: &Keysets,
    net_sat: u64,
) -> Result<(), RefusalCode> {
    let fee = keysets.fee_of(coins)?;
    let net = coin::sum(coins).and_then(|sum| sum.checked_sub(fee));
    if net == Some(net_sat) {
        Ok(())
    } else {
        Err(RefusalCode::WrongAmount)
    }
}
