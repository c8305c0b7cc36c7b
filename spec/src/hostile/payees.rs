//! Payees that want to be paid twice, or for nothing.

use streampay_core::backend::{Consumed, RefusalCode};
use streampay_core::session::{CloseCode, Hash, Receipt, Signature};
use streampay_core::units::{PurseId, Seq};
use streampay_core::wire::{
    Ack, Agreed, Closed, Evidence, Message, Nack, OfferTerms, PurseOk, PurseRefused, Resume, Terms,
};

use super::Script;
use crate::json::Object;
use crate::peer::{Cast, Payee, Played, Stage};
use crate::people::{key, msat};
use crate::transcripts::payer::{
    bound, first_tick, first_tick_of, nack, offer, pause, reading, rebind, ticked, watch,
};
use crate::transcripts::payer_bounds::{newer_receipt, refused};
use crate::transcripts::payer_outstanding::{nack_of, outstanding, pays_again};

pub(super) const SCRIPTS: &[Script] = &[
    Script::new("payee says not consumed, and spent it", lying_nack),
    Script::new("payee nacks what it acknowledged", nack_after_ack),
    Script::new("payee nacks ticks that never were", nack_of_nothing),
    Script::new("payee nacks and acknowledges", ack_after_nack),
    Script::new("payee refuses what stays with it", keeps),
    Script::new("payee forgets the purse, and keeps a tick", forgets),
    Script::new("payee never acknowledges", silent),
    Script::new("payee acknowledges another purse", |stage| {
        receipt(stage, |receipt| receipt.purse = PurseId(4))
    }),
    Script::new("payee acknowledges another sum", |stage| {
        receipt(stage, |receipt| receipt.total = msat(9_000))
    }),
    Script::new("payee acknowledges a tick ahead", |stage| {
        receipt(stage, |receipt| {
            receipt.seq = Seq(9);
            receipt.cumulative = msat(2_000);
        })
    }),
    Script::new("payee acknowledges before it is paid", ack_of_nothing),
    Script::new("payee reads more than was paid for", |stage| {
        forged_reading(stage, u64::MAX)
    }),
    Script::new("payee reads two ticks ahead", |stage| {
        forged_reading(stage, 30_000)
    }),
    Script::new("payee's reading creeps ahead", creeping_reading),
    Script::new("payee's acks read more than was paid for", greedy_acks),
    Script::new("payee sends on while its payer paused", |stage| {
        sends_on(stage, |_| {}, 2)
    }),
    Script::new("payee of a great window sends on in a pause", |stage| {
        sends_on(stage, |terms| terms.window = msat(1_000_000_000), 3)
    }),
    Script::new("payee of a great preview sends on in a pause", |stage| {
        sends_on(stage, |terms| terms.preview = msat(1_000_000_000), 3)
    }),
    Script::new(
        "payee tolerates an hour, and sends on in a pause",
        |stage| sends_on(stage, |terms| terms.tolerance_ms = 3_600_000, 3),
    ),
    Script::new(
        "payee sells the time in which nothing came",
        sells_lost_time,
    ),
    Script::new("payee takes two ticks by one consent", two_by_one_consent),
    Script::new(
        "payee refuses two ticks and drops the line",
        refuses_and_drops,
    ),
    Script::new(
        "payee shows a backup a receipt by a number of no payment",
        |stage| newer_receipt(stage, 14, false),
    ),
    Script::new(
        "payee shows a backup a receipt by the last number",
        |stage| newer_receipt(stage, u64::MAX, false),
    ),
    Script::new("payee denies what it acknowledged", denies),
    Script::new("payee comes back with other terms", |stage| {
        comes_back(stage, |payee| payee.terms.tick = msat(3_000))
    }),
    Script::new("payee comes back with another key", |stage| {
        comes_back(stage, |payee| payee.key = payee.identity.clone())
    }),
    Script::new("payee comes back as somebody else", |stage| {
        comes_back(stage, |payee| {
            if let Ok(other) = key("somebody else") {
                payee.identity = other;
            }
        })
    }),
    Script::new("payee drops the line before each ack", drops_line),
    Script::new("payee closes with a forged receipt", forged_close),
    Script::new("payee forges the receipt that is asked for", forged_answer),
    Script::new("payee signs another receipt of the same sum", other_answer),
    Script::new("payee chooses a version that was not offered", |stage| {
        chooses(stage, |payee| payee.version = 2)
    }),
    Script::new("payee chooses a feature that was not offered", |stage| {
        chooses(stage, |payee| payee.features = 1 << 40)
    }),
    Script::new("payee offers terms that it did not sign", unsigned_offer),
    Script::new("payee offers terms beyond the policy", greedy_offer),
    Script::new("payee offers another tick", other_tick),
    Script::new("payee offers terms for what is paid", late_offer),
    Script::new(
        "payee offers others in the place of what is agreed to",
        replaced_offer,
    ),
    Script::new("payee confirms what nobody agreed to", confirms_nothing),
    Script::new("payee resumes with an old word", stale_resume),
    Script::new(
        "payee accepts and refuses purses of nobody",
        purses_of_nobody,
    ),
];

fn lying_nack(stage: &mut Stage<'_>) -> Played {
    first_tick(stage)?;
    stage.receive(&nack(RefusalCode::Malformed, Consumed::No))?;
    stage.must(stage.asked("pay").is_none(), "pay nothing yet")?;
    stage.answer(0, "spent", Object::new())?;
    for _ in 0..5 {
        stage.receive(&nack(RefusalCode::Malformed, Consumed::No))?;
        stage.wait_ms(5_000)?;
        stage.must(stage.asked("pay").is_none(), "pay nothing in its place")?;
    }
    Ok(())
}

fn nack_after_ack(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.receive(&nack(RefusalCode::Malformed, Consumed::No))?;
    stage.must(stage.outputs.is_empty(), "make nothing of it")
}

fn nack_of_nothing(stage: &mut Stage<'_>) -> Played {
    first_tick(stage)?;
    for (purse, seq) in [(0, 2), (0, u64::MAX), (9, 1), (u32::MAX, 0)] {
        let (purse, seq) = (PurseId(purse), Seq(seq));
        let (code, consumed) = (RefusalCode::OutOfOrder, Consumed::No);
        stage.receive(&Message::Nack(Nack {
            purse,
            seq,
            code,
            consumed,
        }))?;
        stage.must(stage.asked("reclaim").is_none(), "make nothing of it")?;
    }
    Ok(())
}

fn ack_after_nack(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&nack(RefusalCode::Malformed, Consumed::No))?;
    stage.receive(&payee.ack(1, 0))?;
    stage.judge.forgive();
    stage.answer(0, "spent", Object::new())?;
    watch(stage, 0, 5_000)?;
    stage.must(stage.asked("pay").is_none(), "have paid it once")
}

/// It refuses again and again what the payer cannot take back: it is paid that once, and no other purse
/// pays meanwhile.
fn keeps(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    outstanding(stage, 1)?;
    pays_again(stage, 2)?;
    for _ in 0..3 {
        stage.fail(0, "transient", Object::new())?;
        stage.wait_ms(8_000)?;
        pays_again(stage, 2)?;
    }
    stage.make_payment(payee.hello.session)?;
    outstanding(stage, 2)?;
    pays_again(stage, 3)?;
    stage.make_payment(payee.hello.session)?;
    outstanding(stage, 3)?;
    stage.must(stage.asked("pay").is_none(), "pay it no fourth time")
}

fn forgets(stage: &mut Stage<'_>) -> Played {
    first_tick(stage)?;
    stage.receive(&nack_of(1, RefusalCode::OutOfOrder))?;
    stage.answer(0, "outstanding", Object::new())?;
    for _ in 0..5 {
        stage.must(stage.asked("pay").is_none(), "pay nothing in its place")?;
        stage.wait_ms(5_000)?;
    }
    Ok(())
}

fn silent(stage: &mut Stage<'_>) -> Played {
    first_tick(stage)?;
    let first = ticked(stage)?;
    for at in 1..60 {
        if stage.is_over() {
            break;
        }
        stage.pass_ms(1_000);
        stage.usage(at * 1_000)?;
        stage.must(stage.asked("pay").is_none(), "pay no second tick")?;
        if let Ok(again) = ticked(stage) {
            stage.must(again == first, "say the same again")?;
        }
    }
    Ok(())
}

fn receipt(stage: &mut Stage<'_>, change: fn(&mut Receipt)) -> Played {
    let payee = first_tick(stage)?;
    let mut receipt = payee.receipt(1, 0);
    change(&mut receipt);
    let evidence = payee.sign(receipt);
    let grant = None;
    stage.receive(&Message::Ack(Ack { evidence, grant }))?;
    stage.must(!stage.told("tick_paid"), "not count it")
}

fn ack_of_nothing(stage: &mut Stage<'_>) -> Played {
    let payee = bound(stage, &Cast::usual()?)?;
    stage.open_purse(payee.hello.session, 10_000)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.must(!stage.told("tick_paid"), "not count it")
}

fn forged_reading(stage: &mut Stage<'_>, media_ms: u64) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 1_000)?;
    stage.receive(&reading(media_ms))?;
    for at in 2..8 {
        stage.must(stage.asked("pay").is_none(), "not pay for it")?;
        stage.pass_ms(1_000);
        stage.usage(at * 1_000)?;
        stage.receive(&reading(media_ms))?;
    }
    stage.must(stage.asked("pay").is_none(), "not pay for it")
}

fn creeping_reading(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    let (mut seq, mut own) = (1, 0);
    for step in 1..60_u64 {
        own = step * 1_000;
        stage.pass_ms(1_000);
        stage.usage(own)?;
        pay_if_asked(stage, &payee, &mut seq, own)?;
        stage.receive(&reading(own + own / 5))?;
        pay_if_asked(stage, &payee, &mut seq, own)?;
    }
    stage.must(seq * 10_000 <= own + 22_000, "pay for what came")
}

/// An hour of media comes into a pause: no more of it is paid when the user goes on than was bought, and
/// what one payment more would buy.
fn sends_on(stage: &mut Stage<'_>, change: fn(&mut Terms), most: u64) -> Played {
    let mut cast = Cast::usual()?;
    change(&mut cast.terms);
    let payee = first_tick_of(stage, &cast, 90_000)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 1_000)?;
    stage.command("pause", Object::new())?;
    for at in 2..3_600 {
        stage.pass_ms(1_000);
        stage.usage(at * 1_000)?;
        stage.must(stage.asked("pay").is_none(), "pay nothing while it paused")?;
    }
    stage.command("resume", Object::new())?;
    let mut seq = 1;
    for _ in 0..20 {
        pay_if_asked(stage, &payee, &mut seq, 1_000)?;
        stage.wait_ms(100)?;
    }
    stage.must(seq <= most, "pay for what it asked for")
}

/// A packet now and then, for most of an hour; then ten minutes of media at once, by forged stamps.
fn sells_lost_time(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick_of(stage, &Cast::usual()?, 90_000)?;
    stage.receive(&payee.ack(1, 0))?;
    let (mut seq, mut own) = (1, 0);
    for _ in 0..100 {
        own += 20;
        stage.pass_ms(25_000);
        stage.usage(own)?;
        stage.must(stage.asked("pay").is_none(), "pay for nothing")?;
    }
    for _ in 0..300 {
        own += 2_000;
        stage.pass_ms(10);
        stage.usage(own)?;
        pay_if_asked(stage, &payee, &mut seq, 2_000)?;
    }
    // 2 s that came, 10 s that may be late, 3 s that pass: two ticks, and the one ahead.
    stage.must(seq <= 3, "pay for the time in which nothing came")
}

/// It reads all that is paid, a tick and nearly a lease more, where little came.
fn two_by_one_consent(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick_of(stage, &Cast::usual()?, 90_000)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 1_000)?;
    stage.receive(&reading(20_900))?;
    stage.must(stage.told("paused"), "ask its user")?;
    let mut seq = 1;
    stage.command("resume", Object::new())?;
    for _ in 0..5 {
        pay_if_asked(stage, &payee, &mut seq, 20_900)?;
        stage.wait_ms(100)?;
    }
    stage.must(seq <= 2, "pay a tick and a lease by one consent")
}

/// And again, without end: each refusal costs its payer what the mint takes for giving it back.
fn refuses_and_drops(stage: &mut Stage<'_>) -> Played {
    let mut payee = first_tick_of(stage, &Cast::usual()?, 90_000)?;
    let session = payee.hello.session;
    let mut refusals = 0;
    for _ in 0..6 {
        for _ in 0..2 {
            let Ok(tick) = ticked(stage) else {
                return stage.must(refusals == 3, "take three back, and end");
            };
            refusals += 1;
            refused(stage, tick.seq.0)?;
            if stage.asked("open").is_some() {
                stage.fail(stage.asked_purse("open"), "transient", Object::new())?;
            }
            if stage.asked("pay").is_some() {
                stage.make_payment(session)?;
            }
        }
        stage.link_down()?;
        rebind(stage, &mut payee, None)?;
    }
    stage.must(false, "end, where all is refused")
}

fn greedy_acks(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 10_000))?;
    let mut seq = 1;
    for step in 1..20_u64 {
        stage.pass_ms(500);
        stage.usage(step * 500)?;
        let ahead = seq * 10_000;
        pay_if_asked(stage, &payee, &mut seq, ahead)?;
    }
    stage.must(seq <= 2, "pay for what came")
}

/// Plays the backend and acknowledges, as long as payments are asked for.
pub(super) fn pay_if_asked(
    stage: &mut Stage<'_>,
    payee: &Payee,
    seq: &mut u64,
    media_ms: u64,
) -> Played {
    if stage.asked("open").is_some() {
        stage.fail(stage.asked_purse("open"), "transient", Object::new())?;
    }
    while stage.asked("pay").is_some() {
        stage.make_payment(payee.hello.session)?;
        *seq += 1;
        stage.receive(&payee.ack(*seq, media_ms))?;
    }
    Ok(())
}

fn denies(stage: &mut Stage<'_>) -> Played {
    let mut payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.link_down()?;
    rebind(stage, &mut payee, None)?;
    stage.must(!stage.told("bound"), "not go on")
}

fn comes_back(stage: &mut Stage<'_>, change: fn(&mut Payee)) -> Played {
    let mut payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.link_down()?;
    change(&mut payee);
    stage.link_up()?;
    let sent = stage.sent();
    let Some(Message::Hello(hello)) = sent.first() else {
        return Err("no hello".into());
    };
    payee.hello = hello.clone();
    let welcome = payee.welcome();
    stage.receive(&Message::Welcome(welcome))?;
    let binds = |sent: &Message| matches!(sent, Message::Bind(_));
    stage.must(!stage.sent().iter().any(binds), "not bind itself")
}

fn drops_line(stage: &mut Stage<'_>) -> Played {
    let mut payee = first_tick(stage)?;
    for _ in 0..12 {
        stage.pass_ms(300);
        stage.link_down()?;
        rebind(stage, &mut payee, None)?;
        stage.must(stage.asked("pay").is_none(), "pay nothing new")?;
        ticked(stage)?;
    }
    Ok(())
}

fn forged_close(stage: &mut Stage<'_>) -> Played {
    let mut payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    payee.key = payee.identity.clone();
    let evidence: Option<Evidence> = Some(payee.sign(payee.receipt(5, 0)));
    let code = CloseCode::Done;
    stage.receive(&Message::Closed(Closed {
        code,
        evidence,
        proof: None,
    }))?;
    stage.must(!stage.told("tick_paid"), "not count it")?;
    let acknowledged = stage.state.get("acknowledged").cloned();
    stage.must(acknowledged == Some("2000".into()), "count what is signed")
}

fn forged_answer(stage: &mut Stage<'_>) -> Played {
    let mut payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.command("request_receipt", Object::new())?;
    payee.key = payee.identity.clone();
    stage.receive(&payee.ack(1, 5_000))?;
    stage.must(!stage.told("receipt"), "not pass it on")
}

/// Signed well, of the sum that is known, and of a purse that never was.
fn other_answer(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.command("request_receipt", Object::new())?;
    let mut receipt = payee.receipt(1, 0);
    (receipt.purse, receipt.seq) = (PurseId(1), Seq(9));
    receipt.cumulative = msat(0);
    let evidence = payee.sign(receipt);
    let grant = None;
    stage.receive(&Message::Ack(Ack { evidence, grant }))?;
    stage.must(!stage.told("receipt"), "not pass it on")
}

/// A welcome that is signed well and chooses what it may not.
fn chooses(stage: &mut Stage<'_>, change: fn(&mut Payee)) -> Played {
    stage.create_payer(&Cast::usual()?)?;
    stage.link_up()?;
    let sent = stage.sent();
    let Some(Message::Hello(hello)) = sent.first() else {
        return Err("no hello".into());
    };
    let mut payee = crate::transcripts::puppet_payee(hello.clone())?;
    change(&mut payee);
    let welcome = payee.welcome();
    stage.receive(&Message::Welcome(welcome))?;
    let binds = |sent: &Message| matches!(sent, Message::Bind(_));
    stage.must(!stage.sent().iter().any(binds), "not bind itself")
}

fn offered(stage: &mut Stage<'_>, change: fn(&mut OfferTerms, &Payee)) -> Played<Payee> {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    let mut offer = offer(&payee);
    change(&mut offer, &payee);
    stage.receive(&Message::OfferTerms(offer))?;
    let agrees = |sent: &Message| matches!(sent, Message::Agree(_));
    stage.must(!stage.sent().iter().any(agrees), "not agree")?;
    Ok(payee)
}

pub(super) fn signed(offer: &mut OfferTerms, payee: &Payee) {
    let hash = offer.hash(payee.hello.session);
    offer.signature = payee.identity.sign(hash, &[0; 32]);
}

fn unsigned_offer(stage: &mut Stage<'_>) -> Played {
    offered(stage, |offer, _| offer.signature = Signature([1; 64]))?;
    stage.must(stage.told("misbehaved"), "call it misbehaviour")
}

fn greedy_offer(stage: &mut Stage<'_>) -> Played {
    offered(stage, |offer, payee| {
        offer.terms.tariff.time = crate::people::rate(5_001, 10_000);
        signed(offer, payee);
    })?;
    stage.must(!stage.told("terms_offered"), "not even ask its user")
}

fn other_tick(stage: &mut Stage<'_>) -> Played {
    offered(stage, |offer, payee| {
        offer.terms.tick = msat(4_000);
        signed(offer, payee);
    })?;
    stage.must(!stage.told("terms_offered"), "not even ask its user")
}

fn late_offer(stage: &mut Stage<'_>) -> Played {
    offered(stage, |offer, payee| {
        offer.from = msat(1_000);
        signed(offer, payee);
    })?;
    stage.must(!stage.told("terms_offered"), "make nothing of it")
}

/// It withholds the confirmation, offers others instead, and confirms the first too late: nothing is
/// paid beyond either, and a yes to the one is none to the other.
fn replaced_offer(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    let session = payee.hello.session;
    stage.receive(&payee.ack(1, 0))?;
    let first = offer(&payee);
    let hash = first.hash(session);
    stage.receive(&Message::OfferTerms(first.clone()))?;
    stage.command("agree", Object::new())?;
    let mut other = first;
    other.from = msat(6_000);
    other.terms.tariff.time = crate::people::rate(4_000, 10_000);
    signed(&mut other, &payee);
    stage.receive(&Message::OfferTerms(other))?;
    stage.receive(&Message::Agreed(Agreed { offer: hash }))?;
    stage.must(!stage.told("terms_agreed"), "not take it for the other")?;
    watch(stage, 0, 9_950)?;
    stage.make_payment(session)?;
    stage.receive(&payee.ack(2, 9_950))?;
    watch(stage, 9_950, 19_950)?;
    stage.make_payment(session)?;
    stage.receive(&payee.ack(3, 19_950))?;
    watch(stage, 19_950, 29_950)?;
    stage.must(stage.asked("pay").is_none(), "pay nothing beyond the offer")
}

fn confirms_nothing(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    let offer = offer(&payee);
    let hash = offer.hash(payee.hello.session);
    stage.receive(&Message::OfferTerms(offer))?;
    for offer in [hash, Hash([7; 32])] {
        stage.receive(&Message::Agreed(Agreed { offer }))?;
        stage.must(!stage.told("terms_agreed"), "not take it for consent")?;
    }
    Ok(())
}

fn stale_resume(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.receive(&pause(u64::MAX))?;
    for epoch in [0, 1, u64::MAX] {
        stage.receive(&Message::Resume(Resume { epoch }))?;
        stage.must(!stage.told("resumed"), "ignore it")?;
    }
    Ok(())
}

fn purses_of_nobody(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    let code = RefusalCode::WrongMint;
    for purse in [PurseId(0), PurseId(1), PurseId(u32::MAX)] {
        stage.receive(&Message::PurseOk(PurseOk { purse }))?;
        stage.receive(&Message::PurseRefused(PurseRefused { purse, code }))?;
        stage.must(!stage.told("purse_refused"), "make nothing of it")?;
    }
    stage.receive(&payee.ack(1, 0))?;
    stage.must(stage.told("tick_paid"), "go on")
}
