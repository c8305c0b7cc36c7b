//! What ties a session to one connection and one set of terms.

use super::crypto::{Hash, SecretKey, Signature, TaggedHash};
use crate::units::{SessionId, XOnlyKey};
use crate::wire::VERSION;

/// The SHA-256 of both sides' DTLS certificates, as presented in the handshake. Spec: session 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ChannelIdentity {
    /// Of the payer's certificate.
    pub payer: [u8; 32],
    /// Of the payee's certificate.
    pub payee: [u8; 32],
}

/// Which side signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Role {
    /// The viewer.
    Payer,
    /// The streamer.
    Payee,
}

/// Everything that both sides must agree on before money moves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    pub(crate) session: SessionId,
    pub(crate) payer_nonce: [u8; 32],
    pub(crate) payee_nonce: [u8; 32],
    pub(crate) payer: XOnlyKey,
    pub(crate) payee: XOnlyKey,
    pub(crate) payer_session_key: XOnlyKey,
    pub(crate) payee_session_key: XOnlyKey,
    pub(crate) channel: ChannelIdentity,
    pub(crate) terms: Hash,
    /// The session's first binding, or zeros in the first.
    pub(crate) root: [u8; 32],
}

impl Binding {
    /// `cb`. Spec: session 2.3.
    pub(crate) fn hash(&self) -> Hash {
        TaggedHash::new("streampay/bind/v1")
            .u64(u64::from(VERSION))
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
