//! What the payer's side sends to open a channel. A tick is its signature alone.

use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, OutPoint, ScriptBuf, Txid};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use streampay_core::backend::{PurseOffer, RefusalCode};
use streampay_core::units::PurseKey;

use crate::codec;
use crate::params::{ChannelParams, ParamFields};
use crate::script::{FundingOutput, OutputType};
use crate::tx::Contract;

const OPENING_MAX: usize = 512;
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
        if value > params.value_max() {
            return Err(RefusalCode::WrongAmount);
        }
        let contract = Contract::new(
            params.network,
            output,
            OutPoint::new(Txid::from_byte_array(*opening.txid), opening.vout),
            value,
            params.reserve,
            ScriptBuf::from_bytes(opening.change.to_vec()),
        )
        .map_err(|_| RefusalCode::WrongAmount)?;
        if contract.channel_id() != *opening.channel {
            return Err(RefusalCode::WrongSession);
        }
        Ok((params, contract))
    }
}
