//! The payee, when something is wrong: with the peer, the backend, the disk, the process.

use streampay_core::backend::{Consumed, RefusalCode};
use streampay_core::session::CloseCode;
use streampay_core::units::Unix;
use streampay_core::wire::{Hello, Message, Nack, Purse, Tick};

use super::payee::{acked, bound, capacity, connect, credit, opened, opened_by};
use super::{Scene, key_error, puppet_payer};
use crate::json::Object;
use crate::peer::{Cast, Payer, Played, Stage};
use crate::people::{evidence, key, msat};

const fn scene(
    name: &'static str,
    about: &'static str,
    play: fn(&mut Stage<'_>) -> Played,
) -> Scene {
    Scene {
        name,
        about,
        role: "payee",
        play,
    }
}

pub(super) const SCENES: &[Scene] = &[
    scene(
        "crash-before-durable",
        "The process dies before a credit is durable: not acknowledged; taken again later.",
        |stage| crash(stage, 0),
    ),
    scene(
        "crash-before-ack",
        "The process dies after a credit is durable and before its ack: the ack comes with the \
         next question.",
        |stage| crash(stage, 1),
    ),
    scene(
        "restart-counts-the-lease",
        "After a restart all that the gate may have let through counts as used.",
        restart_counts_the_lease,
    ),
    scene(
        "crash-while-settling",
        "The process dies while it settles: it asks again for the same.",
        crash_while_settling,
    ),
    scene(
        "refused-payment",
        "A payment that the backend refuses: a nack, the same nack again, then the next tick.",
        refused_payment,
    ),
    scene(
        "wrong-amount",
        "A tick whose sum is not the last plus one tick never reaches the backend.",
        wrong_amount,
    ),
    scene(
        "backend-away",
        "The backend cannot check a payment for now: paused, asked again, credited.",
        backend_away,
    ),
    scene(
        "backend-slow",
        "The backend takes longer than 3 s: paused until it answers.",
        backend_slow,
    ),
    scene(
        "backend-fatal",
        "The backend cannot go on: a nack, and the session ends.",
        backend_fatal,
    ),
    scene(
        "purse-refused",
        "The backend does not take the purse: refused, and refused again.",
        purse_refused,
    ),
    scene(
        "unknown-purse",
        "A tick of a purse that never opened: a nack, nothing taken.",
        unknown_purse,
    ),
    scene(
        "no-payment",
        "A payer that is bound and pays nothing is sent away.",
        no_payment,
    ),
    scene(
        "no-hello",
        "A connection that says nothing is given up after 15 s.",
        no_hello,
    ),
    scene(
        "bad-bind",
        "A binding that the payer did not sign: no session, no media.",
        bad_bind,
    ),
    scene(
        "terms-expired",
        "Terms that have expired are not offered to new sessions.",
        |stage| refuses(stage, |_, cast| cast.terms.expires = Unix(1_800_000_000)),
    ),
    scene(
        "unknown-version",
        "A payer that speaks no version of ours.",
        |stage| refuses(stage, |hello, _| hello.versions = [2, 3].into()),
    ),
    scene(
        "unknown-feature",
        "A payer that needs a feature of a later version.",
        |stage| refuses(stage, |hello, _| hello.features = 1 << 40),
    ),
    scene(
        "unknown-session",
        "A payer with a receipt of a session that is nobody's here.",
        |stage| {
            refuses(stage, |hello, _| {
                hello.evidence = evidence().ok();
                hello.root = Some([9; 32]);
            })
        },
    ),
    scene(
        "tick-reused",
        "Another payment under a number that was used is misbehaviour.",
        tick_reused,
    ),
    scene(
        "parts-contradict",
        "Two purses under one number are misbehaviour.",
        parts_contradict,
    ),
    scene(
        "store-failed",
        "The disk fails: the gate shuts and nothing leaves any more.",
        store_failed,
    ),
];

fn crash(stage: &mut Stage<'_>, take: u64) -> Played {
    let mut payer = opened(stage)?;
    stage.receive(&Message::Tick(payer.tick(0, 1)))?;
    let backend = Object::new()
        .int("purse", 0_u64)
        .with("outcome", Object::new().with("credited", Object::new()));
    stage.step_taking(Object::new().with("backend", backend), Some(take))?;
    stage.restart()?;
    connect(stage, &mut payer)?;
    stage.must(stage.told("bound"), "be bound again")?;
    if take > 0 {
        stage.receive(&Message::Tick(payer.tick(0, 1)))?;
        stage.must(acked(stage), "acknowledge it")?;
        return stage.must(stage.asked("receive").is_none(), "not take it again");
    }
    stage.receive(&Message::Purse(payer.purse(0)))?;
    if stage.asked("accept").is_some() {
        stage.answer(0, "accepted", capacity())?;
    }
    stage.receive(&Message::Tick(payer.tick(0, 1)))?;
    stage.answer(0, "credited", Object::new())?;
    stage.must(acked(stage), "acknowledge it")
}

fn restart_counts_the_lease(stage: &mut Stage<'_>) -> Played {
    let mut payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.pass_ms(100);
    stage.usage(100)?;
    stage.step_taking(Object::new().with("timeout", Object::new()), Some(0))?;
    stage.restart()?;
    connect(stage, &mut payer)?;
    let reading = stage.state.pointer("/reading/media_ms").cloned();
    stage.must(reading == Some("1000".into()), "count the lease")
}

fn crash_while_settling(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.command("close", CloseCode::Done.code().to_string())?;
    let asked = stage.asked("settle").cloned();
    stage.step_taking(Object::new().with("timeout", Object::new()), Some(0))?;
    stage.restart()?;
    stage.must(stage.asked("settle").cloned() == asked, "ask again")?;
    stage.answer(0, "settled", Object::new().int("settled", 2_000_u64))?;
    stage.must(stage.told("settled"), "be settled")
}

fn nacked(stage: &Stage<'_>) -> Option<Nack> {
    stage.sent().into_iter().find_map(|sent| match sent {
        Message::Nack(nack) => Some(nack),
        _ => None,
    })
}

fn rejected(code: RefusalCode, consumed: Consumed) -> Object {
    Object::new()
        .int("code", code.code())
        .int("consumed", consumed.code())
}

fn refused_payment(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    stage.receive(&Message::Tick(payer.tick(0, 1)))?;
    let why = rejected(RefusalCode::BadProof, Consumed::No);
    stage.fail(0, "rejected", why)?;
    let first = nacked(stage);
    stage.must(first.is_some(), "refuse it")?;
    stage.receive(&Message::Tick(payer.tick(0, 1)))?;
    stage.must(nacked(stage) == first, "refuse it in the same words")?;
    let next = Tick {
        cumulative: msat(2_000),
        ..payer.tick(0, 2)
    };
    credit(stage, next)
}

fn wrong_amount(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    let tick = Tick {
        cumulative: msat(4_000),
        ..payer.tick(0, 1)
    };
    stage.receive(&Message::Tick(tick))?;
    stage.must(stage.asked("receive").is_none(), "not even look at it")?;
    stage.must(nacked(stage).is_some(), "refuse it")
}

fn backend_away(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    stage.receive(&Message::Tick(payer.tick(0, 1)))?;
    let asked = stage.asked("receive").cloned();
    stage.fail(0, "transient", Object::new())?;
    stage.must(stage.told("paused"), "pause")?;
    stage.wait_ms(2_000)?;
    stage.must(
        stage.asked("receive").cloned() == asked,
        "ask the same again",
    )?;
    stage.answer(0, "credited", Object::new())?;
    stage.must(stage.told("resumed"), "go on")
}

fn backend_slow(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.receive(&Message::Tick(payer.tick(0, 2)))?;
    stage.wait_ms(3_000)?;
    stage.must(stage.told("paused"), "pause")?;
    stage.answer(0, "credited", Object::new())?;
    stage.must(stage.told("resumed"), "go on")
}

fn backend_fatal(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    stage.receive(&Message::Tick(payer.tick(0, 1)))?;
    let why = Object::new().int("code", RefusalCode::UnknownKeyset.code());
    stage.fail(0, "fatal", why)?;
    stage.must(nacked(stage).is_some(), "refuse it")?;
    stage.must(stage.told("closed"), "end the session")
}

fn purse_refused(stage: &mut Stage<'_>) -> Played {
    let payer = bound(stage, &Cast::usual()?)?;
    let purse = Message::Purse(payer.purse(0));
    stage.receive(&purse)?;
    stage.fail(
        0,
        "rejected",
        rejected(RefusalCode::WrongMint, Consumed::No),
    )?;
    stage.receive(&purse)?;
    let sent = stage.sent();
    stage.must(
        matches!(sent[..], [Message::PurseRefused(_)]),
        "refuse it again",
    )
}

fn unknown_purse(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    stage.receive(&Message::Tick(payer.tick(7, 1)))?;
    stage.must(stage.asked("receive").is_none(), "not even look at it")?;
    stage.must(nacked(stage).is_some(), "refuse it")
}

fn no_payment(stage: &mut Stage<'_>) -> Played {
    opened(stage)?;
    stage.wait_ms(20_000)?;
    stage.must(stage.told("closed"), "send the payer away")
}

fn no_hello(stage: &mut Stage<'_>) -> Played {
    stage.create_payee(&Cast::usual()?)?;
    stage.link_up()?;
    stage.wait_ms(15_000)?;
    stage.must(stage.told("closed"), "give up")
}

fn bad_bind(stage: &mut Stage<'_>) -> Played {
    stage.create_payee(&Cast::usual()?)?;
    let mut payer = puppet_payer()?;
    stage.link_up()?;
    stage.receive(&Message::Hello(payer.hello()))?;
    let sent = stage.sent();
    let Some(Message::Welcome(welcome)) = sent.first() else {
        return Err("no welcome".into());
    };
    payer.identity = key("somebody else").map_err(key_error)?;
    let bind = payer.bind(welcome);
    stage.receive(&bind)?;
    stage.must(stage.told("misbehaved"), "call it misbehaviour")?;
    stage.must(!stage.told("bound"), "not be bound")
}

/// The hello is not taken: the answer is a code and no more.
fn refuses(stage: &mut Stage<'_>, change: fn(&mut Hello, &mut Cast)) -> Played {
    let (mut cast, mut payer) = (Cast::usual()?, puppet_payer()?);
    let mut hello = Payer::hello(&mut payer);
    change(&mut hello, &mut cast);
    stage.create_payee(&cast)?;
    stage.link_up()?;
    stage.receive(&Message::Hello(hello))?;
    let sent = stage.sent();
    stage.must(
        matches!(sent[..], [Message::Close(_)]),
        "say why and no more",
    )
}

fn tick_reused(stage: &mut Stage<'_>) -> Played {
    let payer = opened_by(stage, &Cast::usual()?)?;
    credit(stage, payer.tick(0, 1))?;
    let other = Tick {
        payload: payer.tick(0, 2).payload,
        ..payer.tick(0, 1)
    };
    stage.receive(&Message::Tick(other))?;
    stage.must(stage.told("misbehaved"), "call it misbehaviour")?;
    stage.must(stage.told("closed"), "end the session")
}

fn parts_contradict(stage: &mut Stage<'_>) -> Played {
    let payer = bound(stage, &Cast::usual()?)?;
    let part = |of, bytes: &'static [u8]| {
        Message::Purse(Purse {
            of,
            bytes: bytes.into(),
            ..payer.purse(0)
        })
    };
    stage.receive(&part(2, b"one"))?;
    stage.receive(&part(2, b"two"))?;
    stage.must(stage.told("misbehaved"), "call it misbehaviour")
}

fn store_failed(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.step(Object::new().with("persist_failed", Object::new()))?;
    stage.must(stage.sent().is_empty(), "say nothing more")
}
