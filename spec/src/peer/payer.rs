use bytes::Bytes;
use streampay_core::session::{BadKey, Binding, Choice, Role, SecretKey};
use streampay_core::units::{Msat, PurseId, Seq, SessionId};
use streampay_core::wire::{Bind, Evidence, Hello, Message, Purse, Tick, VERSION, Welcome};

use super::{CHANNEL, method};
use crate::people::{key, msat};

/// A payer that says what it is told to say.
#[derive(Debug)]
pub struct Payer {
    /// Which session it names.
    pub session: SessionId,
    /// Who signs its bindings.
    pub identity: SecretKey,
    /// Its key of the session.
    pub key: SecretKey,
    /// The first binding, once there is one.
    pub root: Option<[u8; 32]>,
    /// The versions that it offers.
    pub versions: Vec<u16>,
    /// The features that it offers.
    pub features: u64,
    /// The receipt that it shows.
    pub evidence: Option<Evidence>,
    connections: u8,
    nonce: [u8; 32],
}

impl Payer {
    /// The one that all scripts know.
    ///
    /// # Errors
    /// None.
    pub fn new() -> Result<Self, BadKey> {
        Ok(Self {
            session: SessionId([0x21; 32]),
            identity: key("payer")?,
            key: key("payer-session")?,
            root: None,
            versions: [VERSION].into(),
            features: 0,
            evidence: None,
            connections: 0,
            nonce: [0; 32],
        })
    }

    /// The hello of a new connection.
    pub fn hello(&mut self) -> Hello {
        self.connections = self.connections.saturating_add(1);
        self.nonce = [0x60_u8.saturating_add(self.connections); 32];
        Hello {
            session: self.session,
            versions: self.versions.clone(),
            features: self.features,
            nonce: self.nonce,
            identity: self.identity.public(),
            session_key: self.key.public(),
            root: self.root,
            evidence: self.evidence,
        }
    }

    /// The answer to a welcome.
    pub fn bind(&mut self, welcome: &Welcome) -> Message {
        let binding = Binding {
            choice: Choice {
                versions: self.versions.clone(),
                offered: self.features,
                version: welcome.version,
                features: welcome.features,
            },
            session: self.session,
            payer_nonce: self.nonce,
            payee_nonce: welcome.nonce,
            payer: self.identity.public(),
            payee: welcome.terms.payee,
            payer_session_key: self.key.public(),
            payee_session_key: welcome.session_key,
            channel: CHANNEL,
            terms: welcome.terms.hash(),
            root: self.root.unwrap_or_default(),
        };
        let hash = binding.hash();
        self.root.get_or_insert(hash.0);
        let binding = self.identity.sign(Role::Payer.hash(hash), &[0; 32]);
        Message::Bind(Bind { binding })
    }

    /// The opening of a purse of five ticks, in one message.
    #[must_use]
    pub fn purse(&self, id: u32) -> Purse {
        let purse = PurseId(id);
        Purse {
            purse,
            part: 0,
            of: 1,
            method: 0,
            bytes: method::opening(self.session, purse, msat(10_000)).into(),
        }
    }

    /// The tick with this number, 2 sat each.
    #[must_use]
    pub fn tick(&self, purse: u32, seq: u64) -> Tick {
        let (purse, seq) = (PurseId(purse), Seq(seq));
        let cumulative = msat(seq.0.saturating_mul(2_000));
        Tick {
            purse,
            seq,
            cumulative,
            payload: self.paying(purse.0, seq.0, cumulative),
            tips: None,
        }
    }

    /// What pays a tick with this number and sum.
    #[must_use]
    pub fn paying(&self, purse: u32, seq: u64, cumulative: Msat) -> Bytes {
        let (purse, seq) = (PurseId(purse), Seq(seq));
        Bytes::from(method::payment(self.session, purse, seq, cumulative))
    }

    /// The same as a tip, with which all tips come to so many ticks.
    #[must_use]
    pub fn tip(&self, purse: u32, seq: u64, tips: u64) -> Tick {
        Tick {
            tips: Some(msat(tips.saturating_mul(2_000))),
            ..self.tick(purse, seq)
        }
    }
}
