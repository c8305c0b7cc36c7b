//! The method's part of the signed terms: what the payee asks of a channel.

use bitcoin::constants::ChainHash;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, Network};
use bytes::Bytes;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use crate::codec;
use crate::keys::PayeeBase;
use crate::script::OutputType;

/// The chains that channels are opened on.
const NETWORKS: [Network; 4] = [
    Network::Bitcoin,
    Network::Testnet,
    Network::Signet,
    Network::Regtest,
];

/// The largest settle reserve. Chosen arbitrarily.
pub(crate) const RESERVE_MAX: Amount = Amount::ONE_BTC;

/// Why parameters cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// Not the encoding of parameters.
    #[error("the channel parameters do not decode")]
    Malformed,
    /// A chain that is not known here.
    #[error("the channel's chain is unknown")]
    Chain,
    /// A key that is no point of the curve.
    #[error("the payee's key is no public key")]
    Key,
    /// A number out of its range.
    #[error("a channel parameter is out of range: {0}")]
    Range(&'static str),
    /// The reserve goes with fees, and the chain was not seen within an hour.
    #[error("the chain was not seen within an hour")]
    NoView,
}

/// How deep a funding of up to `value_max` must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DepthRule {
    /// The most that this rule holds for, in satoshi.
    #[n(0)]
    pub value_max: u64,
    /// Blocks, the one with the funding included; 0 takes an unconfirmed one.
    #[n(2)]
    pub depth: u32,
}

/// What the payee signs for the method `btc-cltv`. Spec: bitcoin 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ChannelParams {
    #[n(0)]
    chain: ByteArray<32>,
    #[n(2)]
    payee: ByteArray<33>,
    #[n(4)]
    types: Vec<u8>,
    #[n(6)]
    reserve: u64,
    #[n(8)]
    margin: u32,
    #[n(10)]
    life_min: u32,
    #[n(12)]
    life_max: u32,
    #[n(14)]
    depths: Vec<DepthRule>,
}

/// What a payee asks, in the crate's types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamFields {
    /// Which chain.
    pub network: Network,
    /// The payee's base key.
    pub payee: PayeeBase,
    /// Output types that the payee takes, best first.
    pub types: Vec<OutputType>,
    /// The least that the first payment brings on top, for the cost of closing.
    pub reserve: Amount,
    /// Blocks before the expiry in which the payee takes no tick and closes.
    pub margin: u32,
    /// The least blocks from the tip to the expiry when a channel is accepted.
    pub life_min: u32,
    /// The most.
    pub life_max: u32,
    /// Depths by value, ascending in both; a channel of more than the last is not taken.
    pub depths: Vec<DepthRule>,
}

impl ChannelParams {
    /// The least margin. Source: BOLT 2, `2R+G+S` blocks.
    pub const MARGIN_MIN: u32 = 18;
    /// The longest life, two weeks.
    pub const LIFE_MAX: u32 = 2_016;
    /// The most rules for depths.
    pub const DEPTHS_MAX: usize = 8;
    /// The most that may be asked for before a channel opens.
    pub const DEPTH_MAX: u32 = 100;
    const ENCODED_MAX: usize = streampay_core::wire::PARAMS_MAX;

    /// The parameters of these fields.
    ///
    /// # Errors
    /// [`ParamsError`] for the first thing wrong.
    pub fn new(fields: &ParamFields) -> Result<Self, ParamsError> {
        let chain = ChainHash::using_genesis_block_const(fields.network);
        let params = Self {
            chain: chain.to_bytes().into(),
            payee: fields.payee.0.serialize().into(),
            types: fields.types.iter().map(|kind| kind.code()).collect(),
            reserve: fields.reserve.to_sat(),
            margin: fields.margin,
            life_min: fields.life_min,
            life_max: fields.life_max,
            depths: fields.depths.clone(),
        };
        params.fields()?;
        Ok(params)
    }

    /// The bytes for [`PurseOffer::params`](streampay_core::backend::PurseOffer::params).
    #[must_use]
    pub fn encode(&self) -> Bytes {
        codec::encode(self).into()
    }

    /// From the bytes in the terms, strictly.
    ///
    /// # Errors
    /// [`ParamsError`] for the first thing wrong.
    pub fn decode(bytes: &[u8]) -> Result<ParamFields, ParamsError> {
        let params: Self =
            codec::decode(bytes, Self::ENCODED_MAX).map_err(|_| ParamsError::Malformed)?;
        params.fields()
    }

    fn fields(&self) -> Result<ParamFields, ParamsError> {
        let network = NETWORKS
            .into_iter()
            .find(|network| {
                ChainHash::using_genesis_block_const(*network).to_bytes() == *self.chain
            })
            .ok_or(ParamsError::Chain)?;
        let payee = PublicKey::from_slice(&*self.payee).map_err(|_| ParamsError::Key)?;
        let types: Option<Vec<OutputType>> =
            (self.types.iter().map(|code| OutputType::from_code(*code))).collect();
        let types = types
            .filter(|types| matches!(types.as_slice(), [_] | [_, _]))
            .ok_or(ParamsError::Range("output types"))?;
        let reserve = Amount::from_sat(self.reserve);
        let depths = &self.depths;
        let ascending = depths.iter().zip(depths.iter().skip(1));
        let ascending = ascending
            .into_iter()
            .all(|(a, b)| a.value_max < b.value_max && a.depth <= b.depth);
        let deep = depths.iter().any(|rule| rule.depth > Self::DEPTH_MAX);
        for (good, name) in [
            (reserve <= RESERVE_MAX, "reserve"),
            (self.margin >= Self::MARGIN_MIN, "margin"),
            (self.life_min > self.margin, "shortest life"),
            (self.life_max >= self.life_min, "longest life"),
            (self.life_max <= Self::LIFE_MAX, "longest life"),
            (!depths.is_empty(), "depths"),
            (depths.len() <= Self::DEPTHS_MAX, "depths"),
            (ascending && !deep, "depths"),
        ] {
            if !good {
                return Err(ParamsError::Range(name));
            }
        }
        Ok(ParamFields {
            network,
            payee: PayeeBase(payee),
            types,
            reserve,
            margin: self.margin,
            life_min: self.life_min,
            life_max: self.life_max,
            depths: depths.clone(),
        })
    }
}

impl ParamFields {
    /// How deep a funding of `value` must be; none where it is more than the payee takes.
    #[must_use]
    pub fn depth_for(&self, value: Amount) -> Option<u32> {
        let mut rules = self.depths.iter();
        rules
            .find(|rule| value.to_sat() <= rule.value_max)
            .map(|rule| rule.depth)
    }

    /// The most that a channel may hold.
    #[must_use]
    pub fn value_max(&self) -> Amount {
        let last = self.depths.last().map(|rule| rule.value_max);
        Amount::from_sat(last.unwrap_or_default()).min(Amount::MAX_MONEY)
    }
}
