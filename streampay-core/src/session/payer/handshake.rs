//! Greeting and Binding: from a fresh connection to one that both sides signed.

use alloc::sync::Arc;

use minicbor::bytes::ByteArray;

use super::{Live, PayerSession, Phase, Up};
use crate::meter::{Reading, Schedule};
use crate::planted::{self, Planted};
use crate::session::binding::{
    Binding as Bound, Choice, VERSIONS, known, role_hash, sign_binding, understands,
};
use crate::session::pace::Backoff;
use crate::session::proof::Vouch;
use crate::session::record::{Apart, Common, Fixed, PayerRecord, StoredKey, StoredTerms};
use crate::session::{ChannelIdentity, CloseCode, Entropy, Event, Misbehaviour, Role, Signature};
use crate::units::{Mono, Msat};
use crate::wire::{Bind, Hello, Message, Ready, Terms, Welcome};

/// How long a peer has to answer the hello and the bind, in milliseconds. Spec: session 9.2.
const HANDSHAKE_MS: u64 = 15_000;
/// The longest time to resume that terms may name, in seconds: 30 days, in which a payer that is
/// not there takes nothing home.
const RESUMABLE_MAX_S: u32 = 30 * 86_400;

/// Hello is sent.
pub(super) struct Greeting {
    nonce: [u8; 32],
    retry: Backoff,
    deadline: Mono,
}

/// Our side of the binding is sent.
pub(super) struct Binding {
    signature: Signature,
    retry: Backoff,
    deadline: Mono,
    resumed: bool,
    features: u64,
}

impl Greeting {
    pub(super) fn timeout(&self) -> Mono {
        self.retry.at().min(self.deadline)
    }
}

impl Binding {
    pub(super) fn timeout(&self) -> Mono {
        self.retry.at().min(self.deadline)
    }
}

impl PayerSession {
    /// The same session, which offers these feature bits from the next connection on; those that
    /// are not known are left out. Which of them hold is said by [`Event::Bound`].
    #[must_use]
    pub const fn offering(mut self, features: u64) -> Self {
        self.features = known(features);
        self
    }

    pub(super) fn on_up(&mut self, identity: ChannelIdentity, entropy: Entropy) {
        let waited = self.uncounted();
        let up = Up {
            identity,
            entropy,
            waited,
        };
        let nonce = up.nonce();
        (self.up, self.unbound) = (Some(up), None);
        (self.nonsense, self.notes, self.parts) = (0, 0, None);
        if matches!(self.phase, Phase::Offline) {
            let (retry, deadline) = self.handshake_clock();
            self.phase = Phase::Greeting(Greeting {
                nonce,
                retry,
                deadline,
            });
            self.say_hello(nonce);
        } else {
            self.meet(nonce);
        }
    }

    pub(super) fn on_down(&mut self) {
        let up = self.up.take();
        if let Some(up) = up.filter(|_| self.is_unbound()) {
            self.unbound = Some(up.waited);
            self.forget_what_came();
        }
        match self.phase {
            Phase::Greeting(_) | Phase::Binding(_) | Phase::Live(_) => {
                if let Some(record) = &mut self.record {
                    record.common.reading = record.common.reading.max(self.metered);
                }
                if self.live().is_some() {
                    self.lost = Some(self.now.mono);
                }
                self.go_offline();
                self.event(Event::LinkDown);
            }
            Phase::Releasing(_) => self.part(),
            Phase::Offline | Phase::Closing(_) | Phase::Ended => {}
        }
    }

    pub(super) fn advance_handshake(&mut self) {
        let now = self.now.mono;
        match &mut self.phase {
            Phase::Greeting(greeting) if now >= greeting.deadline => {
                self.handshake_failed(CloseCode::TimedOut)
            }
            Phase::Binding(binding) if now >= binding.deadline => {
                self.handshake_failed(CloseCode::TimedOut)
            }
            Phase::Greeting(greeting) => {
                let nonce = greeting.nonce;
                if greeting.retry.due(now) {
                    self.say_hello(nonce);
                }
            }
            Phase::Binding(binding) => {
                let bind = Bind {
                    binding: binding.signature,
                };
                if binding.retry.due(now) {
                    self.send(&Message::Bind(bind));
                }
            }
            _ => {}
        }
    }

    pub(super) fn on_welcome(&mut self, welcome: Welcome) {
        let Phase::Greeting(Greeting { nonce, .. }) = self.phase else {
            // Or a repeated welcome: the bind that answers it is repeated by its own timer.
            return self.met(&welcome);
        };
        let Some(up) = self.up.clone() else { return };
        let bound = self.bound(&welcome, nonce, up.identity);
        match self.judge(&welcome, &bound) {
            Ok(()) => {}
            Err(Verdict::Misbehaved(how)) => return self.misbehaved(how),
            Err(Verdict::Refuse(code)) => return self.close(code, false),
            Err(Verdict::Unsigned(code)) => return self.handshake_failed(code),
        }
        let resumed = self.record.is_some();
        let features = welcome.features & self.features;
        let hash = bound.hash();
        let vouch = Vouch::new(&bound, &welcome.terms_signature, &welcome.binding);
        match &self.record {
            Some(record) if !self.is_same(record, &welcome) => self.begin_anew(welcome, vouch),
            Some(_) => {}
            None => self.record = Some(self.first_record(welcome, hash.0, vouch)),
        }
        let aux = up.entropy.derive("bind");
        let signature = sign_binding(&self.config.identity, hash, Role::Payer, &aux);
        let (retry, deadline) = self.handshake_clock();
        self.phase = Phase::Binding(Binding {
            signature,
            retry,
            deadline,
            resumed,
            features,
        });
        self.persist();
        self.send(&Message::Bind(Bind { binding: signature }));
    }

    pub(super) fn on_ready(&mut self, ready: &Ready) {
        let Phase::Binding(Binding {
            resumed, features, ..
        }) = self.phase
        else {
            return self.met_and_bound(ready);
        };
        let Some(record) = &self.record else { return };
        let (terms, known) = (record.common.terms().clone(), record.common.receipt().total);
        let theirs = ready
            .evidence
            .map(|evidence| evidence.receipt.total)
            .unwrap_or_default();
        if theirs < known {
            // It was shown our receipt in the hello and still denies it.
            return self.misbehaved(Misbehaviour::Changed);
        }
        let cache_ms = self.cache_ms();
        self.phase = Phase::Live(Live::new(self.now.mono, self.reading(), cache_ms));
        self.resume();
        self.flow.reconnect();
        if planted::is(Planted::PauseAnew) {
            self.stood_at = None;
        }
        self.event(Event::Bound {
            session: self.session,
            terms,
            resumed,
            features,
        });
        if let Some(evidence) = &ready.evidence {
            self.accept_evidence(evidence);
            if planted::is(Planted::ResumeByHint) {
                self.metered = self.metered.max(evidence.receipt.reading);
            }
        }
        self.restored = false;
        self.say_flow();
        self.take_up_offer();
        self.show_again();
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

    /// A connection is bound: the time to resume begins anew when it is lost.
    fn resume(&mut self) {
        self.resume_by = None;
        let record = self.record.as_mut();
        if record.is_some_and(|record| record.common.resume_by.take().is_some()) {
            self.persist();
        }
    }

    pub(super) fn close_if_not_resumed(&mut self) {
        let now = self.now.mono;
        if self.resume_by.take_if(|by| now >= *by).is_some() {
            self.close(CloseCode::TimedOut, false);
        }
    }

    pub(super) fn say_hello(&mut self, nonce: [u8; 32]) {
        let common = self.record.as_ref().map(|record| &record.common);
        let hello = Hello {
            session: self.session,
            versions: VERSIONS.into(),
            features: self.features,
            nonce,
            identity: self.config.identity.public(),
            session_key: self.key.public(),
            root: common.map(|common| *common.fixed.root),
            evidence: common.and_then(Common::evidence),
        };
        self.send(&Message::Hello(hello));
    }

    fn handshake_clock(&self) -> (Backoff, Mono) {
        (
            Backoff::start(self.now.mono),
            self.now.mono.after_ms(HANDSHAKE_MS),
        )
    }

    pub(super) fn handshake_failed(&mut self, code: CloseCode) {
        if self.record.is_some() {
            self.go_offline();
            self.event(Event::LinkDown);
        } else {
            self.close(code, false);
        }
    }

    pub(super) fn bound(
        &self,
        welcome: &Welcome,
        payer_nonce: [u8; 32],
        channel: ChannelIdentity,
    ) -> Bound {
        Bound {
            session: self.session,
            payer_nonce,
            payee_nonce: welcome.nonce,
            payer: self.config.identity.public(),
            payee: self.config.payee,
            payer_session_key: self.key.public(),
            payee_session_key: welcome.session_key,
            channel,
            terms: welcome.terms.hash(),
            root: self
                .record
                .as_ref()
                .map(|record| *record.common.fixed.root)
                .unwrap_or_default(),
            choice: Choice {
                versions: VERSIONS.into(),
                offered: self.features,
                version: welcome.version,
                features: welcome.features,
            },
        }
    }

    pub(super) fn judge(&self, welcome: &Welcome, bound: &Bound) -> Result<(), Verdict> {
        if welcome.session != self.session {
            return Err(Verdict::Misbehaved(Misbehaviour::Changed));
        }
        if !VERSIONS.contains(&welcome.version) || !understands(welcome.features) {
            return Err(Verdict::Unsigned(CloseCode::Incompatible));
        }
        let payee = self.config.payee;
        if welcome.terms.payee != payee {
            return Err(Verdict::Misbehaved(Misbehaviour::WrongIdentity));
        }
        let signed = payee.verifies(bound.terms, &welcome.terms_signature)
            && payee.verifies(role_hash(bound.hash(), Role::Payee), &welcome.binding);
        if !signed {
            return Err(Verdict::Misbehaved(Misbehaviour::BadSignature));
        }
        match &self.record {
            None => self.judge_terms(&welcome.terms).map_err(Verdict::Refuse),
            Some(record) if self.is_same(record, welcome) => Ok(()),
            // The payee crashed before its first record was durable: there is nothing yet that
            // could be lost.
            Some(record) if record.purses.is_empty() => {
                self.judge_terms(&welcome.terms).map_err(Verdict::Refuse)
            }
            // By the payee's own signature: it does not have this session any more.
            Some(_) => Err(Verdict::Refuse(CloseCode::UnknownSession)),
        }
    }

    pub(super) fn is_same(&self, record: &PayerRecord, welcome: &Welcome) -> bool {
        record.common.fixed.peer_key == welcome.session_key
            && record.common.fixed.terms.0.hash() == welcome.terms.hash()
    }

    fn judge_terms(&self, terms: &Terms) -> Result<(), CloseCode> {
        let policy = &self.config.policy;
        if terms.expires <= self.now.unix {
            return Err(CloseCode::TermsExpired);
        }
        let tick = terms.tick;
        let too_long = terms.resumable_s > RESUMABLE_MAX_S;
        if tick > policy.max_tick || !terms.tariff.is_within(&policy.max_tariff) || too_long {
            return Err(CloseCode::OverPolicy);
        }
        if tick > policy.budget {
            return Err(CloseCode::BudgetSpent);
        }
        self.choose_method(terms)
            .map(|_| ())
            .ok_or(CloseCode::NoCommonMethod)
    }

    /// The payee lost its first record, before anything was paid: nothing of what was offered or metered by then is
    /// of these terms. What the user wants stays.
    fn begin_anew(&mut self, welcome: Welcome, vouch: Vouch) {
        let Some(before) = self.record.take() else {
            return;
        };
        let common = &before.common;
        let mut record = self.first_record(welcome, *common.fixed.root, vouch);
        (record.common.next_request, record.common.began) = (common.next_request, common.began);
        record.common.resume_by = common.resume_by;
        (record.topped_up, record.tips_wanted) = (before.topped_up, before.tips_wanted);
        self.record = Some(record);
        self.meter_anew();
    }

    fn first_record(&self, welcome: Welcome, root: [u8; 32], vouch: Vouch) -> PayerRecord {
        let schedule = Schedule::new(welcome.terms.tariff);
        PayerRecord {
            common: Common {
                fixed: Apart::new(Fixed {
                    session: self.session,
                    peer: self.config.payee,
                    peer_key: welcome.session_key,
                    key: StoredKey(self.key.clone()),
                    terms: StoredTerms(Arc::new(welcome.terms)),
                    root: ByteArray::from(root),
                    payer: true,
                    vouch: Some(vouch),
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
            written_off: Msat::ZERO,
            booked: Reading::default(),
            topped_up: Msat::ZERO,
            tips: Msat::ZERO,
            tips_wanted: Msat::ZERO,
        }
    }
}

pub(super) enum Verdict {
    Misbehaved(Misbehaviour),
    Refuse(CloseCode),
    /// The same before any signature was looked at.
    Unsigned(CloseCode),
}
