//! The payer on a connection that is not bound, or none: what of it ends a session that has money out, and
//! what ends the connection alone.

use streampay_core::session::{CloseCode, Hash};
use streampay_core::wire::{Close, Closed, Evidence, Hello, Message};

use super::payer::{first_tick, rebind, settle};
use super::{Scene, key_error, puppet_payee, scene};
use crate::peer::{Cast, Payee, Played, Stage};
use crate::people::{key, rate};

pub(super) const SCENES: &[Scene] = &[
    scene(
        "payer",
        "close-while-away",
        "The user closes without a connection: what was not acknowledged comes home, nobody is waited for.",
        |stage| {
            away(stage)?;
            close(stage)?;
            stage.must(stage.sent().is_empty(), "have nobody to tell")?;
            settle(stage, 8_000)
        },
    ),
    scene(
        "payer",
        "close-while-greeting",
        "The user closes after hello: close is said, and not waited for.",
        |stage| {
            let mut payee = away(stage)?;
            greet(stage, &mut payee)?;
            closes_and_releases(stage)
        },
    ),
    scene(
        "payer",
        "close-while-binding",
        "The user closes after bind: close is said, and not waited for.",
        |stage| {
            let mut payee = away(stage)?;
            binds(stage, &mut payee)?;
            closes_and_releases(stage)
        },
    ),
    scene(
        "payer",
        "close-before-any-record",
        "The user closes before a payee was ever heard: close is said, and there is nothing to bring home.",
        |stage| {
            fresh(stage)?;
            close(stage)?;
            said(stage, CloseCode::Done)?;
            stage.must(stage.is_over(), "end")
        },
    ),
    scene(
        "payer",
        "unknown-version",
        "A welcome of a version that was not offered ends a new session.",
        |stage| {
            let mut payee = fresh(stage)?;
            payee.version = 9;
            welcome(stage, &mut payee)?;
            said(stage, CloseCode::Incompatible)?;
            stage.must(stage.is_over(), "end")
        },
    ),
    scene(
        "payer",
        "unknown-version-again",
        "The same of a session with a record: nobody has signed it, so the connection alone is given up.",
        |stage| {
            gives_up(stage, |stage, payee| {
                payee.version = 9;
                welcome(stage, payee)
            })
        },
    ),
    scene(
        "payer",
        "unknown-session",
        "A welcome that is signed, with another session key: the payee has lost the session, and it closes \
         with 7.",
        |stage| {
            let mut payee = away(stage)?;
            greet(stage, &mut payee)?;
            payee.key = key("somebody else").map_err(key_error)?;
            welcome(stage, &mut payee)?;
            said(stage, CloseCode::UnknownSession)?;
            settle(stage, 8_000)
        },
    ),
    scene(
        "payer",
        "terms-too-dear-again",
        "The payee lost the session before a purse was begun, and asks more now: it closes with 3.",
        too_dear_again,
    ),
    scene(
        "payer",
        "bound-anew-before-any-purse",
        "The payee lost the session before a purse was begun, and asks what fits: it is bound to that.",
        anew,
    ),
    scene(
        "payer",
        "wrong-binding-again",
        "A welcome that is bound to another connection, of a session with a record: the connection is given up.",
        |stage| {
            gives_up(stage, |stage, payee| {
                let mut welcome = payee.welcome();
                welcome.nonce = [0xff; 32];
                stage.receive(&Message::Welcome(welcome))?;
                stage.must(stage.told("misbehaved"), "call it misbehaviour")
            })
        },
    ),
    scene(
        "payer",
        "no-welcome-again",
        "Nobody answers for 15 s on a later connection: it is given up, the session stays.",
        |stage| {
            gives_up(stage, |stage, _| {
                for ms in [2_000, 4_000, 8_000] {
                    stage.wait_ms(ms)?;
                    stage.must(
                        matches!(stage.sent()[..], [Message::Hello(_)]),
                        "say hello again",
                    )?;
                }
                stage.wait_ms(1_000)
            })
        },
    ),
    scene(
        "payer",
        "no-ready",
        "Its bind is not answered: said again after 2, 4 and 8 s, whatever welcome comes again; given up after \
         15 s.",
        no_ready,
    ),
    scene(
        "payer",
        "ready-of-less",
        "A ready with less than the own receipt, which the payee was shown: misbehaviour, the connection alone \
         is given up.",
        |stage| {
            gives_up(stage, |stage, payee| {
                welcome(stage, payee)?;
                stage.receive(&Payee::ready(None))?;
                stage.must(stage.told("misbehaved"), "call it misbehaviour")
            })
        },
    ),
    scene(
        "payer",
        "busy",
        "A payee that takes no more sessions says close 13 before anything is bound: a new session ends.",
        |stage| {
            fresh(stage)?;
            stage.receive(&close_of(CloseCode::Busy))?;
            said(stage, CloseCode::Busy)?;
            stage.must(stage.is_over(), "end")
        },
    ),
    scene(
        "payer",
        "busy-again",
        "The same on a later connection: nobody has signed it, the session stays.",
        |stage| gives_up(stage, |stage, _| stage.receive(&close_of(CloseCode::Busy))),
    ),
    scene(
        "payer",
        "closed-unsigned",
        "A closed without the receipt that it knows, before anything is bound: the session stays.",
        |stage| gives_up(stage, |stage, _| stage.receive(&closed_of(None))),
    ),
    scene(
        "payer",
        "closed-unsigned-while-binding",
        "The same after its bind, with a receipt that somebody else signed.",
        |stage| {
            gives_up(stage, |stage, payee| {
                welcome(stage, payee)?;
                let stranger = key("somebody else").map_err(key_error)?;
                let receipt = payee.receipt(1, 0);
                stage.receive(&closed_of(Some(
                    receipt.sign(payee.hello.session, &stranger),
                )))
            })
        },
    ),
    scene(
        "payer",
        "closed-signed",
        "A closed with a proof, to this hello, before anything is bound: its receipt counts, and the session \
         ends.",
        closed_signed,
    ),
    scene(
        "payer",
        "closed-with-its-own-receipt",
        "A closed with the receipt of its own hello, and no proof: whoever hears the hello can say it. The session \
         stays.",
        |stage| {
            gives_up(stage, |stage, payee| {
                stage.receive(&closed_of(payee.hello.evidence))
            })
        },
    ),
    scene(
        "payer",
        "closed-proof-of-another-hello",
        "A closed with a proof that was said to an earlier hello, or by somebody else: the session stays.",
        |stage| {
            gives_up(stage, |stage, payee| {
                let mut earlier = payee.hello.clone();
                earlier.nonce = [0x7f; 32];
                stage.receive(&payee.closed(&earlier, 1))
            })
        },
    ),
];

const fn close_of(code: CloseCode) -> Message {
    Message::Close(Close { code })
}

fn closed_of(evidence: Option<Evidence>) -> Message {
    let code = CloseCode::Done;
    Message::Closed(Closed {
        code,
        evidence,
        proof: None,
    })
}

fn close(stage: &mut Stage<'_>) -> Played {
    stage.command("close", CloseCode::Done.code().to_string())
}

/// It says that it closes, and nothing else.
fn said(stage: &Stage<'_>, code: CloseCode) -> Played {
    stage.must(stage.sent() == [close_of(code)], "say why and no more")
}

fn hello(stage: &Stage<'_>) -> Played<Hello> {
    match stage.sent().into_iter().next() {
        Some(Message::Hello(hello)) => Ok(hello),
        _ => Err("no hello".into()),
    }
}

/// A new session, which has said hello.
fn fresh(stage: &mut Stage<'_>) -> Played<Payee> {
    stage.create_payer(&Cast::usual()?)?;
    stage.link_up()?;
    puppet_payee(hello(stage)?)
}

/// A session with a tick acknowledged and a purse of five, without a connection.
fn away(stage: &mut Stage<'_>) -> Played<Payee> {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.link_down()?;
    Ok(payee)
}

/// A new connection, on which it has said hello.
fn greet(stage: &mut Stage<'_>, payee: &mut Payee) -> Played {
    stage.link_up()?;
    payee.hello = hello(stage)?;
    Ok(())
}

fn welcome(stage: &mut Stage<'_>, payee: &mut Payee) -> Played {
    let welcome = payee.welcome();
    stage.receive(&Message::Welcome(welcome))
}

/// A new connection, on which it has said bind.
fn binds(stage: &mut Stage<'_>, payee: &mut Payee) -> Played {
    greet(stage, payee)?;
    welcome(stage, payee)?;
    stage.must(matches!(stage.sent()[..], [Message::Bind(_)]), "bind")
}

fn closes_and_releases(stage: &mut Stage<'_>) -> Played {
    close(stage)?;
    said(stage, CloseCode::Done)?;
    settle(stage, 8_000)
}

/// The connection alone is given up: nothing more is heard on it, and the next one is bound.
fn gives_up(stage: &mut Stage<'_>, what: fn(&mut Stage<'_>, &mut Payee) -> Played) -> Played {
    let mut payee = away(stage)?;
    greet(stage, &mut payee)?;
    let version = payee.version;
    what(stage, &mut payee)?;
    payee.version = version;
    given_up(stage)?;
    stage.receive(&closed_of(Some(payee.sign(payee.receipt(1, 0)))))?;
    stage.must(!stage.told("closed"), "hear nothing more on it")?;
    stage.link_down()?;
    rebind(stage, &mut payee, Some(1))?;
    stage.must(stage.told("bound"), "be bound again")
}

fn given_up(stage: &Stage<'_>) -> Played {
    stage.must(stage.sent().is_empty(), "say nothing")?;
    stage.must(stage.told("link_down"), "give the connection up")?;
    stage.must(!stage.told("closed"), "not end for it")
}

/// Bound to nothing yet: its bind is said, and the connection goes.
fn bind_lost(stage: &mut Stage<'_>) -> Played<(Payee, Hash)> {
    let mut payee = fresh(stage)?;
    welcome(stage, &mut payee)?;
    stage.must(matches!(stage.sent()[..], [Message::Bind(_)]), "bind")?;
    stage.link_down()?;
    greet(stage, &mut payee)?;
    let root = payee.hello.root.map(Hash).ok_or("no root in its hello")?;
    payee.key = key("somebody else").map_err(key_error)?;
    Ok((payee, root))
}

fn too_dear_again(stage: &mut Stage<'_>) -> Played {
    let (mut payee, _) = bind_lost(stage)?;
    payee.terms.tariff.time = rate(5_001, 10_000);
    welcome(stage, &mut payee)?;
    said(stage, CloseCode::OverPolicy)?;
    stage.must(stage.told("settled"), "have nothing out")
}

fn anew(stage: &mut Stage<'_>) -> Played {
    let (mut payee, root) = bind_lost(stage)?;
    payee.terms.tariff.time = rate(1_000, 10_000);
    stage.judge.tariff = payee.terms.tariff;
    welcome(stage, &mut payee)?;
    stage.must(matches!(stage.sent()[..], [Message::Bind(_)]), "bind")?;
    stage.must(payee.hello.root == Some(root.0), "name the first binding")?;
    stage.receive(&Payee::ready(None))?;
    stage.must(stage.told("bound"), "be bound")
}

fn no_ready(stage: &mut Stage<'_>) -> Played {
    let mut payee = away(stage)?;
    binds(stage, &mut payee)?;
    let bind = stage.sent();
    let again = payee.welcome();
    for ms in [2_000, 4_000, 8_000] {
        stage.receive(&Message::Welcome(again.clone()))?;
        stage.must(stage.sent().is_empty(), "wait for its time")?;
        stage.wait_ms(ms)?;
        stage.must(stage.sent() == bind, "say the same again")?;
    }
    stage.wait_ms(1_000)?;
    given_up(stage)?;
    stage.link_down()?;
    rebind(stage, &mut payee, Some(1))?;
    stage.must(stage.told("bound"), "be bound again")
}

fn closed_signed(stage: &mut Stage<'_>) -> Played {
    let mut payee = first_tick(stage)?;
    stage.link_down()?;
    greet(stage, &mut payee)?;
    stage.receive(&payee.closed(&payee.hello, 1))?;
    stage.must(stage.told("tick_paid"), "count what is signed")?;
    said(stage, CloseCode::Done)?;
    settle(stage, 8_000)
}
