//! New terms for a session that runs: offered, agreed or declined.

use super::Terms;
use crate::session::{Hash, Signature, TaggedHash};
use crate::units::{Msat, SessionId};

/// See [`Message::OfferTerms`](super::Message::OfferTerms).
///
/// The offer stands until more than `from` is paid: then it has lapsed. Only title, tariff and
/// expiry may differ from the terms that hold; for anything else a new session opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferTerms {
    /// What shall hold.
    pub terms: Terms,
    /// The amount of `used` at which they begin, in millisatoshi: a tick not yet paid.
    pub from: Msat,
    /// The identity's signature over [`OfferTerms::hash`].
    pub signature: Signature,
}

/// See [`Message::Agree`](super::Message::Agree).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agree {
    /// [`OfferTerms::hash`].
    pub offer: Hash,
}

/// See [`Message::Decline`](super::Message::Decline).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decline {
    /// [`OfferTerms::hash`].
    pub offer: Hash,
}

/// See [`Message::Agreed`](super::Message::Agreed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// [`OfferTerms::hash`].
    pub offer: Hash,
}

impl OfferTerms {
    /// What the payee signs and the payer agrees to: these terms, in this session, from this
    /// amount. Spec: pricing 4.
    #[must_use]
    pub fn hash(&self, session: SessionId) -> Hash {
        TaggedHash::new("streampay/offer/v1")
            .bytes32(&session.0)
            .bytes32(&self.terms.hash().0)
            .u64(self.from.msat())
            .finish()
    }
}
