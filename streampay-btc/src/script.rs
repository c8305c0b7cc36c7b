//! The funding output of a channel: who can spend it, and when. Spec: bitcoin 3.

use core::fmt;
use core::str::FromStr as _;

use bitcoin::absolute::LockTime;
use bitcoin::address::NetworkUnchecked;
use bitcoin::secp256k1::{PublicKey, XOnlyPublicKey};
use bitcoin::taproot::{LeafVersion, TapLeafHash};
use bitcoin::{Address, Network, ScriptBuf, Witness, ecdsa, taproot};
use miniscript::{Descriptor, DescriptorPublicKey, Satisfier};

use crate::keys::{KeyError, key_agg, key_sort};

/// How a channel's funding output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OutputType {
    /// Taproot: the keys' aggregate inside, and one leaf.
    Taproot,
    /// P2WSH with the same miniscript: for wallets and signers without Schnorr signatures.
    Wsh,
}

impl OutputType {
    /// The number on the wire. Spec: bitcoin 3.1.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Taproot => 0,
            Self::Wsh => 1,
        }
    }

    /// From the number on the wire.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Taproot),
            1 => Some(Self::Wsh),
            _ => None,
        }
    }
}

/// Why there is no such funding output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// The keys cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Zero, or no height: 1 to 499 999 999. Source: BIP 65.
    #[error("the expiry is no block height")]
    Expiry,
}

/// Not an address of the chain, nor a descriptor that pays to what channels pay to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither an address of this chain nor a descriptor")]
pub struct NoDestination;

/// Where a side's money goes: an address of `network`, or the first address of a descriptor
/// without secrets. Source: BIP 380.
///
/// # Errors
/// [`NoDestination`], for what nodes would not relay too.
pub fn own_script(text: &str, network: Network) -> Result<ScriptBuf, NoDestination> {
    let text = text.trim();
    let address = text.parse::<Address<NetworkUnchecked>>();
    let address = address.map(|address| address.require_network(network));
    let script = match address {
        Ok(address) => address.map_err(|_| NoDestination)?.script_pubkey(),
        Err(_) => {
            let descriptor = Descriptor::<DescriptorPublicKey>::from_str(text);
            let descriptor = descriptor.map_err(|_| NoDestination)?;
            let first = descriptor.at_derivation_index(0);
            first.map_err(|_| NoDestination)?.script_pubkey()
        }
    };
    let known = crate::tx::is_standard(&script);
    known.then_some(script).ok_or(NoDestination)
}

/// A channel's funding output: payer's key `V`, payee's key `S`, expiry `T`.
///
/// `tr(I, and_v(or_c(pk(S),v:after(T)),pk(V)))` with `I` the BIP 327 aggregate of the sorted keys,
/// or `wsh(and_v(or_c(pk(S),v:after(T)),pk(V)))`.
#[derive(Clone, PartialEq, Eq)]
pub struct FundingOutput {
    payer: PublicKey,
    payee: PublicKey,
    expiry: u32,
    lock: Lock,
}

/// miniscript's types stay inside this module.
#[derive(Clone, PartialEq, Eq)]
enum Lock {
    Taproot {
        descriptor: Descriptor<XOnlyPublicKey>,
        leaf: ScriptBuf,
        leaf_hash: TapLeafHash,
        internal: XOnlyPublicKey,
    },
    Wsh {
        descriptor: Descriptor<bitcoin::PublicKey>,
        script: ScriptBuf,
    },
}

/// The signatures that spend a funding output.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signatures<'a> {
    Taproot {
        payer: &'a taproot::Signature,
        payee: Option<&'a taproot::Signature>,
    },
    Wsh {
        payer: &'a ecdsa::Signature,
        payee: Option<&'a ecdsa::Signature>,
    },
}

impl FundingOutput {
    /// The output of these keys, spendable by the payer alone in a block above height `expiry`.
    ///
    /// # Errors
    /// [`ScriptError`] for an expiry that is no height and for keys that are the same.
    pub fn new(
        kind: OutputType,
        payer: PublicKey,
        payee: PublicKey,
        expiry: u32,
    ) -> Result<Self, ScriptError> {
        if expiry == 0 || !LockTime::from_consensus(expiry).is_block_height() {
            return Err(ScriptError::Expiry);
        }
        // The x coordinate is all that a leaf shows of a key.
        if payer.x_only_public_key().0 == payee.x_only_public_key().0 {
            return Err(KeyError::SameKey.into());
        }
        let lock = match kind {
            OutputType::Taproot => taproot_lock(&payer, &payee, expiry)?,
            OutputType::Wsh => wsh_lock(&payer, &payee, expiry)?,
        };
        Ok(Self {
            payer,
            payee,
            expiry,
            lock,
        })
    }

    /// How it is written.
    #[must_use]
    pub const fn output_type(&self) -> OutputType {
        match self.lock {
            Lock::Taproot { .. } => OutputType::Taproot,
            Lock::Wsh { .. } => OutputType::Wsh,
        }
    }

    /// The payer's key `V`.
    #[must_use]
    pub const fn payer(&self) -> &PublicKey {
        &self.payer
    }

    /// The payee's key `S`.
    #[must_use]
    pub const fn payee(&self) -> &PublicKey {
        &self.payee
    }

    /// The height `T`: the payer alone can spend in a block above it. Source: BIP 65.
    #[must_use]
    pub const fn expiry(&self) -> u32 {
        self.expiry
    }

    /// The descriptor with its checksum. Source: BIP 380.
    #[must_use]
    pub fn descriptor(&self) -> String {
        match &self.lock {
            Lock::Taproot { descriptor, .. } => descriptor.to_string(),
            Lock::Wsh { descriptor, .. } => descriptor.to_string(),
        }
    }

    /// What the funding transaction pays to.
    #[must_use]
    pub fn script_pubkey(&self) -> ScriptBuf {
        match &self.lock {
            Lock::Taproot { descriptor, .. } => descriptor.script_pubkey(),
            Lock::Wsh { descriptor, .. } => descriptor.script_pubkey(),
        }
    }

    /// The leaf, or the witness script.
    #[must_use]
    pub const fn script(&self) -> &ScriptBuf {
        match &self.lock {
            Lock::Taproot { leaf, .. } => leaf,
            Lock::Wsh { script, .. } => script,
        }
    }

    /// The hash of the leaf; none for P2WSH. Source: BIP 341.
    #[must_use]
    pub const fn leaf_hash(&self) -> Option<TapLeafHash> {
        match &self.lock {
            Lock::Taproot { leaf_hash, .. } => Some(*leaf_hash),
            Lock::Wsh { .. } => None,
        }
    }

    /// The key inside; none for P2WSH. Source: BIP 341.
    #[must_use]
    pub const fn internal_key(&self) -> Option<XOnlyPublicKey> {
        match &self.lock {
            Lock::Taproot { internal, .. } => Some(*internal),
            Lock::Wsh { .. } => None,
        }
    }

    /// The hash with which the key inside is tweaked; none for P2WSH. Source: BIP 341.
    #[must_use]
    pub fn merkle_root(&self) -> Option<bitcoin::TapNodeHash> {
        self.leaf_hash().map(bitcoin::TapNodeHash::from)
    }

    /// The address on `network`. Source: BIP 350.
    #[must_use]
    pub fn address(&self, network: Network) -> Option<Address> {
        Address::from_script(&self.script_pubkey(), network).ok()
    }

    /// The witness of an input that spends it, with both signatures or, at `lock_time`, with the
    /// payer's alone; none where they do not fit.
    pub(crate) fn witness(
        &self,
        signatures: Signatures<'_>,
        lock_time: LockTime,
    ) -> Option<Witness> {
        let stack = match (&self.lock, signatures) {
            (Lock::Taproot { descriptor, .. }, Signatures::Taproot { payer, payee }) => {
                let by = TaprootParts {
                    output: self,
                    payer,
                    payee,
                    lock_time,
                };
                descriptor.get_satisfaction(by).ok()?.0
            }
            (Lock::Wsh { descriptor, .. }, Signatures::Wsh { payer, payee }) => {
                let by = WshParts {
                    output: self,
                    payer,
                    payee,
                    lock_time,
                };
                descriptor.get_satisfaction(by).ok()?.0
            }
            _ => return None,
        };
        Some(Witness::from_slice(&stack))
    }
}

impl fmt::Debug for FundingOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.descriptor())
    }
}

/// The rule that both types share; miniscript writes the script.
fn rule(payee: &str, expiry: u32, payer: &str) -> String {
    format!("and_v(or_c(pk({payee}),v:after({expiry})),pk({payer}))")
}

fn taproot_lock(payer: &PublicKey, payee: &PublicKey, expiry: u32) -> Result<Lock, ScriptError> {
    let internal = key_agg(&key_sort(vec![*payer, *payee]))?
        .x_only_public_key()
        .0;
    let x_only = |key: &PublicKey| key.x_only_public_key().0.to_string();
    let rule = rule(&x_only(payee), expiry, &x_only(payer));
    let descriptor = Descriptor::<XOnlyPublicKey>::from_str(&format!("tr({internal},{rule})"))
        .map_err(|_| KeyError::Invalid)?;
    let leaf = match &descriptor {
        Descriptor::Tr(tr) => tr.leaves().next().map(|leaf| leaf.miniscript().encode()),
        _ => None,
    };
    let leaf = leaf.ok_or(KeyError::Invalid)?;
    let leaf_hash = TapLeafHash::from_script(&leaf, LeafVersion::TapScript);
    Ok(Lock::Taproot {
        descriptor,
        leaf,
        leaf_hash,
        internal,
    })
}

fn wsh_lock(payer: &PublicKey, payee: &PublicKey, expiry: u32) -> Result<Lock, ScriptError> {
    let rule = rule(&payee.to_string(), expiry, &payer.to_string());
    let descriptor = Descriptor::<bitcoin::PublicKey>::from_str(&format!("wsh({rule})"))
        .map_err(|_| KeyError::Invalid)?;
    let script = descriptor
        .explicit_script()
        .map_err(|_| KeyError::Invalid)?;
    Ok(Lock::Wsh { descriptor, script })
}

struct TaprootParts<'a> {
    output: &'a FundingOutput,
    payer: &'a taproot::Signature,
    payee: Option<&'a taproot::Signature>,
    lock_time: LockTime,
}

impl Satisfier<XOnlyPublicKey> for TaprootParts<'_> {
    fn lookup_tap_leaf_script_sig(
        &self,
        key: &XOnlyPublicKey,
        _: &TapLeafHash,
    ) -> Option<taproot::Signature> {
        if *key == self.output.payer.x_only_public_key().0 {
            Some(*self.payer)
        } else if *key == self.output.payee.x_only_public_key().0 {
            self.payee.copied()
        } else {
            None
        }
    }

    fn check_after(&self, after: LockTime) -> bool {
        after.is_implied_by(self.lock_time)
    }
}

struct WshParts<'a> {
    output: &'a FundingOutput,
    payer: &'a ecdsa::Signature,
    payee: Option<&'a ecdsa::Signature>,
    lock_time: LockTime,
}

impl Satisfier<bitcoin::PublicKey> for WshParts<'_> {
    fn lookup_ecdsa_sig(&self, key: &bitcoin::PublicKey) -> Option<ecdsa::Signature> {
        if key.inner == self.output.payer {
            Some(*self.payer)
        } else if key.inner == self.output.payee {
            self.payee.copied()
        } else {
            None
        }
    }

    fn check_after(&self, after: LockTime) -> bool {
        after.is_implied_by(self.lock_time)
    }
}
