//! Purses that fail, run off or follow each other.

use streampay_core::backend::RefusalCode;
use streampay_core::session::CloseCode;
use streampay_core::units::{PurseId, Seq, SessionId};
use streampay_core::wire::{Message, PurseOk, PurseRefused};

use super::payee::{acked, bound as payee_bound, capacity, credit};
use super::payer::{bound, ticked, watch};
use super::{Scene, scene};
use crate::json::Object;
use crate::peer::{Cast, Payee, Played, Stage};
use crate::people::method;

/// The method that follows where the first does not work.
const OTHER: &str = "test-other";

pub(super) const SCENES: &[Scene] = &[
    scene(
        "payer",
        "fallback",
        "The favourite method's purse cannot be opened: another method pays.",
        |stage| fallback(stage, Fails::Rejected),
    ),
    scene(
        "payer",
        "fallback-away",
        "The favourite method's backend does not answer: another method pays; once it answers its \
         purse is shown as well.",
        |stage| fallback(stage, Fails::Away),
    ),
    scene(
        "payer",
        "fallback-refused",
        "The payee refuses the favourite method's purse: it comes home, another method pays.",
        |stage| fallback(stage, Fails::Refused),
    ),
    scene(
        "payer",
        "fallback-unanswered",
        "The payee does not answer the favourite method's purse: another method is tried.",
        |stage| fallback(stage, Fails::Unanswered),
    ),
    scene(
        "payer",
        "fallback-and-back",
        "A method that failed is tried again after 30 s, when another purse is needed.",
        and_back,
    ),
    scene(
        "payer",
        "method-rests-longer",
        "A method whose purses are refused again and again is tried after 30 s, 60 s, and once a \
         purse is taken it has not failed.",
        rests_longer,
    ),
    scene(
        "payer",
        "step-too-large",
        "A purse whose step is beyond the policy is not offered, and comes home.",
        too_coarse,
    ),
    scene(
        "payer",
        "purse-life",
        "A purse's usable time runs out: another opens at 80 % of it, the first comes home at its \
         end, and the session goes on.",
        |stage| life(stage, false),
    ),
    scene(
        "payer",
        "purse-life-under-way",
        "A purse's usable time runs out while a payment of it is under way: it comes home after \
         the ack.",
        |stage| life(stage, true),
    ),
    scene(
        "payer",
        "two-purses-close",
        "Closes with two purses: each brings home what is left of it.",
        two_purses_close,
    ),
    scene(
        "payer",
        "close-while-opening",
        "Closes while a purse is being opened: it is released at once, and nobody is asked to open it \
         any more.",
        |stage| close_while_opening(stage, false),
    ),
    scene(
        "payer",
        "crash-while-opening-and-closing",
        "The process dies after closing is durable, while a purse is being opened: the purse is \
         released, not opened.",
        |stage| close_while_opening(stage, true),
    ),
    scene(
        "payee",
        "second-method",
        "A purse of the terms' second method; ticks of both count in one ledger; both settle.",
        second_method,
    ),
];

pub(super) fn two_methods() -> Played<Cast> {
    let mut cast = Cast::usual()?;
    cast.terms.methods.push(method(OTHER));
    cast.methods.push(OTHER);
    Ok(cast)
}

/// What goes wrong with the favourite method.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fails {
    Rejected,
    Away,
    Refused,
    Unanswered,
}

/// The method of which a purse was asked for in the last step.
fn asked_method(stage: &Stage<'_>) -> Option<String> {
    let mut backends = stage
        .outputs
        .iter()
        .filter_map(|output| output.get("backend"));
    let open = backends.find(|backend| backend.get("open").is_some())?;
    open.get("method")?.as_str().map(Into::into)
}

fn asks_for(stage: &Stage<'_>, name: &str) -> Played {
    let right = asked_method(stage).as_deref() == Some(name);
    stage.must(right, "ask for a purse of the right method")
}

/// The purse is accepted, and pays the first tick.
fn pays_from(stage: &mut Stage<'_>, session: SessionId, purse: u32) -> Played {
    let purse = PurseId(purse);
    stage.receive(&Message::PurseOk(PurseOk { purse }))?;
    stage.make_payment(session)?;
    let tick = ticked(stage)?;
    stage.must(tick.purse == purse && tick.seq == Seq(1), "pay from it")
}

fn offers(stage: &Stage<'_>, method: u8) -> bool {
    let sent = stage.sent();
    sent.iter()
        .any(|sent| matches!(sent, Message::Purse(purse) if purse.method == method))
}

fn fallback(stage: &mut Stage<'_>, fails: Fails) -> Played {
    let mut cast = two_methods()?;
    // A purse that may yet open holds its part of the budget.
    cast.max_purse = 20_000;
    let payee = bound(stage, &cast)?;
    let session = payee.hello.session;
    asks_for(stage, "test-hash")?;
    match fails {
        Fails::Rejected => {
            let rejected = Object::new().int("code", 12_u64).int("consumed", 0_u64);
            stage.fail(0, "rejected", rejected)?;
        }
        Fails::Away => stage.fail(0, "transient", Object::new())?,
        Fails::Refused => {
            stage.open_purse(session, 10_000)?;
            stage.must(offers(stage, 0), "offer it")?;
            let (purse, code) = (PurseId(0), RefusalCode::WrongMint);
            stage.receive(&Message::PurseRefused(PurseRefused { purse, code }))?;
            stage.must(stage.asked("release").is_some(), "bring it home")?;
        }
        Fails::Unanswered => {
            stage.open_purse(session, 10_000)?;
            for ms in [2_000, 4_000] {
                stage.wait_ms(ms)?;
                stage.must(offers(stage, 0), "offer it again")?;
            }
            stage.must(asked_method(stage).is_none(), "wait for the answer")?;
            stage.wait_ms(8_000)?;
        }
    }
    asks_for(stage, OTHER)?;
    stage.opened(1, session, 10_000)?;
    stage.must(offers(stage, 1), "offer the other")?;
    pays_from(stage, session, 1)?;
    stage.receive(&ack_of(&payee, 1, 1, 1))?;
    match fails {
        Fails::Refused => stage.answer(0, "released", Object::new().int("refunded", 10_000_u64)),
        Fails::Away => {
            stage.opened(0, session, 10_000)?;
            stage.must(offers(stage, 0), "offer it as well")
        }
        Fails::Rejected | Fails::Unanswered => Ok(()),
    }
}

/// The ack for the purse's tick with this number, with which all come to so many.
fn ack_of(payee: &Payee, purse: u32, seq: u64, all: u64) -> Message {
    let mut receipt = payee.receipt(seq, 0);
    receipt.purse = PurseId(purse);
    receipt.total = payee.receipt(all, 0).total;
    Message::Ack(streampay_core::wire::Ack {
        evidence: payee.sign(receipt),
        grant: None,
    })
}

fn and_back(stage: &mut Stage<'_>) -> Played {
    let payee = bound(stage, &two_methods()?)?;
    let session = payee.hello.session;
    let fatal = Object::new().int("code", 12_u64);
    stage.fail(0, "fatal", fatal)?;
    asks_for(stage, OTHER)?;
    stage.opened(1, session, 8_000)?;
    pays_from(stage, session, 1)?;
    stage.receive(&ack_of(&payee, 1, 1, 1))?;
    watch(stage, 0, 9_950)?;
    stage.make_payment(session)?;
    // Two ticks are left, and another purse is needed before the 30 s are over.
    stage.receive(&ack_of(&payee, 1, 2, 2))?;
    let fatal = Object::new().int("code", 12_u64);
    stage.fail(2, "fatal", fatal)?;
    stage.must(asked_method(stage).is_none(), "have nothing to open")?;
    watch(stage, 9_950, 19_950)?;
    stage.make_payment(session)?;
    stage.receive(&ack_of(&payee, 1, 3, 3))?;
    watch(stage, 19_950, 29_500)?;
    stage.must(asked_method(stage).is_none(), "wait 30 s")?;
    stage.pass_ms(500);
    stage.usage(29_950)?;
    asks_for(stage, "test-hash")
}

/// The payee refuses a purse that opened; its money comes home.
fn refused(stage: &mut Stage<'_>, purse: u32, session: SessionId) -> Played {
    stage.opened(purse, session, 10_000)?;
    let refused = PurseRefused {
        purse: PurseId(purse),
        code: RefusalCode::WrongMint,
    };
    stage.receive(&Message::PurseRefused(refused))?;
    stage.must(stage.asked("release").is_some(), "bring it home")?;
    let refunded = Object::new().int("refunded", 10_000_u64);
    stage.answer(purse, "released", refunded)
}

/// No purse is asked for before so many milliseconds are over.
fn rests(stage: &mut Stage<'_>, ms: u64) -> Played {
    stage.must(asked_method(stage).is_none(), "let the method rest")?;
    stage.wait_ms(ms - 1)?;
    stage.must(asked_method(stage).is_none(), "let it rest longer")?;
    stage.wait_ms(1)?;
    asks_for(stage, "test-hash")
}

fn rests_longer(stage: &mut Stage<'_>) -> Played {
    let payee = bound(stage, &Cast::usual()?)?;
    let session = payee.hello.session;
    // While it is paused it does not end for want of a purse.
    stage.command("pause", Object::new())?;
    refused(stage, 0, session)?;
    rests(stage, 30_000)?;
    refused(stage, 1, session)?;
    rests(stage, 60_000)?;
    // One that is taken, and low: another is asked for at once.
    let purse = PurseId(2);
    stage.open_purse(session, 2_000)?;
    stage.receive(&Message::PurseOk(PurseOk { purse }))?;
    asks_for(stage, "test-hash")?;
    refused(stage, 3, session)?;
    rests(stage, 30_000)
}

fn too_coarse(stage: &mut Stage<'_>) -> Played {
    let payee = bound(stage, &two_methods()?)?;
    let session = payee.hello.session;
    let opening = crate::peer::opening(session, PurseId(0), crate::people::msat(50_000));
    let opened = Object::new()
        .hex("opening", &opening)
        .int("capacity", 50_000_u64)
        .int("cost", 50_000_u64)
        .int("quantum", 5_000_u64);
    stage.answer(0, "opened", opened)?;
    stage.must(!offers(stage, 0), "not offer it")?;
    stage.must(stage.asked("release").is_some(), "bring it home")?;
    asks_for(stage, OTHER)
}

fn life(stage: &mut Stage<'_>, under_way: bool) -> Played {
    let payee = bound(stage, &Cast::usual()?)?;
    let session = payee.hello.session;
    let until = stage.unix_s + 20;
    stage.opened_until(0, session, 20_000, Some(until))?;
    pays_from(stage, session, 0)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 9_950)?;
    stage.make_payment(session)?;
    stage.receive(&payee.ack(2, 0))?;
    stage.unix_s += 15;
    watch(stage, 9_950, 15_000)?;
    stage.must(asked_method(stage).is_none(), "not need another yet")?;
    stage.unix_s += 1;
    watch(stage, 15_000, 15_500)?;
    stage.must(asked_method(stage).is_some(), "open another at 80 %")?;
    stage.opened(1, session, 20_000)?;
    let purse = PurseId(1);
    stage.receive(&Message::PurseOk(PurseOk { purse }))?;
    if under_way {
        stage.unix_s += 3;
        watch(stage, 15_500, 19_950)?;
        stage.make_payment(session)?;
        stage.must(ticked(stage)?.purse == PurseId(0), "pay from the older")?;
        stage.unix_s += 1;
        stage.wait_ms(500)?;
        stage.must(stage.asked("release").is_none(), "wait for the ack")?;
        stage.receive(&payee.ack(3, 0))?;
        stage.must(stage.asked("release").is_some(), "bring the first home")?;
        return stage.answer(0, "released", Object::new().int("refunded", 14_000_u64));
    }
    stage.unix_s += 4;
    stage.wait_ms(500)?;
    stage.must(stage.asked("release").is_some(), "bring the first home")?;
    stage.answer(0, "released", Object::new().int("refunded", 16_000_u64))?;
    watch(stage, 15_500, 19_950)?;
    stage.make_payment(session)?;
    let tick = ticked(stage)?;
    stage.must(
        tick.purse == purse && tick.seq == Seq(1),
        "pay from the other",
    )?;
    stage.receive(&ack_of(&payee, 1, 1, 3))
}

fn two_purses_close(stage: &mut Stage<'_>) -> Played {
    let payee = bound(stage, &Cast::usual()?)?;
    let session = payee.hello.session;
    stage.opened(0, session, 4_000)?;
    pays_from(stage, session, 0)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.opened(1, session, 10_000)?;
    let purse = PurseId(1);
    stage.receive(&Message::PurseOk(PurseOk { purse }))?;
    stage.command("close", "1")?;
    let closed = streampay_core::wire::Closed {
        code: CloseCode::Done,
        evidence: Some(payee.sign(payee.receipt(1, 0))),
        proof: None,
    };
    stage.receive(&Message::Closed(closed))?;
    stage.answer(0, "released", Object::new().int("refunded", 2_000_u64))?;
    stage.must(!stage.told("settled"), "wait for the other")?;
    stage.answer(1, "released", Object::new().int("refunded", 10_000_u64))?;
    stage.must(stage.told("settled"), "be settled")
}

fn close_while_opening(stage: &mut Stage<'_>, crashes: bool) -> Played {
    bound(stage, &Cast::usual()?)?;
    asks_for(stage, "test-hash")?;
    // Put off: it would be asked again.
    stage.fail(0, "transient", Object::new())?;
    if crashes {
        let close = CloseCode::Done.code();
        let close = Object::new().int("close", close);
        stage.step_taking(Object::new().with("command", close), Some(2))?;
        stage.restart()?;
    } else {
        stage.command("close", "1")?;
    }
    stage.must(stage.asked("release").is_some(), "release it")?;
    stage.must(asked_method(stage).is_none(), "not open it")?;
    stage.fail(0, "transient", Object::new())?;
    for ms in [2_000, 4_000] {
        stage.wait_ms(ms)?;
        stage.must(asked_method(stage).is_none(), "not open it later")?;
    }
    stage.answer(0, "released", Object::new().int("refunded", 0_u64))?;
    stage.must(stage.told("settled"), "be settled")
}

fn second_method(stage: &mut Stage<'_>) -> Played {
    let payer = payee_bound(stage, &two_methods()?)?;
    for (id, method) in [(0_u32, 0_u8), (1, 1)] {
        let mut purse = payer.purse(id);
        purse.method = method;
        stage.receive(&Message::Purse(purse))?;
        let asked = stage
            .outputs
            .iter()
            .find_map(|output| output.pointer("/backend/method"));
        let name = if method == 0 { "test-hash" } else { OTHER };
        let right = asked.and_then(|asked| asked.as_str()) == Some(name);
        stage.must(right, "show it to its backend")?;
        stage.answer(id, "accepted", capacity())?;
    }
    credit(stage, payer.tick(0, 1))?;
    stage.receive(&Message::Tick(payer.tick(1, 1)))?;
    stage.answer(1, "credited", Object::new())?;
    stage.must(acked(stage), "acknowledge it")?;
    stage.command("close", "1")?;
    stage.answer(0, "settled", Object::new().int("settled", 2_000_u64))?;
    stage.must(!stage.told("settled"), "wait for the other")?;
    stage.answer(1, "settled", Object::new().int("settled", 2_000_u64))?;
    stage.must(stage.told("settled"), "be settled")
}
