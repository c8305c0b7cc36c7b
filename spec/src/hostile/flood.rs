//! Peers that say very much: answers stay bounded, nobody dies, no money moves.

use streampay_core::meter::PauseReason;
use streampay_core::units::PurseId;
use streampay_core::wire::{Message, Pause, Purse, Resume};

use super::Script;
use super::payers::stranger;
use crate::peer::{Cast, Played, Stage};
use crate::transcripts::payee::{credit, opened};
use crate::transcripts::payer::{bound, first_tick, offer};

pub(super) const SCRIPTS: &[Script] = &[
    Script::new("payer floods with nonsense", |stage| {
        opened(stage)?;
        nonsense(stage)
    }),
    Script::new("stranger floods with nonsense", |stage| {
        stage.create_payee(&Cast::usual()?)?;
        stage.link_up()?;
        nonsense(stage)
    }),
    Script::new("payee floods with nonsense", |stage| {
        first_tick(stage)?;
        nonsense(stage)
    }),
    Script::new("payer sends nonsense on ever new connections", |stage| {
        let mut payer = stranger(stage)?;
        for _ in 0..30 {
            for count in 0..20 {
                if stage.is_over() {
                    return Ok(());
                }
                stage.receive_bytes(&[0xff, count])?;
            }
            if stage.is_over() {
                return Ok(());
            }
            stage.link_down()?;
            if stage.is_over() {
                return Ok(());
            }
            stage.link_up()?;
            stage.receive(&Message::Hello(payer.hello()))?;
        }
        Ok(())
    }),
    Script::new("payer floods with odd types", |stage| {
        opened(stage)?;
        odd(stage)
    }),
    Script::new("payee floods with odd types", |stage| {
        first_tick(stage)?;
        odd(stage)
    }),
    Script::new("payer repeats a tick a thousand times", |stage| {
        let payer = opened(stage)?;
        credit(stage, payer.tick(0, 1))?;
        let tick = Message::Tick(payer.tick(0, 1));
        times(stage, 1_000, 2, |stage, _| stage.receive(&tick))
    }),
    Script::new("payer repeats its hello a thousand times", |stage| {
        stage.create_payee(&Cast::usual()?)?;
        let mut payer = crate::transcripts::puppet_payer()?;
        stage.link_up()?;
        let hello = Message::Hello(payer.hello());
        times(stage, 1_000, 2, |stage, _| stage.receive(&hello))
    }),
    Script::new("payer pauses and resumes a thousand times", |stage| {
        let payer = opened(stage)?;
        credit(stage, payer.tick(0, 1))?;
        flow(stage)
    }),
    Script::new("payee pauses and resumes a thousand times", |stage| {
        let payee = first_tick(stage)?;
        stage.receive(&payee.ack(1, 0))?;
        flow(stage)
    }),
    Script::new("payer opens a thousand purses", |stage| {
        let payer = opened(stage)?;
        times(stage, 1_000, 6, |stage, count| {
            let purse = Purse {
                purse: PurseId(count + 1),
                ..payer.purse(0)
            };
            stage.receive(&Message::Purse(purse))
        })
    }),
    Script::new("payer opens a purse that never ends", |stage| {
        let payer = opened(stage)?;
        times(stage, 64, 4, |stage, count| {
            let purse = Purse {
                purse: PurseId(1),
                part: u16::try_from(count).unwrap_or_default(),
                of: 64,
                bytes: vec![7; 15 * 1024].into(),
                ..payer.purse(0)
            };
            stage.receive(&Message::Purse(purse))
        })?;
        stage.must(
            stage.asked("accept").is_none(),
            "not show half a megabyte on",
        )
    }),
    Script::new("payer asks for a thousand receipts", |stage| {
        let payer = opened(stage)?;
        credit(stage, payer.tick(0, 1))?;
        times(stage, 1_000, 2, |stage, _| {
            stage.receive(&Message::ReceiptRequest)
        })
    }),
    Script::new("payee repeats an ack a thousand times", |stage| {
        let payee = first_tick(stage)?;
        let ack = payee.ack(1, 0);
        times(stage, 1_000, 1, |stage, _| stage.receive(&ack))
    }),
    Script::new("payee repeats its offer a thousand times", |stage| {
        let payee = first_tick(stage)?;
        stage.receive(&payee.ack(1, 0))?;
        let offer = Message::OfferTerms(offer(&payee));
        times(stage, 1_000, 1, |stage, _| stage.receive(&offer))
    }),
    Script::new("payee welcomes a thousand times", |stage| {
        let mut payee = bound(stage, &Cast::usual()?)?;
        times(stage, 1_000, 1, |stage, _| {
            let welcome = payee.welcome();
            stage.receive(&Message::Welcome(welcome))
        })
    }),
];

/// So many inputs, with at most `each` outputs an input on the whole.
fn times(
    stage: &mut Stage<'_>,
    count: u32,
    each: usize,
    mut input: impl FnMut(&mut Stage<'_>, u32) -> Played,
) -> Played {
    let (mut inputs, mut outputs) = (0_usize, 0_usize);
    for count in 0..count {
        if stage.is_over() {
            break;
        }
        input(stage, count)?;
        inputs += 1;
        outputs += stage.outputs.len();
    }
    // What ends a session has a few outputs more.
    let most = inputs * each + 16;
    if outputs > most {
        return Err(format!("{outputs} outputs for {inputs} inputs"));
    }
    Ok(())
}

/// A thousand messages that are none.
fn nonsense(stage: &mut Stage<'_>) -> Played {
    times(stage, 1_000, 2, |stage, count| {
        let [.., high, low] = count.to_be_bytes();
        stage.receive_bytes(&[0xff, high, low])
    })
}

/// A thousand messages of odd types, which are ignored.
fn odd(stage: &mut Stage<'_>) -> Played {
    times(stage, 1_000, 1, |stage, _| {
        stage.receive_bytes(&[0xa1, 0x00, 0x18, 29])
    })?;
    stage.must(!stage.told("closed"), "ignore them")
}

fn flow(stage: &mut Stage<'_>) -> Played {
    let reason = PauseReason::ByPayer;
    times(stage, 1_000, 4, |stage, count| {
        let epoch = u64::from(count) + 1;
        stage.receive(&if count % 2 == 0 {
            Message::Pause(Pause { epoch, reason })
        } else {
            Message::Resume(Resume { epoch })
        })
    })
}
