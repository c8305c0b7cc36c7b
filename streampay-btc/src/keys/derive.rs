//! All keys follow from one seed and the names of session and purse, so that a lost store is no
//! lost money. Spec: bitcoin 2.

use core::fmt;

use bitcoin::bip32::{ChildNumber, Xpriv};
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256};
use bitcoin::secp256k1::{Keypair, PublicKey};
use bitcoin::{Network, NetworkKind};
use streampay_core::units::PurseKey;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::aggregate::reduce;
use super::{KeyError, secp, tagged};

/// The first part of all paths, hardened. Chosen arbitrarily. Source: BIP 43.
const PURPOSE: u32 = 7368;
const PAYER: u32 = 0;
const PAYEE: u32 = 1;
const FEES: u32 = 2;

/// The seed of all channels of a node, 32 random bytes. Never printed; wiped when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Seed(pub [u8; 32]);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(<redacted>)")
    }
}

/// One secret key of one channel. Never printed; wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct ChannelSecret(Keypair);

impl ChannelSecret {
    /// The key with these bytes.
    ///
    /// # Errors
    /// [`KeyError::Invalid`] for zero and for numbers not below the curve's order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        Keypair::from_seckey_slice(secp(), bytes)
            .map(Self)
            .map_err(|_| KeyError::Invalid)
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.0.public_key()
    }

    pub(crate) const fn keypair(&self) -> &Keypair {
        &self.0
    }

    /// The bytes, for a rescue kit. Handle like the money that they guard.
    #[must_use]
    pub fn dangerous_bytes(&self) -> [u8; 32] {
        self.0.secret_bytes()
    }
}

impl Drop for ChannelSecret {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

impl fmt::Debug for ChannelSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelSecret(<redacted>)")
    }
}

/// The key that a payee puts into its terms. Each channel's key is this one and a tweak, so that
/// the payer knows it without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayeeBase(pub PublicKey);

impl PayeeBase {
    /// The payee's key `S` of the channel of `purse` with the payer's key `payer`.
    /// Spec: bitcoin 2.2.
    ///
    /// # Errors
    /// [`KeyError::Infinity`], which nobody can bring about on purpose.
    pub fn channel_key(&self, payer: &PublicKey, purse: PurseKey) -> Result<PublicKey, KeyError> {
        let tweak = reduce(tweak(&self.0, payer, purse))?;
        self.0
            .add_exp_tweak(secp(), &tweak)
            .map_err(|_| KeyError::Infinity)
    }
}

/// All keys of a node, from its seed.
#[derive(Clone)]
pub struct NodeKeys {
    master: Xpriv,
    coin: u32,
    base: ChannelSecret,
}

impl NodeKeys {
    /// The keys of `seed` on `network`.
    ///
    /// # Errors
    /// [`KeyError::Infinity`], which nobody can bring about on purpose.
    pub fn new(seed: &Seed, network: Network) -> Result<Self, KeyError> {
        let kind = NetworkKind::from(network);
        let master = Xpriv::new_master(kind, &seed.0).map_err(|_| KeyError::Infinity)?;
        let coin = u32::from(!kind.is_mainnet());
        let base = child(&master, coin, &[PAYEE, 0])?;
        Ok(Self { master, coin, base })
    }

    /// The payer's key `V` of the channel of `purse`, at `m/7368'/coin'/0'/a'/b'/c'/d'` with the
    /// name of the purse hashed into four numbers. Spec: bitcoin 2.1.
    ///
    /// # Errors
    /// [`KeyError::Infinity`], which nobody can bring about on purpose.
    pub fn payer(&self, purse: PurseKey) -> Result<ChannelSecret, KeyError> {
        let mut path = vec![PAYER];
        path.extend(purse_path(purse));
        child(&self.master, self.coin, &path)
    }

    /// The path of [`NodeKeys::payer`], for a rescue kit.
    #[must_use]
    pub fn payer_path(&self, purse: PurseKey) -> String {
        let [a, b, c, d] = purse_path(purse);
        let coin = self.coin;
        format!("m/{PURPOSE}'/{coin}'/{PAYER}'/{a}'/{b}'/{c}'/{d}'")
    }

    /// What stands in the payee's terms, at `m/7368'/coin'/1'/0'`.
    #[must_use]
    pub fn payee_base(&self) -> PayeeBase {
        PayeeBase(self.base.public())
    }

    /// The payee's secret key of the channel of `purse` with the payer's key `payer`.
    ///
    /// # Errors
    /// [`KeyError::Infinity`], which nobody can bring about on purpose.
    pub fn payee(&self, payer: &PublicKey, purse: PurseKey) -> Result<ChannelSecret, KeyError> {
        let tweak = reduce(tweak(&self.base.public(), payer, purse))?;
        let mut base = self.base.keypair().secret_key();
        let tweaked = base.add_tweak(&tweak).map_err(|_| KeyError::Infinity);
        base.non_secure_erase();
        let mut secret = tweaked?;
        let keypair = Keypair::from_secret_key(secp(), &secret);
        secret.non_secure_erase();
        Ok(ChannelSecret(keypair))
    }

    /// The key of the wallet that pays for closing in fee spikes, at `m/7368'/coin'/2'/0'`.
    ///
    /// # Errors
    /// [`KeyError::Infinity`], which nobody can bring about on purpose.
    pub fn fee_wallet(&self) -> Result<ChannelSecret, KeyError> {
        child(&self.master, self.coin, &[FEES, 0])
    }
}

impl Drop for NodeKeys {
    fn drop(&mut self) {
        self.master.private_key.non_secure_erase();
    }
}

impl fmt::Debug for NodeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKeys(<redacted>)")
    }
}

fn child(master: &Xpriv, coin: u32, rest: &[u32]) -> Result<ChannelSecret, KeyError> {
    let mut path = Vec::with_capacity(rest.len().saturating_add(2));
    for index in [PURPOSE, coin].iter().chain(rest) {
        path.push(ChildNumber::from_hardened_idx(*index).map_err(|_| KeyError::Infinity)?);
    }
    let mut key = master
        .derive_priv(secp(), &path)
        .map_err(|_| KeyError::Infinity)?;
    let keypair = Keypair::from_secret_key(secp(), &key.private_key);
    key.private_key.non_secure_erase();
    Ok(ChannelSecret(keypair))
}

/// The first 124 bits of a hash of the purse's name, 31 bits a number.
pub(super) fn purse_path(purse: PurseKey) -> [u32; 4] {
    let mut engine = tagged("streampay/btc/payer/v1");
    engine.input(&purse.session.0);
    engine.input(&purse.purse.0.to_be_bytes());
    let hash = sha256::Hash::from_engine(engine).to_byte_array();
    let mut path = [0; 4];
    for (index, bytes) in path.iter_mut().zip(hash.chunks_exact(4)) {
        let number = bytes.try_into().map(u32::from_be_bytes).unwrap_or_default();
        *index = number & 0x7fff_ffff;
    }
    path
}

fn tweak(base: &PublicKey, payer: &PublicKey, purse: PurseKey) -> [u8; 32] {
    let mut engine = tagged("streampay/btc/payee/v1");
    engine.input(&base.serialize());
    engine.input(&payer.serialize());
    engine.input(&purse.session.0);
    engine.input(&purse.purse.0.to_be_bytes());
    sha256::Hash::from_engine(engine).to_byte_array()
}
