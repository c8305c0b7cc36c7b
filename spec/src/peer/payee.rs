use streampay_core::meter::Reading;
use streampay_core::session::{BadKey, Binding, Choice, CloseCode, Receipt, Role, SecretKey};
use streampay_core::units::{Msat, PurseId, Seq};
use streampay_core::wire::{Ack, Closed, Evidence, Hello, Message, Ready, Terms, VERSION, Welcome};

use super::CHANNEL;
use crate::people::{key, msat, terms};

/// A payee that says what it is told to say.
#[derive(Debug)]
pub struct Payee {
    /// Who signs terms and bindings.
    pub identity: SecretKey,
    /// Its key of the session.
    pub key: SecretKey,
    /// What it offers.
    pub terms: Terms,
    /// The version that it chooses.
    pub version: u16,
    /// The features that it chooses.
    pub features: u64,
    /// The hello that it answered last.
    pub hello: Hello,
    connections: u8,
}

impl Payee {
    /// The one that all scripts know, and who says hello to it.
    ///
    /// # Errors
    /// None.
    pub fn new(hello: Hello) -> Result<Self, BadKey> {
        Ok(Self {
            identity: key("payee")?,
            key: key("payee-session")?,
            terms: terms()?,
            version: VERSION,
            features: 0,
            hello,
            connections: 0,
        })
    }

    /// The answer to its hello.
    pub fn welcome(&mut self) -> Welcome {
        self.connections = self.connections.saturating_add(1);
        let nonce = [0x70_u8.saturating_add(self.connections); 32];
        let hello = &self.hello;
        let binding = Binding {
            choice: Choice {
                versions: hello.versions.clone(),
                offered: hello.features,
                version: self.version,
                features: self.features,
            },
            session: hello.session,
            payer_nonce: hello.nonce,
            payee_nonce: nonce,
            payer: hello.identity,
            payee: self.terms.payee,
            payer_session_key: hello.session_key,
            payee_session_key: self.key.public(),
            channel: CHANNEL,
            terms: self.terms.hash(),
            root: hello.root.unwrap_or_default(),
        };
        let aux = [0; 32];
        Welcome {
            session: hello.session,
            version: self.version,
            features: self.features,
            nonce,
            session_key: self.key.public(),
            terms: self.terms.clone(),
            terms_signature: self.identity.sign(self.terms.hash(), &aux),
            binding: self.identity.sign(Role::Payee.hash(binding.hash()), &aux),
        }
    }

    /// That the session is over, to this hello, with a receipt for so many ticks.
    #[must_use]
    pub fn closed(&self, hello: &Hello, seq: u64) -> Message {
        let mut closed = Closed {
            code: CloseCode::Done,
            evidence: Some(self.sign(self.receipt(seq, 0))),
            proof: None,
        };
        let hash = closed.hash(hello.session, &hello.nonce);
        closed.proof = Some(self.key.sign(hash, &[0; 32]));
        Message::Closed(closed)
    }

    /// The receipt for so many ticks of the first purse, with this many milliseconds delivered.
    #[must_use]
    pub fn receipt(&self, seq: u64, media_ms: u64) -> Receipt {
        let amount = msat(seq.saturating_mul(2_000));
        Receipt {
            purse: PurseId(0),
            seq: Seq(seq),
            cumulative: amount,
            total: amount,
            reading: Reading { media_ms, bytes: 0 },
            tips: Msat::ZERO,
        }
    }

    /// The receipt for so many ticks of the first purse of which so many were tips.
    #[must_use]
    pub fn receipt_with_tips(&self, seq: u64, tips: u64) -> Receipt {
        Receipt {
            tips: msat(tips.saturating_mul(2_000)),
            ..self.receipt(seq, 0)
        }
    }

    /// The ack of it.
    #[must_use]
    pub fn ack_with_tips(&self, seq: u64, tips: u64) -> Message {
        Message::Ack(Ack {
            evidence: self.sign(self.receipt_with_tips(seq, tips)),
            grant: None,
        })
    }

    /// It signs this.
    #[must_use]
    pub fn sign(&self, receipt: Receipt) -> Evidence {
        receipt.sign(self.hello.session, &self.key)
    }

    /// The ack for so many ticks of the first purse.
    #[must_use]
    pub fn ack(&self, seq: u64, media_ms: u64) -> Message {
        Message::Ack(Ack {
            evidence: self.sign(self.receipt(seq, media_ms)),
            grant: None,
        })
    }

    /// The end of the binding.
    #[must_use]
    pub const fn ready(evidence: Option<Evidence>) -> Message {
        Message::Ready(Ready { evidence })
    }
}
