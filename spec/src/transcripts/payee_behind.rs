//! The payee that was restored from an older store than its payer has seen: the payer's receipt brings it
//! forward, or tells it that nobody can.

use streampay_core::backend::{Consumed, RefusalCode};
use streampay_core::meter::Reading;
use streampay_core::session::{CloseCode, Receipt};
use streampay_core::units::{PurseId, Seq};
use streampay_core::wire::{Evidence, Message, Tick};

use super::payee::{acked, capacity, connect, credit, opened, opened_by};
use super::{Scene, key_error, scene};
use crate::json::Object;
use crate::peer::{Cast, Payer, Played, Stage};
use crate::people::{key, msat};

pub(super) const SCENES: &[Scene] = &[
    scene(
        "payee",
        "behind-its-payer",
        "A payee came back with an older store than its payer has seen: the receipt in the hello, which it \
         signed itself, brings credit, tick number and reading forward; that tick is acknowledged whatever \
         its payload.",
        behind_its_payer,
    ),
    scene(
        "payee",
        "behind-its-payer-with-tips",
        "The same where the payment since was a tip: no media is let through for it.",
        with_tips,
    ),
    scene(
        "payee",
        "behind-its-payer-while-checking",
        "The same while that payment is being checked once more: it is let go of, credited once, and no other is \
         taken before the backend has answered for it.",
        while_checking,
    ),
    scene(
        "payee",
        "behind-its-payer-refused-since",
        "The same where its store knows of a refusal alone: the next number was accepted.",
        refused_since,
    ),
    scene(
        "payee",
        "evidence-of-others",
        "A receipt that somebody else signed brings nobody forward.",
        of_others,
    ),
    scene(
        "payee",
        "evidence-older",
        "A receipt of less than the own record: the record stands, and ready shows its own.",
        older,
    ),
    scene(
        "payee",
        "out-of-date",
        "Two purses were paid from since the backup, and a receipt names the sum of one: the session ends \
         with 20, and the sums that can be told are settled.",
        out_of_date,
    ),
    scene(
        "payee",
        "out-of-date-unknown-purse",
        "The receipt is of a purse that opened since the backup: it ends with 20, with what the one that it \
         knows must have had.",
        unknown_purse,
    ),
    scene(
        "payee",
        "settles-more",
        "While it settles, its payer shows a newer receipt: it says closed with that one, and asks its backend \
         to settle the higher sum.",
        settles_more,
    ),
];

/// What its payer was told before its store went back, by the key that only it has.
fn evidence(stage: &Stage<'_>, payer: &Payer, receipt: Receipt) -> Played<Evidence> {
    Ok(receipt.sign(payer.session, &stage.own_key()?))
}

/// The receipt for so many ticks of the first purse.
fn receipt(seq: u64) -> Receipt {
    let amount = msat(seq * 2_000);
    Receipt {
        purse: PurseId(0),
        seq: Seq(seq),
        cumulative: amount,
        total: amount,
        reading: Reading {
            media_ms: 9_950,
            bytes: 0,
        },
        tips: msat(0),
    }
}

/// One tick is in its store; the second was credited and receipted, and the store went back.
fn behind(stage: &mut Stage<'_>) -> Played<Payer> {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.link_down()?;
    stage.judge.knew(0, 2, 2_000);
    stage.restart()?;
    Ok(payer)
}

fn credited(stage: &Stage<'_>, amount: u64) -> Played {
    let state = stage.state.get("credited").cloned();
    stage.must(state == Some(amount.to_string().into()), "count so much")
}

/// The receipt in `ready`.
fn shown(stage: &Stage<'_>) -> Option<Receipt> {
    stage.sent().into_iter().find_map(|sent| match sent {
        Message::Ready(ready) => ready.evidence.map(|evidence| evidence.receipt),
        _ => None,
    })
}

fn behind_its_payer(stage: &mut Stage<'_>) -> Played {
    let mut payer = behind(stage)?;
    credited(stage, 2_000)?;
    payer.evidence = Some(evidence(stage, &payer, receipt(2))?);
    connect(stage, &mut payer)?;
    credited(stage, 4_000)?;
    stage.must(shown(stage) == Some(receipt(2)), "show it as its newest")?;
    let reading = stage.state.pointer("/reading/media_ms").cloned();
    stage.must(reading == Some("9950".into()), "take its reading")?;
    let other = Tick {
        payload: payer.paying(0, 9, msat(2)),
        ..payer.tick(0, 2)
    };
    for tick in [payer.tick(0, 2), other] {
        stage.receive(&Message::Tick(tick))?;
        stage.must(acked(stage), "acknowledge what it has")?;
        stage.must(stage.asked("receive").is_none(), "not take it again")?;
    }
    credit(stage, payer.tick(0, 3))
}

fn with_tips(stage: &mut Stage<'_>) -> Played {
    let mut payer = behind(stage)?;
    let tips = msat(2_000);
    let receipt = Receipt { tips, ..receipt(2) };
    payer.evidence = Some(evidence(stage, &payer, receipt)?);
    connect(stage, &mut payer)?;
    credited(stage, 4_000)?;
    let gate = stage.outputs.iter();
    let limit = gate
        .filter_map(|output| output.pointer("/gate/limit"))
        .next_back();
    stage.must(
        limit == Some(&"2000".into()),
        "let media through for one tick",
    )?;
    // All tips of a tick are said in it: the next must know of the last.
    credit(stage, payer.tip(0, 3, 2))?;
    credit(stage, payer.tick(0, 4))
}

fn while_checking(stage: &mut Stage<'_>) -> Played {
    let mut payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.receive(&Message::Tick(payer.tick(0, 2)))?;
    stage.fail(0, "transient", Object::new())?;
    stage.link_down()?;
    stage.judge.knew(0, 2, 2_000);
    payer.evidence = Some(evidence(stage, &payer, receipt(2))?);
    connect(stage, &mut payer)?;
    credited(stage, 4_000)?;
    stage.receive(&Message::Tick(payer.tick(0, 2)))?;
    stage.must(acked(stage), "acknowledge what it has")?;
    stage.receive(&Message::Tick(payer.tick(0, 3)))?;
    let waits = stage.asked("receive").is_none() && !stage.told("misbehaved");
    stage.must(waits, "take no other before its backend has answered")?;
    stage.answer(0, "credited", Object::new())?;
    stage.must(!acked(stage), "acknowledge nothing for it")?;
    credited(stage, 4_000)?;
    credit(stage, payer.tick(0, 3))
}

fn refused_since(stage: &mut Stage<'_>) -> Played {
    let mut payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.receive(&Message::Tick(payer.tick(0, 2)))?;
    let why = Object::new()
        .int("code", RefusalCode::BadProof.code())
        .int("consumed", Consumed::No.code());
    stage.fail(0, "rejected", why)?;
    stage.link_down()?;
    stage.judge.knew(0, 3, 2_000);
    stage.restart()?;
    let receipt = Receipt {
        seq: Seq(3),
        ..receipt(2)
    };
    payer.evidence = Some(evidence(stage, &payer, receipt)?);
    connect(stage, &mut payer)?;
    credited(stage, 4_000)?;
    let next = Tick {
        cumulative: msat(6_000),
        ..payer.tick(0, 4)
    };
    credit(stage, next)
}

fn of_others(stage: &mut Stage<'_>) -> Played {
    let mut payer = behind(stage)?;
    let stranger = key("somebody else").map_err(key_error)?;
    payer.evidence = Some(receipt(2).sign(payer.session, &stranger));
    connect(stage, &mut payer)?;
    credited(stage, 2_000)?;
    let total = shown(stage).map(|receipt| receipt.total);
    stage.must(total == Some(msat(2_000)), "show its own")
}

fn older(stage: &mut Stage<'_>) -> Played {
    let mut payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    credit(stage, payer.tick(0, 2))?;
    stage.link_down()?;
    payer.evidence = Some(evidence(stage, &payer, receipt(1))?);
    connect(stage, &mut payer)?;
    credited(stage, 4_000)?;
    let total = shown(stage).map(|receipt| receipt.total);
    stage.must(total == Some(msat(4_000)), "show its own")
}

/// The answer to a hello, with this receipt, and that it is one.
fn says_closed(stage: &Stage<'_>, code: CloseCode, of: &Evidence) -> Played {
    let sent = stage.sent();
    let right = match &sent[..] {
        [Message::Closed(closed)] => {
            closed.code == code && closed.evidence == Some(*of) && closed.proof.is_some()
        }
        _ => false,
    };
    stage.must(right, "close with this receipt, to this hello")
}

/// The answer to a hello from which it cannot go on.
fn closes(stage: &Stage<'_>, of: &Evidence) -> Played {
    says_closed(stage, CloseCode::OutOfDate, of)?;
    stage.must(!stage.told("misbehaved"), "blame nobody")
}

fn settled(stage: &mut Stage<'_>, purse: u32, amount: u64) -> Played {
    stage.answer(purse, "settled", Object::new().int("settled", amount))
}

fn out_of_date(stage: &mut Stage<'_>) -> Played {
    let mut payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.receive(&Message::Purse(payer.purse(1)))?;
    stage.answer(1, "accepted", capacity())?;
    stage.link_down()?;
    stage.judge.knew(0, 2, 2_000);
    stage.judge.knew(1, 1, 2_000);
    stage.judge.knew(1, 2, 2_000);
    stage.restart()?;
    let receipt = Receipt {
        purse: PurseId(1),
        total: msat(8_000),
        ..receipt(2)
    };
    let evidence = evidence(stage, &payer, receipt)?;
    payer.evidence = Some(evidence);
    stage.link_up()?;
    let hello = Message::Hello(payer.hello());
    stage.receive(&hello)?;
    closes(stage, &evidence)?;
    credited(stage, 8_000)?;
    stage.must(stage.asked("settle").is_some(), "settle")?;
    settled(stage, 0, 4_000)?;
    settled(stage, 1, 4_000)?;
    stage.must(stage.told("settled"), "be settled")?;
    stage.receive(&hello)?;
    closes(stage, &evidence)
}

fn unknown_purse(stage: &mut Stage<'_>) -> Played {
    let mut payer = behind(stage)?;
    stage.judge.knew(1, 1, 2_000);
    let receipt = Receipt {
        purse: PurseId(1),
        total: msat(6_000),
        cumulative: msat(2_000),
        ..receipt(1)
    };
    let evidence = evidence(stage, &payer, receipt)?;
    payer.evidence = Some(evidence);
    stage.link_up()?;
    stage.receive(&Message::Hello(payer.hello()))?;
    closes(stage, &evidence)?;
    credited(stage, 4_000)?;
    settled(stage, 0, 4_000)?;
    stage.must(stage.told("settled"), "be settled")
}

fn settles_more(stage: &mut Stage<'_>) -> Played {
    let mut payer = opened_by(stage, &Cast::usual()?)?;
    credit(stage, payer.tick(0, 1))?;
    stage.link_down()?;
    stage.judge.knew(0, 2, 2_000);
    stage.restart()?;
    stage.command("close", CloseCode::Done.code().to_string())?;
    let first = stage.asked("settle").cloned();
    stage.must(first.is_some(), "settle")?;
    let evidence = evidence(stage, &payer, receipt(2))?;
    payer.evidence = Some(evidence);
    stage.link_up()?;
    stage.receive(&Message::Hello(payer.hello()))?;
    says_closed(stage, CloseCode::Done, &evidence)?;
    stage.must(stage.asked("settle").is_some(), "settle the higher sum")?;
    credited(stage, 4_000)?;
    settled(stage, 0, 4_000)?;
    stage.must(stage.told("settled"), "be settled")
}
