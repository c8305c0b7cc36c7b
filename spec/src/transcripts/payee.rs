//! The payee, when all goes well but for what always happens.

use streampay_core::meter::PauseReason;
use streampay_core::session::CloseCode;
use streampay_core::wire::{
    Agree, Close, Decline, Message, OfferTerms, Pause, Purse, Resume, Terms, Tick,
};

use super::{Scene, puppet_payer};
use crate::fields::terms_to_json;
use crate::json::Object;
use crate::peer::{Cast, Payer, Played, Stage};
use crate::people::{msat, rate};

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
        "open-and-tick",
        "Bound, a purse accepted, two ticks credited, durable and acknowledged; the gate follows.",
        open_and_tick,
    ),
    scene(
        "repeated-messages",
        "Every message of the payer comes twice: the same answers, nothing counted twice.",
        repeated,
    ),
    scene(
        "tick-repeated",
        "An acknowledged tick comes again: the stored ack, and no second credit.",
        tick_repeated,
    ),
    scene(
        "tick-repeated-while-checked",
        "A tick comes again while the backend checks it: it is checked once.",
        tick_while_checked,
    ),
    scene(
        "pause-by-user",
        "Pauses by command: the gate shuts, a late tick counts, it is said again, and resumed.",
        pause_by_user,
    ),
    scene(
        "pause-by-peer",
        "The payer pauses; an older word does not end it; a newer one does.",
        pause_by_peer,
    ),
    scene(
        "reconnect",
        "The connection goes and comes: bound anew to the first binding, the ledger goes on.",
        reconnect,
    ),
    scene(
        "close-by-payer",
        "The payer closes: durable, gate shut, due said, settled, said again to who asks again.",
        close_by_payer,
    ),
    scene(
        "close-by-user",
        "Closes by command while a payment is checked: what it comes to is due.",
        close_by_user,
    ),
    scene(
        "purse-in-parts",
        "A purse in three parts, out of order, one of them twice.",
        purse_in_parts,
    ),
    scene(
        "near-the-end",
        "Near the end of the credit it says its reading until the next tick comes.",
        near_the_end,
    ),
    scene(
        "preview-and-window",
        "The preview flows before any payment; preview and window bound what is unpaid.",
        preview_and_window,
    ),
    scene(
        "price-change-agreed",
        "Offers other terms, hears the consent, confirms it, goes over at the amount.",
        |stage| price_change(stage, Answer::Agrees),
    ),
    scene(
        "price-change-declined",
        "Offers other terms; the payer declines; the session ends at the amount, from one heartbeat to the next.",
        |stage| price_change(stage, Answer::Declines),
    ),
    scene(
        "price-change-unanswered",
        "Offers other terms; nobody answers; the session ends 10 s after the old ones ran out.",
        |stage| price_change(stage, Answer::Silent),
    ),
];

/// From nothing to bound.
pub(crate) fn bound(stage: &mut Stage<'_>, cast: &Cast) -> Played<Payer> {
    stage.create_payee(cast)?;
    let mut payer = puppet_payer()?;
    connect(stage, &mut payer)?;
    stage.must(stage.told("bound"), "be bound")?;
    Ok(payer)
}

/// A new connection up to the bind.
pub(crate) fn connect(stage: &mut Stage<'_>, payer: &mut Payer) -> Played {
    stage.link_up()?;
    let hello = payer.hello();
    stage.receive(&Message::Hello(hello))?;
    let sent = stage.sent();
    let Some(Message::Welcome(welcome)) = sent.first() else {
        return Err("no welcome".into());
    };
    let bind = payer.bind(welcome);
    stage.receive(&bind)
}

/// From nothing to a purse of five ticks that is accepted.
pub(crate) fn opened(stage: &mut Stage<'_>) -> Played<Payer> {
    opened_by(stage, &Cast::usual()?)
}

/// The same with another cast.
pub(crate) fn opened_by(stage: &mut Stage<'_>, cast: &Cast) -> Played<Payer> {
    let payer = bound(stage, cast)?;
    stage.receive(&Message::Purse(payer.purse(0)))?;
    stage.must(stage.asked("accept").is_some(), "show it to the backend")?;
    stage.answer(0, "accepted", capacity())?;
    let sent = stage.sent();
    stage.must(matches!(sent[..], [Message::PurseOk(_)]), "accept it")?;
    Ok(payer)
}

/// What the backend says of a good purse.
pub(crate) fn capacity() -> Object {
    Object::new()
        .int("capacity", 10_000_u64)
        .int("quantum", 1_000_u64)
}

/// A tick comes and is good.
pub(crate) fn credit(stage: &mut Stage<'_>, tick: Tick) -> Played {
    stage.receive(&Message::Tick(tick))?;
    stage.must(stage.asked("receive").is_some(), "have it checked")?;
    stage.answer(0, "credited", Object::new())?;
    stage.must(acked(stage), "acknowledge it")
}

/// True where an ack was sent in the last step.
pub(crate) fn acked(stage: &Stage<'_>) -> bool {
    let sent = stage.sent();
    sent.iter().any(|sent| matches!(sent, Message::Ack(_)))
}

fn open_and_tick(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    for at in 1..=9 {
        stage.pass_ms(1_000);
        stage.usage(at * 1_000)?;
    }
    credit(stage, payer.tick(0, 2))?;
    stage.pass_ms(1_000);
    stage.usage(10_000)
}

fn repeated(stage: &mut Stage<'_>) -> Played {
    stage.create_payee(&Cast::usual()?)?;
    let mut payer = puppet_payer()?;
    stage.link_up()?;
    let hello = Message::Hello(payer.hello());
    stage.receive(&hello)?;
    let first = stage.sent();
    stage.receive(&hello)?;
    stage.must(stage.sent() == first, "welcome in the same words")?;
    let Some(Message::Welcome(welcome)) = first.first() else {
        return Err("no welcome".into());
    };
    let bind = payer.bind(welcome);
    stage.receive(&bind)?;
    stage.receive(&bind)?;
    stage.must(
        matches!(stage.sent()[..], [Message::Ready(_)]),
        "be ready again",
    )?;
    stage.receive(&hello)?;
    let purse = Message::Purse(payer.purse(0));
    stage.receive(&purse)?;
    stage.answer(0, "accepted", capacity())?;
    stage.receive(&purse)?;
    stage.must(
        matches!(stage.sent()[..], [Message::PurseOk(_)]),
        "accept it again",
    )?;
    stage.must(stage.asked("accept").is_none(), "not ask again")
}

fn tick_repeated(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    for _ in 0..2 {
        stage.receive(&Message::Tick(payer.tick(0, 1)))?;
        stage.must(acked(stage), "acknowledge it again")?;
        stage.must(stage.asked("receive").is_none(), "not take it again")?;
    }
    stage.pass_ms(600);
    stage.usage(600)
}

fn tick_while_checked(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    let tick = Message::Tick(payer.tick(0, 1));
    stage.receive(&tick)?;
    stage.receive(&tick)?;
    stage.must(
        stage.asked("receive").is_none(),
        "not have it checked twice",
    )?;
    stage.answer(0, "credited", Object::new())?;
    stage.must(acked(stage), "acknowledge it")
}

fn pause_by_user(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.command("pause", Object::new())?;
    credit(stage, payer.tick(0, 2))?;
    stage.wait_ms(2_000)?;
    stage.must(!stage.sent().is_empty(), "say it again")?;
    stage.command("resume", Object::new())?;
    stage.must(stage.told("resumed"), "go on")
}

fn pause_by_peer(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    let pause = Pause {
        epoch: 3,
        reason: PauseReason::ByPayer,
    };
    stage.receive(&Message::Pause(pause))?;
    stage.must(stage.told("paused"), "pause")?;
    stage.receive(&Message::Resume(Resume { epoch: 2 }))?;
    stage.must(!stage.told("resumed"), "ignore what is older")?;
    stage.receive(&Message::Resume(Resume { epoch: 4 }))?;
    stage.must(stage.told("resumed"), "go on")
}

fn reconnect(stage: &mut Stage<'_>) -> Played {
    let mut payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.usage(400)?;
    stage.link_down()?;
    stage.pass_ms(5_000);
    connect(stage, &mut payer)?;
    stage.must(stage.told("bound"), "be bound again")?;
    credit(stage, payer.tick(0, 2))
}

fn close_by_payer(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    let close = Message::Close(Close {
        code: CloseCode::Done,
    });
    stage.receive(&close)?;
    stage.must(stage.asked("settle").is_some(), "settle")?;
    stage.receive(&close)?;
    stage.answer(0, "settled", Object::new().int("settled", 2_000_u64))?;
    stage.must(stage.told("settled"), "be settled")?;
    stage.receive(&Message::Tick(payer.tick(0, 2)))?;
    stage.must(
        matches!(stage.sent()[..], [Message::Closed(_)]),
        "say it again",
    )?;
    stage.wait_ms(10_000)
}

fn close_by_user(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    stage.receive(&Message::Tick(payer.tick(0, 1)))?;
    stage.command("close", CloseCode::Done.code().to_string())?;
    stage.must(stage.asked("settle").is_none(), "wait for the check")?;
    stage.answer(0, "credited", Object::new())?;
    stage.must(stage.asked("settle").is_some(), "settle")?;
    stage.fail(0, "transient", Object::new())?;
    stage.wait_ms(2_000)?;
    stage.must(stage.asked("settle").is_some(), "try again")?;
    stage.answer(0, "settled", Object::new().int("settled", 2_000_u64))
}

fn purse_in_parts(stage: &mut Stage<'_>) -> Played {
    let payer = bound(stage, &Cast::usual()?)?;
    let whole = payer.purse(0).bytes;
    for part in [2_u16, 0, 0, 1] {
        let from = usize::from(part) * 12;
        let bytes = whole.slice(from..(from + 12).min(whole.len()));
        stage.receive(&Message::Purse(Purse {
            part,
            of: 3,
            bytes,
            ..payer.purse(0)
        }))?;
    }
    let opening = stage
        .asked("accept")
        .and_then(|accept| accept.get("opening"));
    let joined = opening.and_then(|opening| opening.as_str()) == Some(&crate::json::hex(&whole));
    stage.must(joined, "join the parts")
}

fn near_the_end(stage: &mut Stage<'_>) -> Played {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    for at in [2_000, 4_000, 6_000, 8_100] {
        stage.pass_ms(2_000);
        stage.usage(at)?;
    }
    let said = |stage: &Stage<'_>| {
        let sent = stage.sent();
        sent.iter().any(|sent| matches!(sent, Message::Reading(_)))
    };
    stage.must(said(stage), "say its reading")?;
    stage.wait_ms(2_000)?;
    stage.must(said(stage), "say it again")?;
    credit(stage, payer.tick(0, 2))
}

fn preview_and_window(stage: &mut Stage<'_>) -> Played {
    let mut cast = Cast::usual()?;
    (cast.terms.preview, cast.terms.window) = (msat(500), msat(300));
    let payer = opened_by(stage, &cast)?;
    for at in [600, 1_200, 2_400, 3_600, 4_000] {
        stage.pass_ms(600);
        stage.usage(at)?;
    }
    credit(stage, payer.tick(0, 1))
}

/// What the payer says of an offer.
#[derive(Clone, Copy)]
enum Answer {
    Agrees,
    Declines,
    Silent,
}

/// The terms, three sat for 10 s.
pub(crate) fn dearer(terms: &Terms) -> Terms {
    let mut terms = terms.clone();
    terms.tariff.time = rate(3_000, 10_000);
    terms
}

/// The offer that was sent in the last step.
pub(crate) fn offered(stage: &Stage<'_>) -> Played<OfferTerms> {
    let offer = stage.sent().into_iter().find_map(|sent| match sent {
        Message::OfferTerms(offer) => Some(offer),
        _ => None,
    });
    offer.ok_or_else(|| "no offer".into())
}

fn price_change(stage: &mut Stage<'_>, answer: Answer) -> Played {
    let cast = Cast::usual()?;
    let payer = opened_by(stage, &cast)?;
    credit(stage, payer.tick(0, 1))?;
    let terms = dearer(&cast.terms);
    let command = Object::new()
        .with("terms", terms_to_json(&terms))
        .int("in_ticks", 2_u64);
    stage.command("offer_terms", command)?;
    let offer = offered(stage)?;
    let hash = offer.hash(payer.session);
    match answer {
        Answer::Agrees => {
            stage.receive(&Message::Agree(Agree { offer: hash }))?;
            stage.must(stage.told("terms_agreed"), "tell the user")?;
            stage.receive(&Message::Agree(Agree { offer: hash }))?;
        }
        Answer::Declines => stage.receive(&Message::Decline(Decline { offer: hash }))?,
        Answer::Silent => {
            stage.wait_ms(2_000)?;
            offered(stage)?;
        }
    }
    to_the_amount(stage, &payer)?;
    match answer {
        Answer::Agrees => {
            credit(stage, payer.tick(0, 4))?;
            stage.pass_ms(1_000);
            stage.usage(31_000)?;
            stage.must(stage.told("terms_began"), "go over to them")
        }
        Answer::Declines => {
            stage.wait_ms(2_000)?;
            stage.must(!stage.told("closed"), "see that nothing moves any more")?;
            stage.wait_ms(2_000)?;
            stage.must(
                stage.told("closed"),
                "end the session at the next heartbeat",
            )
        }
        Answer::Silent => {
            for _ in 0..5 {
                stage.wait_ms(2_000)?;
                stage.must(!stage.told("closed"), "wait for an answer")?;
            }
            stage.wait_ms(2_000)?;
            stage.must(stage.told("closed"), "end the session after 10 s")
        }
    }
}

/// Two more ticks, and nearly all that they pay for is used: 30 s.
pub(super) fn to_the_amount(stage: &mut Stage<'_>, payer: &Payer) -> Played {
    credit(stage, payer.tick(0, 2))?;
    credit(stage, payer.tick(0, 3))?;
    for at in 1..30 {
        stage.pass_ms(1_000);
        stage.usage(at * 1_000)?;
    }
    stage.pass_ms(990);
    stage.usage(29_990)
}
