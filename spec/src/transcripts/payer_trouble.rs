//! The payer, when something is wrong: with the peer, the backend, the disk, the process.

use streampay_core::backend::RefusalCode;
use streampay_core::session::CloseCode;
use streampay_core::units::{PurseId, Unix};
use streampay_core::wire::{Message, PurseOk, PurseRefused};

use super::payer::{
    bound, first_tick, first_tick_of, reading, rebind, rebind_with, settle, ticked, watch,
};
use super::{Scene, puppet_payee};
use crate::json::{Object, hex};
use crate::peer::{Cast, Played, Stage};
use crate::people::{key, msat, rate};

const fn scene(
    name: &'static str,
    about: &'static str,
    play: fn(&mut Stage<'_>) -> Played,
) -> Scene {
    Scene {
        name,
        about,
        role: "payer",
        play,
    }
}

pub(super) const SCENES: &[Scene] = &[
    scene(
        "crash-before-sending",
        "The process dies after a payment is durable and before it is sent; the same bytes go out.",
        |stage| crash(stage, 1),
    ),
    scene(
        "crash-before-durable",
        "The process dies before a payment is durable; the same request is made again.",
        |stage| crash(stage, 0),
    ),
    scene(
        "crash-while-closing",
        "The process dies after closing is durable; it goes on where it was.",
        crash_while_closing,
    ),
    scene(
        "terms-expired",
        "Terms that have expired are not agreed to.",
        |stage| refuses(stage, |cast| cast.terms.expires = Unix(1_800_000_000)),
    ),
    scene(
        "terms-too-dear",
        "Terms beyond the policy are not agreed to.",
        |stage| refuses(stage, |cast| cast.max_tariff.time = rate(1_999, 10_000)),
    ),
    scene(
        "tick-too-large",
        "A tick beyond the policy is not agreed to.",
        |stage| refuses(stage, |cast| cast.terms.tick = msat(4_001)),
    ),
    scene(
        "no-common-method",
        "Terms with no method of one's own are not agreed to.",
        |stage| {
            refuses(stage, |cast| {
                cast.terms.methods = vec![crate::people::method("other")];
            })
        },
    ),
    scene(
        "budget-below-a-tick",
        "A budget that no tick fits into opens nothing.",
        |stage| refuses(stage, |cast| cast.budget = 1_999),
    ),
    scene(
        "wrong-binding",
        "A welcome that is bound to another connection ends it.",
        |stage| impostor(stage, Wrong::Channel),
    ),
    scene(
        "wrong-identity",
        "Terms of somebody else than the link names end it, however well signed.",
        |stage| impostor(stage, Wrong::Identity),
    ),
    scene(
        "unsigned-terms",
        "Terms that their payee did not sign end it.",
        |stage| impostor(stage, Wrong::Terms),
    ),
    scene(
        "over-acknowledged",
        "A receipt for more than was paid is misbehaviour, however well signed.",
        over_acknowledged,
    ),
    scene(
        "out-of-date",
        "A payer that came back from a backup is shown a receipt of two purses more: it ends, and blames nobody.",
        out_of_date,
    ),
    scene(
        "forged-ack",
        "A receipt with a wrong signature is misbehaviour.",
        forged_ack,
    ),
    scene(
        "drift",
        "The payee's meter runs ahead: paid as far as is tolerated, then paused, then booked by \
         consent.",
        drift,
    ),
    scene(
        "stall",
        "Paid media that does not come: nothing more is paid, then the session ends.",
        stall,
    ),
    scene(
        "budget-spent",
        "The last tick is used up: the session ends, nothing is left to bring home.",
        budget_spent,
    ),
    scene(
        "purse-refused",
        "The payee takes none of our money: the session ends and all comes home.",
        purse_refused,
    ),
    scene(
        "backend-away",
        "The backend cannot open a purse for now: asked again later, same words.",
        backend_away,
    ),
    scene(
        "effects-after-durable",
        "What the backend wants done is done once its records are durable.",
        effects,
    ),
    scene(
        "store-failed",
        "The disk fails: nothing leaves any more.",
        store_failed,
    ),
    scene(
        "no-welcome",
        "Nobody answers: hello again after 2, 4 and 8 s, then the end.",
        no_welcome,
    ),
    scene(
        "nonsense",
        "Sixteen messages that are none end the session.",
        nonsense,
    ),
];

/// Dies while a payment is made, after so many outputs.
fn crash(stage: &mut Stage<'_>, take: u64) -> Played {
    let mut payee = bound(stage, &Cast::usual()?)?;
    let session = payee.hello.session;
    stage.open_purse(session, 10_000)?;
    let purse = PurseId(0);
    stage.receive(&Message::PurseOk(PurseOk { purse }))?;
    let payment = stage.payment(session)?;
    let backend = Object::new()
        .int("purse", 0_u64)
        .with("outcome", Object::new().with("paid", payment));
    stage.step_taking(Object::new().with("backend", backend), Some(take))?;
    stage.restart()?;
    if take == 0 {
        // The request may have been durable, or be made anew once the sides are bound again.
        rebind(stage, &mut payee, None)?;
        return if stage.asked("pay").is_some() {
            stage.make_payment(session)
        } else {
            Ok(())
        };
    }
    stage.must(stage.asked("pay").is_none(), "not pay again")?;
    rebind(stage, &mut payee, None)?;
    ticked(stage)?;
    stage.receive(&payee.ack(1, 0))
}

fn out_of_date(stage: &mut Stage<'_>) -> Played {
    let mut payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.restart()?;
    let mut receipt = payee.receipt(3, 0);
    (receipt.purse, receipt.total) = (PurseId(1), msat(16_000));
    rebind_with(stage, &mut payee, receipt)?;
    stage.must(!stage.told("misbehaved"), "blame nobody")?;
    let code = CloseCode::OutOfDate;
    let closes = |sent: &Message| matches!(sent, Message::Close(close) if close.code == code);
    stage.must(stage.sent().iter().any(closes), "close")?;
    stage.wait_ms(6_000)?;
    settle(stage, 8_000)
}

fn crash_while_closing(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    let close = Object::new().int("close", CloseCode::Done.code());
    stage.step_taking(Object::new().with("command", close), Some(1))?;
    stage.restart()?;
    settle(stage, 8_000)
}

/// The terms of the welcome are not agreed to: it says why and ends, and no money moved.
fn refuses(stage: &mut Stage<'_>, change: fn(&mut Cast)) -> Played {
    let mut cast = Cast::usual()?;
    change(&mut cast);
    stage.create_payer(&cast)?;
    stage.link_up()?;
    let sent = stage.sent();
    let Some(Message::Hello(hello)) = sent.first() else {
        return Err("no hello".into());
    };
    let mut payee = puppet_payee(hello.clone())?;
    payee.terms = cast.terms.clone();
    let welcome = payee.welcome();
    stage.receive(&Message::Welcome(welcome))?;
    stage.must(stage.told("closed"), "end the session")?;
    stage.must(matches!(stage.sent()[..], [Message::Close(_)]), "say why")
}

/// What is wrong with a welcome.
#[derive(Clone, Copy)]
pub(crate) enum Wrong {
    Channel,
    Identity,
    Terms,
}

pub(crate) fn impostor(stage: &mut Stage<'_>, wrong: Wrong) -> Played {
    let cast = Cast::usual()?;
    stage.create_payer(&cast)?;
    stage.link_up()?;
    let sent = stage.sent();
    let Some(Message::Hello(hello)) = sent.first() else {
        return Err("no hello".into());
    };
    let mut payee = puppet_payee(hello.clone())?;
    if matches!(wrong, Wrong::Identity) {
        payee.identity = key("somebody else").map_err(super::key_error)?;
        payee.terms.payee = payee.identity.public();
    }
    let mut welcome = payee.welcome();
    match wrong {
        // Signed for another nonce, as a man in the middle would have it.
        Wrong::Channel => welcome.nonce = [0xff; 32],
        Wrong::Terms => welcome.terms.tick = msat(1_000),
        Wrong::Identity => {}
    }
    stage.receive(&Message::Welcome(welcome))?;
    stage.must(stage.told("misbehaved"), "call it misbehaviour")?;
    let bind = stage
        .sent()
        .iter()
        .any(|sent| matches!(sent, Message::Bind(_)));
    stage.must(!bind, "not bind itself")
}

fn over_acknowledged(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(2, 0))?;
    stage.must(stage.told("misbehaved"), "call it misbehaviour")?;
    stage.must(stage.told("closed"), "end the session")
}

fn forged_ack(stage: &mut Stage<'_>) -> Played {
    let mut payee = first_tick(stage)?;
    payee.key = key("somebody else").map_err(super::key_error)?;
    stage.receive(&payee.ack(1, 0))?;
    stage.must(stage.told("misbehaved"), "call it misbehaviour")
}

fn drift(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 9_000)?;
    stage.must(stage.asked("pay").is_none(), "not pay yet")?;
    stage.receive(&reading(9_900))?;
    stage.make_payment(payee.hello.session)?;
    stage.receive(&payee.ack(2, 9_950))?;
    watch(stage, 9_000, 9_500)?;
    stage.receive(&reading(19_600))?;
    stage.must(stage.told("paused"), "pause")?;
    stage.command("resume", Object::new())?;
    stage.must(stage.told("resumed"), "go on by consent")
}

fn stall(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 2_000)?;
    stage.wait_ms(2_500)?;
    stage.must(stage.told("stalled"), "tell the user")?;
    stage.wait_ms(28_000)?;
    stage.must(stage.told("closed"), "end the session")
}

fn budget_spent(stage: &mut Stage<'_>) -> Played {
    let mut cast = Cast::usual()?;
    cast.budget = 2_000;
    let payee = first_tick_of(stage, &cast, 2_000)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 10_000)?;
    stage.must(stage.told("closed"), "end the session")?;
    stage.wait_ms(6_000)?;
    settle(stage, 0)
}

fn purse_refused(stage: &mut Stage<'_>) -> Played {
    let payee = bound(stage, &Cast::usual()?)?;
    stage.open_purse(payee.hello.session, 10_000)?;
    let refused = PurseRefused {
        purse: PurseId(0),
        code: RefusalCode::WrongMint,
    };
    stage.receive(&Message::PurseRefused(refused))?;
    stage.must(stage.told("purse_refused"), "tell the user")?;
    stage.wait_ms(6_000)?;
    settle(stage, 10_000)
}

fn backend_away(stage: &mut Stage<'_>) -> Played {
    let payee = bound(stage, &Cast::usual()?)?;
    let asked = stage.asked("open").cloned();
    stage.fail(0, "transient", Object::new())?;
    stage.must(stage.told("backend_trouble"), "tell the user")?;
    stage.wait_ms(2_000)?;
    stage.must(stage.asked("open").cloned() == asked, "ask the same again")?;
    stage.open_purse(payee.hello.session, 10_000)
}

fn effects(stage: &mut Stage<'_>) -> Played {
    bound(stage, &Cast::usual()?)?;
    let effect = Object::new()
        .int("id", 1_u64)
        .with("body", hex(b"call the mint"));
    let backend = Object::new()
        .int("purse", 0_u64)
        .with("effects", vec![effect.done()]);
    stage.step(Object::new().with("backend", backend))?;
    let done = stage
        .outputs
        .iter()
        .any(|output| output.get("effect").is_some());
    stage.must(done, "do what the backend wants")
}

fn store_failed(stage: &mut Stage<'_>) -> Played {
    first_tick(stage)?;
    stage.step(Object::new().with("persist_failed", Object::new()))?;
    stage.must(stage.sent().is_empty(), "say nothing more")
}

fn no_welcome(stage: &mut Stage<'_>) -> Played {
    stage.create_payer(&Cast::usual()?)?;
    stage.link_up()?;
    let hello = stage.sent();
    for ms in [2_000, 4_000, 8_000] {
        stage.wait_ms(ms)?;
        stage.must(stage.sent() == hello, "say hello again")?;
    }
    stage.wait_ms(1_000)?;
    stage.must(stage.told("closed"), "give up")
}

fn nonsense(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick(stage)?;
    stage.receive(&payee.ack(1, 0))?;
    for count in 1..=16 {
        stage.receive_bytes(&[0xff, count])?;
    }
    stage.must(stage.told("closed"), "end the session")?;
    Ok(())
}
