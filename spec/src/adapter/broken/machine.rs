//! Wrong machines: the right one, with what goes in or comes out changed.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::Value;
use streampay_core::backend::{Answer, Consumed, Outcome, Request};
use streampay_core::meter::{Grant, Reading, Tariff};
use streampay_core::session::{BackendEvent, Hash, Input, LinkEvent, Output};
use streampay_core::units::{Msat, Now, PurseId, PurseKey, Seq, Unix};
use streampay_core::wire::{Hello, Message, Tick, decode, encode};

use super::super::output::output_to_json;
use super::super::step::{Stepped, Stepper};
use super::member::Member;
use super::{Broken, codec};
use crate::json::Object;

/// How much nonsense a sound peer bears before it gives up.
const PATIENCE: usize = 16;

/// What is wrong with an adapter, and what it must remember to be so.
#[derive(Debug, Default)]
pub(in crate::adapter) struct Faults {
    pub(super) broken: Option<Broken>,
    /// Everything sent, to say it but once; everything received, to credit it twice.
    seen: BTreeSet<Vec<u8>>,
    open: Option<Grant>,
    extra: Msat,
    /// A payment of its backend is outstanding.
    outstanding: bool,
    pub(super) reconnected: bool,
    nonsense: u32,
    /// The next tick that the payee waits for.
    next: u64,
    pub(super) member: Member,
}

impl Faults {
    pub(in crate::adapter) fn new(broken: Option<Broken>) -> Self {
        Self {
            broken,
            ..Self::default()
        }
    }

    /// Another session begins.
    pub(in crate::adapter) fn reset(&mut self) {
        *self = Self::new(self.broken);
        self.next = 1;
    }

    pub(in crate::adapter) fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    pub(in crate::adapter) fn received(&self, bytes: Vec<u8>) -> Vec<u8> {
        match self.broken {
            Some(broken) => codec::received(broken, bytes),
            None => bytes,
        }
    }

    pub(in crate::adapter) fn price(&self, tariff: &Tariff, reading: Reading) -> Msat {
        match self.broken {
            Some(broken) => codec::price(broken, tariff, reading),
            None => tariff.price(reading),
        }
    }

    /// What is printed.
    pub(in crate::adapter) fn line(&self, command: &str, answer: String) -> String {
        match self.broken {
            Some(Broken::Babbles) if command == "price" => format!("pricing...\n{answer}"),
            Some(Broken::Endless) if command == "price" => "x".repeat(4 << 20),
            Some(Broken::Hangs) if command == "price" => String::new(),
            _ => answer,
        }
    }

    pub(in crate::adapter) fn hash(&self, hash: Hash) -> Hash {
        if self.is(Broken::OtherTag) {
            use bitcoin_hashes::{Hash as _, sha256};
            return Hash(sha256::Hash::hash(&hash.0).to_byte_array());
        }
        hash
    }

    pub(in crate::adapter) fn verify(&self, valid: bool) -> bool {
        valid || self.is(Broken::AnySignature)
    }

    pub(in crate::adapter) fn now(&self, now: Now) -> Now {
        let unix = if self.is(Broken::NoExpiry) {
            Unix(0)
        } else {
            now.unix
        };
        Now { unix, ..now }
    }

    /// One input, as a wrong machine would take it.
    pub(in crate::adapter) fn step(
        &mut self,
        stepper: &mut Stepper,
        now: Now,
        input: Input,
        take: Option<usize>,
    ) -> Stepped {
        let input = self.change(input, stepper);
        let fee = self.fee_unasked(&input);
        let bytes = match &input {
            Input::Received(bytes) => bytes.to_vec(),
            _ => vec![],
        };
        let message = match &input {
            Input::Received(bytes) => decode(bytes),
            _ => Ok(None),
        };
        self.outstanding |= matches!(
            &input,
            Input::Backend(event) if event.answer.outcome == Some(Outcome::Outstanding)
        );
        self.reconnected |= matches!(input, Input::Link(LinkEvent::Down));
        let mut stepped = stepper.handle(now, input, take);
        let Some(broken) = self.broken else {
            return stepped;
        };
        match (broken, message) {
            (Broken::BelievesNack, Ok(Some(Message::Nack(nack))))
                if nack.consumed == Consumed::No && stepper.is_payer() =>
            {
                let reclaimed = self.reclaimed(stepper, nack.purse);
                stepped
                    .outputs
                    .extend(stepper.handle(now, reclaimed, take).outputs);
            }
            (Broken::BelievesReading, Ok(Some(Message::Reading(reading)))) => {
                let usage = stepper.handle(now, Input::Usage(reading), take);
                stepped.outputs.extend(usage.outputs);
            }
            (Broken::Recredits, Ok(Some(Message::Tick(_)))) => self.recredit(&bytes, &mut stepped),
            (Broken::TellsFlood, Ok(Some(Message::Chat(chat)))) => {
                self.tell_all_the_same(chat, &mut stepped);
            }
            (Broken::Chatters, Err(_)) => {
                self.nonsense = self.nonsense.saturating_add(1);
                let long = Output::Send(encode(&Message::ReceiptRequest));
                let count = usize::try_from(self.nonsense).unwrap_or_default();
                let count = count.saturating_sub(PATIENCE);
                stepped.outputs.extend(std::iter::repeat_n(long, count));
            }
            (Broken::DiesOfNonsense, Err(_)) => self.nonsense = self.nonsense.saturating_add(1),
            _ => {}
        }
        if let Some(fee) = fee {
            stepped
                .outputs
                .extend(stepper.handle(now, fee, take).outputs);
        }
        self.note(&stepped);
        stepped
    }

    /// True once the process has died of what it was sent.
    pub(in crate::adapter) const fn is_dead(&self) -> bool {
        matches!(self.broken, Some(Broken::DiesOfNonsense)) && self.nonsense > 300
    }

    fn change(&self, input: Input, stepper: &Stepper) -> Input {
        let Input::Received(bytes) = input else {
            return self.change_other(input);
        };
        let bytes = self.received(bytes.to_vec());
        match decode(&bytes) {
            Ok(Some(Message::Tick(tick))) if self.is(Broken::AnySeq) && tick.seq.0 > self.next => {
                Input::Received(encode(&Message::Tick(Tick {
                    seq: Seq(self.next),
                    ..tick
                })))
            }
            Ok(Some(Message::Hello(hello)))
                if self.is(Broken::IgnoresEvidence) && is_known(stepper) =>
            {
                Input::Received(encode(&Message::Hello(Hello {
                    evidence: None,
                    ..hello
                })))
            }
            _ => Input::Received(bytes.into()),
        }
    }

    fn reclaimed(&self, stepper: &Stepper, purse: PurseId) -> Input {
        Input::Backend(BackendEvent {
            purse: PurseKey {
                session: stepper.session(),
                purse,
            },
            answer: Answer::outcome(Outcome::Reclaimed),
        })
    }

    fn recredit(&mut self, tick: &[u8], stepped: &mut Stepped) {
        if self.seen.insert(tick.to_vec()) {
            return;
        }
        let amount = Msat::new(2_000).unwrap_or_default();
        self.extra = self.extra.saturating_plus(amount);
        if let Some(open) = self.open {
            stepped.outputs.push(Output::Gate(open));
        }
    }

    fn note(&mut self, stepped: &Stepped) {
        self.member.note(stepped);
        for output in &stepped.outputs {
            match output {
                Output::Gate(grant @ Grant::Open { .. }) => self.open = Some(*grant),
                Output::Send(bytes) => {
                    let answered = match decode(bytes) {
                        Ok(Some(Message::Ack(ack))) => ack.evidence.receipt.seq.0,
                        Ok(Some(Message::Nack(nack))) => nack.seq.0,
                        Ok(Some(Message::Ready(ready))) => {
                            let shown = ready.evidence.map(|of| of.receipt.seq.0);
                            let before = self.next.saturating_sub(1);
                            shown.unwrap_or_default().max(before)
                        }
                        _ => continue,
                    };
                    self.next = answered.saturating_add(1);
                }
                _ => {}
            }
        }
    }

    /// The answer to a step, as a wrong machine would give it.
    pub(in crate::adapter) fn answer(&mut self, stepped: Stepped, stepper: &Stepper) -> Value {
        let mut outputs = stepped.outputs;
        if self.is(Broken::SendsFirst) {
            outputs.sort_by_key(|output| !matches!(output, Output::Send(_)));
        }
        let outputs: Vec<Value> = outputs
            .into_iter()
            .filter_map(|output| self.said(output))
            .map(|output| output_to_json(&output))
            .collect();
        let misuse = stepped.misuse.map(|misuse| format!("{misuse:?}"));
        Object::new()
            .with("outputs", outputs)
            .with("state", stepper.state())
            .maybe("misuse", misuse)
            .done()
    }

    fn said(&mut self, output: Output) -> Option<Output> {
        match (self.broken, output) {
            (Some(Broken::GateOpen), Output::Gate(Grant::Paused(reason))) => {
                Some(Output::Gate(self.open.unwrap_or(Grant::Paused(reason))))
            }
            (Some(Broken::Recredits), Output::Gate(Grant::Open { limit, schedule })) => {
                let limit = limit.saturating_plus(self.extra);
                Some(Output::Gate(Grant::Open { limit, schedule }))
            }
            (Some(Broken::NeverRepeats), Output::Send(bytes)) => {
                let new = self.seen.insert(bytes.to_vec());
                new.then_some(Output::Send(bytes))
            }
            (
                Some(Broken::PaysElsewhere),
                Output::Backend {
                    method,
                    mut purse,
                    id,
                    request: request @ Request::Pay { .. },
                },
            ) if self.outstanding => {
                purse.purse = PurseId(purse.purse.0.saturating_add(1));
                Some(Output::Backend {
                    method,
                    purse,
                    id,
                    request,
                })
            }
            (Some(Broken::PaysTwice), Output::Send(bytes)) if self.reconnected => {
                Some(Output::Send(other_payment(bytes)))
            }
            (_, output) => self.said_of_room(output),
        }
    }
}

/// True once a payee knows of which session it is: it refuses evidence before.
fn is_known(stepper: &Stepper) -> bool {
    stepper.session().0 != [0; 32]
}

/// The same tick with another payment in it.
fn other_payment(bytes: Bytes) -> Bytes {
    match decode(&bytes) {
        Ok(Some(Message::Tick(tick))) => {
            let payload = tick.payload.iter().map(|byte| byte ^ 1).collect();
            encode(&Message::Tick(Tick { payload, ..tick }))
        }
        _ => bytes,
    }
}
