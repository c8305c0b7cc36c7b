use super::crypto::{Hash, SecretKey, Tag};
use crate::meter::Reading;
use crate::units::{Msat, PurseId, Seq, SessionId};
use crate::wire::Evidence;

const TAG: Tag = Tag::new("streampay/receipt/v1");

/// What the payee has accepted, durable on its side: the newest tick of the newest purse, and
/// the sum over all purses. Spec: session 5.4.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
#[cbor(array)]
pub struct Receipt {
    /// The purse of the newest tick accepted.
    #[n(0)]
    pub purse: PurseId,
    /// That tick.
    #[n(1)]
    pub seq: Seq,
    /// What that purse has paid.
    #[n(2)]
    pub cumulative: Msat,
    /// What all purses of the session have paid.
    #[n(3)]
    pub total: Msat,
    /// What the payee has delivered, by its own meter.
    #[n(4)]
    pub reading: Reading,
    /// What of `total` was for no media: tips, and the fee for joining the room.
    #[n(5)]
    pub tips: Msat,
}

impl Receipt {
    /// What the payee's session key signs.
    #[must_use]
    pub fn hash(&self, session: SessionId) -> Hash {
        TAG.hash()
            .bytes32(&session.0)
            .u64(u64::from(self.purse.0))
            .u64(self.seq.0)
            .u64(self.cumulative.msat())
            .u64(self.total.msat())
            .u64(self.reading.media_ms)
            .u64(self.reading.bytes)
            .u64(self.tips.msat())
            .finish()
    }

    /// Signs it. Deterministic, so that the same receipt is the same bytes.
    #[must_use]
    pub fn sign(self, session: SessionId, key: &SecretKey) -> Evidence {
        Evidence {
            receipt: self,
            signature: key.sign(self.hash(session), &[0; 32]),
        }
    }
}
