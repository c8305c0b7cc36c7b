//! Two whole sessions over the chain, in virtual time, with a real mint.

use streampay_cashu::{LockedMachine, LockedPolicy, SwapMachine};
use streampay_core::backend::BackendError;
use streampay_core::session::{
    Command, Event, Input, LinkEvent, PayeeSession, PayerSession, SecretKey,
};
use streampay_core::units::PurseId;

use crate::mint::{Fault, TestMint};
use crate::node::sat;
use crate::world::{World, machines};

#[tokio::test]
async fn thousand_ticks_call_no_mint() {
    let policy = LockedPolicy::default();
    let mut world = World::new(0, 1_200, sat(1), sat(1_200), policy).await;
    world
        .until("a first tick", |world| world.payer.ticks > 0)
        .await;
    let start = world.now.mono.0;
    // Steps of time in which a tick was paid: the mint is called in those alone that open a purse
    // or redeem a batch.
    let (mut with_ticks, mut called) = (0, 0);
    while world.payer.ticks < 1_000 {
        let before = (world.payer.ticks, world.mint.calls());
        world.step().await;
        if world.payer.ticks > before.0 {
            with_ticks += 1;
            called += u64::from(world.mint.calls() != before.1);
        }
    }
    // A tick buys a second: from one purse to the next, of which there are five, nothing was waited for.
    let elapsed = world.now.mono.0 - start;
    assert!((998_000..=999_200).contains(&elapsed), "{elapsed} ms");
    let paused = |event: &&Event| matches!(event, Event::Paused { .. });
    let events = || world.payer.events.iter().chain(&world.payee.events);
    assert_eq!(events().find(paused), None);
    let calls = |kind| world.mint.calls_of(kind);
    let opened = |event: &&Event| matches!(event, Event::PurseOpen { .. });
    let openings = world.payer.events.iter().filter(opened).count() as u64;
    // 256 steps each, and the next one at 80 % of the last.
    assert_eq!(openings, 5);
    let batches = 1_000 / 64;
    assert_eq!(calls("swap"), openings + batches);
    // Each side learns the time once a purse; each wallet looks at its mint once by itself.
    assert_eq!(calls("info"), 2 * openings + 2);
    // The payee looks once at all proofs of a purse, in requests of 200: at 256 four times, at the last 176 once.
    assert_eq!(calls("state"), 4 * 2 + 1);
    assert_eq!(calls("restore"), 0);
    assert_eq!(with_ticks, 999);
    assert!(called < openings + batches, "{called}");
    assert!(
        world.payer.longest_tick <= 64,
        "{}",
        world.payer.longest_tick
    );
    world.close().await;
    let (payer, payee) = (
        world.payer_purses.spendable().await,
        world.payee_purses.spendable().await,
    );
    assert_eq!(payer + payee, 1_200);
    assert!((1_000..=1_002).contains(&payee), "{payee}");
}

#[tokio::test]
async fn unused_steps_come_home_at_close_without_waiting() {
    let mut world = World::new(100, 2_000, sat(10), sat(2_000), LockedPolicy::default()).await;
    world
        .until("seven ticks", |world| world.payer.ticks >= 7)
        .await;
    world.close().await;
    let (payer, payee) = (
        world.payer_purses.spendable().await,
        world.payee_purses.spendable().await,
    );
    assert!((68..=80).contains(&payee), "{payee}");
    // What is not with either is the mint's fees: splitting, redeeming, coming home.
    let fees = 2_000 - payer - payee;
    assert!(fees <= 45, "{fees}");
}

#[tokio::test]
async fn restarts_of_both_sides_lose_nothing() {
    let policy = LockedPolicy::default();
    let mut world = World::new(0, 500, sat(2), sat(200), policy).await;
    for (round, ticks) in [(0_u8, 3), (1, 6), (2, 9), (3, 12)] {
        world
            .until("ticks", |world| world.payer.ticks >= ticks)
            .await;
        let now = world.now;
        if round % 2 == 0 {
            let identity = SecretKey::from_bytes([4; 32]).unwrap();
            let restore = |id, records: &[_]| {
                PayeeSession::restore(identity, 60_000, now, id, records).unwrap()
            };
            world.payee.restart(now, machines(policy, true), restore);
            world.payer.input(now, Input::Link(LinkEvent::Down));
        } else {
            let identity = SecretKey::from_bytes([5; 32]).unwrap();
            let own = world.policy.clone();
            let restore =
                |id, records: &[_]| PayerSession::restore(identity, own, now, id, records).unwrap();
            world.payer.restart(now, machines(policy, false), restore);
            world.payee.input(now, Input::Link(LinkEvent::Down));
        }
        world.connect_with(40 + 2 * round).await;
    }
    world
        .until("more ticks", |world| world.payer.ticks >= 15)
        .await;
    world.close().await;
    let (payer, payee) = (
        world.payer_purses.spendable().await,
        world.payee_purses.spendable().await,
    );
    assert_eq!(payer + payee, 500);
    assert!((28..=34).contains(&payee), "{payee}");
}

#[tokio::test]
async fn mint_without_htlcs_is_paid_by_another_method() {
    for first in [LockedMachine::P2PK, SwapMachine::METHOD] {
        let mint = TestMint::new(0).await;
        mint.without_htlcs();
        let methods = vec![LockedMachine::CHAIN, first];
        let policy = LockedPolicy::default();
        let mut world = World::at(mint, 500, sat(2), sat(100), policy, methods).await;
        world.until("ticks", |world| world.payer.ticks >= 5).await;
        let purses = world.payer.session.purses();
        let used: Vec<_> = purses.iter().map(|(_, method)| method.as_str()).collect();
        assert_eq!(used, [LockedMachine::CHAIN, first]);
        world.close().await;
        let (payer, payee) = (
            world.payer_purses.spendable().await,
            world.payee_purses.spendable().await,
        );
        assert_eq!(payer + payee, 500, "{first}");
        assert!((10..=12).contains(&payee), "{payee}");
    }
}

#[tokio::test]
async fn close_while_the_mint_is_away_gives_the_rest_back_and_redeems_later() {
    let policy = LockedPolicy::default();
    let mut world = World::new(0, 500, sat(2), sat(100), policy).await;
    world.until("ticks", |world| world.payer.ticks >= 5).await;
    let before = world.mint.calls();
    // The payee's redemption and the payer's coming home fail at first.
    for _ in 0..4 {
        world.mint.fail("swap", Fault::Away);
        world.mint.fail("restore", Fault::Away);
    }
    world.close().await;
    assert!(world.mint.calls() >= before + 6);
    let (payer, payee) = (
        world.payer_purses.spendable().await,
        world.payee_purses.spendable().await,
    );
    assert_eq!(payer + payee, 500);
    assert!((10..=12).contains(&payee), "{payee}");
}

#[tokio::test]
async fn mint_that_is_away_during_the_stream_stops_nothing() {
    let policy = LockedPolicy::default();
    let mut world = World::new(0, 500, sat(2), sat(400), policy).await;
    world.until("ticks", |world| world.payer.ticks >= 5).await;
    for kind in ["swap", "restore", "info", "state", "keys", "keysets"] {
        for _ in 0..50 {
            world.mint.fail(kind, Fault::Away);
        }
    }
    let start = world.now.mono.0;
    // Past the redemption of the first 64 ticks, which fails.
    world
        .until("more ticks", |world| world.payer.ticks >= 100)
        .await;
    let seconds = (world.now.mono.0 - start) / 1_000;
    assert!((94..=98).contains(&seconds), "no pause: {seconds}");
    world.mint.heal();
    world.close().await;
    let (payer, payee) = (
        world.payer_purses.spendable().await,
        world.payee_purses.spendable().await,
    );
    assert_eq!(payer + payee, 500);
    assert!((200..=202).contains(&payee), "{payee}");
}

/// Every half minute it is tried again.
#[tokio::test]
async fn payee_is_told_once_that_what_was_paid_cannot_be_redeemed_now() {
    let mut policy = LockedPolicy::default();
    policy.redeem_ticks = 4;
    let mut world = World::new(0, 500, sat(2), sat(400), policy).await;
    for (away_from, away_until, told) in [(1, 80, 1), (120, 190, 2)] {
        world
            .until("ticks", |world| world.payer.ticks >= away_from)
            .await;
        let before = world.mint.calls_of("swap");
        for _ in 0..50 {
            world.mint.fail("swap", Fault::Away);
        }
        world
            .until("more ticks", |world| world.payer.ticks >= away_until)
            .await;
        assert!(
            world.mint.calls_of("swap") >= before + 3,
            "it was tried again"
        );
        let troubles = world.payee.events.iter().filter_map(|event| match event {
            Event::Unredeemed { purse, error } => Some((*purse, *error)),
            _ => None,
        });
        let away = (PurseId(0), BackendError::Transient);
        assert_eq!(troubles.collect::<Vec<_>>(), vec![away; told]);
        world.mint.heal();
    }
    world.close().await;
    let payer = world.payer_purses.spendable().await;
    assert_eq!(payer + world.payee_purses.spendable().await, 500);
}

/// One machine for each method, and several methods in one node: what is out of one must not be
/// paid a second time by another.
#[tokio::test]
async fn payee_that_keeps_a_tick_and_denies_its_purse_gets_no_other_from_any_method() {
    // Small purses, so that the budget has another.
    let mut policy = LockedPolicy::default();
    policy.steps_max = 10;
    let mut world = World::new(0, 500, sat(2), sat(200), policy).await;
    world.until("ticks", |world| world.payer.ticks >= 3).await;
    // From here on another purse is one of the next method.
    world.mint.without_htlcs();
    world.denies = true;
    for _ in 0..300 {
        world.step().await;
    }
    let kept: Vec<_> = world.kept.iter().map(|tick| tick.purse).collect();
    assert_eq!(kept, [PurseId(0)], "{:?}", world.payer.session.purses());
    let payer = &world.payer.session;
    let at_stake = payer.paid().saturating_minus(payer.acknowledged());
    assert_eq!(at_stake, sat(2));
    let lost = |event: &&Event| matches!(event, Event::TickLost { .. });
    assert_eq!(world.payer.events.iter().filter(lost).count(), 1);
    // The user says that it is lost: it goes on with another method, and that tick is all.
    world.denies = false;
    world
        .payer
        .input(world.now, Input::Command(Command::WriteOff));
    let before = world.payer.ticks;
    world
        .until("ticks again", |world| world.payer.ticks >= before + 3)
        .await;
    let purses = world.payer.session.purses();
    assert_eq!(purses.last().unwrap().1, LockedMachine::P2PK);
    world.close().await;
    let payer = world.payer_purses.spendable().await;
    assert_eq!(payer + world.payee_purses.spendable().await, 500);
}
