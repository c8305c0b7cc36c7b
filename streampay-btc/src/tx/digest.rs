//! The digest of an update of type 0 with change, as BIP 341 and BIP 342 have it: at every tick all of it is
//! the same but the change, so what comes before that is hashed once for a channel.

use bitcoin::hashes::{Hash as _, HashEngine as _, sha256};
use bitcoin::{Amount, OutPoint, Script, TxOut};

use super::{SEQUENCE, TRUC};
use crate::keys::tagged;

/// A block of SHA-256.
const BLOCK: usize = 64;
/// What stands before the hash of the change.
const HEAD: usize = 94;
/// `SIGHASH_SINGLE|ANYONECANPAY`.
const SINGLE: u8 = 0x83;
/// Of a leaf, without an annex: twice the extension's number.
const SPEND_TYPE: u8 = 2;
/// No `OP_CODESEPARATOR` was run. Source: BIP 342.
const NO_SEPARATOR: [u8; 4] = [0xff; 4];

/// All of it but the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digest {
    /// After the tag and the first block.
    begun: sha256::Midstate,
    /// What is left of the head.
    rest: [u8; HEAD - BLOCK],
    leaf: [u8; 32],
}

impl Digest {
    /// That of the funding `output` in `place`, spent by the leaf with this hash; none where the output is
    /// not a Taproot one.
    pub(super) fn new(place: OutPoint, output: &TxOut, leaf: [u8; 32]) -> Option<Self> {
        let script = output.script_pubkey.as_bytes();
        let mut head = Vec::with_capacity(HEAD);
        // The epoch.
        head.extend([0, SINGLE]);
        head.extend(TRUC.0.to_le_bytes());
        // The lock time.
        head.extend([0; 4]);
        head.push(SPEND_TYPE);
        head.extend(place.txid.to_byte_array());
        head.extend(place.vout.to_le_bytes());
        head.extend(output.value.to_sat().to_le_bytes());
        head.push(u8::try_from(script.len()).ok()?);
        head.extend(script);
        head.extend(SEQUENCE.0.to_le_bytes());
        let (first, rest) = head.split_at_checked(BLOCK)?;
        let mut engine = tagged("TapSighash");
        engine.input(first);
        Some(Self {
            begun: engine.midstate(),
            rest: rest.try_into().ok()?,
            leaf,
        })
    }

    /// That of the update which leaves `change` to `script`, of at most 34 bytes.
    pub(super) fn of(&self, change: Amount, script: &Script) -> Option<[u8; 32]> {
        let mut output = sha256::Hash::engine();
        output.input(&change.to_sat().to_le_bytes());
        output.input(&[u8::try_from(script.len()).ok().filter(|len| *len < 0xfd)?]);
        output.input(script.as_bytes());
        let output = sha256::Hash::from_engine(output);
        let mut engine = sha256::HashEngine::from_midstate(self.begun, 2 * BLOCK);
        engine.input(&self.rest);
        engine.input(output.as_byte_array());
        engine.input(&self.leaf);
        // The version of the leaf's keys.
        engine.input(&[0]);
        engine.input(&NO_SEPARATOR);
        Some(sha256::Hash::from_engine(engine).to_byte_array())
    }
}
