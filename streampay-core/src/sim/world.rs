//! Virtual time, and all that moves in it: messages, calls, media, processes that come back.

use alloc::boxed::Box;
use alloc::vec;

use super::Pair;
use super::config::Reply;
use super::fake::FakeBackend;
use super::link::Direction;
use super::mint::Call;
use super::side::{Config, Session, Side, Wants};
use crate::backend::{BackendError, Effect, EffectResult, RefusalCode};
use crate::meter::{PauseReason, Reading};
use crate::session::{
    ChannelIdentity, Command, Entropy, Event, Input, LinkEvent, PayeeSession, PayerSession,
};
use crate::units::{Mono, Unix};

/// Media moves in steps of so many milliseconds.
const STEP_MS: u64 = 40;
/// How long a dead process's connection stays up, in milliseconds.
const HANG_UP_MS: u64 = 60;
/// How long the mint takes, in milliseconds.
const MINT_MS: u64 = 30;

impl Pair {
    pub(super) fn next_at(&self) -> Option<Mono> {
        let alive = |side: &Side, at: Option<Mono>| at.filter(|_| side.session.is_none());
        let backs = [
            self.link_back
                .filter(|_| !self.link_up && self.can_connect()),
            alive(&self.payer, self.payer_back),
            alive(&self.payee, self.payee_back),
            self.resume_at,
            self.consent_at,
            self.hang_up_at,
        ];
        let flows = self.link_up && self.payee.grant.admits(self.after_step());
        let media = flows.then(|| self.media_at.after_ms(STEP_MS));
        // What ended on the way is looked after at once: nothing else may ever happen to it.
        let ended = self.needs_recovery().then_some(self.now.mono);
        backs
            .into_iter()
            .flatten()
            .chain(ended)
            .chain(media)
            .chain(self.media.keys().next().copied())
            .chain(self.link.next_at())
            .chain(self.calls.keys().next().map(|(at, _)| *at))
            .chain(self.payer.timeout())
            .chain(self.payee.timeout())
            .min()
    }

    pub(super) fn advance_to(&mut self, at: Mono) {
        self.now.mono = at;
        self.now.unix = Unix(1_800_000_000_u64.saturating_add(at.0 / 1000));
        self.recover();
        self.come_back();
        while let Some((to, bytes)) = self.link.arrive(at) {
            self.input(to, Input::Received(bytes));
        }
        self.end_calls();
        self.move_media();
        for to in [Direction::ToPayer, Direction::ToPayee] {
            if self.side(to).timeout().is_some_and(|timeout| timeout <= at) {
                self.input(to, Input::Timeout);
            }
        }
    }

    fn come_back(&mut self) {
        let now = self.now.mono;
        let due = |back: Option<Mono>| back.is_some_and(|back| back <= now);
        if due(self.hang_up_at) {
            self.hang_up_at = None;
            self.take_link_down(200);
        }
        if due(self.payer_back) && self.payer.session.is_none() {
            self.restart(Direction::ToPayer);
        }
        if due(self.payee_back) && self.payee.session.is_none() {
            self.restart(Direction::ToPayee);
        }
        if due(self.link_back) && !self.link_up && self.can_connect() {
            self.take_link_up();
        }
        if due(self.resume_at) {
            self.resume_at = None;
            self.command(Direction::ToPayer, Command::Resume);
        }
        self.consent();
        // A side that gave up on the connection drops it; another is made.
        if self.link_up && (self.payer.dropped || self.payee.dropped || self.payee.is_ended()) {
            self.take_link_down(500);
        }
    }

    /// What a user does who is asked whether drift is all right.
    fn consent(&mut self) {
        let now = self.now.mono;
        let asked = |event: &Event| {
            matches!(
                event,
                Event::Paused {
                    reason: PauseReason::Drift,
                    by_peer: false
                }
            )
        };
        let offered = |event: &Event| matches!(event, Event::TermsOffered { .. });
        let unread = self.payer.unread();
        let (drifted, offered) = (unread.iter().any(asked), unread.iter().any(offered));
        if self.config.consents && drifted {
            self.consent_at = Some(now.after_ms(500));
        }
        if offered {
            self.reply();
        }
        if self.consent_at.is_some_and(|at| at <= now) {
            self.consent_at = None;
            // Not the user's own pause: that one ends by itself.
            match self.resume_at {
                Some(at) => self.consent_at = Some(at.after_ms(1)),
                None => self.command(Direction::ToPayer, Command::Resume),
            }
        }
    }

    /// What a user says who is asked for a dearer tariff.
    fn reply(&mut self) {
        match self.config.reply {
            Reply::Agree => self.command(Direction::ToPayer, Command::Agree),
            Reply::Decline => self.command(Direction::ToPayer, Command::Decline),
            Reply::Silence => {}
        }
    }

    /// What an application does: a session that ended with money on its way is taken up again
    /// from the store; and for a payer that comes to a payee which has ended there is a machine
    /// that tells it so.
    fn recover(&mut self) {
        let at = self.now.mono.after_ms(2_000);
        if self.payer.needs_recovery() {
            self.payer.die();
            self.payer_back = Some(at);
            self.take_link_down(2_000);
        }
        if self.payee_needs_recovery() {
            self.payee.die();
            self.payee_back = Some(at);
            self.take_link_down(2_000);
        }
    }

    fn payee_needs_recovery(&self) -> bool {
        let met = self.payer.is_ended();
        self.payee.needs_recovery() || (self.payee.is_ended() && !met)
    }

    fn needs_recovery(&self) -> bool {
        self.payer.needs_recovery() || self.payee_needs_recovery()
    }

    fn can_connect(&self) -> bool {
        let ready = |side: &Side| side.session.is_some() && !side.is_ended();
        ready(&self.payer) && ready(&self.payee)
    }

    fn restart(&mut self, to: Direction) {
        let now = self.now;
        let entropy = Entropy(self.rng.bytes());
        let side = match to {
            Direction::ToPayer => &mut self.payer,
            Direction::ToPayee => &mut self.payee,
        };
        let mut begins_anew = false;
        let wants = side.restart(now, |config| {
            begins_anew = true;
            match config {
                Config::Payer(config) => PayerSession::new(config.clone(), &entropy)
                    .ok()
                    .map(|payer| Session::Payer(Box::new(payer))),
                Config::Payee(config) => PayeeSession::new(config.clone(), &entropy)
                    .ok()
                    .map(|payee| Session::Payee(Box::new(payee))),
            }
        });
        if to == Direction::ToPayee {
            self.payee_stands_in = self.payee.money().0 < self.credited;
            if begins_anew && self.credited.is_zero() {
                // It forgot a session in which nothing was paid: what that gave for nothing is over with it.
                (self.delivered, self.changes) = (Reading::default(), Vec::new());
            }
        }
        if let Some(Session::Payer(payer)) = &self.payer.session {
            // A payer that died before it was bound begins another session.
            let id = payer.session();
            (self.payer.id, self.payee.id) = (Some(id), Some(id));
        }
        self.serve(to, wants);
    }

    fn take_link_up(&mut self) {
        self.link_up = true;
        self.media_at = self.now.mono;
        let identity = ChannelIdentity {
            payer: self.rng.bytes(),
            payee: self.rng.bytes(),
        };
        for to in [Direction::ToPayee, Direction::ToPayer] {
            let identity = if self.config.mitm {
                ChannelIdentity {
                    payer: self.rng.bytes(),
                    payee: self.rng.bytes(),
                }
            } else {
                identity
            };
            let entropy = Entropy(self.rng.bytes());
            self.input(to, Input::Link(LinkEvent::Up { identity, entropy }));
        }
    }

    pub(super) fn take_link_down(&mut self, ms: u64) {
        if self.link_up {
            self.link_up = false;
            self.link.drop_all();
            self.media.clear();
            self.input(Direction::ToPayer, Input::Link(LinkEvent::Down));
            self.input(Direction::ToPayee, Input::Link(LinkEvent::Down));
            (self.payer.dropped, self.payee.dropped) = (false, false);
        }
        self.link_back = Some(self.now.mono.after_ms(ms));
    }

    fn side(&self, to: Direction) -> &Side {
        match to {
            Direction::ToPayer => &self.payer,
            Direction::ToPayee => &self.payee,
        }
    }

    pub(super) fn input(&mut self, to: Direction, input: Input) {
        let now = self.now;
        let wants = match to {
            Direction::ToPayer => self.payer.input(now, input),
            Direction::ToPayee => self.payee.input(now, input),
        };
        self.serve(to, wants);
    }

    fn serve(&mut self, from: Direction, wants: Wants) {
        let now = self.now.mono;
        let to = match from {
            Direction::ToPayer => Direction::ToPayee,
            Direction::ToPayee => Direction::ToPayer,
        };
        if self.link_up {
            for bytes in &wants.sends {
                let sent = match &mut self.tamper {
                    Some(tamper) => tamper(to, bytes),
                    None => vec![bytes.clone()],
                };
                for bytes in &sent {
                    self.link.send(now, &mut self.rng, to, bytes);
                }
            }
        }
        for (method, effect) in wants.effects {
            self.call_count = self.call_count.saturating_add(1);
            let life = wants.life;
            let at = now.max(self.mint_back_for(&method)).after_ms(MINT_MS);
            // A mint that is away does not answer, and the caller gives up after 5 s.
            let at = at.min(now.after_ms(5_000));
            self.calls
                .insert((at, self.call_count), (from, life, method, effect));
        }
        if wants.crashed {
            let back = Some(now.after_ms(self.away_ms(from)));
            match from {
                Direction::ToPayer => self.payer_back = back,
                Direction::ToPayee => self.payee_back = back,
            }
            // What it said before still arrives; then the other side hears that it is gone.
            self.hang_up_at = Some(now.after_ms(HANG_UP_MS));
        }
    }

    /// When the mint of this method answers again.
    fn mint_back_for(&self, method: &str) -> Mono {
        match method {
            FakeBackend::METHOD => self.mint_back.max(self.first_back),
            _ => self.mint_back,
        }
    }

    /// A mint that refuses to issue: only what it has not issued yet.
    fn refuses(&mut self, method: &str, effect: &Effect) -> bool {
        let refused = self.refuse_openings > 0
            && method == FakeBackend::METHOD
            && matches!(Call::from_bytes(&effect.body), Some(Call::Issue { .. }))
            && !self.mint.has_issued(effect.purse);
        if refused {
            self.refuse_openings = self.refuse_openings.saturating_sub(1);
        }
        refused
    }

    fn end_calls(&mut self) {
        let now = self.now.mono;
        while let Some(entry) = self
            .calls
            .first_entry()
            .filter(|entry| entry.key().0 <= now)
        {
            let (of, life, method, effect) = entry.remove();
            let away = now < self.mint_back_for(&method);
            let result = if away {
                Err(BackendError::Transient)
            } else if self.refuses(&method, &effect) {
                Err(BackendError::Fatal(RefusalCode::UnknownKeyset))
            } else {
                self.mint.run(&effect)
            };
            let lost = !away && self.lose_answers > 0;
            if lost {
                self.lose_answers = self.lose_answers.saturating_sub(1);
            }
            let result = if lost {
                Err(BackendError::Unknown)
            } else {
                result
            };
            let result = EffectResult {
                purse: effect.purse,
                id: effect.id,
                result,
            };
            let now = self.now;
            let side = match of {
                Direction::ToPayer => &mut self.payer,
                Direction::ToPayee => &mut self.payee,
            };
            // A process that died since does not hear of it.
            if side.session.is_some() && side.lives == life {
                let wants = side.effect_done(now, result);
                self.serve(of, wants);
            }
        }
    }

    fn move_media(&mut self) {
        let now = self.now.mono;
        while let Some(entry) = self.media.first_entry().filter(|entry| *entry.key() <= now) {
            let grown = entry.remove();
            if self.payer.session.is_none() {
                continue;
            }
            self.payer.reading = sum(self.payer.reading, grown);
            self.received = sum(self.received, grown);
            let reading = self.payer.reading;
            self.input(Direction::ToPayer, Input::Usage(reading));
        }
        if now.since_ms(self.media_at) < STEP_MS {
            return;
        }
        self.media_at = now;
        let next = self.after_step();
        if self.link_up && self.payee.grant.admits(next) {
            self.payee.reading = next;
            let packet = Reading {
                media_ms: STEP_MS,
                bytes: self.next_bytes,
            };
            self.delivered = sum(self.delivered, packet);
            self.media.insert(now.after_ms(15), packet);
            if self.config.bytes_msat > 0 {
                self.next_bytes = self.rng.next() % 20_000;
            }
            self.input(Direction::ToPayee, Input::Usage(next));
        }
    }

    /// What the payee's meter reads after the next packet.
    fn after_step(&self) -> Reading {
        let step = STEP_MS.saturating_add(self.overcount_ms);
        Reading {
            media_ms: self.payee.reading.media_ms.saturating_add(step),
            bytes: self.payee.reading.bytes.saturating_add(self.next_bytes),
        }
    }
}

fn sum(a: Reading, b: Reading) -> Reading {
    Reading {
        media_ms: a.media_ms.saturating_add(b.media_ms),
        bytes: a.bytes.saturating_add(b.bytes),
    }
}
