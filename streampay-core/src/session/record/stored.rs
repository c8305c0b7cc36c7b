//! Parts of records whose stored form is not derived.

use alloc::sync::Arc;

use bytes::Bytes;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use crate::session::{Receipt, SecretKey, Signature};
use crate::wire::{Evidence, Terms};

/// A secret key as it is stored.
#[derive(Clone)]
pub(in crate::session) struct StoredKey(pub(in crate::session) SecretKey);

impl<C> Encode<C> for StoredKey {
    fn encode<W: encode::Write>(
        &self,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        encoder.bytes(self.0.dangerous_bytes()).map(|_| ())
    }
}

impl<'b, C> Decode<'b, C> for StoredKey {
    fn decode(decoder: &mut Decoder<'b>, context: &mut C) -> Result<Self, decode::Error> {
        let bytes = ByteArray::<32>::decode(decoder, context)?;
        let key = SecretKey::from_bytes(*bytes);
        key.map(Self)
            .map_err(|_| decode::Error::message("StoredKey"))
    }
}

/// Terms as they are stored: in their wire form.
#[derive(Clone)]
pub(in crate::session) struct StoredTerms(pub(in crate::session) Arc<Terms>);

impl<C> Encode<C> for StoredTerms {
    fn encode<W: encode::Write>(
        &self,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        encoder.bytes(&self.0.to_bytes()).map(|_| ())
    }
}

impl<'b, C> Decode<'b, C> for StoredTerms {
    fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let terms = Terms::from_bytes(decoder.bytes()?);
        terms
            .map(|terms| Self(Arc::new(terms)))
            .map_err(|_| decode::Error::message("StoredTerms"))
    }
}

/// A receipt and its signature as they are stored.
#[derive(Clone)]
pub(in crate::session) struct StoredEvidence(pub(in crate::session) Evidence);

impl<C> Encode<C> for StoredEvidence {
    fn encode<W: encode::Write>(
        &self,
        encoder: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        let Evidence { receipt, signature } = &self.0;
        encoder.array(2)?;
        receipt.encode(encoder, context)?;
        encoder.bytes(&signature.0).map(|_| ())
    }
}

impl<'b, C> Decode<'b, C> for StoredEvidence {
    fn decode(decoder: &mut Decoder<'b>, context: &mut C) -> Result<Self, decode::Error> {
        if decoder.array()? != Some(2) {
            return Err(decode::Error::message("StoredEvidence"));
        }
        let receipt = Receipt::decode(decoder, context)?;
        let signature = Signature(*ByteArray::<64>::decode(decoder, context)?);
        Ok(Self(Evidence { receipt, signature }))
    }
}

/// Bytes as they came, which a message still holds.
#[derive(Clone)]
pub(in crate::session) struct StoredBytes(pub(in crate::session) Bytes);

impl<C> Encode<C> for StoredBytes {
    fn encode<W: encode::Write>(
        &self,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        encoder.bytes(&self.0).map(|_| ())
    }
}

impl<'b, C> Decode<'b, C> for StoredBytes {
    fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Ok(Self(Bytes::copy_from_slice(decoder.bytes()?)))
    }
}
