//! Several purses, receipts on request, grants for the media, preview budgets, versions and
//! features, sessions that nobody resumes.

use streampay_core::units::PurseId;
use streampay_core::wire::{Ack, Evidence, Message, PurseOk, Tick};

use super::payee::{acked, connect, credit, opened, opened_by};
use super::payer::{first_tick, first_tick_of, ticked, watch};
use super::{Scene, puppet_payer};
use crate::json::{Object, hex};
use crate::peer::{Cast, Played, Stage};
use crate::people::msat;

const fn scene(
    name: &'static str,
    about: &'static str,
    role: &'static str,
    play: fn(&mut Stage<'_>) -> Played,
) -> Scene {
    Scene {
        name,
        about,
        role,
        play,
    }
}

pub(super) const SCENES: &[Scene] = &[
    scene(
        "rollover",
        "A purse runs low: another opens in time, and is paid from when the first has no tick left.",
        "payer",
        rollover,
    ),
    scene(
        "top-up",
        "The budget is spent but for a remainder; the user adds to it; another purse opens.",
        "payer",
        top_up,
    ),
    scene(
        "receipt-request",
        "Asks for a receipt by command; the answer is verified and given to the user.",
        "payer",
        receipt_request,
    ),
    scene(
        "media-grant",
        "Something for the media comes with an ack, and is passed on.",
        "payer",
        media_grant,
    ),
    scene(
        "never-resumed",
        "Nobody comes back within the time of the terms: what is left comes home.",
        "payer",
        |stage| payer_never_resumed(stage, 1),
    ),
    scene(
        "never-resumed-over-restarts",
        "The time to come back goes on while the process dies and is restarted.",
        "payer",
        |stage| payer_never_resumed(stage, 4),
    ),
    scene(
        "receipt-request",
        "A payer asks for a receipt before and after it has paid.",
        "payee",
        payee_receipt,
    ),
    scene(
        "media-grant",
        "Something for the media rides on the last ack again, and on those that follow.",
        "payee",
        payee_grant,
    ),
    scene(
        "preview-left",
        "Less of the preview is left for this payer than the terms say.",
        "payee",
        preview_left,
    ),
    scene(
        "versions-and-features",
        "A payer that also speaks later versions and offers odd features: bound to the offer too.",
        "payee",
        versions,
    ),
    scene(
        "second-purse",
        "A second purse opens while the first is paid from; both count in one ledger.",
        "payee",
        second_purse,
    ),
    scene(
        "never-resumed",
        "Nobody comes back within the time of the terms: settled.",
        "payee",
        |stage| payee_never_resumed(stage, 1),
    ),
    scene(
        "never-resumed-over-restarts",
        "The time to come back goes on while the process dies and is restarted.",
        "payee",
        |stage| payee_never_resumed(stage, 4),
    ),
];

fn rollover(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick_of(stage, &Cast::usual()?, 4_000)?;
    let session = payee.hello.session;
    stage.receive(&payee.ack(1, 0))?;
    // It was asked for when the first one opened with less than three ticks.
    let purse = PurseId(1);
    stage.opened(purse.0, session, 10_000)?;
    stage.receive(&Message::PurseOk(PurseOk { purse }))?;
    watch(stage, 0, 9_950)?;
    stage.make_payment(session)?;
    stage.receive(&payee.ack(2, 9_950))?;
    watch(stage, 9_950, 19_950)?;
    stage.make_payment(session)?;
    let tick = ticked(stage)?;
    stage.must(tick.purse == purse && tick.seq.0 == 1, "pay from the other")
}

fn top_up(stage: &mut Stage<'_>) -> Played {
    let mut cast = Cast::usual()?;
    cast.budget = 3_000;
    let payee = first_tick_of(stage, &cast, 2_000)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 5_000)?;
    stage.judge.budget += 10_000;
    stage.command("top_up", "10000")?;
    stage.must(stage.asked("open").is_some(), "open another purse")?;
    stage.open_purse(payee.hello.session, 10_000)
}

fn receipt_request(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.command("request_receipt", Object::new())?;
    let sent = stage.sent();
    stage.must(matches!(sent[..], [Message::ReceiptRequest]), "ask for it")?;
    stage.wait_ms(2_000)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.must(stage.told("receipt"), "give it to the user")
}

fn media_grant(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    let evidence: Evidence = payee.sign(payee.receipt(1, 0));
    let grant = Some(b"a key of the next epoch".as_slice().into());
    stage.receive(&Message::Ack(Ack { evidence, grant }))?;
    stage.must(stage.told("grant"), "pass it on")
}

fn payer_never_resumed(stage: &mut Stage<'_>, lives: u64) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    stay_away(stage, lives)?;
    stage.must(stage.told("closed"), "end the session")?;
    super::payer::settle(stage, 8_000)
}

/// The connection is lost, and for a day nobody comes back.
fn stay_away(stage: &mut Stage<'_>, lives: u64) -> Played {
    stage.link_down()?;
    stage.unix_s += 86_400 / lives;
    for _ in 1..lives {
        stage.pass_ms(86_400_000 / lives);
        stage.restart()?;
        stage.unix_s += 86_400 / lives;
    }
    stage.wait_ms(86_400_000 / lives)
}

fn payee_receipt(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    stage.receive(&Message::ReceiptRequest)?;
    stage.must(acked(stage), "give one for nothing")?;
    credit(stage, payer.tick(0, 1))?;
    stage.receive(&Message::ReceiptRequest)?;
    stage.must(acked(stage), "give the newest")
}

fn payee_grant(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.command("grant", hex(b"a key of the next epoch"))?;
    let granted = |stage: &Stage<'_>| {
        let sent = stage.sent();
        sent.iter()
            .any(|sent| matches!(sent, Message::Ack(ack) if ack.grant.is_some()))
    };
    stage.must(granted(stage), "say it")?;
    credit(stage, payer.tick(0, 2))?;
    stage.must(granted(stage), "say it with every ack")
}

fn preview_left(stage: &mut Stage<'_>) -> Played {
    let mut cast = Cast::usual()?;
    (cast.terms.preview, cast.preview_left) = (msat(1_000), 300);
    opened_by(stage, &cast)?;
    for at in [500, 1_000, 1_500] {
        stage.pass_ms(500);
        stage.usage(at)?;
    }
    Ok(())
}

fn versions(stage: &mut Stage<'_>) -> Played {
    stage.create_payee(&Cast::usual()?)?;
    let mut payer = puppet_payer()?;
    payer.versions = vec![9, 1, 2];
    payer.features = 0xaa;
    connect(stage, &mut payer)?;
    stage.must(stage.told("bound"), "be bound")
}

fn second_purse(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.receive(&Message::Purse(payer.purse(1)))?;
    stage.answer(1, "accepted", super::payee::capacity())?;
    credit_of(stage, 1, payer.tick(1, 1))?;
    credit(stage, payer.tick(0, 2))?;
    let credited = stage.state.get("credited").cloned();
    stage.must(credited == Some("6000".into()), "count both")
}

fn credit_of(stage: &mut Stage<'_>, purse: u32, tick: Tick) -> Played {
    stage.receive(&Message::Tick(tick))?;
    stage.must(stage.asked("receive").is_some(), "have it checked")?;
    stage.answer(purse, "credited", Object::new())?;
    stage.must(acked(stage), "acknowledge it")
}

fn payee_never_resumed(stage: &mut Stage<'_>, lives: u64) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stay_away(stage, lives)?;
    stage.must(stage.told("closed"), "end the session")?;
    stage.must(stage.asked("settle").is_some(), "settle")?;
    stage.answer(0, "settled", Object::new().int("settled", 2_000_u64))
}
