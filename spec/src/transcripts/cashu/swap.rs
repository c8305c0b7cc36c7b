//! `cashu-swap`.

use streampay_cashu::SwapMachine;
use streampay_cashu::transcript::Call;

use super::Scene;
use super::world::{CHAIN, Cast, Who, World, must_be};
use crate::json::Object;
use crate::peer::Played;

const SWAP: Cast = Cast {
    method: SwapMachine::METHOD,
    ppk: 100,
    steps: 3,
    ..CHAIN
};

pub(super) const SCENES: &[Scene] = &[
    Scene {
        name: "open-tick-close",
        about: "A token a tick, each swapped before it is credited; tokens that nobody saw cost nothing.",
        cast: SWAP,
        play: ticks,
    },
    Scene {
        name: "answer-lost",
        about: "The mint swaps a token and its answer is lost: the tick is not known to be good, and not to be bad. Asked again, the same outputs are looked for first.",
        cast: SWAP,
        play: lost,
    },
    Scene {
        name: "crash-while-swapping",
        about: "The payee dies after the mint has swapped a token; begun anew it asks for the same outputs.",
        cast: SWAP,
        play: crash,
    },
    Scene {
        name: "spent-before",
        about: "The token that is shown is spent already: refused, and the payer finds the same when it wants it back.",
        cast: SWAP,
        play: spent,
    },
    Scene {
        name: "refused-and-taken-back",
        about: "A token that was refused comes home by a swap of the payer's own; the tick is paid with another.",
        cast: SWAP,
        play: taken_back,
    },
    Scene {
        name: "keyset-rotated",
        about: "The mint signs with another keyset: the same token, other outputs, durable before they are asked for.",
        cast: SWAP,
        play: rotated,
    },
    Scene {
        name: "wrong-payloads",
        about: "A tick beyond the purse, of another amount, with another payload for a number that is used, of another purse, or with a condition.",
        cast: SWAP,
        play: wrong,
    },
];

fn ticks(world: &mut World) -> Played {
    world.opened(3)?;
    for tick in 1..=2 {
        world.tick(3, tick, tick)?;
    }
    must_be("earned", world.settle(3)?, 20)?;
    must_be("refunded", world.release(3)?, 11)
}

fn first(world: &mut World) -> Played<String> {
    world.opened(3)?;
    let first = world.pay(3, 1, 1)?;
    let receive = Object::new()
        .int("seq", 1_u64)
        .int("amount", 10_000_u64)
        .int("cumulative", 10_000_u64)
        .with("payload", first.as_str());
    world.ask(Who::Payee, 3, "receive", receive)?;
    Ok(first)
}

fn lost(world: &mut World) -> Played {
    let token = first(world)?;
    world.fail(
        Who::Payee,
        Object::new().with("unknown", Object::new()),
        true,
    )?;
    world.must_fail(Who::Payee, "unknown", None)?;
    world.receive(3, (1, 1, 1), &token)?;
    world.outcome(Who::Payee, "credited")?;
    must_be("earned", world.settle(3)?, 10)
}

fn crash(world: &mut World) -> Played {
    let token = first(world)?;
    world.acts_unheard(Who::Payee)?;
    world.restart(Who::Payee)?;
    world.run(Who::Payee)?;
    world.receive(3, (1, 1, 1), &token)?;
    world.outcome(Who::Payee, "credited").map(|_| ())
}

fn spent(world: &mut World) -> Played {
    first(world)?;
    if let Some(Call::Swap { coins, .. }) = world.wants(Who::Payee) {
        coins.iter().for_each(|coin| world.mint.spend_coin(coin));
    }
    world.run(Who::Payee)?;
    world.must_fail(Who::Payee, "rejected", Some(5))?;
    world.ask(Who::Payer, 3, "reclaim", Object::new().int("seq", 1_u64))?;
    world.run(Who::Payer)?;
    world.outcome(Who::Payer, "spent")?;
    must_be("refunded", world.release(3)?, 22)
}

fn taken_back(world: &mut World) -> Played {
    first(world)?;
    let busy = Object::new().int("code", 0_u64).int("consumed", 0_u64);
    world.fail(Who::Payee, Object::new().with("rejected", busy), false)?;
    world.must_fail(Who::Payee, "rejected", Some(0))?;
    world.ask(Who::Payer, 3, "reclaim", Object::new().int("seq", 1_u64))?;
    world.run(Who::Payer)?;
    world.outcome(Who::Payer, "reclaimed")?;
    world.tick(3, 1, 1)?;
    must_be("earned", world.settle(3)?, 10)?;
    must_be("refunded", world.release(3)?, 21)
}

fn rotated(world: &mut World) -> Played {
    world.opened(3)?;
    world.mint.rotate();
    world.tick(3, 1, 1)?;
    must_be("earned", world.settle(3)?, 10)
}

fn wrong(world: &mut World) -> Played {
    world.opened(3)?;
    world.opened(4)?;
    let first = world.pay(3, 1, 1)?;
    let other = world.pay(4, 1, 1)?;
    // It does not read, and has `["P2PK"` in it.
    let condition = format!("{first}5b225032504b22");
    for ((seq, steps, step), payload, code) in [
        ((4, 1, 4), first.as_str(), 10),
        ((1, 2, 2), first.as_str(), 2),
        ((1, 1, 1), other.as_str(), 6),
        ((1, 1, 1), "", 1),
        ((1, 1, 1), condition.as_str(), 7),
    ] {
        world.receive(3, (seq, steps, step), payload)?;
        world.must_fail(Who::Payee, "rejected", Some(code))?;
    }
    world.receive(3, (1, 1, 1), &first)?;
    world.outcome(Who::Payee, "credited")?;
    world.receive(3, (1, 1, 1), &other)?;
    world.must_fail(Who::Payee, "rejected", Some(14))
}
