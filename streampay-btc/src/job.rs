//! Effects as the machine writes and the runner reads them.

use bitcoin::hashes::Hash as _;
use bitcoin::{OutPoint, Txid};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

/// The body of an effect.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Job {
    /// Look at the chain and tell the machine what is there.
    #[n(0)]
    Look,
    /// Payer: have the channel funded, or find where it was.
    #[n(1)]
    Fund {
        #[n(0)]
        script: ByteVec,
        #[n(1)]
        value: u64,
        /// No funding is below this height.
        #[n(2)]
        since: u32,
    },
    /// Payer: find where the channel was funded, if it was. Nobody is asked to pay.
    #[n(2)]
    Find {
        #[n(0)]
        script: ByteVec,
        #[n(1)]
        value: u64,
        /// No funding is below this height.
        #[n(2)]
        since: u32,
    },
    /// Draw randomness for one mutual close.
    #[n(3)]
    Draw,
}

/// Fresh randomness for one nonce.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub(crate) struct Drawn(#[n(0)] pub(crate) ByteArray<32>);

impl core::fmt::Debug for Drawn {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Drawn(<redacted>)")
    }
}

/// The good end of an effect.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Done {
    #[n(0)]
    Looked,
    #[n(1)]
    Funded {
        #[n(0)]
        outpoint: Place,
        /// What the funding transaction cost, as far as is known.
        #[n(1)]
        fee: u64,
    },
    #[n(2)]
    Drawn(#[n(0)] Drawn),
}

/// An outpoint on disk.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Place {
    #[n(0)]
    txid: ByteArray<32>,
    #[n(1)]
    vout: u32,
}

impl From<OutPoint> for Place {
    fn from(outpoint: OutPoint) -> Self {
        Self {
            txid: outpoint.txid.to_byte_array().into(),
            vout: outpoint.vout,
        }
    }
}

impl Place {
    pub(crate) fn outpoint(&self) -> OutPoint {
        OutPoint::new(Txid::from_byte_array(*self.txid), self.vout)
    }
}
