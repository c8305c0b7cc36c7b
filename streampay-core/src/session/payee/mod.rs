//! The payee's machine.
//!
//! ```text
//!              Link Up             Hello             Bind
//!   Offline ------------> Waiting -------> Greeted -------> Live
//!      ^                     |                |              |
//!      +----- Link Down -----+----------------+--------------+
//!      |                                                     | close, by anybody
//!      +--- Command::Close ------------------> Settling <----+
//!                                                 | every purse settled
//!                                                 v
//!                                             Lingering ---- 10 s or Link Down ---> Ended
//! ```
//!
//! | state | entry | leaves on |
//! |---|---|---|
//! | Offline | no link; the gate is shut | Link Up: Waiting; Close: Settling |
//! | Waiting | nothing known of the peer | Hello: welcome sent, Greeted; deadline: Ended or Offline |
//! | Greeted | our side of the binding sent | Bind that verifies: record durable, Live; deadline |
//! | Live | gate open as far as preview, credit and window reach | close by anybody, misbehaviour |
//! | Settling | closing durable, gate shut; Closed sent once no payment is checked, or after 5 s | all purses settled |
//! | Lingering | all settled; Closed to a payer that names our keys, Close to another hello, else silence | 10 s or Link Down: Ended |
//!
//! Order rules: an acceptance is durable before it is acked; the lease is durable before the gate
//! may pass it; from closing on no tick is credited but the one
//! that is being checked. Spec: session.

mod backup;
mod change;
mod closing;
mod config;
mod flow;
mod handshake;
mod lease;
mod member;
mod output;
mod purses;
mod receive;
mod tips;
mod view;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;

pub use self::config::{BadConfig, PayeeConfig};

use self::closing::{Lingering, Settling};
use self::flow::Live;
use self::handshake::Greeted;
use super::flow::Flow;
use super::output::next_output;
use super::pace::{Backoff, Pace};
use super::record::{PayeePurse, PayeeRecord, PurseState, find};
use super::{
    ApiMisuse, ChannelIdentity, CloseCode, Command, Entropy, Event, Hash, Input, LinkEvent,
    MediaGrant, Misbehaviour, Output, SecretKey, Signature,
};
use crate::meter::{Grant, PauseReason, Reading};
use crate::planted::{self, Planted};
use crate::store::{Key, StoreError};
use crate::units::{Mono, Msat, Now, PurseId, SessionId};
use crate::wire::{GRANT_MAX, Message, decode};

/// Messages that make no sense before the payee gives up on its peer. Chosen arbitrarily: a
/// sound peer sends none.
const NONSENSE_MAX: u16 = 16;

/// The payee's side of a session. Sans-IO: give it inputs, then take every output in order.
///
/// The contract is that of [`PayerSession`](super::PayerSession).
pub struct PayeeSession {
    config: PayeeConfig,
    /// This side's key of the session.
    key: SecretKey,
    session: Option<SessionId>,
    record: Option<PayeeRecord>,
    up: Option<Up>,
    phase: Phase,
    flow: Flow,
    /// What the own meter reads; after a restart the lease, for all of it may be used.
    metered: Reading,
    /// What rides on acks.
    grant: Option<MediaGrant>,
    /// When to ask the backend again for what it could not do.
    backend_retry: Option<Backoff>,
    /// When a session that is known and not connected ends.
    resume_by: Option<Mono>,
    out: VecDeque<Output>,
    now: Now,
    nonsense: u16,
    /// How often purses that are being checked were shown again.
    shown: Pace,
    /// True where what the payer wants of a room goes to one.
    has_room: bool,
    /// What the payer's backend is to be shown of a purse. The backend's machine keeps it durable.
    notes: BTreeMap<PurseId, Bytes>,
    /// How many answers to them came.
    answers: u16,
    /// The feature bits without which it takes no payer.
    features: u64,
}

/// The connection.
#[derive(Clone)]
struct Up {
    identity: ChannelIdentity,
    entropy: Entropy,
    /// True once who is there has named our keys: receipts are not for strangers.
    known: bool,
    /// How often it was told all notes.
    notes_said: u8,
    /// The nonce of its hello, where that is no greeting: the session closes.
    nonce: Option<[u8; 32]>,
    /// What of that was signed last.
    proof: Option<(Hash, Signature)>,
}

enum Phase {
    Offline,
    Waiting { deadline: Mono },
    Greeted(Box<Greeted>),
    Live(Live),
    Settling(Settling),
    Lingering(Lingering),
    Ended,
}

impl PayeeSession {
    /// A machine for a payer yet unknown. `entropy` makes its key: never use the same twice.
    ///
    /// # Errors
    /// [`BadConfig::Terms`] where payers could not read the terms; [`BadConfig::Key`] with a
    /// probability of 2^-128.
    pub fn new(config: PayeeConfig, entropy: &Entropy) -> Result<Self, BadConfig> {
        config.terms.check()?;
        let key = SecretKey::derive(entropy, "session-key")?;
        Ok(Self {
            config,
            key,
            session: None,
            record: None,
            up: None,
            phase: Phase::Offline,
            flow: Flow::default(),
            metered: Reading::default(),
            grant: None,
            backend_retry: None,
            resume_by: None,
            out: VecDeque::new(),
            now: Now::default(),
            nonsense: 0,
            shown: Pace::default(),
            has_room: false,
            notes: BTreeMap::new(),
            answers: 0,
            features: 0,
        })
    }

    /// A session from the records of its prefix in the store, with the terms of then. Its backend
    /// machine must have been restored before.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where one of its two records is missing or unreadable,
    /// [`StoreError::OtherRole`] where it is a payer's.
    pub fn restore(
        identity: SecretKey,
        unpaid_ms: u64,
        now: Now,
        session: SessionId,
        records: &[(Key, Vec<u8>)],
    ) -> Result<Self, StoreError> {
        let record: PayeeRecord = find(records, session, false)?;
        let config = PayeeConfig {
            identity,
            terms: record.common.fixed.terms.0.clone(),
            // What this session has of it stands in its record.
            preview_left: Msat::ZERO,
            unpaid_ms,
        };
        let mut restored = Self {
            config,
            key: record.common.fixed.key.0.clone(),
            session: Some(session),
            metered: record.common.reading,
            record: Some(record),
            up: None,
            phase: Phase::Offline,
            flow: Flow::default(),
            grant: None,
            backend_retry: None,
            resume_by: None,
            out: VecDeque::new(),
            now,
            nonsense: 0,
            shown: Pace::default(),
            has_room: false,
            notes: BTreeMap::new(),
            answers: 0,
            features: 0,
        };
        restored.take_up_again();
        Ok(restored)
    }

    /// Takes what happened.
    ///
    /// # Errors
    /// [`ApiMisuse`] only, with the session unchanged: everything a peer can cause is an output.
    pub fn handle(&mut self, now: Now, input: Input) -> Result<(), ApiMisuse> {
        if now.mono < self.now.mono {
            return Err(ApiMisuse::TimeWentBack);
        }
        if matches!(self.phase, Phase::Ended) {
            return Err(ApiMisuse::Ended);
        }
        self.check(&input)?;
        self.now = now;
        match input {
            Input::Received(bytes) => self.on_received(&bytes),
            Input::Timeout => {}
            Input::Command(command) => self.on_command(command),
            Input::Usage(reading) => self.on_usage(reading),
            Input::Backend(event) => self.on_backend(event),
            Input::Link(LinkEvent::Up { identity, entropy }) => self.on_up(identity, entropy),
            Input::Link(LinkEvent::Down) => self.on_down(),
            Input::PersistFailed => self.on_persist_failed(),
        }
        self.advance();
        Ok(())
    }

    /// The next thing to do, if any.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        next_output(&mut self.out)
    }

    /// When to come back with [`Input::Timeout`]; none while nothing is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Mono> {
        let phase = match &self.phase {
            Phase::Ended => return None,
            Phase::Offline => self.resume_by,
            Phase::Waiting { deadline } => Some(*deadline),
            Phase::Greeted(greeted) => Some(greeted.deadline),
            Phase::Live(live) => self.live_timeout(live),
            Phase::Settling(settling) => settling.timeout(),
            Phase::Lingering(lingering) => Some(lingering.timeout()),
        };
        let backend = self.backend_retry.map(|retry| retry.at());
        phase.into_iter().chain(backend).min()
    }

    fn check(&self, input: &Input) -> Result<(), ApiMisuse> {
        match input {
            Input::Link(LinkEvent::Up { .. }) if self.up.is_some() => Err(ApiMisuse::LinkAlreadyUp),
            Input::Link(LinkEvent::Down) | Input::Received(_) if self.up.is_none() => {
                Err(ApiMisuse::NoLink)
            }
            Input::Backend(event) if Some(event.purse.session) != self.session => {
                Err(ApiMisuse::WrongSession)
            }
            Input::Command(Command::Grant(grant)) if grant.0.len() > GRANT_MAX => {
                Err(ApiMisuse::GrantTooLong)
            }
            Input::Command(Command::OfferTerms { terms, .. }) => self.check_offer(terms),
            _ => Ok(()),
        }
    }

    fn on_received(&mut self, bytes: &Bytes) {
        if matches!(self.phase, Phase::Offline) {
            // The connection was given up before anybody signed anything on it: what still comes
            // is nobody's, and must not end the session.
            return;
        }
        match decode(bytes) {
            Ok(Some(message)) => self.on_message(message),
            Ok(None) => {}
            Err(error) => {
                if !self.is_too_much() {
                    self.event(Event::Dropped { error });
                }
                self.count_nonsense();
            }
        }
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Hello(hello) => self.on_hello(&hello),
            _ if matches!(self.phase, Phase::Lingering(_)) => self.say_closed_again(),
            Message::Bind(bind) => self.on_bind(&bind),
            Message::Purse(part) => self.on_purse_part(part),
            Message::Tick(tick) => self.on_tick(&tick),
            Message::Pause(pause) => self.on_peer_flow(pause.epoch, Some(pause.reason)),
            Message::Resume(resume) => self.on_peer_flow(resume.epoch, None),
            Message::Close(_) if matches!(self.phase, Phase::Settling(_)) => {
                self.say_closing_again();
            }
            Message::Close(close) => self.close(close.code, true),
            Message::ReceiptRequest => self.say_receipt(),
            Message::Agree(agree) => self.on_agree(agree.offer),
            Message::Decline(decline) => self.on_decline(decline.offer),
            Message::Join(join) => self.on_join(join),
            Message::Leave => self.on_leave(),
            Message::Chat(chat) => self.on_chat(chat),
            other => self.misbehaved(Misbehaviour::Unexpected(other.number())),
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Pause => self.pause_for(PauseReason::ByPayee),
            Command::Resume => self.resume_by_user(),
            Command::Close(code) => self.close(code, false),
            Command::OfferTerms { terms, in_ticks } => self.offer_terms(*terms, in_ticks),
            Command::Grant(grant) => self.grant_media(grant),
            Command::Room(news) => self.tell(news),
            Command::WriteOff
            | Command::Agree
            | Command::Decline
            | Command::TopUp(_)
            | Command::Tip(_)
            | Command::Join { .. }
            | Command::Leave
            | Command::Chat(_)
            | Command::RequestReceipt => {}
        }
    }

    /// The disk is not to be trusted any more: nothing leaves, the gate shuts.
    fn on_persist_failed(&mut self) {
        if planted::is(Planted::StoreFailureIgnored) {
            return;
        }
        self.out.clear();
        self.out.push_back(Output::Gate(Grant::Closed));
        self.event(Event::Closed {
            code: CloseCode::StoreFailed,
            by_peer: false,
        });
        self.phase = Phase::Ended;
    }

    /// Everything that time or a changed state calls for.
    fn advance(&mut self) {
        let now = self.now.mono;
        self.retry_backend();
        match &self.phase {
            Phase::Offline => self.close_if_not_resumed(),
            Phase::Ended => {}
            Phase::Waiting { deadline } if now >= *deadline => self.give_up(),
            Phase::Greeted(greeted) if now >= greeted.deadline => self.give_up(),
            Phase::Waiting { .. } | Phase::Greeted(_) => {}
            Phase::Live(_) => self.advance_live(),
            Phase::Settling(_) => self.advance_settling(),
            Phase::Lingering(_) => self.advance_lingering(),
        }
    }

    fn misbehaved(&mut self, how: Misbehaviour) {
        if matches!(self.phase, Phase::Settling(_) | Phase::Lingering(_)) {
            // Nothing comes of it any more, and it may come without end.
            if self.is_too_much() {
                return;
            }
            self.nonsense = self.nonsense.saturating_add(1);
        }
        self.event(Event::Misbehaved { how });
        self.turn_away(CloseCode::Misbehaved);
    }

    /// Ends the session, or the connection alone where nobody has signed anything on it yet: a
    /// stranger who knows a session's name must not be able to end it.
    fn turn_away(&mut self, code: CloseCode) {
        match self.phase {
            Phase::Waiting { .. } | Phase::Greeted(_) => self.refuse(code),
            _ => self.close(code, false),
        }
    }

    /// True once so much made no sense on this connection that nobody wants to hear of more.
    const fn is_too_much(&self) -> bool {
        self.nonsense >= NONSENSE_MAX
    }

    fn count_nonsense(&mut self) {
        self.nonsense = self.nonsense.saturating_add(1);
        if self.nonsense == NONSENSE_MAX {
            self.turn_away(CloseCode::Misbehaved);
        }
    }

    /// One payment: of the open purse whose steps are largest; the terms' tick where there is
    /// none.
    fn step(&self) -> Msat {
        let purses = self.record.iter().flat_map(|record| &record.purses);
        let open = purses.filter(|purse| purse.state == PurseState::Open);
        open.map(|purse| purse.step)
            .fold(self.config.terms.tick, Msat::max)
    }

    fn sum(&self, part: impl Fn(&PayeePurse) -> Msat) -> Msat {
        let purses = self.record.iter().flat_map(|record| &record.purses);
        purses.fold(Msat::ZERO, |sum, purse| sum.saturating_plus(part(purse)))
    }

    fn purse(&self, id: PurseId) -> Option<&PayeePurse> {
        self.record
            .as_ref()?
            .purses
            .iter()
            .find(|purse| purse.id == id)
    }

    fn purse_mut(&mut self, id: PurseId) -> Option<&mut PayeePurse> {
        self.record
            .as_mut()?
            .purses
            .iter_mut()
            .find(|purse| purse.id == id)
    }
}
