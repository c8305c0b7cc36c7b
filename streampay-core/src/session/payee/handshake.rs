//! Waiting and Greeted: from a fresh connection to one that both sides signed.

use alloc::boxed::Box;

use bytes::Bytes;
use minicbor::bytes::ByteArray;

use super::{Live, PayeeSession, Phase, Up};
use crate::meter::{PauseReason, Reading, Schedule};
use crate::planted::{self, Planted};
use crate::session::binding::{
    Binding, Choice, best_version, known, role_hash, sign_binding, understands,
};
use crate::session::record::{Apart, Common, Fixed, PayeeRecord, StoredKey, StoredTerms};
use crate::session::{
    ChannelIdentity, CloseCode, Entropy, Event, Hash, Misbehaviour, Output, Role,
};
use crate::units::{Mono, Msat};
use crate::wire::{Bind, Close, Hello, Message, Ready, Terms, Welcome, encode};

/// How long a fresh connection has to say hello, and again to bind, in milliseconds. Spec:
/// session 9.2.
const HANDSHAKE_MS: u64 = 15_000;

/// Our side of the binding is sent.
pub(super) struct Greeted {
    hello: Hello,
    welcome: Bytes,
    binding: Hash,
    pub(super) deadline: Mono,
}

impl PayeeSession {
    /// The same session, which takes no payer without these feature bits; those that are not known
    /// are left out.
    #[must_use]
    pub const fn requiring(mut self, features: u64) -> Self {
        self.features = known(features);
        self
    }

    pub(super) fn on_up(&mut self, identity: ChannelIdentity, entropy: Entropy) {
        self.up = Some(Up {
            identity,
            entropy,
            known: false,
            notes_said: 0,
            nonce: None,
            proof: None,
        });
        self.nonsense = 0;
        if matches!(self.phase, Phase::Offline) {
            let deadline = self.now.mono.after_ms(HANDSHAKE_MS);
            self.phase = Phase::Waiting { deadline };
        }
    }

    pub(super) fn on_down(&mut self) {
        self.up = None;
        match self.phase {
            Phase::Waiting { .. } | Phase::Greeted(_) | Phase::Live(_) => {
                self.shut_gate(PauseReason::LinkDown);
                self.go_offline();
                self.event(Event::LinkDown);
                if self.record.is_none() {
                    self.phase = Phase::Ended;
                }
            }
            Phase::Lingering(_) => self.phase = Phase::Ended,
            Phase::Offline | Phase::Settling(_) | Phase::Ended => {}
        }
    }

    pub(super) fn on_hello(&mut self, hello: &Hello) {
        match &self.phase {
            Phase::Waiting { .. } => self.greet(hello),
            Phase::Greeted(greeted) if greeted.hello == *hello => {
                let welcome = greeted.welcome.clone();
                self.out.push_back(Output::Send(welcome));
            }
            Phase::Settling(_) | Phase::Lingering(_) if self.is_ours(hello) => {
                self.know_peer();
                self.note_nonce(hello);
                if let Some(evidence) = &hello.evidence {
                    self.settle_more(evidence);
                }
                self.say_closing();
                self.say_closed_again();
                self.say_notes();
            }
            Phase::Lingering(_) => self.send(&Message::Close(Close {
                code: CloseCode::Misbehaved,
            })),
            // A repetition that was overtaken by its own answer.
            Phase::Live(_) | Phase::Settling(_) => {}
            _ => self.misbehaved(Misbehaviour::Unexpected(0)),
        }
    }

    fn greet(&mut self, hello: &Hello) {
        let choice = match self.judge(hello) {
            Ok(choice) => choice,
            Err(code) => return self.refuse(code),
        };
        let (version, features) = (choice.version, choice.features);
        let Some(up) = self.up.clone() else { return };
        self.session = Some(hello.session);
        if let Some(evidence) = hello.evidence.filter(|evidence| !self.catch_up(evidence)) {
            return self.end_out_of_date(hello, evidence);
        }
        let nonce = up.entropy.derive("nonce");
        let identity = &self.config.identity;
        let binding = Binding {
            session: hello.session,
            payer_nonce: hello.nonce,
            payee_nonce: nonce,
            payer: hello.identity,
            payee: identity.public(),
            payer_session_key: hello.session_key,
            payee_session_key: self.key.public(),
            channel: up.identity,
            terms: self.config.terms.hash(),
            root: hello.root.unwrap_or_default(),
            choice,
        }
        .hash();
        let welcome = encode(&Message::Welcome(Welcome {
            session: hello.session,
            version,
            features,
            nonce,
            session_key: self.key.public(),
            terms: Terms::clone(&self.config.terms),
            terms_signature: identity.sign(self.config.terms.hash(), &[0; 32]),
            binding: sign_binding(identity, binding, Role::Payee, &up.entropy.derive("bind")),
        }));
        self.out.push_back(Output::Send(welcome.clone()));
        let deadline = self.now.mono.after_ms(HANDSHAKE_MS);
        self.phase = Phase::Greeted(Box::new(Greeted {
            hello: hello.clone(),
            welcome,
            binding,
            deadline,
        }));
    }

    /// Whether this hello may open, or resume, this session.
    fn judge(&self, hello: &Hello) -> Result<Choice, CloseCode> {
        let version = best_version(&hello.versions).filter(|_| understands(hello.features));
        let choice = Choice {
            versions: hello.versions.clone(),
            offered: hello.features,
            version: version.ok_or(CloseCode::Incompatible)?,
            features: hello.features & self.features,
        };
        if choice.features != self.features {
            return Err(CloseCode::Incompatible);
        }
        let Some(record) = &self.record else {
            // A payer that was bound and never got a receipt may have been bound before our
            // record was durable; one with a receipt was not.
            if hello.evidence.is_some() {
                return Err(CloseCode::UnknownSession);
            }
            let expired = self.config.terms.expires <= self.now.unix;
            return if expired {
                Err(CloseCode::TermsExpired)
            } else {
                Ok(choice)
            };
        };
        if !self.is_ours(hello) {
            return Err(CloseCode::Misbehaved);
        }
        record.common.close_code().map_or(Ok(choice), Err)
    }

    pub(super) fn is_known(&self) -> bool {
        self.up.as_ref().is_some_and(|up| up.known)
    }

    const fn know_peer(&mut self) {
        if let Some(up) = &mut self.up {
            up.known = true;
        }
    }

    /// The first of a connection: who says another one hears no more of it.
    fn note_nonce(&mut self, hello: &Hello) {
        if let Some(up) = &mut self.up {
            up.nonce.get_or_insert(hello.nonce);
        }
    }

    /// True where this hello names the session and the keys of our record.
    fn is_ours(&self, hello: &Hello) -> bool {
        self.record.as_ref().is_some_and(|record| {
            let common = &record.common;
            common.fixed.session == hello.session
                && common.fixed.peer == hello.identity
                && common.fixed.peer_key == hello.session_key
                && (hello.root == Some(*common.fixed.root) || planted::is(Planted::OtherRoot))
        })
    }

    /// Nothing is signed yet: the answer is a close code and no more. A session that is known
    /// stays as it is.
    pub(super) fn refuse(&mut self, code: CloseCode) {
        self.send(&Message::Close(Close { code }));
        if self.record.is_none() {
            self.event(Event::Closed {
                code,
                by_peer: false,
            });
            self.phase = Phase::Ended;
        } else {
            self.go_offline();
            self.event(Event::LinkDown);
        }
    }

    /// No hello or no bind in time.
    pub(super) fn give_up(&mut self) {
        self.refuse(CloseCode::TimedOut);
    }

    pub(super) fn on_bind(&mut self, bind: &Bind) {
        let Phase::Greeted(greeted) = &self.phase else {
            if matches!(self.phase, Phase::Live(_)) {
                self.say_ready();
            }
            return;
        };
        let (hello, binding) = (greeted.hello.clone(), greeted.binding);
        if !hello
            .identity
            .verifies(role_hash(binding, Role::Payer), &bind.binding)
        {
            self.event(Event::Misbehaved {
                how: Misbehaviour::BadSignature,
            });
            return self.refuse(CloseCode::Misbehaved);
        }
        let resumed = self.record.is_some();
        if !resumed {
            let root = hello.root.unwrap_or(binding.0);
            self.record = Some(self.first_record(&hello, root));
        }
        if let Some(record) = self.record.as_mut()
            && resumed
            && planted::is(Planted::PreviewAgain)
        {
            record.preview = record.preview.saturating_plus(self.config.terms.preview);
        }
        self.know_peer();
        let receiving = self.is_receiving().is_some();
        self.phase = Phase::Live(Live::new(self.now.mono, receiving));
        self.resume_by = None;
        self.flow.reconnect();
        if let Some(record) = &mut self.record {
            record.common.resume_by = None;
        }
        self.persist();
        self.say_ready();
        let terms = Terms::clone(&self.config.terms);
        self.event(Event::Bound {
            session: hello.session,
            terms,
            resumed,
            features: self.features,
        });
        self.grant();
        self.take_up_offer();
        self.beat();
    }

    /// From here on the session can be resumed for so long as its terms say. Connections that
    /// nobody binds, and restarts, do not make it longer.
    pub(super) fn go_offline(&mut self) {
        self.phase = Phase::Offline;
        let now = self.now;
        let Some(record) = self.record.as_mut().filter(|_| self.resume_by.is_none()) else {
            return;
        };
        let (by, decided) = record.common.resume_by(now);
        self.resume_by = Some(by);
        if decided {
            self.persist();
        }
    }

    pub(super) fn close_if_not_resumed(&mut self) {
        let now = self.now.mono;
        if self.resume_by.take_if(|by| now >= *by).is_some() {
            self.close(CloseCode::TimedOut, false);
        }
    }

    fn say_ready(&mut self) {
        let evidence = self
            .record
            .as_ref()
            .and_then(|record| record.common.evidence());
        self.send(&Message::Ready(Ready { evidence }));
    }

    fn first_record(&self, hello: &Hello, root: [u8; 32]) -> PayeeRecord {
        let schedule = Schedule::new(self.config.terms.tariff);
        PayeeRecord {
            common: Common {
                fixed: Apart::new(Fixed {
                    session: hello.session,
                    peer: hello.identity,
                    peer_key: hello.session_key,
                    key: StoredKey(self.key.clone()),
                    terms: StoredTerms(self.config.terms.clone()),
                    root: ByteArray::from(root),
                    payer: false,
                    vouch: None,
                }),
                reading: Reading::default(),
                evidence: None,
                next_request: 0,
                closing: None,
                settled: false,
                schedule,
                offer: None,
                offered: Msat::ZERO,
                agreed: None,
                resume_by: None,
                began: Some(self.now.unix.0),
                ended: None,
            },
            purses: [].into(),
            preview: self.config.terms.preview.min(self.config.preview_left),
            tips: Msat::ZERO,
            kept: false,
        }
    }
}
