//! `cashu-chain` where somebody lies, dies or changes.

use super::Scene;
use super::world::{AHEAD_S, CHAIN, LOCK_S, Who, World, must_be};
use crate::json::Object;
use crate::peer::Played;

/// For how much longer than the lock the payee knows what it refused, in seconds.
const CLOCK_SLACK_S: u64 = 600;

pub(super) const SCENES: &[Scene] = &[
    Scene {
        name: "forged-and-out-of-order",
        about: "Preimages that are forged, of another step, too short, or for another amount are refused; then one that is newer than the next opens all that were lost.",
        cast: CHAIN,
        play: forged,
    },
    Scene {
        name: "refused-opening",
        about: "The payee refuses an opening whose proofs are the mint's. It signs all of it over, once that is durable, and again when it is begun anew; the payer has its money back without waiting. From the locktime on the payee knows nothing of it.",
        cast: CHAIN,
        play: refused,
    },
    Scene {
        name: "unproven-opening",
        about: "The payee refuses openings whose proofs are not the mint's, or that could not be checked when the session ended: nothing is signed over, nothing kept. The payer takes its money back at the locktime.",
        cast: CHAIN,
        play: unproven,
    },
    Scene {
        name: "closed-while-checking",
        about: "The session ends while the opening is checked. Its proofs are the mint's: all of it is signed over.",
        cast: CHAIN,
        play: closed_checking,
    },
    Scene {
        name: "mint-away",
        about: "The mint cannot be asked when the opening comes. The same opening again is checked again; another one is refused.",
        cast: CHAIN,
        play: mint_away,
    },
    Scene {
        name: "refused-tick-shown-again",
        about: "A tick is refused. The preimage is out: no other purse pays before it has been shown again.",
        cast: CHAIN,
        play: shown_again,
    },
    Scene {
        name: "crash-while-opening",
        about: "The payer dies before its plan is durable, then after the mint has signed; begun anew it finds what the mint did.",
        cast: CHAIN,
        play: crash_opening,
    },
    Scene {
        name: "crash-before-showing",
        about: "The payer dies before it is durable that a step was shown, then after; begun anew it learns the mint's time and shows the same.",
        cast: CHAIN,
        play: crash_paying,
    },
    Scene {
        name: "crash-while-crediting",
        about: "The payee dies before the credit is durable, then after, then while it redeems; begun anew it asks the mint before it credits more.",
        cast: CHAIN,
        play: crash_crediting,
    },
    Scene {
        name: "spent-behind-its-back",
        about: "A payee begun anew from an old backup is shown a step whose proofs are spent: refused, as the mint says so.",
        cast: CHAIN,
        play: spent,
    },
    Scene {
        name: "keyset-rotated",
        about: "The mint signs with another keyset by the time of the redemption: the same proofs, other outputs.",
        cast: CHAIN,
        play: rotated,
    },
    Scene {
        name: "answer-lost-while-redeeming",
        about: "The mint redeems and its answer is lost: the same swap again, looked for first.",
        cast: CHAIN,
        play: lost,
    },
];

fn forged(world: &mut World) -> Played {
    world.opened(3)?;
    let first = world.pay(3, 1, 1)?;
    let second = world.pay(3, 2, 2)?;
    let third = world.pay(3, 3, 3)?;
    for (payload, code) in [
        ("01".repeat(32), 9),
        (second.clone(), 9),
        (first.get(2..).unwrap_or_default().to_owned(), 1),
        (String::new(), 1),
    ] {
        world.receive(3, (1, 1, 1), &payload)?;
        world.must_fail(Who::Payee, "rejected", Some(code))?;
    }
    // Two ticks, and says one.
    world.receive(3, (1, 1, 2), &second)?;
    world.must_fail(Who::Payee, "rejected", Some(2))?;
    world.receive(3, (1, 5, 5), &second)?;
    world.must_fail(Who::Payee, "rejected", Some(10))?;
    world.receive(3, (1, 1, 1), &first)?;
    world.outcome(Who::Payee, "credited")?;
    // The second is lost; the third opens it too.
    world.receive(3, (3, 2, 3), &third)?;
    world.outcome(Who::Payee, "credited")?;
    world.receive(3, (3, 2, 3), &third)?;
    world.outcome(Who::Payee, "credited")?;
    for (seq, payload) in [(3, &first), (2, &second)] {
        world.receive(3, (seq, 1, 4), payload)?;
        world.must_fail(Who::Payee, "rejected", Some(14))?;
    }
    must_be("earned", world.settle(3)?, 30)
}

fn refused(world: &mut World) -> Played {
    let opening = world.open(3)?;
    world.ask_accept(3, &opening, 1_000)?;
    let why = Object::new().int("code", 8_u64);
    world.end(Who::Payee, "refused", why)?;
    world.must_fail(Who::Payee, "rejected", Some(8))?;
    // It dies before it has signed.
    world.restart(Who::Payee)?;
    world.run(Who::Payee)?;
    must_be("notes", world.notes(Who::Payee).len(), 1)?;
    // What it said is lost.
    world.restart(Who::Payee)?;
    world.run(Who::Payee)?;
    world.hand_over(3)?;
    must_be("refunded", world.release(3)?, 40)?;
    world.later(LOCK_S + CLOCK_SLACK_S + AHEAD_S);
    world.wake(Who::Payee, 3)
}

fn unproven(world: &mut World) -> Played {
    let opening = world.open(3)?;
    world.ask_accept(3, &opening, 1_000)?;
    let forged = Object::new().int("code", 9_u64).int("consumed", 0_u64);
    world.fail(Who::Payee, Object::new().with("rejected", forged), false)?;
    world.must_fail(Who::Payee, "rejected", Some(9))?;
    let other = world.open(4)?;
    world.ask_accept(4, &other, 1_000)?;
    let away = Object::new().with("transient", Object::new());
    world.fail(Who::Payee, away, false)?;
    world.must_fail(Who::Payee, "transient", None)?;
    must_be("earned", world.settle(4)?, 0)?;
    must_be("notes", world.notes(Who::Payee).len(), 0)?;
    for purse in [3, 4] {
        world.ask(Who::Payer, purse, "release", Object::new())?;
        world.must_fail(Who::Payer, "transient", None)?;
    }
    world.later(LOCK_S + AHEAD_S);
    for purse in [3, 4] {
        world.wake(Who::Payer, purse)?;
        world.run(Who::Payer)?;
        must_be("refunded", world.release(purse)?, 40)?;
    }
    Ok(())
}

fn closed_checking(world: &mut World) -> Played {
    let opening = world.open(3)?;
    world.ask_accept(3, &opening, 1_000)?;
    world.ask(Who::Payee, 3, "settle", Object::new())?;
    world.outcome(Who::Payee, "settled")?;
    world.run(Who::Payee)?;
    world.hand_over(3)?;
    must_be("refunded", world.release(3)?, 40)
}

fn mint_away(world: &mut World) -> Played {
    let opening = world.open(3)?;
    let other = world.open(4)?;
    world.ask_accept(3, &opening, 1_000)?;
    world.fail(
        Who::Payee,
        Object::new().with("transient", Object::new()),
        false,
    )?;
    world.must_fail(Who::Payee, "transient", None)?;
    world.ask_accept(3, &opening, 1_000)?;
    world.run(Who::Payee)?;
    world.outcome(Who::Payee, "accepted")?;
    world.ask_accept(3, &other, 1_000)?;
    world.must_fail(Who::Payee, "rejected", Some(14))
}

fn shown_again(world: &mut World) -> Played {
    world.opened(3)?;
    world.opened(4)?;
    let payload = world.pay(3, 1, 1)?;
    world.ask(Who::Payer, 3, "reclaim", Object::new().int("seq", 1_u64))?;
    world.outcome(Who::Payer, "outstanding")?;
    must_be("payload", world.pay(3, 2, 1)?, payload.clone())?;
    world.receive(3, (2, 1, 1), &payload)?;
    world.outcome(Who::Payee, "credited")?;
    world.acked(3, (2, 1))?;
    world.tick(4, 1, 1)
}

fn crash_opening(world: &mut World) -> Played {
    world.ask_open(3, None)?;
    world.one(Who::Payer, Some(0))?;
    world.restart(Who::Payer)?;
    world.one(Who::Payer, None)?;
    world.acts_unheard(Who::Payer)?;
    world.restart(Who::Payer)?;
    world.ask_open(3, None)?;
    world.run(Who::Payer)?;
    world.outcome(Who::Payer, "opened")?;
    world.restart(Who::Payer)?;
    world.ask_open(3, None)?;
    world.outcome(Who::Payer, "opened").map(|_| ())
}

fn crash_paying(world: &mut World) -> Played {
    world.opened(3)?;
    world.tick(3, 1, 1)?;
    let pay = || {
        let pay = Object::new().int("seq", 2_u64).int("amount", 10_000_u64);
        ("pay", pay.int("cumulative", 20_000_u64))
    };
    world.ask_taking(Who::Payer, 3, pay(), Some(0))?;
    world.restart(Who::Payer)?;
    let payload = world.pay(3, 2, 2)?;
    world.restart(Who::Payer)?;
    must_be("payload", world.pay(3, 2, 2)?, payload.clone())?;
    world.receive(3, (2, 1, 2), &payload)?;
    world.outcome(Who::Payee, "credited").map(|_| ())
}

fn crash_crediting(world: &mut World) -> Played {
    world.opened(3)?;
    let first = world.pay(3, 1, 1)?;
    let receive = || {
        let receive = Object::new()
            .int("seq", 1_u64)
            .int("amount", 10_000_u64)
            .int("cumulative", 10_000_u64)
            .with("payload", first.as_str());
        ("receive", receive)
    };
    world.ask_taking(Who::Payee, 3, receive(), Some(0))?;
    world.restart(Who::Payee)?;
    world.ask_taking(Who::Payee, 3, receive(), None)?;
    // The mint is asked; the credit is written, and nobody told.
    world.one(Who::Payee, Some(1))?;
    world.restart(Who::Payee)?;
    world.receive(3, (1, 1, 1), &first)?;
    world.outcome(Who::Payee, "credited")?;
    world.acked(3, (1, 1))?;
    world.tick(3, 2, 2)?;
    world.ask(Who::Payee, 3, "settle", Object::new())?;
    // Signed, but not durable.
    world.one(Who::Payee, Some(0))?;
    world.restart(Who::Payee)?;
    world.ask(Who::Payee, 3, "settle", Object::new())?;
    world.one(Who::Payee, None)?;
    world.restart(Who::Payee)?;
    must_be("earned", world.settle(3)?, 20)?;
    let third = world.pay(3, 3, 3)?;
    world.receive(3, (3, 1, 3), &third)?;
    world.must_fail(Who::Payee, "rejected", Some(14))
}

fn spent(world: &mut World) -> Played {
    world.opened(3)?;
    world.tick(3, 1, 1)?;
    world.restart(Who::Payee)?;
    // Its newer self redeemed the second step.
    world.mint.spend(3, 2);
    let second = world.pay(3, 2, 2)?;
    world.receive(3, (2, 1, 2), &second)?;
    world.must_fail(Who::Payee, "rejected", Some(5))?;
    must_be("earned", world.settle(3)?, 10)
}

fn rotated(world: &mut World) -> Played {
    world.opened(3)?;
    world.tick(3, 1, 1)?;
    world.mint.rotate();
    must_be("earned", world.settle(3)?, 10)?;
    world.hand_over(3)?;
    must_be("refunded", world.release(3)?, 30)
}

fn lost(world: &mut World) -> Played {
    world.opened(3)?;
    world.tick(3, 1, 1)?;
    world.ask(Who::Payee, 3, "settle", Object::new())?;
    // The release.
    world.one(Who::Payee, None)?;
    world.fail(
        Who::Payee,
        Object::new().with("unknown", Object::new()),
        true,
    )?;
    world.must_fail(Who::Payee, "unknown", None)?;
    must_be("earned", world.settle(3)?, 10)?;
    world.hand_over(3)?;
    world.ask(Who::Payer, 3, "release", Object::new())?;
    world.fail(
        Who::Payer,
        Object::new().with("transient", Object::new()),
        true,
    )?;
    world.must_fail(Who::Payer, "transient", None)?;
    must_be("refunded", world.release(3)?, 30)
}
