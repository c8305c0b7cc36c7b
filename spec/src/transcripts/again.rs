//! What is said again: payments that were refused and stay out, consent of which nobody hears, and
//! the next offer.

use streampay_core::backend::{Consumed, RefusalCode};
use streampay_core::session::{Hash, Receipt};
use streampay_core::units::Seq;
use streampay_core::wire::{Ack, Agree, Agreed, Message, Terms};

use super::payee::{credit, dearer, offered, opened_by, to_the_amount};
use super::payer::{first_tick, nack, offer, rebind, ticked, watch};
use super::{Scene, scene};
use crate::fields::terms_to_json;
use crate::json::Object;
use crate::peer::{Cast, Payee, Played, Stage};
use crate::people::msat;

pub(super) const SCENES: &[Scene] = &[
    scene(
        "payer",
        "nack-outstanding",
        "A refused payment that the backend cannot take back is shown again by the next number: the \
         same sum, and nothing beside it.",
        |stage| outstanding(stage, false),
    ),
    scene(
        "payer",
        "nack-outstanding-crash",
        "The process dies while it is made again: the same request, the same sum.",
        |stage| outstanding(stage, true),
    ),
    scene(
        "payer",
        "nack-outstanding-thrice",
        "Refused three times: the session ends, and the purse is told to come home.",
        outstanding_thrice,
    ),
    scene(
        "payer",
        "price-change-unheard",
        "Consents, and does not hear that it is confirmed: consents again, also after a restart, and \
         pays nothing beyond before it hears.",
        unheard,
    ),
    scene(
        "payee",
        "price-change-next-waits",
        "A new price began by the preview, and nothing is paid at it: the next offer is not made \
         before something is.",
        next_waits,
    ),
];

/// The ack of the second number, which is the first payment.
fn acked_as_second(payee: &Payee) -> Message {
    let receipt = Receipt {
        seq: Seq(2),
        ..payee.receipt(1, 0)
    };
    Message::Ack(Ack {
        evidence: payee.sign(receipt),
        grant: None,
    })
}

fn outstanding(stage: &mut Stage<'_>, dies: bool) -> Played {
    let mut payee = first_tick(stage)?;
    let session = payee.hello.session;
    let first = ticked(stage)?;
    stage.receive(&nack(RefusalCode::BadProof, Consumed::No))?;
    stage.must(stage.asked("reclaim").is_some(), "ask for it back")?;
    stage.answer(0, "outstanding", Object::new())?;
    stage.must(stage.asked("pay").is_some(), "make it again")?;
    stage.must(stage.asked("open").is_none(), "open no other purse")?;
    if dies {
        stage.restart()?;
        stage.must(stage.asked("pay").is_some(), "ask for it again")?;
    }
    stage.make_payment(session)?;
    if dies {
        rebind(stage, &mut payee, None)?;
    }
    let again = ticked(stage)?;
    let same = again.seq == Seq(2) && again.cumulative == first.cumulative;
    stage.must(same, "show the same sum by the next number")?;
    stage.receive(&acked_as_second(&payee))?;
    stage.must(stage.told("tick_paid"), "count it once")?;
    if dies {
        return Ok(());
    }
    watch(stage, 0, 9_950)?;
    stage.make_payment(session)?;
    let next = ticked(stage)?;
    let next = next.seq == Seq(3) && next.cumulative == msat(4_000);
    stage.must(next, "go on with the next number and the next sum")
}

fn outstanding_thrice(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    for seq in 1..=3 {
        let nack = Message::Nack(streampay_core::wire::Nack {
            purse: streampay_core::units::PurseId(0),
            seq: Seq(seq),
            code: RefusalCode::BadProof,
            consumed: Consumed::Unknown,
        });
        stage.receive(&nack)?;
        stage.answer(0, "outstanding", Object::new())?;
        if seq < 3 {
            stage.make_payment(payee.hello.session)?;
        }
    }
    stage.must(stage.told("closed"), "give up")?;
    stage.must(stage.asked("pay").is_none(), "pay nothing more")
}

/// True where it says that it agrees to this.
fn agrees(stage: &Stage<'_>, hash: Hash) -> bool {
    let agrees = |sent: &Message| matches!(sent, Message::Agree(agree) if agree.offer == hash);
    stage.sent().iter().any(agrees)
}

fn unheard(stage: &mut Stage<'_>) -> Played {
    let mut payee = first_tick(stage)?;
    let session = payee.hello.session;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 9_950)?;
    stage.make_payment(session)?;
    stage.receive(&payee.ack(2, 9_950))?;
    let offer = offer(&payee);
    let (hash, terms) = (offer.hash(session), offer.terms.clone());
    stage.receive(&Message::OfferTerms(offer))?;
    stage.command("agree", Object::new())?;
    stage.must(agrees(stage, hash), "say so")?;
    watch(stage, 9_950, 11_950)?;
    stage.must(agrees(stage, hash), "say it again")?;
    watch(stage, 11_950, 14_950)?;
    stage.restart()?;
    rebind(stage, &mut payee, Some(2))?;
    stage.must(agrees(stage, hash), "say it on the next connection too")?;
    watch(stage, 14_950, 19_950)?;
    stage.must(stage.asked("pay").is_none(), "not pay beyond it")?;
    stage.judge.next = Some(terms.tariff);
    stage.receive(&Message::Agreed(Agreed { offer: hash }))?;
    stage.must(stage.told("terms_agreed"), "tell the user")?;
    stage.must(stage.asked("pay").is_some(), "go on")?;
    stage.make_payment(session)
}

fn next_waits(stage: &mut Stage<'_>) -> Played {
    let mut cast = Cast::usual()?;
    cast.terms.preview = msat(1_000);
    let payer = opened_by(stage, &cast)?;
    credit(stage, payer.tick(0, 1))?;
    let command = |terms: &Terms| {
        Object::new()
            .with("terms", terms_to_json(terms))
            .int("in_ticks", 2_u64)
    };
    stage.command("offer_terms", command(&dearer(&cast.terms)))?;
    let hash = offered(stage)?.hash(payer.session);
    stage.receive(&Message::Agree(Agree { offer: hash }))?;
    to_the_amount(stage, &payer)?;
    stage.pass_ms(1_000);
    stage.usage(31_000)?;
    stage.must(stage.told("terms_began"), "go over to them")?;
    let early = stage.command("offer_terms", command(&cast.terms));
    let refused = early.is_err_and(|error| error.contains("OfferPending"));
    stage.must(refused && stage.sent().is_empty(), "not offer yet")?;
    credit(stage, payer.tick(0, 4))?;
    stage.command("offer_terms", command(&cast.terms))?;
    offered(stage).map(drop)
}
