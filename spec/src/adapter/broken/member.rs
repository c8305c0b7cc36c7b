//! Wrong tips, wrong purses, wrong rooms.

use bitcoin_hashes::{Hash as _, sha256};
use streampay_core::backend::{Opened, Outcome, Request};
use streampay_core::meter::{Grant, Reading};
use streampay_core::room::RoomOutput;
use streampay_core::session::{
    BackendEvent, Command, Event, Hash, Input, Line, Output, RoomAsk, RoomNews,
};
use streampay_core::units::Msat;
use streampay_core::wire::{Chat, Message, RoomCode, Tick, decode, encode};

use super::super::step::Stepped;
use super::{Broken, Faults};
use crate::peer::METHOD;
use crate::people::msat;

/// What is to be remembered of tips and of the room.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::adapter) struct Member {
    /// Payee: what was credited as tips.
    tips: Msat,
    /// Payer: in the room.
    joined: bool,
    /// Payer: the last line heard.
    heard: u64,
}

impl Member {
    pub(super) fn note(&mut self, stepped: &Stepped) {
        for output in &stepped.outputs {
            match output {
                Output::Event(Event::TipReceived { tips, .. }) => self.tips = *tips,
                Output::Event(Event::News(RoomNews::Joined { .. })) => self.joined = true,
                Output::Event(Event::LinkDown) => (self.joined, self.heard) = (false, 0),
                _ => {}
            }
        }
    }
}

impl Faults {
    /// What a wrong machine would take for this input, where it is no message.
    pub(super) fn change_other(&self, input: Input) -> Input {
        match (self.broken, input) {
            (Some(Broken::TipsTooMuch), Input::Command(Command::Tip(amount))) => {
                let tick = msat(2_000);
                Input::Command(Command::Tip(amount.round_up_to(tick).unwrap_or(tick)))
            }
            (Some(Broken::NoBytes), Input::Usage(reading)) => Input::Usage(Reading {
                bytes: 0,
                ..reading
            }),
            (Some(Broken::NoUsableTime), Input::Backend(event)) => {
                Input::Backend(without_end(event))
            }
            (_, input) => input,
        }
    }

    /// What pays the fee of one that joins.
    pub(super) fn fee_unasked(&self, input: &Input) -> Option<Input> {
        match input {
            Input::Command(Command::Join { max_fee, .. }) if self.is(Broken::FeeUnasked) => {
                Some(Input::Command(Command::Tip(*max_fee)))
            }
            _ => None,
        }
    }

    /// Tells a text that was dropped.
    pub(super) fn tell_all_the_same(&mut self, chat: Chat, stepped: &mut Stepped) {
        let new = self.member.joined && chat.id > self.member.heard;
        if !new {
            return;
        }
        self.member.heard = chat.id;
        let told = |output: &Output| matches!(output, Output::Event(Event::News(_)));
        if let (false, Ok(text)) = (stepped.outputs.iter().any(told), Line::new(chat.text)) {
            let sender = chat.sender;
            let news = RoomNews::Chat { sender, text };
            stepped.outputs.push(Output::Event(Event::News(news)));
        }
    }

    /// What a wrong machine would say instead.
    pub(super) fn said_of_room(&self, output: Output) -> Option<Output> {
        match (self.broken, output) {
            (Some(Broken::TipsAsMedia), Output::Gate(Grant::Open { limit, schedule })) => {
                let limit = limit.saturating_plus(self.member.tips);
                Some(Output::Gate(Grant::Open { limit, schedule }))
            }
            (Some(Broken::TipsByThemselves), Output::Send(bytes)) => match decode(&bytes) {
                Ok(Some(Message::Tick(Tick {
                    tips: Some(_),
                    purse,
                    seq,
                    cumulative,
                    payload,
                }))) => Some(Output::Send(encode(&Message::Tick(Tick {
                    tips: Some(msat(2_000)),
                    purse,
                    seq,
                    cumulative,
                    payload,
                })))),
                _ => Some(Output::Send(bytes)),
            },
            (Some(Broken::JoinsOnce), Output::Send(bytes)) if self.reconnected => {
                let joins = matches!(decode(&bytes), Ok(Some(Message::Join(_))));
                (!joins).then_some(Output::Send(bytes))
            }
            (
                Some(Broken::NoFallback),
                Output::Backend {
                    method,
                    request: Request::Open { .. },
                    ..
                },
            ) if method != METHOD => None,
            (Some(Broken::PlainInvitation), Output::Event(Event::Room(ask))) => {
                Some(Output::Event(Event::Room(hashed_again(ask))))
            }
            (_, output) => Some(output),
        }
    }

    /// What a wrong room would do instead.
    pub(in crate::adapter) fn told(&self, output: RoomOutput) -> RoomOutput {
        match (self.broken, output) {
            (
                Some(Broken::OpenDoors),
                RoomOutput::Tell {
                    session,
                    news: RoomNews::Refused { .. },
                },
            ) => {
                let name = "anybody#00".into();
                let news = RoomNews::Joined { name };
                RoomOutput::Tell { session, news }
            }
            (
                Some(Broken::FeeFirst),
                RoomOutput::Tell {
                    session,
                    news: RoomNews::Refused { .. },
                },
            ) => {
                let code = RoomCode::Unpaid;
                let news = RoomNews::Refused { code };
                RoomOutput::Tell { session, news }
            }
            (_, output) => output,
        }
    }
}

fn without_end(mut event: BackendEvent) -> BackendEvent {
    if let Some(Outcome::Opened(opened)) = event.answer.outcome {
        event.answer.outcome = Some(Outcome::Opened(Opened {
            usable_until: None,
            ..opened
        }));
    }
    event
}

fn hashed_again(ask: RoomAsk) -> RoomAsk {
    match ask {
        RoomAsk::Join {
            name,
            invitation,
            unpaid,
        } => RoomAsk::Join {
            name,
            invitation: invitation.map(|hash| Hash(sha256::Hash::hash(&hash.0).to_byte_array())),
            unpaid,
        },
        ask => ask,
    }
}
