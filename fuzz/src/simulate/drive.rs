//! Inputs into sessions, outputs out of them, in order; and processes that die on the way.

use streampay_core::backend::{BackendMachine, RefusalCode, Request};
use streampay_core::meter::{Grant, PauseReason};
use streampay_core::planted::dangerous_set_restarted;
use streampay_core::session::{BackendEvent, Command, Event, Input, Output};
use streampay_core::store::ChangeSet;
use streampay_core::units::Now;
use streampay_core::wire::{Message, decode};

use super::kinds::Kind;
use super::machine::{Method, Payment};
use super::world::{Ev, PAYEE, PAYER, Session, World};

/// The numbers of messages that the simulator looks into.
const HELLO: u8 = 0;
const TICK: u8 = 14;
const ACK: u8 = 16;
const PAUSE: u8 = 20;
pub(super) const NACK: u8 = 18;
/// How long a dead process's connection stays up, in milliseconds.
const HANG_UP_MS: u64 = 60;

impl Session {
    fn handle(&mut self, now: Now, input: Input) -> bool {
        match self {
            Self::Payer(payer) => payer.handle(now, input).is_ok(),
            Self::Payee(payee) => payee.handle(now, input).is_ok(),
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        match self {
            Self::Payer(payer) => payer.poll_output(),
            Self::Payee(payee) => payee.poll_output(),
        }
    }

    fn poll_timeout(&self) -> Option<u64> {
        let at = match self {
            Self::Payer(payer) => payer.poll_timeout(),
            Self::Payee(payee) => payee.poll_timeout(),
        };
        at.map(|at| at.0)
    }

    pub(super) fn is_ended(&self) -> bool {
        match self {
            Self::Payer(payer) => payer.is_ended(),
            Self::Payee(payee) => payee.is_ended(),
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        match self {
            Self::Payer(payer) => payer.is_settled(),
            Self::Payee(payee) => payee.is_settled(),
        }
    }
}

impl World {
    pub(super) fn command(&mut self, slot: usize, side: usize, command: Command) {
        if side == PAYER && matches!(command, Command::Resume) {
            self.user_goes_on(slot);
        }
        self.input(slot, side, Input::Command(command));
    }

    /// What a user wants, who asks again where the process is away.
    pub(super) fn on_user(&mut self, slot: usize, generation: u32, side: usize, command: Command) {
        if self.slots[slot].generation != generation || self.slots[slot].over {
            return;
        }
        if self.slots[slot].ends[side].session.is_none() {
            let command = Box::new(command);
            let again = Ev::User {
                slot,
                generation,
                side,
                command,
            };
            return self.after(3_000, again);
        }
        self.command(slot, side, command);
    }

    pub(super) fn is_ended(&self, slot: usize, side: usize) -> bool {
        let session = &self.slots[slot].ends[side].session;
        session.as_ref().is_some_and(Session::is_ended)
    }

    /// Gives an input and takes every output, or dies on the way.
    pub(super) fn input(&mut self, slot: usize, side: usize, input: Input) {
        let end = &mut self.slots[slot].ends[side];
        let node = end.node;
        if self.transcript.is_some() {
            let text = shown(&input);
            self.log(|| format!("s{slot}.{side} <- {text}"));
        }
        let now = self.clock(node);
        let end = &mut self.slots[slot].ends[side];
        dangerous_set_restarted(end.restarted);
        let Some(session) = &mut end.session else {
            return;
        };
        if !session.handle(now, input) {
            return;
        }
        self.drain(slot, side);
    }

    /// Takes every output; then judges, and sets the clock.
    pub(super) fn drain(&mut self, slot: usize, side: usize) {
        while let Some(session) = &mut self.slots[slot].ends[side].session {
            let Some(output) = session.poll_output() else {
                break;
            };
            let node = self.slots[slot].ends[side].node;
            if self.dies_as_ordered(slot, node, &output) {
                return;
            }
            if let Some(crash) = self.nodes[node].crash
                && self.dies_at(node, &output, crash.kind)
            {
                return self.die_at(slot, node, output);
            }
            self.act(slot, side, output);
        }
        self.judge(slot, side);
        self.arm(slot, side);
        self.look_after(slot);
    }

    fn dies_at(&self, node: usize, output: &Output, kind: Kind) -> bool {
        let payer = self.nodes[node].role == PAYER;
        match output {
            Output::Persist(_) => matches!(
                kind,
                Kind::PayerPersistLost
                    | Kind::PayerPersistTorn
                    | Kind::PayerPersistDone
                    | Kind::PayeePersistLost
                    | Kind::PayeePersistTorn
                    | Kind::PayeePersistDone
            ),
            Output::Send(_) if payer => kind == Kind::PayerSend,
            Output::Send(_) => kind == Kind::PayeeSend,
            Output::Backend { .. } if payer => kind == Kind::PayerBackend,
            Output::Backend { .. } => kind == Kind::PayeeBackend,
            Output::Effect { .. } if payer => kind == Kind::PayerEffect,
            Output::Effect { .. } => kind == Kind::PayeeEffect,
            Output::Gate(_) => kind == Kind::PayeeGate,
            Output::Event(_) if payer => kind == Kind::PayerEvent,
            Output::Event(_) => kind == Kind::PayeeEvent,
        }
    }

    fn die_at(&mut self, slot: usize, node: usize, output: Output) {
        let Some(crash) = self.nodes[node].crash.take() else {
            return;
        };
        self.count(slot, crash.kind);
        let mut writing = None;
        if let Output::Persist(changes) = output {
            match crash.kind {
                Kind::PayerPersistTorn | Kind::PayeePersistTorn => writing = Some(changes),
                Kind::PayerPersistDone | Kind::PayeePersistDone => {
                    let _ = self.nodes[node].store.append(&mut self.rng, &changes);
                }
                _ => {}
            }
        }
        self.die(node, crash.away_ms, writing.as_ref());
    }

    /// The process is gone, with all its sessions and all that was in memory.
    pub(super) fn die(&mut self, node: usize, away_ms: u64, writing: Option<&ChangeSet>) {
        self.log(|| format!("n{node} xx died"));
        if self.nodes[node].store.is_cut() {
            self.note_cut(node);
        }
        let dead = &mut self.nodes[node];
        (dead.up, dead.life, dead.crash) = (false, dead.life + 1, None);
        dead.machines.clear();
        dead.torn = dead.store.crash(&mut self.rng, writing);
        self.order_disk();
        for slot in 0..self.slots.len() {
            for side in [PAYER, PAYEE] {
                if self.slots[slot].ends[side].node != node {
                    continue;
                }
                if side == PAYEE {
                    self.cut_media(slot);
                }
                let end = &mut self.slots[slot].ends[side];
                (end.session, end.grant) = (None, Grant::Closed);
                let conn = self.slots[slot].link.conn;
                self.after(HANG_UP_MS, Ev::HangUp { slot, conn });
            }
        }
        self.after(away_ms, Ev::Back { node });
    }

    fn act(&mut self, slot: usize, side: usize, output: Output) {
        if self.transcript.is_some() {
            let text = told(&output);
            self.log(|| format!("s{slot}.{side} -> {text}"));
        }
        match output {
            Output::Persist(changes) => self.persist(slot, side, &changes),
            Output::Send(bytes) => {
                match (side, bytes.get(2)) {
                    (PAYER, Some(&(HELLO | TICK))) => self.note_payer(slot, &bytes),
                    (PAYER, Some(&PAUSE)) => self.slots[slot].truth.asking.says_pause(),
                    (PAYEE, Some(&(ACK | NACK))) => self.note_payee(slot, &bytes),
                    _ => {}
                }
                self.send(slot, side, &bytes);
            }
            Output::Backend {
                method,
                purse,
                id,
                request,
            } => {
                let end = &mut self.slots[slot].ends[side];
                let Some(method) = Method::ALL.into_iter().find(|of| of.name() == method) else {
                    return;
                };
                end.methods.insert(purse.purse, method);
                let node = end.node;
                if method == Method::Steps && matches!(request, Request::Reclaim { .. }) {
                    self.count(slot, Kind::StaysOut);
                }
                let now = self.clock(node);
                let mut machines = self.nodes[node].machines.iter_mut();
                let machine = machines.find(|machine| machine.method == method);
                let answer = machine.map(|machine| machine.request(now, purse, id, request));
                let answer = answer.unwrap_or_default();
                let event = Input::Backend(BackendEvent { purse, answer });
                if let Some(session) = &mut self.slots[slot].ends[side].session {
                    session.handle(now, event);
                }
            }
            Output::Effect { effect, .. } => self.make_call(slot, side, effect),
            Output::Gate(grant) => self.on_gate(slot, grant),
            Output::Event(event) => self.on_event(slot, side, &event),
        }
    }

    fn persist(&mut self, slot: usize, side: usize, changes: &ChangeSet) {
        let end = &mut self.slots[slot].ends[side];
        let node = end.node;
        if self.nodes[node]
            .store
            .append(&mut self.rng, changes)
            .is_ok()
        {
            return;
        }
        if self.dies_with_its_disk(node) {
            return;
        }
        if self.nodes[node].crash.is_none() {
            self.count(slot, Kind::WriteFailed);
        }
        let now = self.clock(node);
        self.slots[slot].ends[side].failed = true;
        if let Some(session) = &mut self.slots[slot].ends[side].session {
            session.handle(now, Input::PersistFailed);
        }
        let away_ms = self.between(200, 8_000);
        self.after(50, Ev::Die { node, away_ms });
    }

    /// What left the payer is with the payee, as far as anybody can be sure.
    fn note_payer(&mut self, slot: usize, bytes: &[u8]) {
        let place = &mut self.slots[slot];
        match (bytes.get(2), decode(bytes)) {
            (Some(&TICK), Ok(Some(Message::Tick(tick)))) => {
                if let Some(payment) = Payment::read(&tick.payload) {
                    place.account.show(tick.purse, payment.nonce, payment.seq);
                }
                let tips = tick.tips.map_or(0, |tips| tips.msat() + 1).to_be_bytes();
                let sum = tick.payload.iter().chain(&tips).fold(7_u64, |sum, byte| {
                    sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte)
                });
                let first = place.truth.said.entry((tick.purse, tick.seq.0));
                if *first.or_insert(sum) != sum {
                    self.violate(
                        slot,
                        "OneTick",
                        format!("another payment for {}", tick.seq.0),
                    );
                }
            }
            (Some(&HELLO), Ok(Some(Message::Hello(hello)))) => place.truth.hello = Some(hello),
            _ => {}
        }
    }

    fn note_payee(&mut self, slot: usize, bytes: &[u8]) {
        let truth = &mut self.slots[slot].truth;
        match (bytes.get(2), decode(bytes)) {
            (Some(&ACK), Ok(Some(Message::Ack(ack)))) => {
                let receipt = ack.evidence.receipt;
                if truth.nacked.contains(&(receipt.purse, receipt.seq.0)) {
                    let found = format!("{} refused, then acknowledged", receipt.seq.0);
                    self.violate(slot, "OneAnswer", found);
                }
            }
            (Some(&NACK), Ok(Some(Message::Nack(nack))))
                if nack.code != RefusalCode::OutOfOrder =>
            {
                truth.nacked.insert((nack.purse, nack.seq.0));
            }
            _ => {}
        }
    }

    /// Sees to it that the session is woken when it wants to be.
    fn arm(&mut self, slot: usize, side: usize) {
        let end = &self.slots[slot].ends[side];
        let mono = self.nodes[end.node].mono;
        let at = end.session.as_ref().and_then(Session::poll_timeout);
        let Some(at) = at.map(|at| at.saturating_sub(mono)) else {
            return;
        };
        if end.timer.is_none_or(|armed| armed > at) {
            self.slots[slot].ends[side].timer = Some(at);
            self.at(at, Ev::Timer { slot, side });
        }
    }

    pub(super) fn on_timer(&mut self, slot: usize, side: usize) {
        let end = &mut self.slots[slot].ends[side];
        if end.timer.is_none_or(|armed| armed > self.now) {
            return;
        }
        end.timer = None;
        let mono = self.nodes[end.node].mono;
        let at = end.session.as_ref().and_then(Session::poll_timeout);
        match at.map(|at| at.saturating_sub(mono)) {
            Some(at) if at <= self.now => self.input(slot, side, Input::Timeout),
            Some(_) => self.arm(slot, side),
            None => {}
        }
    }

    /// What users do who read what they are told.
    fn on_event(&mut self, slot: usize, side: usize, event: &Event) {
        let (generation, agrees) = (self.slots[slot].generation, self.slots[slot].agrees);
        let mut later = |ms: u64, command: Command| {
            let command = Box::new(command);
            self.after(
                ms,
                Ev::User {
                    slot,
                    generation,
                    side,
                    command,
                },
            );
        };
        match event {
            Event::Paused {
                reason: PauseReason::Drift,
                by_peer: false,
            } if side == PAYER => later(500, Command::Resume),
            Event::TermsOffered { .. } if agrees => later(300, Command::Agree),
            Event::TermsOffered { .. } => later(300, Command::Decline),
            Event::TickLost { .. } => later(1_000, Command::WriteOff),
            Event::Closed { code, .. } => {
                let code = *code;
                self.log(|| format!("s{slot}.{side} closed: {code:?}"));
            }
            _ => {}
        }
        self.note_event(slot, side, event);
    }
}

/// An input, without its secrets.
fn shown(input: &Input) -> String {
    match input {
        Input::Received(bytes) => match decode(bytes) {
            Ok(Some(message)) => format!("{message:?}").chars().take(150).collect(),
            _ => format!("{} bytes", bytes.len()),
        },
        other => format!("{other:?}").chars().take(150).collect(),
    }
}

/// An output, without its secrets.
fn told(output: &Output) -> String {
    match output {
        Output::Send(bytes) => match decode(bytes) {
            Ok(Some(message)) => format!("send {message:?}").chars().take(150).collect(),
            _ => format!("send {} bytes", bytes.len()),
        },
        other => format!("{other:?}").chars().take(150).collect(),
    }
}
