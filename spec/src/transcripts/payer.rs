//! The payer, when all goes well but for what always happens.

use serde_json::Value;
use streampay_core::backend::{Consumed, RefusalCode};
use streampay_core::meter::{PauseReason, Reading};
use streampay_core::session::{CloseCode, Receipt, Signature};
use streampay_core::units::{PurseId, Seq};
use streampay_core::wire::{
    Agreed, Close, Closed, Message, Nack, OfferTerms, Pause, PurseOk, Resume, Terms, Tick,
};

use super::{Scene, puppet_payee};
use crate::json::Object;
use crate::peer::{Cast, Payee, Played, Stage};
use crate::people::{msat, rate};

pub(super) const SCENES: &[Scene] = &[
    Scene {
        name: "open-and-tick",
        about: "Opens, pays the first tick before anything flows, the second at the lead's edge.",
        role: "payer",
        play: open_and_tick,
    },
    Scene {
        name: "lost-ack",
        about: "Says a payment again after 2, 4 and 8 s, always the same bytes, then pauses; a late \
                ack still counts.",
        role: "payer",
        play: lost_ack,
    },
    Scene {
        name: "nack-not-consumed",
        about: "A nack is a hint: pays nothing new until its own backend took the payment back.",
        role: "payer",
        play: |stage| nacked(stage, Consumed::No),
    },
    Scene {
        name: "nack-consumed",
        about: "A payment that is refused and spent counts as paid until it is written off by \
                consent.",
        role: "payer",
        play: |stage| nacked(stage, Consumed::Yes),
    },
    Scene {
        name: "nack-unknown",
        about: "The fate of a refused payment is asked for until the backend knows it.",
        role: "payer",
        play: |stage| nacked(stage, Consumed::Unknown),
    },
    Scene {
        name: "pause-by-user",
        about: "Pauses by command: nothing is paid, it is said again, and resumed.",
        role: "payer",
        play: pause_by_user,
    },
    Scene {
        name: "pause-by-peer",
        about: "The payee pauses; an older word does not end it; a newer one does.",
        role: "payer",
        play: pause_by_peer,
    },
    Scene {
        name: "reconnect-ack-lost",
        about: "The connection goes with an ack under way; the receipt in ready brings it.",
        role: "payer",
        play: |stage| reconnect(stage, true),
    },
    Scene {
        name: "reconnect-tick-lost",
        about: "The connection goes with a tick under way; the same bytes go out on the next one.",
        role: "payer",
        play: |stage| reconnect(stage, false),
    },
    Scene {
        name: "close",
        about: "Closes by command: durable, said, answered with what is due, all money home.",
        role: "payer",
        play: close,
    },
    Scene {
        name: "close-unanswered",
        about: "Closes, and nobody answers: takes home what is not acknowledged after 6 s.",
        role: "payer",
        play: close_unanswered,
    },
    Scene {
        name: "closed-by-payee",
        about: "The payee ends the session, with a receipt for a tick whose ack was lost.",
        role: "payer",
        play: closed_by_payee,
    },
    Scene {
        name: "price-change-agreed",
        about: "A dearer tariff is offered; the user consents; it holds from the amount on.",
        role: "payer",
        play: |stage| price_change(stage, true),
    },
    Scene {
        name: "price-change-declined",
        about: "A dearer tariff is offered; the user does not consent; nothing is paid beyond.",
        role: "payer",
        play: |stage| price_change(stage, false),
    },
];

/// From nothing to bound, with the backend asked for a purse.
pub(crate) fn bound(stage: &mut Stage<'_>, cast: &Cast) -> Played<Payee> {
    stage.create_payer(cast)?;
    stage.link_up()?;
    let sent = stage.sent();
    let Some(Message::Hello(hello)) = sent.first() else {
        return Err("no hello".into());
    };
    let mut payee = puppet_payee(hello.clone())?;
    payee.terms = cast.terms.clone();
    let welcome = payee.welcome();
    stage.receive(&Message::Welcome(welcome))?;
    let sent = stage.sent();
    stage.must(matches!(sent[..], [Message::Bind(_)]), "bind")?;
    stage.receive(&Payee::ready(None))?;
    stage.must(stage.told("bound"), "be bound")?;
    Ok(payee)
}

/// From nothing to the first tick, which is sent and not acknowledged.
pub(crate) fn first_tick(stage: &mut Stage<'_>) -> Played<Payee> {
    first_tick_of(stage, &Cast::usual()?, 10_000)
}

/// The same with another cast, and another capacity of the first purse.
pub(crate) fn first_tick_of(stage: &mut Stage<'_>, cast: &Cast, capacity: u64) -> Played<Payee> {
    let payee = bound(stage, cast)?;
    stage.open_purse(payee.hello.session, capacity)?;
    let purse = PurseId(0);
    stage.receive(&Message::PurseOk(PurseOk { purse }))?;
    stage.make_payment(payee.hello.session)?;
    ticked(stage)?;
    Ok(payee)
}

/// The tick that was sent in the last step.
pub(crate) fn ticked(stage: &Stage<'_>) -> Played<Tick> {
    let tick = stage.sent().into_iter().find_map(|message| match message {
        Message::Tick(tick) => Some(tick),
        _ => None,
    });
    tick.ok_or_else(|| format!("no tick in {}", Value::from(stage.outputs.clone())))
}

/// Time passes while media comes, to a reading that is told every second or so.
pub(crate) fn watch(stage: &mut Stage<'_>, from_ms: u64, to_ms: u64) -> Played {
    let mut at = from_ms;
    while at < to_ms {
        let step = (to_ms - at).min(1_000);
        at += step;
        stage.pass_ms(step);
        stage.usage(at)?;
    }
    Ok(())
}

fn open_and_tick(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.pass_ms(40);
    stage.receive(&payee.ack(1, 0))?;
    stage.must(stage.told("tick_paid"), "count the ack")?;
    watch(stage, 0, 9_500)?;
    stage.must(stage.asked("pay").is_none(), "not pay yet")?;
    watch(stage, 9_500, 9_900)?;
    stage.make_payment(payee.hello.session)?;
    let tick = ticked(stage)?;
    stage.must(tick.cumulative == msat(4_000), "say the sum")?;
    stage.pass_ms(40);
    stage.receive(&payee.ack(2, 9_900))?;
    stage.receive(&payee.ack(2, 9_900))
}

fn lost_ack(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    let first = ticked(stage)?;
    for ms in [2_000, 4_000] {
        stage.wait_ms(ms)?;
        stage.must(ticked(stage)? == first, "say the same again")?;
    }
    stage.wait_ms(8_000)?;
    stage.must(stage.told("paused"), "pause")?;
    stage.wait_ms(2_000)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.must(stage.told("resumed"), "go on")
}

pub(crate) fn nack(code: RefusalCode, consumed: Consumed) -> Message {
    Message::Nack(Nack {
        purse: PurseId(0),
        seq: Seq(1),
        code,
        consumed,
    })
}

fn nacked(stage: &mut Stage<'_>, consumed: Consumed) -> Played {
    let payee = first_tick(stage)?;
    let message = nack(RefusalCode::BadProof, consumed);
    stage.receive(&message)?;
    stage.must(stage.asked("reclaim").is_some(), "ask for it back")?;
    stage.receive(&message)?;
    stage.must(stage.asked("pay").is_none(), "pay nothing new")?;
    match consumed {
        Consumed::No => stage.answer(0, "reclaimed", Object::new())?,
        Consumed::Yes => {
            stage.answer(0, "spent", Object::new())?;
            stage.must(stage.told("tick_lost"), "say what is lost")?;
            stage.wait_ms(2_000)?;
            stage.command("write_off", Object::new())?;
        }
        Consumed::Unknown => {
            stage.fail(0, "unknown", Object::new())?;
            stage.wait_ms(2_000)?;
            stage.must(stage.asked("reclaim").is_some(), "ask again")?;
            stage.answer(0, "reclaimed", Object::new())?;
        }
    }
    stage.make_payment(payee.hello.session)?;
    let tick = ticked(stage)?;
    stage.must(tick.seq == Seq(2), "never use a number twice")
}

fn pause_by_user(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 5_000)?;
    stage.command("pause", Object::new())?;
    stage.must(!stage.sent().is_empty(), "say so")?;
    stage.usage(9_990)?;
    stage.must(stage.asked("pay").is_none(), "pay nothing")?;
    stage.wait_ms(2_000)?;
    stage.command("resume", Object::new())?;
    stage.must(stage.told("resumed"), "go on")
}

pub(crate) fn pause(epoch: u64) -> Message {
    Message::Pause(Pause {
        epoch,
        reason: PauseReason::ByPayee,
    })
}

fn pause_by_peer(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.receive(&pause(3))?;
    stage.must(stage.told("paused"), "pause")?;
    stage.receive(&Message::Resume(Resume { epoch: 2 }))?;
    stage.must(!stage.told("resumed"), "ignore what is older")?;
    stage.receive(&Message::Resume(Resume { epoch: 4 }))?;
    stage.must(stage.told("resumed"), "go on")?;
    stage.receive(&Message::Resume(Resume { epoch: 4 }))
}

/// A new connection up to its ready.
pub(crate) fn rebind(stage: &mut Stage<'_>, payee: &mut Payee, paid: Option<u64>) -> Played {
    greet_again(stage, payee)?;
    let evidence = paid.map(|seq| payee.sign(payee.receipt(seq, 0)));
    stage.receive(&Payee::ready(evidence))
}

/// A new connection up to the bind.
fn greet_again(stage: &mut Stage<'_>, payee: &mut Payee) -> Played {
    stage.link_up()?;
    let sent = stage.sent();
    let Some(Message::Hello(hello)) = sent.first() else {
        return Err("no hello".into());
    };
    stage.must(hello.root.is_some(), "name the first binding")?;
    payee.hello = hello.clone();
    let welcome = payee.welcome();
    stage.receive(&Message::Welcome(welcome))
}

/// A new connection of one that knows this receipt.
pub(crate) fn rebind_with(stage: &mut Stage<'_>, payee: &mut Payee, paid: Receipt) -> Played {
    greet_again(stage, payee)?;
    stage.receive(&Payee::ready(Some(payee.sign(paid))))
}

fn reconnect(stage: &mut Stage<'_>, received: bool) -> Played {
    let mut payee = first_tick(stage)?;
    let first = ticked(stage)?;
    stage.pass_ms(500);
    stage.link_down()?;
    stage.pass_ms(3_000);
    rebind(stage, &mut payee, received.then_some(1))?;
    if received {
        return stage.must(stage.told("tick_paid"), "count what the receipt says");
    }
    stage.must(ticked(stage)? == first, "send the same bytes")?;
    stage.receive(&payee.ack(1, 0))
}

fn close(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 3_000)?;
    stage.command("close", CloseCode::Done.code().to_string())?;
    stage.wait_ms(2_000)?;
    stage.must(!stage.sent().is_empty(), "say it again")?;
    let closed = Closed {
        code: CloseCode::Done,
        evidence: Some(payee.sign(payee.receipt(1, 3_000))),
        proof: None,
    };
    stage.receive(&Message::Closed(closed))?;
    settle(stage, 8_000)
}

pub(crate) fn settle(stage: &mut Stage<'_>, refunded: u64) -> Played {
    stage.must(stage.asked("release").is_some(), "take the rest home")?;
    stage.answer(0, "released", Object::new().int("refunded", refunded))?;
    stage.must(stage.told("settled"), "be settled")
}

fn close_unanswered(stage: &mut Stage<'_>) -> Played {
    first_tick(stage)?;
    stage.command("close", CloseCode::Done.code().to_string())?;
    stage.wait_ms(2_000)?;
    stage.wait_ms(4_000)?;
    stage.must(stage.asked("release").is_some(), "take the rest home")?;
    stage.fail(0, "transient", Object::new())?;
    stage.wait_ms(2_000)?;
    settle(stage, 10_000)
}

fn closed_by_payee(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    let code = CloseCode::Done;
    stage.receive(&Message::Close(Close { code }))?;
    let evidence = Some(payee.sign(payee.receipt(1, 0)));
    stage.receive(&Message::Closed(Closed {
        code,
        evidence,
        proof: None,
    }))?;
    settle(stage, 8_000)
}

/// Other terms from 4000 msat on, three sat for 10 s.
pub(crate) fn offer(payee: &Payee) -> OfferTerms {
    let mut terms: Terms = payee.terms.clone();
    terms.tariff.time = rate(3_000, 10_000);
    let mut offer = OfferTerms {
        terms,
        from: msat(4_000),
        signature: Signature([0; 64]),
    };
    let hash = offer.hash(payee.hello.session);
    offer.signature = payee.identity.sign(hash, &[0; 32]);
    offer
}

fn price_change(stage: &mut Stage<'_>, agrees: bool) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    let offer = offer(&payee);
    let (hash, offer_terms) = (offer.hash(payee.hello.session), offer.terms.clone());
    stage.receive(&Message::OfferTerms(offer.clone()))?;
    stage.must(stage.told("terms_offered"), "ask the user")?;
    let command = if agrees { "agree" } else { "decline" };
    stage.command(command, Object::new())?;
    let sent = stage.sent();
    let right = match sent.first() {
        Some(Message::Agree(agree)) => agrees && agree.offer == hash,
        Some(Message::Decline(decline)) => !agrees && decline.offer == hash,
        _ => false,
    };
    stage.must(right, "say the answer")?;
    stage.receive(&Message::OfferTerms(offer))?;
    if agrees {
        stage.receive(&Message::Agreed(Agreed { offer: hash }))?;
        stage.must(stage.told("terms_agreed"), "tell the user")?;
        stage.judge.next = Some(offer_terms.tariff);
    }
    watch(stage, 0, 9_950)?;
    stage.make_payment(payee.hello.session)?;
    stage.receive(&payee.ack(2, 9_950))?;
    watch(stage, 9_950, 19_950)?;
    if agrees {
        stage.make_payment(payee.hello.session)?;
        stage.receive(&payee.ack(3, 19_950))?;
        stage.pass_ms(100);
        stage.usage(20_050)?;
        return stage.must(stage.told("terms_began"), "go over to them");
    }
    stage.must(stage.asked("pay").is_none(), "not pay beyond it")?;
    stage.pass_ms(50);
    stage.usage(20_000)?;
    stage.wait_ms(1_000)
}

/// For scenes that need a payee's word of its meter.
pub(crate) fn reading(media_ms: u64) -> Message {
    Message::Reading(Reading { media_ms, bytes: 0 })
}
