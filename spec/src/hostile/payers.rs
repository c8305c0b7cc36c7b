//! Payers that want media without paying, or somebody else's session.

use streampay_core::session::{Hash, Receipt};
use streampay_core::units::{PurseId, Seq};
use streampay_core::wire::{Agree, Decline, Message, Tick};

use super::Script;
use crate::fields::terms_to_json;
use crate::json::Object;
use crate::peer::{Cast, Payer, Played, Stage};
use crate::people::{evidence, key, msat, rate};
use crate::transcripts::each_purse::{asked_of, one_is_checked};
use crate::transcripts::payee::{acked, bound, connect, credit, offered, opened, opened_by};
use crate::transcripts::puppet_payer;

pub(super) const SCRIPTS: &[Script] = &[
    Script::new("payer leaves out a tick", |stage| number(stage, 3)),
    Script::new("payer leaves out nearly all ticks", |stage| {
        number(stage, u64::MAX)
    }),
    Script::new("payer says a sum that jumps", |stage| sum(stage, 10_000)),
    Script::new("payer says a sum that stands still", |stage| {
        sum(stage, 2_000)
    }),
    Script::new("payer says a sum of zero", |stage| sum(stage, 0)),
    Script::new("payer says a sum beyond the purse", beyond_the_purse),
    Script::new("payer pays from a purse of nobody", other_purse),
    Script::new("payer swaps a payment while it is checked", swaps_payment),
    Script::new("payer pays before anything else", early),
    Script::new("payer pays before it binds", unbound),
    Script::new(
        "payer binds with a signature of another connection",
        stale_bind,
    ),
    Script::new("payer resumes with another first binding", |stage| {
        resume(stage, |payer| payer.root = Some([9; 32]))
    }),
    Script::new("payer resumes as somebody else", |stage| {
        resume(stage, |payer| {
            payer.identity = key("somebody else").unwrap_or_else(|_| payer.key.clone());
        })
    }),
    Script::new("payer resumes with another session key", |stage| {
        resume(stage, |payer| payer.key = payer.identity.clone())
    }),
    Script::new("payer shows a receipt that nobody signed", forged_receipt),
    Script::new("payer shows a receipt of another session", |stage| {
        resumes_with(stage, |_| evidence().ok())
    }),
    Script::new("payer agrees to what was never offered", agrees_to_nothing),
    Script::new(
        "payer agrees to an offer that another took the place of",
        agrees_to_the_first,
    ),
    Script::new("payer that is gone stays gone for the gate", gone),
    Script::new("payer pays after the close", after_close),
    Script::new("payer's last payment is never checked", |stage| {
        last_payment(stage, false)
    }),
    Script::new("payer's last payment is never checked, restart", |stage| {
        last_payment(stage, true)
    }),
];

/// A tick with this number where the second is due.
fn number(stage: &mut Stage<'_>, seq: u64) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    let tick = Tick {
        seq: Seq(seq),
        cumulative: msat(4_000),
        ..payer.tick(0, 2)
    };
    stage.receive(&Message::Tick(tick))?;
    stage.must(stage.asked("receive").is_none(), "not take it")?;
    stage.must(stage.told("misbehaved"), "call it misbehaviour")
}

/// The second tick with this sum.
fn sum(stage: &mut Stage<'_>, sum: u64) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    let tick = Tick {
        cumulative: msat(sum),
        ..payer.tick(0, 2)
    };
    stage.receive(&Message::Tick(tick))?;
    stage.must(stage.asked("receive").is_none(), "not take it")?;
    stage.must(!acked(stage), "not acknowledge it")
}

fn beyond_the_purse(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    for seq in 1..=5 {
        credit(stage, payer.tick(0, seq))?;
    }
    stage.receive(&Message::Tick(payer.tick(0, 6)))?;
    stage.must(stage.asked("receive").is_none(), "not take it")
}

fn other_purse(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    for purse in [1, 7, u32::MAX] {
        stage.receive(&Message::Tick(payer.tick(purse, 1)))?;
        stage.must(stage.asked("receive").is_none(), "not take it")?;
    }
    credit(stage, payer.tick(0, 1))
}

fn swaps_payment(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    stage.receive(&Message::Tick(payer.tick(0, 1)))?;
    let other = Tick {
        payload: payer.tick(0, 2).payload,
        ..payer.tick(0, 1)
    };
    stage.receive(&Message::Tick(other))?;
    stage.must(stage.asked("receive").is_none(), "not take it too")?;
    stage.must(stage.told("misbehaved"), "call it misbehaviour")
}

fn early(stage: &mut Stage<'_>) -> Played {
    stage.create_payee(&Cast::usual()?)?;
    let payer = puppet_payer()?;
    stage.link_up()?;
    for message in [
        Message::Tick(payer.tick(0, 1)),
        Message::Purse(payer.purse(0)),
    ] {
        if !stage.is_over() {
            stage.receive(&message)?;
            stage.must(stage.asked("receive").is_none(), "not take it")?;
            stage.must(stage.asked("accept").is_none(), "not take it")?;
        }
    }
    Ok(())
}

fn unbound(stage: &mut Stage<'_>) -> Played {
    stage.create_payee(&Cast::usual()?)?;
    let mut payer = puppet_payer()?;
    stage.link_up()?;
    stage.receive(&Message::Hello(payer.hello()))?;
    stage.receive(&Message::Purse(payer.purse(0)))?;
    stage.must(stage.asked("accept").is_none(), "not take it")?;
    stage.receive(&Message::Tick(payer.tick(0, 1)))?;
    stage.must(stage.asked("receive").is_none(), "not take it")
}

fn stale_bind(stage: &mut Stage<'_>) -> Played {
    stage.create_payee(&Cast::usual()?)?;
    let mut payer = puppet_payer()?;
    stage.link_up()?;
    stage.receive(&Message::Hello(payer.hello()))?;
    let sent = stage.sent();
    let Some(Message::Welcome(welcome)) = sent.first() else {
        return Err("no welcome".into());
    };
    let old = payer.bind(welcome);
    stage.receive(&old)?;
    stage.link_down()?;
    stage.link_up()?;
    stage.receive(&Message::Hello(payer.hello()))?;
    stage.receive(&old)?;
    stage.must(!stage.told("bound"), "not be bound")
}

fn resume(stage: &mut Stage<'_>, change: fn(&mut Payer)) -> Played {
    let mut payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.link_down()?;
    change(&mut payer);
    stage.link_up()?;
    stage.receive(&Message::Hello(payer.hello()))?;
    stage.must(
        matches!(stage.sent()[..], [Message::Close(_)]),
        "not welcome it",
    )?;
    stage.must(!stage.is_over(), "keep the session for its payer")
}

/// Comes back with this receipt; whatever it says, only what was credited counts.
fn resumes_with(
    stage: &mut Stage<'_>,
    receipt: fn(&Payer) -> Option<streampay_core::wire::Evidence>,
) -> Played {
    let mut payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.link_down()?;
    payer.evidence = receipt(&payer);
    stage.link_up()?;
    let hello = payer.hello();
    stage.receive(&Message::Hello(hello))?;
    let sent = stage.sent();
    if let Some(Message::Welcome(welcome)) = sent.first() {
        let bind = payer.bind(welcome);
        stage.receive(&bind)?;
        credit(stage, payer.tick(0, 2))?;
    }
    Ok(())
}

fn forged_receipt(stage: &mut Stage<'_>) -> Played {
    resumes_with(stage, |payer| {
        let receipt = Receipt {
            purse: PurseId(0),
            seq: Seq(5),
            cumulative: msat(10_000),
            total: msat(10_000),
            ..Receipt::default()
        };
        Some(receipt.sign(payer.session, &payer.key))
    })
}

fn agrees_to_nothing(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    let offer = Hash([7; 32]);
    stage.receive(&Message::Agree(Agree { offer }))?;
    stage.must(stage.sent().is_empty(), "not confirm it")?;
    stage.receive(&Message::Decline(Decline { offer }))?;
    stage.must(!stage.told("terms_declined"), "make nothing of it")?;
    credit(stage, payer.tick(0, 2))
}

fn agrees_to_the_first(stage: &mut Stage<'_>) -> Played {
    let cast = Cast::usual()?;
    let payer = opened_by(stage, &cast)?;
    credit(stage, payer.tick(0, 1))?;
    let mut offers = Vec::new();
    for percent in [3_000, 1_000] {
        let mut terms = cast.terms.clone();
        terms.tariff.time = rate(percent, 10_000);
        let command = Object::new()
            .with("terms", terms_to_json(&terms))
            .int("in_ticks", 2_u64);
        stage.command("offer_terms", command)?;
        offers.push(offered(stage)?.hash(payer.session));
    }
    let [first, second] = offers[..] else {
        return Err("two offers".into());
    };
    stage.receive(&Message::Agree(Agree { offer: first }))?;
    let confirms = |stage: &Stage<'_>| {
        let confirms = |sent: &Message| matches!(sent, Message::Agreed(_));
        stage.told("terms_agreed") || stage.sent().iter().any(confirms)
    };
    stage.must(!confirms(stage), "not confirm it")?;
    stage.receive(&Message::Agree(Agree { offer: second }))?;
    stage.must(confirms(stage), "confirm the one that stands")
}

fn gone(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.usage(200)?;
    stage.link_down()?;
    let shut = stage
        .outputs
        .iter()
        .any(|output| output.pointer("/gate/paused").is_some());
    stage.must(shut, "shut the gate")?;
    stage.wait_ms(60_000)?;
    let open = |output: &serde_json::Value| output.pointer("/gate/limit").is_some();
    stage.must(!stage.outputs.iter().any(open), "keep it shut")
}

fn after_close(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.command("close", "1")?;
    stage.receive(&Message::Tick(payer.tick(0, 2)))?;
    stage.must(stage.asked("receive").is_none(), "not take it")?;
    stage.must(!acked(stage), "not acknowledge it")
}

/// By a mint of its own choice, which answers nobody: what was paid at another mint is settled all the same.
fn last_payment(stage: &mut Stage<'_>, restarts: bool) -> Played {
    one_is_checked(stage)?;
    stage.command("close", "1")?;
    if restarts {
        stage.restart()?;
    }
    let mut asked = asked_of(stage, "settle");
    for _ in 0..5 {
        stage.wait_ms(1_000)?;
        asked.extend(asked_of(stage, "settle"));
    }
    stage.must(asked == [0], "settle the other within 5 s, and once")?;
    stage.answer(0, "settled", Object::new().int("settled", 2_000_u64))?;
    stage.must(!stage.told("settled"), "not forget the one")
}

/// For other scripts: bound, and nothing more.
pub(super) fn stranger(stage: &mut Stage<'_>) -> Played<Payer> {
    let mut payer = bound(stage, &Cast::usual()?)?;
    stage.link_down()?;
    connect(stage, &mut payer)?;
    Ok(payer)
}
