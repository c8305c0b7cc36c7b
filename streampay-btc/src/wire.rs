//! What the two sides' backends show each other: the payer's opening, and a mutual close. A tick is
//! a signature alone.

use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, OutPoint, ScriptBuf, Txid};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use streampay_core::backend::{PurseOffer, RefusalCode};
use streampay_core::units::PurseKey;

use crate::codec;
use crate::params::{ChannelParams, ParamFields, RESERVE_MAX};
use crate::script::{FundingOutput, OutputType};
use crate::tx::Contract;

const OPENING_MAX: usize = 512;
/// The highest output index: what nodes read as a number. No block holds a transaction with as many.
const VOUT_MAX: u32 = 0x7fff_ffff;
/// The longest signature with its sighash type. Source: BIP 66.
pub(crate) const PAYLOAD_MAX: usize = 73;

/// A funded channel, bound to session and purse. Spec: bitcoin 3.3.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Opening {
    #[n(0)]
    session: ByteArray<32>,
    #[n(2)]
    purse: u32,
    #[n(4)]
    kind: u8,
    #[n(6)]
    payer: ByteArray<33>,
    #[n(8)]
    expiry: u32,
    #[n(10)]
    txid: ByteArray<32>,
    #[n(12)]
    vout: u32,
    #[n(14)]
    value: u64,
    #[n(16)]
    change: ByteVec,
    #[n(18)]
    channel: ByteArray<32>,
    /// What the first payment brings on top: what the terms ask, or more.
    #[n(20)]
    reserve: u64,
}

impl Opening {
    pub(crate) fn new(key: PurseKey, contract: &Contract) -> Self {
        let output = contract.output();
        Self {
            session: key.session.0.into(),
            purse: key.purse.0,
            kind: output.output_type().code(),
            payer: output.payer().serialize().into(),
            expiry: output.expiry(),
            txid: contract.outpoint().txid.to_byte_array().into(),
            vout: contract.outpoint().vout,
            value: contract.value().to_sat(),
            change: contract.change_script().to_bytes().into(),
            channel: contract.channel_id().into(),
            reserve: contract.reserve().to_sat(),
        }
    }

    /// Decodes and checks all that needs no chain.
    pub(crate) fn decode(
        key: PurseKey,
        offer: &PurseOffer,
        bytes: &[u8],
    ) -> Result<(ParamFields, Contract), RefusalCode> {
        let params =
            ChannelParams::decode(&offer.params).map_err(|_| RefusalCode::NoCommonMethod)?;
        let opening: Self =
            codec::decode(bytes, OPENING_MAX).map_err(|_| RefusalCode::Malformed)?;
        if *opening.session != key.session.0 || opening.purse != key.purse.0 {
            return Err(RefusalCode::WrongSession);
        }
        let kind = OutputType::from_code(opening.kind).ok_or(RefusalCode::WrongLock)?;
        if !params.types.contains(&kind) {
            return Err(RefusalCode::WrongLock);
        }
        let payer = PublicKey::from_slice(&*opening.payer).map_err(|_| RefusalCode::Malformed)?;
        let payee = params
            .payee
            .channel_key(&payer, key)
            .map_err(|_| RefusalCode::WrongLock)?;
        let output = FundingOutput::new(kind, payer, payee, opening.expiry)
            .map_err(|_| RefusalCode::WrongLock)?;
        let value = Amount::from_sat(opening.value);
        let reserve = Amount::from_sat(opening.reserve);
        let reserve_fits = (params.reserve..=RESERVE_MAX).contains(&reserve);
        if value > params.value_max() || !reserve_fits {
            return Err(RefusalCode::WrongAmount);
        }
        if opening.vout > VOUT_MAX {
            return Err(RefusalCode::Malformed);
        }
        let contract = Contract::new(
            params.network,
            output,
            OutPoint::new(Txid::from_byte_array(*opening.txid), opening.vout),
            value,
            reserve,
            ScriptBuf::from_bytes(opening.change.to_vec()),
        )
        .map_err(|_| RefusalCode::WrongAmount)?;
        if contract.channel_id() != *opening.channel {
            return Err(RefusalCode::WrongSession);
        }
        Ok((params, contract))
    }
}

/// The longest message of a mutual close.
#[cfg(feature = "musig2")]
const MUTUAL_MAX: usize = 256;

/// The payee's proposal to close together. Spec: bitcoin 5.7.
#[cfg(feature = "musig2")]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Proposal {
    /// What the best update pays, settle reserve included.
    #[n(0)]
    pub(crate) paid: u64,
    #[n(2)]
    pub(crate) payout: ByteVec,
    #[n(4)]
    pub(crate) fee: u64,
    #[n(6)]
    pub(crate) nonce: ByteArray<66>,
}

/// The payer's part of the signature. Spec: bitcoin 5.7.
#[cfg(feature = "musig2")]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Cosigned {
    #[n(0)]
    pub(crate) nonce: ByteArray<66>,
    #[n(2)]
    pub(crate) partial: ByteArray<32>,
}

#[cfg(feature = "musig2")]
macro_rules! message {
    ($name:ty) => {
        impl $name {
            pub(crate) fn encode(&self) -> bytes::Bytes {
                codec::encode(self).into()
            }

            pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
                codec::decode(bytes, MUTUAL_MAX).ok()
            }
        }
    };
}

#[cfg(feature = "musig2")]
message!(Proposal);
#[cfg(feature = "musig2")]
message!(Cosigned);
