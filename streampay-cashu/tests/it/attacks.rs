//! What each side could try against the other, at a real mint: nothing beyond one tick.

use streampay_cashu::LockedPolicy;
use streampay_cashu::chain::{Preimage, walk_back};
use streampay_core::backend::{BackendError, Consumed, Outcome, RefusalCode, Request};
use streampay_core::units::Seq;

use crate::mint::{Fault, Purseless};
use crate::node::{Mode, Pair, offer, purse, sat};

fn refused(code: RefusalCode) -> Option<Outcome> {
    let error = BackendError::Rejected(code, Consumed::No);
    Some(Outcome::Failed(error))
}

/// Those with ecash that is locked for hours.
const LOCKED: [Mode; 2] = [Mode::Chain, Mode::P2pk];
const TRANSIENT: Option<Outcome> = Some(Outcome::Failed(BackendError::Transient));

#[tokio::test]
async fn payer_cannot_take_back_before_the_locktime() {
    for mode in LOCKED {
        let mut pair = Pair::opened(mode, 0, 500, 5, 10).await;
        pair.ticks(1..=4).await;
        // It acts as if the locktime were over; the mint knows better.
        assert_eq!(pair.payer.ask(purse(0), Request::Release).await, TRANSIENT);
        pair.mint.set_skew(5 * 3600);
        pair.payer.after_s(5 * 3600);
        let asked = pair.mint.calls_of("swap");
        let back = pair.payer.ask(purse(0), Request::Release).await;
        assert_eq!(back, TRANSIENT, "{mode:?}");
        assert!(pair.mint.calls_of("swap") > asked, "{mode:?}: nobody asked");
        // For the six steps that were not paid, of two proofs each, and with no preimage of theirs.
        let (locks, shown) = pair.mint.shown().pop().unwrap();
        let zeros = if mode == Mode::Chain { 12 } else { 0 };
        assert_eq!(locks.len(), 12, "{mode:?}");
        assert_eq!(shown, vec![[0; 32]; zeros], "{mode:?}");
        assert_eq!(pair.payer.spendable().await, 450, "{mode:?}");
        assert_eq!(pair.settle().await, 20, "{mode:?}");
    }
}

#[tokio::test]
async fn one_funding_opens_one_purse() {
    let mut pair = Pair::new(true, 0, 500, 5).await;
    let opening = pair.offered(0, 10).await;
    let elsewhere = pair.accept_request(opening.clone());
    let got = pair.payee.ask(purse(1), elsewhere).await;
    assert_eq!(got, refused(RefusalCode::WrongSession));
    // The same proofs under another purse's number: their locks name another key.
    let mut renamed = opening.to_vec();
    let number = 2 + 2 + 32;
    assert_eq!(renamed[number..number + 2], [2, 0]);
    renamed[number + 1] = 1;
    let elsewhere = pair.accept_request(renamed.into());
    let got = pair.payee.ask(purse(1), elsewhere).await;
    assert_eq!(got, refused(RefusalCode::BadProof));
    // And so in a session with other keys.
    let mut offer = offer(&pair.params, pair.tick);
    offer.payee_key.0[0] = 3;
    let other_session = Request::Accept {
        offer,
        opening: opening.clone(),
    };
    let got = pair.payee.ask(purse(0), other_session).await;
    assert_eq!(got, refused(RefusalCode::BadProof));
    let request = pair.accept_request(opening);
    let got = pair.payee.ask(purse(0), request).await;
    assert!(matches!(got, Some(Outcome::Accepted { .. })), "{got:?}");
}

#[tokio::test]
async fn another_funding_for_an_open_purse_is_refused() {
    let mut pair = Pair::opened(true, 0, 500, 5, 10).await;
    let mut other = Pair::new(true, 0, 500, 5).await;
    let opening = other.offered(0, 10).await;
    let request = pair.accept_request(opening);
    let got = pair.payee.ask(purse(0), request).await;
    assert_eq!(got, refused(RefusalCode::OutOfOrder));
}

#[tokio::test]
async fn old_chain_is_not_credited_again_by_a_restored_payee() {
    let mut pair = Pair::opened(true, 0, 500, 5, 10).await;
    pair.ticks(1..=2).await;
    let backup = pair.payee.records(purse(0));
    let third = pair.paid(3, 3).await;
    let request = pair.receive_request(3, 3, third);
    pair.payee.ask(purse(0), request.clone()).await;
    let fourth = pair.paid(4, 4).await;
    let next = pair.receive_request(4, 4, fourth);
    pair.payee.ask(purse(0), next).await;
    assert_eq!(pair.settle().await, 20);
    pair.payee.put_back(purse(0), &backup);
    pair.payee.restart(&[purse(0)]).await;
    let replayed = pair.payee.ask(purse(0), request).await;
    let spent = BackendError::Rejected(RefusalCode::AlreadySpent, Consumed::Yes);
    assert_eq!(replayed, Some(Outcome::Failed(spent)));
    assert_eq!(pair.payee.spendable().await, 20);
    // It ends with what it knows, and nothing is in its way.
    assert_eq!(pair.settle().await, 20);
    pair.show_note().await;
    assert_eq!(pair.release().await, 30);
    assert_eq!(pair.payer.spendable().await, 480);
}

/// A receipt brought the session forward: its purse knows two steps of six.
#[tokio::test]
async fn payee_restored_from_a_backup_takes_the_next_step_and_all_below_it() {
    let mut pair = Pair::opened(true, 0, 500, 5, 10).await;
    pair.ticks(1..=2).await;
    let backup = pair.payee.records(purse(0));
    pair.ticks(3..=6).await;
    pair.payee.put_back(purse(0), &backup);
    pair.payee.restart(&[purse(0)]).await;
    let seventh = pair.paid(7, 7).await;
    let eighth = pair.paid(8, 8).await;
    // Not the step's own, and one that is beyond the chain.
    for (step, payload, code) in [
        (7, eighth.clone(), RefusalCode::BadProof),
        (7, vec![7; 32].into(), RefusalCode::BadProof),
        (11, seventh.clone(), RefusalCode::PurseEmpty),
    ] {
        let request = pair.receive_request(7, step, payload);
        let got = pair.payee.ask(purse(0), request).await;
        assert_eq!(got, refused(code));
    }
    let request = pair.receive_request(7, 7, seventh);
    let got = pair.payee.ask(purse(0), request).await;
    assert_eq!(got, Some(Outcome::Credited));
    // From then on each tick adds to the last.
    let ninth = pair.paid(9, 9).await;
    let request = pair.receive_request(9, 9, ninth);
    let got = pair.payee.ask(purse(0), request).await;
    assert_eq!(got, refused(RefusalCode::WrongAmount));
    let request = pair.receive_request(8, 8, eighth);
    let got = pair.payee.ask(purse(0), request).await;
    assert_eq!(got, Some(Outcome::Credited));
    assert_eq!(pair.settle().await, 40);
    assert_eq!(pair.payee.spendable().await, 40);
}

/// The self that a backup does not know redeemed what was paid: that is not credited again, but
/// what is new is.
#[tokio::test]
async fn old_steps_further_up_the_chain_are_not_credited_by_a_restored_payee() {
    let mut pair = Pair::new(true, 0, 500, 5).await;
    let mut policy = LockedPolicy::default();
    policy.redeem_ticks = 2;
    pair.payee.set_policy(policy);
    pair.open(0, 10).await;
    pair.tick(1).await;
    let backup = pair.payee.records(purse(0));
    pair.ticks(2..=4).await;
    let fifth = pair.paid(5, 5).await;
    let request = pair.receive_request(5, 5, fifth.clone());
    pair.payee.ask(purse(0), request.clone()).await;
    let sixth = pair.paid(6, 6).await;
    let last = pair.receive_request(6, 6, sixth);
    assert_eq!(
        pair.payee.ask(purse(0), last.clone()).await,
        Some(Outcome::Credited)
    );
    assert_eq!(pair.payee.spendable().await, 30, "all of it is redeemed");
    let spent = BackendError::Rejected(RefusalCode::AlreadySpent, Consumed::Yes);
    pair.payee.put_back(purse(0), &backup);
    pair.payee.restart(&[purse(0)]).await;
    for old in [request, last] {
        let got = pair.payee.ask(purse(0), old).await;
        assert_eq!(got, Some(Outcome::Failed(spent)));
    }
    let seventh = pair.paid(7, 7).await;
    let request = pair.receive_request(7, 7, seventh);
    let got = pair.payee.ask(purse(0), request).await;
    assert_eq!(got, Some(Outcome::Credited));
    pair.settle().await;
    assert_eq!(pair.payee.spendable().await, 35);
}

/// The disk is lost, with the wallet: of what was redeemed since the backup the mint knows.
#[tokio::test]
async fn what_was_redeemed_after_a_backup_is_found_without_the_payer() {
    for (ppk, mode) in [(0, Mode::Chain), (100, Mode::Chain), (0, Mode::P2pk)] {
        let mut pair = Pair::new(mode, ppk, 1_000, 5).await;
        let mut policy = LockedPolicy::default();
        policy.redeem_ticks = 2;
        pair.payee.set_policy(policy);
        pair.open(0, 20).await;
        pair.tick(1).await;
        let backup = pair.payee.records(purse(0));
        pair.ticks(2..=7).await;
        let redeemed = pair.payee.spendable().await;
        assert!(redeemed > 0);
        pair.payee.purses = Purseless::new(&pair.mint, 2, 0).await;
        pair.payee.put_back(purse(0), &backup);
        pair.payee.restart(&[purse(0)]).await;
        let runner = pair.payee.runner();
        let records = pair.payee.records(purse(0));
        let found = runner.find_redeemed(&records).await.unwrap();
        assert_eq!(found, sat(redeemed), "{mode:?} {ppk}");
        assert_eq!(runner.find_redeemed(&records).await, Ok(sat(0)));
        assert_eq!(pair.payee.spendable().await, redeemed);
        // Its viewer does not come back: it settles all the same, for what there is.
        pair.credited = 1;
        assert_eq!(pair.settle().await, redeemed);
        assert_eq!(pair.payee.spendable().await, redeemed);
    }
}

#[tokio::test]
async fn restored_payee_credits_what_is_new() {
    let mut pair = Pair::opened(true, 0, 500, 5, 10).await;
    pair.ticks(1..=2).await;
    let before = pair.mint.calls_of("state");
    pair.payee.restart(&[purse(0)]).await;
    pair.ticks(3..=5).await;
    assert_eq!(pair.mint.calls_of("state"), before + 1, "one check a start");
    assert_eq!(pair.settle().await, 25);
}

#[tokio::test]
async fn shortened_locktime_is_refused() {
    let locks = [3_600, 4 * 3_600 - 700, 4 * 3_600 + 700, 8 * 3_600];
    let all = LOCKED.map(|mode| locks.map(|lock_s| (mode, lock_s)));
    for (mode, lock_s) in all.into_iter().flatten() {
        let mut pair = Pair::new(mode, 0, 500, 5).await;
        let agreed = pair.params.clone();
        pair.params = agreed.clone().with_lock(lock_s, 600).unwrap();
        let opening = pair.offered(0, 10).await;
        pair.params = agreed;
        let request = pair.accept_request(opening);
        let got = pair.payee.ask(purse(0), request).await;
        assert_eq!(got, refused(RefusalCode::WrongLock), "{mode:?} {lock_s}");
        if mode == Mode::P2pk {
            // An opening shows no proofs of it, so that nothing is signed: it is home at the locktime.
            assert!(pair.payee.notes.is_empty(), "{lock_s}");
            assert_eq!(pair.payer.ask(purse(0), Request::Release).await, TRANSIENT);
            assert_eq!(pair.payer.spendable().await, 450, "{lock_s}");
            continue;
        }
        // What the payee does not take it signs over: nobody waits for the locktime.
        assert_eq!(pair.show_note().await, None);
        assert_eq!(pair.release().await, 50, "{lock_s}");
        assert_eq!(pair.payer.spendable().await, 500);
    }
}

/// A payee whose own clock is so many seconds ahead.
async fn near_the_locktime(mode: Mode, off: i64) {
    let mut pair = Pair::new(mode, 0, 500, 5).await;
    let unix = &mut pair.payee.now.unix.0;
    *unix = unix.checked_add_signed(off).unwrap();
    pair.open(0, 10).await;
    pair.tick(1).await;
    let late = pair.paid(2, 2).await;
    let very_late = pair.paid(3, 3).await;
    let usable = 4 * 3_600 - 1_800;
    pair.payee.after_s(usable - 60);
    pair.payer.after_s(usable - 60);
    let request = pair.receive_request(2, 2, late);
    let got = pair.payee.ask(purse(0), request).await;
    assert_eq!(got, Some(Outcome::Credited), "{mode:?} {off}");
    pair.payee.after_s(62);
    pair.payer.after_s(62);
    let request = pair.receive_request(3, 3, very_late);
    let got = pair.payee.ask(purse(0), request).await;
    assert_eq!(got, refused(RefusalCode::TooLate), "{mode:?} {off}");
    let request = pair.pay_request(4, 4);
    let empty = BackendError::Fatal(RefusalCode::PurseEmpty);
    let got = pair.payer.ask(purse(0), request).await;
    assert_eq!(got, Some(Outcome::Failed(empty)), "{mode:?} {off}");
    // By itself it redeems what is credited before the locktime comes.
    assert_eq!(pair.payee.wake(purse(0)).await, None);
    assert_eq!(pair.payee.spendable().await, 10, "{mode:?} {off}");
}

#[tokio::test]
async fn ticks_near_the_locktime_are_neither_shown_nor_credited() {
    for mode in LOCKED {
        near_the_locktime(mode, 0).await;
    }
}

/// It goes by the mint's: nothing is credited too late, and nothing is redeemed too late.
#[tokio::test]
async fn payee_clock_that_is_31_minutes_off_changes_nothing() {
    for mode in LOCKED {
        near_the_locktime(mode, -1_860).await;
        near_the_locktime(mode, 1_860).await;
    }
}

#[tokio::test]
async fn payee_learns_the_time_again_when_its_clock_is_set() {
    let mut pair = Pair::opened(true, 0, 500, 5, 10).await;
    pair.tick(1).await;
    let before = pair.mint.calls_of("info");
    pair.payee.now.unix.0 -= 86_400;
    pair.tick(2).await;
    assert_eq!(pair.mint.calls_of("info"), before + 1);
    pair.mint.set_skew(4 * 3_600);
    pair.payee.now.unix.0 += 86_400;
    let payload = pair.paid(3, 3).await;
    let request = pair.receive_request(3, 3, payload);
    let got = pair.payee.ask(purse(0), request).await;
    assert_eq!(got, refused(RefusalCode::TooLate));
}

#[tokio::test]
async fn tick_after_the_release_is_neither_credited_nor_redeemed() {
    for mode in LOCKED {
        let mut pair = Pair::opened(mode, 0, 500, 5, 10).await;
        pair.ticks(1..=3).await;
        let late = pair.paid(4, 4).await;
        assert_eq!(pair.settle().await, 15, "{mode:?}");
        let request = pair.receive_request(4, 4, late);
        let got = pair.payee.ask(purse(0), request).await;
        assert_eq!(got, refused(RefusalCode::OutOfOrder), "{mode:?}");
        assert_eq!(pair.settle().await, 15, "{mode:?}");
        pair.show_note().await;
        // The step that was shown comes home too.
        assert_eq!(pair.release().await, 35, "{mode:?}");
        assert_eq!(pair.payer.spendable().await, 485, "{mode:?}");
    }
}

#[tokio::test]
async fn release_comes_home_in_an_order_that_shows_nothing_unspent() {
    for mode in LOCKED {
        let mut pair = Pair::opened(mode, 0, 2_000, 3, 250).await;
        pair.ticks(1..=70).await;
        pair.settle().await;
        pair.show_note().await;
        assert_eq!(pair.release().await, 3 * 180, "{mode:?}");
        let swaps = pair.mint.shown();
        assert!(swaps.len() >= 4, "two sides, two swaps each");
        let shows = swaps.iter().any(|(_, preimages)| !preimages.is_empty());
        assert_eq!(
            shows,
            mode == Mode::Chain,
            "proofs that are locked to keys alone have none"
        );
        for (at, (_, preimages)) in swaps.iter().enumerate() {
            // A witness is public: what it gives away must be spent in this swap or before.
            let later: Vec<&String> = swaps[at + 1..]
                .iter()
                .flat_map(|(locks, _)| locks)
                .collect();
            for shown in preimages {
                let shown = Preimage::new(*shown);
                let older = (0..250).map(|back| walk_back(&shown, back).unwrap().lock());
                let opened = older.map(hex).find(|lock| later.contains(&lock));
                assert_eq!(opened, None, "{mode:?}, swap {at}");
            }
        }
    }
}

fn hex(bytes: [u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn refund_shows_no_preimage() {
    let mut pair = Pair::new(true, 0, 500, 5).await;
    pair.mint.set_skew(-3 * 3600);
    pair.params = pair.params.clone().with_lock(2 * 3600, 600).unwrap();
    pair.open(0, 10).await;
    pair.ticks(1..=4).await;
    assert_eq!(pair.payer.ask(purse(0), Request::Release).await, TRANSIENT);
    pair.mint.set_skew(0);
    pair.payer.after_s(3 * 3600);
    let back = pair.payer.wake(purse(0)).await;
    assert_eq!(back, Some(Outcome::Released { refunded: sat(30) }));
    let shown = pair.mint.shown();
    assert!(
        shown
            .iter()
            .flat_map(|(_, shown)| shown)
            .all(|preimage| *preimage == [0; 32])
    );
    assert_eq!(shown.len(), 1);
}

#[tokio::test]
async fn release_in_several_swaps_survives_a_mint_that_goes_away() {
    let mut pair = Pair::opened(true, 0, 2_000, 2, 250).await;
    pair.ticks(1..=3).await;
    pair.settle().await;
    pair.show_note().await;
    pair.mint.fail("swap", Fault::LoseAnswer);
    pair.mint.fail("swap", Fault::Away);
    let mut home = pair.payer.ask(purse(0), Request::Release).await;
    for _ in 0..3 {
        if home == TRANSIENT {
            home = pair.payer.ask(purse(0), Request::Release).await;
        }
    }
    let refunded = sat(494);
    assert_eq!(home, Some(Outcome::Released { refunded }));
    assert_eq!(pair.payer.spendable().await, 1_994);
}

#[tokio::test]
async fn refused_tick_is_outstanding_until_the_same_step_is_shown_again() {
    for mode in LOCKED {
        let mut pair = Pair::opened(mode, 0, 500, 5, 10).await;
        pair.ticks(1..=3).await;
        let kept = pair.paid(4, 4).await;
        let reclaim = Request::Reclaim { seq: Seq(4) };
        let got = pair.payer.ask(purse(0), reclaim).await;
        assert_eq!(got, Some(Outcome::Outstanding), "{mode:?}");
        // The same step again is the same preimage, or the same proofs: nothing more is out.
        assert_eq!(pair.paid(5, 4).await, kept, "{mode:?}");
    }
}

#[tokio::test]
async fn refused_tick_near_the_end_counts_as_gone() {
    for mode in LOCKED {
        let mut pair = Pair::opened(mode, 0, 500, 5, 10).await;
        pair.tick(1).await;
        pair.paid(2, 2).await;
        pair.payer.after_s(4 * 3_600 - 1_800 - 30);
        let got = pair
            .payer
            .ask(purse(0), Request::Reclaim { seq: Seq(2) })
            .await;
        assert_eq!(got, Some(Outcome::Spent), "{mode:?}");
    }
}

#[tokio::test]
async fn forged_release_is_ignored() {
    for mode in LOCKED {
        let mut pair = Pair::opened(mode, 0, 500, 5, 10).await;
        pair.ticks(1..=3).await;
        pair.settle().await;
        let good = pair.payee.notes.get(&purse(0)).cloned().unwrap();
        let mut forged = good.to_vec();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        for bytes in [forged, vec![], vec![0; 5_000]] {
            let bytes = bytes.into();
            assert_eq!(
                pair.payer.ask(purse(0), Request::Note { bytes }).await,
                None
            );
            assert_eq!(pair.payer.ask(purse(0), Request::Release).await, TRANSIENT);
        }
        let home = pair
            .payer
            .ask(purse(0), Request::Note { bytes: good })
            .await;
        let refunded = sat(35);
        assert_eq!(home, Some(Outcome::Released { refunded }));
    }
}

/// A payer that answers the payee's note must not end its settling.
#[tokio::test]
async fn answer_to_a_note_ends_nothing() {
    let mut pair = Pair::opened(true, 0, 500, 5, 10).await;
    pair.ticks(1..=3).await;
    let bytes = bytes::Bytes::from_static(b"thanks");
    let answered = pair.payee.ask(purse(0), Request::Note { bytes });
    assert_eq!(answered.await, None);
    assert_eq!(pair.settle().await, 15);
}

#[tokio::test]
async fn release_is_shown_again_after_a_restart() {
    let mut pair = Pair::opened(true, 0, 500, 5, 10).await;
    pair.ticks(1..=3).await;
    pair.settle().await;
    let good = pair.payee.notes.remove(&purse(0)).unwrap();
    pair.payee.restart(&[purse(0)]).await;
    assert_eq!(pair.payee.notes.get(&purse(0)), Some(&good));
    assert_eq!(pair.settle().await, 15);
}

#[tokio::test]
async fn mint_that_is_away_or_busy_loses_nothing() {
    for kind in ["info", "swap", "state", "keys", "keysets", "restore"] {
        for fault in [Fault::Away, Fault::LoseAnswer, Fault::TooMany] {
            let mut pair = Pair::new(true, 0, 500, 5).await;
            pair.mint.fail(kind, fault);
            let request = pair.open_request(10);
            let opening = again(&mut pair.payer, request).await;
            let Outcome::Opened(opened) = opening else {
                panic!("{kind} {fault:?}: {opening:?}");
            };
            pair.mint.fail(kind, fault);
            let request = pair.accept_request(opened.opening);
            let accepted = again(&mut pair.payee, request).await;
            assert!(
                matches!(accepted, Outcome::Accepted { .. }),
                "{kind} {fault:?}"
            );
            pair.ticks(1..=4).await;
            pair.mint.fail(kind, fault);
            let request = pair.settle_request(4);
            let settled = again(&mut pair.payee, request).await;
            assert_eq!(
                settled,
                Outcome::Settled { settled: sat(20) },
                "{kind} {fault:?}"
            );
            pair.show_note().await;
            pair.mint.fail(kind, fault);
            let home = again(&mut pair.payer, Request::Release).await;
            assert_eq!(
                home,
                Outcome::Released { refunded: sat(30) },
                "{kind} {fault:?}"
            );
            assert_eq!(pair.payer.spendable().await, 480, "{kind} {fault:?}");
            assert_eq!(pair.payee.spendable().await, 20, "{kind} {fault:?}");
        }
    }
}

/// The same request until it is answered for good.
async fn again(node: &mut crate::node::Node, request: Request) -> Outcome {
    for _ in 0..6 {
        match node.ask(purse(0), request.clone()).await {
            Some(Outcome::Failed(BackendError::Transient | BackendError::Unknown)) | None => {}
            Some(outcome) => return outcome,
        }
    }
    panic!("never answered: {request:?}");
}

#[tokio::test]
async fn restarted_payee_asks_the_mint_when_to_redeem() {
    let mut pair = Pair::opened(true, 0, 500, 5, 10).await;
    pair.ticks(1..=3).await;
    pair.payee.restart(&[purse(0)]).await;
    // Its own clock is hours behind; the margin is near by the mint's.
    pair.payee.now.unix.0 -= 7_200;
    pair.mint.set_skew(4 * 3_600 - 1_800);
    assert_eq!(pair.payee.wake(purse(0)).await, None);
    assert_eq!(pair.payee.spendable().await, 15);
}
