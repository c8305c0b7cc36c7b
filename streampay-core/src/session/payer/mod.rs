//! The payer's machine.
//!
//! ```text
//!                 Link Up            Welcome            Ready
//!   Offline ----------------> Greeting -------> Binding -------> Live
//!      ^                          |                |              |
//!      +-------- Link Down -------+----------------+--------------+
//!      |                                                          | close, by anybody
//!      +--- Command::Close ---------------------------> Closing <-+
//!                                        Closed, deadline |
//!                                                         v  every purse is home
//!                                                      Releasing ------------> Ended
//! ```
//!
//! | state | entry | leaves on |
//! |---|---|---|
//! | Offline | no link | Link Up: Greeting; Close: Releasing |
//! | Greeting | hello sent | Welcome that verifies: record durable, Binding; deadline: Offline or Ended |
//! | Binding | bind sent | Ready: Live |
//! | Live | purse opens, ticks flow unless one side paused | close by anybody, misbehaviour: Closing |
//! | Closing | closing durable, Close sent | Closed or 6 s: Releasing |
//! | Releasing | every purse told to come home; on a new link hello, bind and Close are said | all home: Ended; backend away too long: Ended, unsettled |
//!
//! Order rules: a payment is durable before it is sent; the same bytes are sent for a `seq` for
//! ever; one payment is under way at a time; a refused payment counts as paid until it is back.
//! Spec: session.

mod change;
mod closing;
mod config;
mod flow;
mod handshake;
mod late;
mod meeting;
mod member;
mod meter;
mod output;
mod pay;
mod provide;
mod purses;
mod receipts;
mod tips;
mod view;

pub use self::config::{PayerConfig, Policy};

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use self::closing::{Closing, Releasing};
use self::flow::Live;
use self::handshake::{Binding, Greeting};
use self::provide::Failed;
use super::flow::Flow;
use super::output::next_output;
use super::pace::Backoff;
use super::parts::Parts;
use super::record::{PayerRecord, find};
use super::{
    ApiMisuse, BadKey, ChannelIdentity, CloseCode, Command, Entropy, Event, Input, LinkEvent,
    Misbehaviour, Output, SecretKey,
};
use crate::meter::{PauseReason, Reading};
use crate::planted::{self, Planted};
use crate::store::{Key, StoreError};
use crate::units::{Mono, Msat, Now, PurseId, PurseKey, SessionId};
use crate::wire::{Message, decode};

/// The payer's side of a session. Sans-IO: give it inputs, then take every output in order.
///
/// Contract: after each [`PayerSession::handle`], take outputs with
/// [`PayerSession::poll_output`] until there is none; make each
/// [`Output::Persist`] durable before taking the next; then wait for an input or for
/// [`PayerSession::poll_timeout`].
pub struct PayerSession {
    config: PayerConfig,
    session: SessionId,
    key: SecretKey,
    record: Option<PayerRecord>,
    up: Option<Up>,
    phase: Phase,
    flow: Flow,
    /// What the own meter reads; after a restart what it read at the last checkpoint.
    metered: Reading,
    /// What was told of the own meter last, and what of that never counts: it came while nothing flowed.
    heard: Reading,
    unbilled: Reading,
    /// What had come when it stopped to flow and the clock did not let count yet. It may, in its time.
    late: Reading,
    /// What was used when it stopped to flow, on whatever connection that was. Set while nothing flows.
    stood_at: Option<meter::Stood>,
    /// True from a restart within a pause to its end: what counts beyond what is paid counted before it.
    paused_before: bool,
    /// When to ask the backend again for what it could not do.
    backend_retry: Option<Backoff>,
    /// Methods that did not work lately.
    failed: Vec<Failed>,
    /// Why no purse opened, the last time.
    trouble: Option<CloseCode>,
    /// True from a restart to the first binding after it: the record may be an old backup.
    restored: bool,
    /// When a session that is known and not connected ends.
    resume_by: Option<Mono>,
    out: VecDeque<Output>,
    now: Now,
    nonsense: u16,
    /// That the user wants to be in the payee's room.
    wanted: Option<member::Wanted>,
    /// What has come of what the payee's backend shows ours.
    parts: Option<Parts>,
    /// How often that was complete on this connection.
    notes: u16,
    /// When the last bound connection was lost; none in the first one of a process.
    lost: Option<Mono>,
    /// After a connection that nobody bound: what of the meter's reading had come before it and waited to count.
    unbound: Option<Reading>,
    /// The feature bits that it offers.
    features: u64,
    /// Refusals since the last ack, on whatever connections.
    refusals: u8,
}

/// The connection.
#[derive(Clone)]
struct Up {
    identity: ChannelIdentity,
    entropy: Entropy,
    /// What of the meter's reading waited to count when it came up.
    waited: Reading,
}

impl Up {
    /// What the hello of this connection says, for no answer to be older than it.
    fn nonce(&self) -> [u8; 32] {
        self.entropy.derive("nonce")
    }
}

enum Phase {
    Offline,
    Greeting(Greeting),
    Binding(Binding),
    Live(Live),
    Closing(Closing),
    Releasing(Releasing),
    Ended,
}

impl PayerSession {
    /// A new session. `entropy` names it and makes its keys: never use the same twice.
    ///
    /// # Errors
    /// [`BadKey`] with a probability of 2^-128.
    pub fn new(config: PayerConfig, entropy: &Entropy) -> Result<Self, BadKey> {
        let key = SecretKey::derive(entropy, "session-key")?;
        let session = SessionId(entropy.derive("session-id"));
        Ok(Self::from_parts(config, session, key, None))
    }

    /// A session from the records of its prefix in the store. Its backend machine must have been
    /// restored before. Outputs that it finds undone are asked for again. Whom it pays stands in
    /// the record.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where one of its two records is missing or unreadable,
    /// [`StoreError::OtherRole`] where it is a payee's.
    pub fn restore(
        identity: SecretKey,
        policy: Policy,
        now: Now,
        session: SessionId,
        records: &[(Key, Vec<u8>)],
    ) -> Result<Self, StoreError> {
        let mut record: PayerRecord = find(records, session, true)?;
        record.complete();
        let config = PayerConfig {
            identity,
            payee: record.common.fixed.peer,
            policy,
        };
        let key = record.common.fixed.key.0.clone();
        let mut restored = Self::from_parts(config, session, key, Some(record));
        restored.now = now;
        restored.take_up_again();
        Ok(restored)
    }

    fn from_parts(
        config: PayerConfig,
        session: SessionId,
        key: SecretKey,
        record: Option<PayerRecord>,
    ) -> Self {
        Self {
            config,
            session,
            key,
            heard: Reading::default(),
            unbilled: Reading::default(),
            late: Reading::default(),
            stood_at: None,
            paused_before: false,
            metered: record
                .as_ref()
                .map(|record| record.common.reading)
                .unwrap_or_default(),
            restored: record.is_some(),
            record,
            up: None,
            phase: Phase::Offline,
            flow: Flow::default(),
            backend_retry: None,
            failed: Vec::new(),
            trouble: None,
            resume_by: None,
            out: VecDeque::new(),
            now: Now::default(),
            nonsense: 0,
            wanted: None,
            parts: None,
            notes: 0,
            lost: None,
            unbound: None,
            features: 0,
            refusals: 0,
        }
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
            Phase::Releasing(releasing) => releasing.timeout(),
            Phase::Greeting(greeting) => Some(greeting.timeout()),
            Phase::Binding(binding) => Some(binding.timeout()),
            Phase::Live(live) => live.timeout(self.flow.flows()),
            Phase::Closing(closing) => Some(closing.timeout()),
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
            Input::Backend(event) if event.purse.session != self.session => {
                Err(ApiMisuse::WrongSession)
            }
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
            Message::Welcome(welcome) => self.on_welcome(welcome),
            Message::Ready(ready) => self.on_ready(&ready),
            Message::PurseOk(ok) => self.on_purse_ok(ok.purse),
            Message::PurseRefused(refused) => self.on_purse_refused(refused.purse, refused.code),
            Message::Purse(part) => self.on_purse_part(part),
            Message::Ack(ack) => self.on_ack(&ack),
            Message::Nack(nack) => self.on_nack(&nack),
            Message::Pause(pause) => self.on_peer_flow(pause.epoch, Some(pause.reason)),
            Message::Resume(resume) => self.on_peer_flow(resume.epoch, None),
            Message::Close(close) => self.on_close(close.code),
            Message::Closed(closed) => self.on_closed(&closed),
            Message::Reading(reading) => self.on_reading(reading),
            Message::OfferTerms(offer) => self.on_offer(offer),
            Message::Agreed(agreed) => self.on_agreed(agreed.offer),
            Message::Joined(joined) => self.on_joined(joined.name),
            Message::RoomRefused(refused) => self.on_room_refused(refused.code),
            Message::Presence(presence) => self.on_presence(presence),
            Message::Chat(chat) => self.on_chat(chat),
            Message::Tip(tip) => self.on_tip(tip),
            other @ (Message::Hello(_)
            | Message::Bind(_)
            | Message::Tick(_)
            | Message::Agree(_)
            | Message::Decline(_)
            | Message::ReceiptRequest
            | Message::Join(_)
            | Message::Leave) => {
                self.misbehaved(Misbehaviour::Unexpected(other.number()));
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Pause => self.pause_for(PauseReason::ByPayer),
            Command::Resume => self.resume_by_user(),
            Command::Close(code) => self.close(code, false),
            Command::WriteOff => self.write_off(),
            Command::Agree => self.agree_by_user(),
            Command::Decline => self.decline_offer(),
            Command::TopUp(amount) => self.top_up(amount),
            Command::Tip(amount) => self.tip(amount),
            Command::Join {
                name,
                invitation,
                max_fee,
            } => self.join(name, invitation, max_fee),
            Command::Leave => self.leave(),
            Command::Chat(text) => self.chat(text),
            Command::RequestReceipt => self.request_receipt(),
            Command::OfferTerms { .. } | Command::Grant(_) | Command::Room(_) => {}
        }
    }

    /// The disk is not to be trusted any more: nothing leaves, what is on disk is recovered.
    fn on_persist_failed(&mut self) {
        if planted::is(Planted::StoreFailureIgnored) {
            return;
        }
        self.out.clear();
        self.event(Event::Closed {
            code: CloseCode::StoreFailed,
            by_peer: false,
        });
        self.phase = Phase::Ended;
    }

    /// Everything that time or a changed state calls for.
    fn advance(&mut self) {
        self.retry_backend();
        match &self.phase {
            Phase::Offline => self.close_if_not_resumed(),
            Phase::Releasing(_) => {
                self.advance_meeting();
                self.end_if_answered();
            }
            Phase::Ended => {}
            Phase::Greeting(_) | Phase::Binding(_) => self.advance_handshake(),
            Phase::Live(_) => self.advance_live(),
            Phase::Closing(_) => self.advance_closing(),
        }
    }

    fn purse_key(&self, purse: PurseId) -> PurseKey {
        PurseKey {
            session: self.session,
            purse,
        }
    }

    fn sum(&self, part: impl Fn(&super::record::PayerPurse) -> Msat) -> Msat {
        let purses = self.record.iter().flat_map(|record| &record.purses);
        purses.fold(Msat::ZERO, |sum, purse| sum.saturating_plus(part(purse)))
    }
}

#[cfg(test)]
mod tests;
