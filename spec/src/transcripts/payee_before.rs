//! The payee on a connection that is not bound, or none: who may end what there, and how long it waits.

use streampay_core::session::CloseCode;
use streampay_core::wire::{Close, Hello, Message};

use super::payee::{connect, credit, opened};
use super::{Scene, puppet_payer, scene};
use crate::json::Object;
use crate::peer::{Cast, Payer, Played, Stage};

pub(super) const SCENES: &[Scene] = &[
    scene(
        "payee",
        "busy",
        "It takes no more sessions now: who says hello is told 13.",
        busy,
    ),
    scene(
        "payee",
        "closed-while-greeted",
        "Its user closes before a new session is bound: nothing was promised, it ends.",
        |stage| {
            greeted(stage)?;
            close(stage, CloseCode::Done)?;
            said(stage, CloseCode::Done)?;
            stage.must(stage.is_over(), "end")
        },
    ),
    scene(
        "payee",
        "closed-while-away",
        "Its user closes while the payer is away: settled without it; told when it comes back.",
        closed_while_away,
    ),
    scene(
        "payee",
        "closed-while-waiting",
        "Its user closes while a connection of a known session has not said hello: nothing is said before it \
         has.",
        closed_while_waiting,
    ),
    scene(
        "payee",
        "closed-while-greeted-again",
        "The same of a known session: it settles, and says closed to who says hello again.",
        closed_while_greeted_again,
    ),
    scene(
        "payee",
        "close-before-bound",
        "Who says close on a connection that is not bound ends an attempt that has no record.",
        |stage| {
            greeted(stage)?;
            stage.receive(&close_of(CloseCode::Done))?;
            stage.must(stage.sent().is_empty(), "say nothing")?;
            stage.must(stage.is_over(), "end")
        },
    ),
    scene(
        "payee",
        "close-before-bound-again",
        "The same of a known session ends the connection alone: the next one is bound.",
        close_before_bound_again,
    ),
    scene(
        "payee",
        "second-hello",
        "Another hello after its welcome is misbehaviour: a new session ends with 8.",
        |stage| {
            let mut payer = greeted(stage)?;
            stage.receive(&Message::Hello(payer.hello()))?;
            stage.must(stage.told("misbehaved"), "say so")?;
            said(stage, CloseCode::Misbehaved)?;
            stage.must(stage.is_over(), "end")
        },
    ),
    scene(
        "payee",
        "second-hello-again",
        "Another hello of a known session ends the connection alone: the session stays.",
        second_hello_again,
    ),
    scene(
        "payee",
        "no-bind",
        "A hello, and no bind for 15 s: a new session ends with 9.",
        |stage| {
            greeted(stage)?;
            stage.wait_ms(14_999)?;
            stage.must(stage.sent().is_empty(), "wait for it")?;
            stage.wait_ms(1)?;
            said(stage, CloseCode::TimedOut)?;
            stage.must(stage.is_over(), "end")
        },
    ),
    scene(
        "payee",
        "no-bind-again",
        "No hello for 15 s, and on the next connection no bind: a known session outlives both.",
        no_bind_again,
    ),
    scene(
        "payee",
        "hello-of-another",
        "A hello with the name of a known session and another key: refused with 8, and the session stays.",
        hello_of_another,
    ),
];

/// From nothing to a welcome.
fn greeted(stage: &mut Stage<'_>) -> Played<Payer> {
    stage.create_payee(&Cast::usual()?)?;
    let mut payer = puppet_payer()?;
    greet(stage, payer.hello())?;
    Ok(payer)
}

fn greet(stage: &mut Stage<'_>, hello: Hello) -> Played {
    stage.link_up()?;
    stage.receive(&Message::Hello(hello))?;
    stage.must(matches!(stage.sent()[..], [Message::Welcome(_)]), "welcome")
}

pub(super) fn close(stage: &mut Stage<'_>, code: CloseCode) -> Played {
    stage.command("close", code.code().to_string())
}

const fn close_of(code: CloseCode) -> Message {
    Message::Close(Close { code })
}

/// It says that it closes, and nothing else.
fn said(stage: &Stage<'_>, code: CloseCode) -> Played {
    stage.must(stage.sent() == [close_of(code)], "say why and no more")
}

/// A session with a tick credited, without a connection.
fn away(stage: &mut Stage<'_>) -> Played<Payer> {
    let payer = opened(stage)?;
    credit(stage, payer.tick(0, 1))?;
    stage.link_down()?;
    Ok(payer)
}

fn bound_again(stage: &mut Stage<'_>, payer: &mut Payer) -> Played {
    connect(stage, payer)?;
    stage.must(stage.told("bound"), "be bound again")
}

fn busy(stage: &mut Stage<'_>) -> Played {
    stage.create_payee(&Cast::usual()?)?;
    stage.link_up()?;
    close(stage, CloseCode::Busy)?;
    said(stage, CloseCode::Busy)?;
    stage.must(stage.is_over(), "end")
}

fn settles(stage: &Stage<'_>) -> Played {
    stage.must(
        stage.sent().is_empty(),
        "say nothing to who has not named it",
    )?;
    stage.must(stage.asked("settle").is_some(), "settle")
}

fn closed_while_away(stage: &mut Stage<'_>) -> Played {
    let mut payer = away(stage)?;
    close(stage, CloseCode::Done)?;
    settles(stage)?;
    stage.link_up()?;
    stage.receive(&Message::Hello(payer.hello()))?;
    stage.must(
        matches!(stage.sent()[..], [Message::Closed(_)]),
        "say that it is closed",
    )?;
    stage.answer(0, "settled", Object::new().int("settled", 2_000_u64))?;
    stage.wait_ms(10_000)
}

fn closed_while_waiting(stage: &mut Stage<'_>) -> Played {
    away(stage)?;
    stage.link_up()?;
    close(stage, CloseCode::Done)?;
    settles(stage)?;
    stage.link_down()?;
    stage.answer(0, "settled", Object::new().int("settled", 2_000_u64))?;
    stage.must(stage.is_over(), "end, for nobody is there")
}

fn closed_while_greeted_again(stage: &mut Stage<'_>) -> Played {
    let mut payer = away(stage)?;
    let hello = payer.hello();
    greet(stage, hello.clone())?;
    close(stage, CloseCode::Done)?;
    settles(stage)?;
    stage.receive(&Message::Hello(hello))?;
    stage.must(
        matches!(stage.sent()[..], [Message::Closed(_)]),
        "say that it is closed",
    )
}

fn close_before_bound_again(stage: &mut Stage<'_>) -> Played {
    let mut payer = away(stage)?;
    stage.link_up()?;
    stage.receive(&close_of(CloseCode::Done))?;
    stage.must(stage.asked("settle").is_none(), "not end for it")?;
    stage.receive(&Message::Hello(payer.hello()))?;
    stage.must(stage.sent().is_empty(), "have given the connection up")?;
    stage.link_down()?;
    greet(stage, payer.hello())?;
    stage.receive(&close_of(CloseCode::Done))?;
    stage.link_down()?;
    bound_again(stage, &mut payer)
}

fn second_hello_again(stage: &mut Stage<'_>) -> Played {
    let mut payer = away(stage)?;
    greet(stage, payer.hello())?;
    stage.receive(&Message::Hello(payer.hello()))?;
    said(stage, CloseCode::Misbehaved)?;
    stage.must(!stage.told("closed"), "not end for it")?;
    stage.link_down()?;
    bound_again(stage, &mut payer)
}

fn no_bind_again(stage: &mut Stage<'_>) -> Played {
    let mut payer = away(stage)?;
    stage.link_up()?;
    stage.wait_ms(15_000)?;
    said(stage, CloseCode::TimedOut)?;
    stage.link_down()?;
    greet(stage, payer.hello())?;
    stage.wait_ms(15_000)?;
    said(stage, CloseCode::TimedOut)?;
    stage.must(!stage.told("closed"), "not end for it")?;
    stage.link_down()?;
    bound_again(stage, &mut payer)
}

fn hello_of_another(stage: &mut Stage<'_>) -> Played {
    let mut payer = away(stage)?;
    let mut other = payer.hello();
    other.session_key = payer.identity.public();
    stage.link_up()?;
    stage.receive(&Message::Hello(other))?;
    said(stage, CloseCode::Misbehaved)?;
    stage.must(!stage.told("closed"), "not end for it")?;
    stage.link_down()?;
    bound_again(stage, &mut payer)
}
