//! What ties a session to one connection and one set of terms.

use alloc::vec::Vec;

use super::crypto::{Hash, SecretKey, Signature, TaggedHash};
use crate::units::{SessionId, XOnlyKey};
use crate::wire::{VERSION, VERSIONS_MAX};

/// What both ends of a connection know it by: of WebRTC the SHA-256 of both sides' DTLS
/// certificates, as presented in the handshake. Spec: session 2, transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ChannelIdentity {
    /// Of the payer's certificate.
    pub payer: [u8; 32],
    /// Of the payee's certificate.
    pub payee: [u8; 32],
}

impl ChannelIdentity {
    /// That of a TCP connection, of the random bytes that each side began it with. Spec:
    /// transports 6.
    #[must_use]
    pub fn of_tcp(payer: &[u8; 32], payee: &[u8; 32]) -> Self {
        let named = |random| {
            TaggedHash::new("streampay/tcp/v1")
                .bytes32(random)
                .finish()
                .0
        };
        Self {
            payer: named(payer),
            payee: named(payee),
        }
    }
}

/// Which side signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Role {
    /// The viewer.
    Payer,
    /// The streamer.
    Payee,
}

/// What this library speaks, best first.
pub(crate) const VERSIONS: &[u16] = &[VERSION];
/// The feature bits that an embedder can switch on.
const FEATURES: u64 = SEALED_MEDIA;
/// The feature bit `sealed-media`: frames come sealed, and their keys as grants on acks. Odd, so that a
/// payee without it may ignore that a payer has it. Spec: media 4.
pub const SEALED_MEDIA: u64 = 1 << 1;
/// Bits that must be understood: every other one, from the lowest. Spec: registry, features.
const EVEN_BITS: u64 = 0x5555_5555_5555_5555;

/// What a hello offers, and what the welcome chose of it. Both are bound, so that nobody on the
/// way can take the better ones out.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The versions of the hello, in its order, at most 8.
    pub versions: Vec<u16>,
    /// The feature bits of the hello.
    pub offered: u64,
    /// The version of the welcome.
    pub version: u16,
    /// The feature bits of the welcome.
    pub features: u64,
}

/// The best version that both sides speak.
pub(crate) fn best_version(offered: &[u16]) -> Option<u16> {
    let mut own = VERSIONS.iter().copied();
    own.find(|version| offered.contains(version))
}

/// What an embedder may offer or require of `features`.
pub(crate) const fn known(features: u64) -> u64 {
    features & FEATURES
}

/// True where every bit that must be understood is.
pub(crate) const fn understands(features: u64) -> bool {
    features & EVEN_BITS & !FEATURES == 0
}

/// Everything that both sides must agree on before money moves.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Which session.
    pub session: SessionId,
    /// The payer's of this connection.
    pub payer_nonce: [u8; 32],
    /// The payee's of this connection.
    pub payee_nonce: [u8; 32],
    /// The payer's identity.
    pub payer: XOnlyKey,
    /// The payee's identity.
    pub payee: XOnlyKey,
    /// The payer's key of the session.
    pub payer_session_key: XOnlyKey,
    /// The payee's key of the session.
    pub payee_session_key: XOnlyKey,
    /// Both sides' certificates.
    pub channel: ChannelIdentity,
    /// [`Terms::hash`](crate::wire::Terms::hash).
    pub terms: Hash,
    /// The session's first binding, or zeros in the first.
    pub root: [u8; 32],
    /// Version and features.
    pub choice: Choice,
}

impl Binding {
    /// `cb`. Spec: session 2.3.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let choice = &self.choice;
        // Eight numbers, whatever was offered: zero is no version.
        let none = core::iter::repeat(&0);
        let versions = choice.versions.iter().chain(none).take(VERSIONS_MAX);
        versions
            .fold(TaggedHash::new("streampay/bind/v1"), |hash, version| {
                hash.u64(u64::from(*version))
            })
            .u64(choice.offered)
            .u64(u64::from(choice.version))
            .u64(choice.features)
            .bytes32(&self.session.0)
            .bytes32(&self.payer_nonce)
            .bytes32(&self.payee_nonce)
            .bytes32(&self.payer.0)
            .bytes32(&self.payee.0)
            .bytes32(&self.payer_session_key.0)
            .bytes32(&self.payee_session_key.0)
            .bytes32(&self.channel.payer)
            .bytes32(&self.channel.payee)
            .bytes32(&self.terms.0)
            .bytes32(&self.root)
            .finish()
    }
}

impl Role {
    /// `H_tag(cb | role)`: what this side's identity signs. Spec: session 2.3.
    #[must_use]
    pub fn hash(self, binding: Hash) -> Hash {
        role_hash(binding, self)
    }
}

/// `H_tag(cb | role)`: what each side's identity signs.
pub(crate) fn role_hash(binding: Hash, role: Role) -> Hash {
    let role = match role {
        Role::Payer => 1,
        Role::Payee => 2,
    };
    TaggedHash::new("streampay/bind-role/v1")
        .bytes32(&binding.0)
        .u64(role)
        .finish()
}

/// Signs `binding` as `role`.
pub(crate) fn sign_binding(
    key: &SecretKey,
    binding: Hash,
    role: Role,
    aux: &[u8; 32],
) -> Signature {
    key.sign(role_hash(binding, role), aux)
}
