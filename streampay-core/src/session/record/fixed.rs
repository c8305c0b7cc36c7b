//! The part of a session's record that stands apart, for it does not change, and how both are
//! written and found.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Deref;

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use super::Common;
use super::stored::{StoredKey, StoredTerms};
use crate::session::proof::Vouch;
use crate::store::{ChangeSet, Key, StoreError, fixed_key, session_key};
use crate::units::{SessionId, XOnlyKey};

/// What of a session is the same from its first binding on, but for a payee that lost its first
/// record.
#[derive(Clone, Encode, Decode)]
#[cbor(array)]
pub(in crate::session) struct Fixed {
    #[n(0)]
    pub(in crate::session) session: SessionId,
    /// The other side's identity.
    #[n(1)]
    pub(in crate::session) peer: XOnlyKey,
    /// The other side's key of the session.
    #[n(2)]
    pub(in crate::session) peer_key: XOnlyKey,
    /// This side's key of the session.
    #[n(3)]
    pub(in crate::session) key: StoredKey,
    /// The terms that the session was bound with.
    #[n(4)]
    pub(in crate::session) terms: StoredTerms,
    /// The first binding.
    #[n(5)]
    pub(in crate::session) root: ByteArray<32>,
    /// True in a payer's record.
    #[n(6)]
    pub(in crate::session) payer: bool,
    /// Payer: how the other side took its key of the session.
    #[n(7)]
    pub(in crate::session) vouch: Option<Vouch>,
}

/// A session's fixed part, held with the record of the rest and not written with it: there its
/// place is null.
#[derive(Clone)]
pub(in crate::session) struct Apart {
    fixed: Box<Fixed>,
    /// The fixed part's own, which every tick needs: with thousands of sessions no cache holds that part.
    pub(in crate::session) session: SessionId,
    /// False until a change set has it.
    written: bool,
}

impl Apart {
    pub(in crate::session) fn new(fixed: Fixed) -> Self {
        Self {
            session: fixed.session,
            fixed: Box::new(fixed),
            written: false,
        }
    }
}

impl Deref for Apart {
    type Target = Fixed;

    fn deref(&self) -> &Fixed {
        &self.fixed
    }
}

impl<C> Encode<C> for Apart {
    fn encode<W: encode::Write>(
        &self,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        encoder.null().map(|_| ())
    }
}

/// The fixed part while the rest is being read.
pub(in crate::session) struct Kept(Option<Box<Fixed>>);

impl AsMut<Self> for Kept {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

impl<'b, C: AsMut<Kept>> Decode<'b, C> for Apart {
    fn decode(decoder: &mut Decoder<'b>, context: &mut C) -> Result<Self, decode::Error> {
        decoder.null()?;
        let kept = context.as_mut().0.take();
        let fixed = kept.ok_or_else(|| decode::Error::message("Apart"))?;
        Ok(Self {
            session: fixed.session,
            fixed,
            written: true,
        })
    }
}

/// A record of either role.
pub(in crate::session) trait Record:
    Encode<Kept> + for<'b> Decode<'b, Kept>
{
    fn common(&mut self) -> &mut Common;
}

/// Room for most records, in bytes.
const RECORD: usize = 512;

/// Stages a session's record, and before it the fixed part where nothing has it yet.
pub(in crate::session) fn stage(record: &mut impl Record, changes: &mut ChangeSet) {
    let apart = &mut record.common().fixed;
    let session = apart.session;
    if !apart.written {
        apart.written = true;
        changes.put(fixed_key(session), to_bytes(&*apart.fixed));
    }
    changes.put(session_key(session), to_bytes(record));
}

/// Stages that nothing stays of a session. Whatever is still to come of it brings the fixed part again.
pub(in crate::session) fn stage_removal(record: &mut impl Record, changes: &mut ChangeSet) {
    let apart = &mut record.common().fixed;
    let session = apart.session;
    apart.written = false;
    changes.remove(fixed_key(session));
    changes.remove(session_key(session));
}

/// The record of `session` among its prefix's, if it is of this role.
pub(in crate::session) fn find<T: Record>(
    records: &[(Key, Vec<u8>)],
    session: SessionId,
    payer: bool,
) -> Result<T, StoreError> {
    let fixed: Fixed = read(records, &fixed_key(session), &mut Kept(None))?;
    if fixed.session != session {
        return Err(StoreError::Corrupt);
    }
    if fixed.payer != payer {
        return Err(StoreError::OtherRole);
    }
    let mut kept = Kept(Some(Box::new(fixed)));
    read(records, &session_key(session), &mut kept)
}

fn to_bytes<T: Encode<Kept>>(record: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD);
    // Writing to memory cannot fail.
    let _ = minicbor::encode_with(record, &mut bytes, &mut Kept(None));
    bytes
}

fn read<'b, T: Decode<'b, Kept>>(
    records: &'b [(Key, Vec<u8>)],
    key: &[u8],
    kept: &mut Kept,
) -> Result<T, StoreError> {
    let found = records.iter().find(|(found, _)| found == key);
    let (_, bytes) = found.ok_or(StoreError::Corrupt)?;
    minicbor::decode_with(bytes, kept).map_err(|_| StoreError::Corrupt)
}
