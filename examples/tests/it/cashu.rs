//! `cashu-swap` against a real cdk mint.

use crate::purses;
use bytes::Bytes;
use streampay_core::backend::{BackendError, Consumed, Opened, Outcome, RefusalCode, Request};
use streampay_core::units::{Msat, Seq};
use streampay_examples::mint::faults_for_testing::Fault;

use crate::cashu_node::{Crash, Node, Pair, mint, offer, purse, sat};

const SWAP: &str = "/v1/swap";

fn refused(code: RefusalCode, consumed: Consumed) -> Outcome {
    Outcome::Failed(BackendError::Rejected(code, consumed))
}

fn failed(error: BackendError) -> Outcome {
    Outcome::Failed(error)
}

/// What a peer can do to a payload, by rewriting its bytes.
fn altered(payload: &Bytes, from: &[u8], to: &[u8]) -> Bytes {
    let at = payload
        .windows(from.len())
        .position(|part| part == from)
        .expect("the bytes are there");
    let mut bytes = payload[..at].to_vec();
    bytes.extend_from_slice(to);
    bytes.extend_from_slice(&payload[at + from.len()..]);
    bytes.into()
}

#[tokio::test]
async fn ticks_are_paid_and_the_rest_comes_back() {
    for ppk in [0, 100] {
        let mut pair = Pair::opened(ppk, 100, 2, 10).await;
        for seq in 1..=6 {
            pair.whole_tick(seq).await;
        }
        pair.settles_conserved(100, 6).await;
        let fees = pair.mint.ledger().await.unwrap().fees;
        // One for the split and one for each tick.
        assert_eq!(fees, if ppk == 0 { sat(0) } else { sat(7) });
    }
}

#[tokio::test]
async fn a_mints_price_is_paid_and_not_credited() {
    for ppk in [0, 100] {
        let mut pair = Pair::new(ppk, 200, 10).await;
        pair.price = 1_050;
        let capacity = pair.open(8, &mut Crash::never()).await;
        assert_eq!(capacity, sat(80));
        for seq in 1..=3 {
            pair.whole_tick(seq).await;
        }
        // One that is taken back is worth its price too.
        pair.paid(4).await;
        let reclaim = Request::Reclaim { seq: Seq(4) };
        let back = pair.payer.ask(pair.key, reclaim).await;
        assert_eq!(back, Some(Outcome::Reclaimed));
        pair.settles_conserved(200, 3).await;
        assert_eq!(pair.payee.balance().await.0, sat(33));
    }
}

#[tokio::test]
async fn a_purse_is_as_large_as_the_wallet_can_pay() {
    let mut pair = Pair::new(100, 20, 2).await;
    let capacity = pair.open(1000, &mut Crash::never()).await;
    // 20 - 1 for the split, 3 a token.
    assert_eq!(capacity, sat(12));
    for seq in 1..=6 {
        pair.whole_tick(seq).await;
    }
    let request = pair.pay(7);
    let empty = failed(BackendError::Fatal(RefusalCode::PurseEmpty));
    assert_eq!(pair.payer.ask(pair.key, request).await, Some(empty));
    pair.settles_conserved(20, 6).await;
}

#[tokio::test]
async fn an_empty_wallet_opens_nothing_and_may_try_again() {
    let mut pair = Pair::new(100, 0, 2).await;
    let request = Request::Open {
        offer: offer(&pair.mint.url(), pair.tick),
        capacity: sat(20),
        budget: Msat::MAX,
    };
    let poor = failed(BackendError::Fatal(RefusalCode::InsufficientFunds));
    for _ in 0..2 {
        let opened = pair.payer.ask(pair.key, request.clone()).await;
        assert_eq!(opened, Some(poor.clone()));
    }
    let wallet = pair.payer.wallet().clone();
    wallet.deposit(&pair.mint.url(), sat(50)).await.unwrap();
    drop(wallet);
    assert_eq!(pair.open(5, &mut Crash::never()).await, sat(10));
    pair.settles_conserved(50, 0).await;
}

#[tokio::test]
async fn the_same_tick_is_the_same_bytes_also_after_a_restart() {
    let mut pair = Pair::opened(100, 50, 2, 5).await;
    let first = pair.paid(1).await;
    assert_eq!(pair.paid(1).await, first);
    pair.payer.restart().await;
    assert_eq!(pair.paid(1).await, first);
    assert_ne!(pair.paid(2).await, first);
    pair.settles_conserved(50, 0).await;
}

#[tokio::test]
async fn a_repeated_tick_is_credited_once() {
    let mut pair = Pair::opened(100, 50, 2, 5).await;
    let payload = pair.paid(1).await;
    for _ in 0..3 {
        assert_eq!(pair.credit(1, &payload).await, Outcome::Credited);
    }
    pair.payee.restart().await;
    assert_eq!(pair.credit(1, &payload).await, Outcome::Credited);
    assert_eq!(pair.mint.swaps(), 2, "one split, one tick");
    // The same bytes as another tick are bound to the first.
    let outcome = pair.credit(2, &payload).await;
    assert_eq!(outcome, refused(RefusalCode::WrongSession, Consumed::No));
    // Other bytes for a tick that is credited.
    let other = pair.paid(2).await;
    let outcome = pair.credit(1, &other).await;
    assert_eq!(outcome, refused(RefusalCode::OutOfOrder, Consumed::No));
    pair.settles_conserved(50, 1).await;
}

#[tokio::test]
async fn keys_that_the_mint_changes_do_not_stop_a_purse() {
    let mut pair = Pair::opened(100, 60, 2, 5).await;
    pair.whole_tick(1).await;
    let mint = pair.mint.mint_for_testing().clone();
    let amounts = (0..32).map(|bit| 1_u64 << bit).collect();
    mint.rotate_keyset(cdk::nuts::CurrencyUnit::Sat, amounts, 100, true, None)
        .await
        .unwrap();
    // Tokens of the old keys for the payee, outputs of the new ones.
    pair.whole_tick(2).await;
    pair.paid(3).await;
    let reclaim = Request::Reclaim { seq: Seq(3) };
    let reclaimed = pair.payer.ask(pair.key, reclaim).await;
    assert_eq!(reclaimed, Some(Outcome::Reclaimed));
    // A purse of the new keys for a payee that only knows the old ones by now.
    let first = pair.key;
    pair.key = purse(8);
    pair.open(3, &mut Crash::never()).await;
    pair.whole_tick(1).await;
    pair.release().await;
    assert_eq!(pair.settle().await, sat(2));
    pair.key = first;
    pair.release().await;
    assert_eq!(pair.settle().await, sat(4));
    let ledger = pair.mint.ledger().await.unwrap();
    let (payer, payee) = (pair.payer.balance().await, pair.payee.balance().await);
    assert_eq!((payer.1, payee.1), (Msat::ZERO, Msat::ZERO));
    assert_eq!(payer.0.plus(payee.0).unwrap(), ledger.outstanding());
}

#[tokio::test]
async fn bad_payments_are_refused_before_the_mint_is_asked() {
    let mut pair = Pair::opened(100, 100, 2, 5).await;
    let payload = pair.paid(1).await;
    let url = pair.mint.url();
    let mut other = url.clone().into_bytes();
    *other.last_mut().unwrap() ^= 1;
    let cases = [
        (Bytes::new(), RefusalCode::Malformed),
        (Bytes::from_static(b"cashuA"), RefusalCode::Malformed),
        (payload.slice(..payload.len() - 1), RefusalCode::Malformed),
        (
            altered(&payload, &[7; 32], &[8; 32]),
            RefusalCode::WrongSession,
        ),
        (
            altered(&payload, url.as_bytes(), &other),
            RefusalCode::WrongMint,
        ),
        (
            altered(&payload, b"\x63sat", b"\x63usd"),
            RefusalCode::WrongUnit,
        ),
    ];
    let before = pair.mint.swaps();
    for (bytes, code) in cases {
        let outcome = pair.credit(1, &bytes).await;
        assert_eq!(outcome, refused(code, Consumed::No), "{code}");
    }
    assert_eq!(pair.mint.swaps(), before);
    assert_eq!(pair.credit(1, &payload).await, Outcome::Credited);
    pair.settles_conserved(100, 1).await;
}

#[tokio::test]
async fn a_unit_too_little_or_too_much_is_refused_and_reclaimed() {
    // The payer's terms differ by a unit from the payee's.
    for (payer_tick, payee_tick) in [(2, 3), (4, 3)] {
        let mut pair = Pair::opened(100, 100, payer_tick, 5).await;
        pair.key = purse(8);
        let of_payer = Request::Open {
            offer: offer(&pair.mint.url(), sat(payer_tick)),
            capacity: sat(payer_tick * 5),
            budget: Msat::MAX,
        };
        let opened = pair.payer.ask(pair.key, of_payer).await;
        let Some(Outcome::Opened(Opened { opening, .. })) = opened else {
            panic!("{opened:?}");
        };
        let accept = Request::Accept {
            offer: offer(&pair.mint.url(), sat(payee_tick)),
            opening,
        };
        pair.payee.ask(pair.key, accept).await.unwrap();
        let payload = pair.paid(1).await;
        pair.tick = sat(payee_tick);
        let outcome = pair.credit(1, &payload).await;
        assert_eq!(outcome, refused(RefusalCode::WrongAmount, Consumed::No));
        let reclaim = Request::Reclaim { seq: Seq(1) };
        let reclaimed = pair.payer.ask(pair.key, reclaim).await;
        assert_eq!(reclaimed, Some(Outcome::Reclaimed));
        pair.release().await;
        pair.key = purse(7);
        pair.release().await;
        let ledger = pair.mint.ledger().await.unwrap();
        assert_eq!(pair.payer.balance().await, (ledger.outstanding(), sat(0)));
    }
}

#[tokio::test]
async fn an_opening_at_another_mint_or_for_another_session_is_refused() {
    let mut pair = Pair::new(100, 50, 2).await;
    let elsewhere = mint(0).await;
    let request = Request::Open {
        offer: offer(&pair.mint.url(), pair.tick),
        capacity: sat(10),
        budget: Msat::MAX,
    };
    let Some(Outcome::Opened(Opened { opening, .. })) = pair.payer.ask(pair.key, request).await
    else {
        panic!("not opened");
    };
    let cases = [
        (
            pair.key,
            offer(&elsewhere.url(), pair.tick),
            RefusalCode::WrongMint,
        ),
        (
            purse(9),
            offer(&pair.mint.url(), pair.tick),
            RefusalCode::WrongSession,
        ),
    ];
    for (key, offer, code) in cases {
        let opening = opening.clone();
        let accepted = pair
            .payee
            .ask(key, Request::Accept { offer, opening })
            .await;
        assert_eq!(accepted, Some(refused(code, Consumed::No)));
    }
    pair.settles_conserved(50, 0).await;
}

#[tokio::test]
async fn a_spent_token_is_refused_as_spent() {
    let mut pair = Pair::opened(100, 50, 2, 5).await;
    let payload = pair.paid(1).await;
    // The payer takes it back before the payee swaps it.
    let reclaim = Request::Reclaim { seq: Seq(1) };
    let reclaimed = pair.payer.ask(pair.key, reclaim.clone()).await;
    assert_eq!(reclaimed, Some(Outcome::Reclaimed));
    let outcome = pair.credit(1, &payload).await;
    assert_eq!(outcome, refused(RefusalCode::AlreadySpent, Consumed::Yes));
    // Another token for the same tick is as good as any.
    let again = pair.paid(1).await;
    assert_ne!(again, payload);
    assert_eq!(pair.credit(1, &again).await, Outcome::Credited);
    let acked = Request::Acked {
        seq: Seq(1),
        cumulative: Msat::ZERO,
    };
    pair.payer.ask(pair.key, acked).await;
    pair.settles_conserved(50, 1).await;
}

#[tokio::test]
async fn a_token_that_was_good_elsewhere_is_spent_here() {
    // The payee of two sessions gets the first one's coins again, bound to the second.
    let mut pair = Pair::opened(0, 50, 2, 5).await;
    let payload = pair.paid(1).await;
    assert_eq!(pair.credit(1, &payload).await, Outcome::Credited);
    let first = pair.key;
    pair.key = purse(8);
    pair.open(5, &mut Crash::never()).await;
    let rebound = altered(&payload, &[7; 32], &[8; 32]);
    let outcome = pair.credit(1, &rebound).await;
    assert_eq!(outcome, refused(RefusalCode::AlreadySpent, Consumed::Yes));
    assert_eq!(pair.settle().await, sat(0));
    pair.release().await;
    pair.key = first;
    assert_eq!(pair.settle().await, sat(2));
}

#[tokio::test]
async fn a_nack_that_lies_is_found_out() {
    let mut pair = Pair::opened(100, 50, 2, 5).await;
    // "Refused", but swapped.
    let payload = pair.paid(1).await;
    assert_eq!(pair.credit(1, &payload).await, Outcome::Credited);
    let reclaim = |seq| Request::Reclaim { seq: Seq(seq) };
    for _ in 0..2 {
        let outcome = pair.payer.ask(pair.key, reclaim(1)).await;
        assert_eq!(outcome, Some(Outcome::Spent));
    }
    // "Consumed", but untouched.
    pair.paid(2).await;
    for _ in 0..2 {
        let outcome = pair.payer.ask(pair.key, reclaim(2)).await;
        assert_eq!(outcome, Some(Outcome::Reclaimed));
    }
    pair.settles_conserved(50, 1).await;
}

#[tokio::test]
async fn release_takes_back_what_was_sent_and_never_swapped() {
    let mut pair = Pair::opened(100, 50, 2, 5).await;
    pair.whole_tick(1).await;
    let swapped = pair.paid(2).await;
    assert_eq!(pair.credit(2, &swapped).await, Outcome::Credited);
    pair.paid(3).await;
    // 2 was credited and its ack lost; 3 never arrived.
    pair.settles_conserved(50, 2).await;
    let again = pair.release().await;
    assert_eq!(again, pair.release().await);
}

#[tokio::test]
async fn release_of_a_purse_that_never_opened_frees_the_wallet() {
    let mut pair = Pair::new(100, 50, 2).await;
    pair.payer.impatient();
    let faults = pair.mint.faults_for_testing().clone();
    faults.set(SWAP, Fault::Refuse, 1);
    let request = Request::Open {
        offer: offer(&pair.mint.url(), pair.tick),
        capacity: sat(10),
        budget: Msat::MAX,
    };
    let away = Some(failed(BackendError::Transient));
    assert_eq!(pair.payer.ask(pair.key, request).await, away);
    assert_ne!(pair.payer.balance().await.1, Msat::ZERO, "reserved");
    pair.settles_conserved(50, 0).await;
}

#[tokio::test]
async fn two_sessions_on_one_wallet_never_share_a_token() {
    let mut pair = Pair::new(100, 60, 2).await;
    let offer = offer(&pair.mint.url(), pair.tick);
    let mut capacities = Vec::new();
    for key in [purse(1), purse(2), purse(3)] {
        let request = Request::Open {
            offer: offer.clone(),
            capacity: sat(16),
            budget: Msat::MAX,
        };
        match pair.payer.ask(key, request).await {
            Some(Outcome::Opened(Opened {
                opening, capacity, ..
            })) => {
                capacities.push(capacity);
                let offer = offer.clone();
                let accept = Request::Accept { offer, opening };
                pair.payee.ask(key, accept).await.unwrap();
                pair.key = key;
                pair.whole_tick(1).await;
            }
            other => assert_eq!(
                other,
                Some(failed(BackendError::Fatal(RefusalCode::InsufficientFunds)))
            ),
        }
    }
    assert!(capacities.len() >= 2, "{capacities:?}");
    let mut settled = Msat::ZERO;
    for session in 1..=3 {
        pair.key = purse(session);
        pair.release().await;
        settled = settled.plus(pair.settle().await).unwrap();
    }
    let (payee, _) = pair.payee.balance().await;
    assert_eq!(settled, payee);
    let (payer, pending) = pair.payer.balance().await;
    let ledger = pair.mint.ledger().await.unwrap();
    assert_eq!(pending, Msat::ZERO);
    assert_eq!(payer.plus(payee).unwrap(), ledger.outstanding());
}

#[tokio::test]
async fn purses_opened_at_the_same_time_do_not_share_money() {
    let mint = mint(100).await;
    let payer = Node::new(&mint, 100).await;
    let runner = payer.runner();
    let mut tasks = Vec::new();
    for session in 1..=4 {
        let (runner, offer) = (runner.clone(), offer(&mint.url(), sat(2)));
        tasks.push(tokio::spawn(async move {
            let mut machine = streampay_cashu::SwapMachine::default();
            let mut store = streampay_core::store::MemoryStore::new();
            let capacity = sat(20);
            let key = purse(session);
            for _ in 0..20 {
                let request = Request::Open {
                    offer: offer.clone(),
                    capacity,
                    budget: capacity,
                };
                let outcome =
                    purses::run_to_outcome(&mut machine, &runner, &mut store, key, request)
                        .await
                        .unwrap();
                if outcome != Some(failed(BackendError::Transient)) {
                    break;
                }
            }
            purses::recover_purses(&mut machine, &runner, &mut store)
                .await
                .unwrap()
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let ledger = mint.ledger().await.unwrap();
    assert_eq!(payer.balance().await, (ledger.outstanding(), Msat::ZERO));
    let with_fees = ledger.outstanding().plus(ledger.fees).unwrap();
    assert_eq!(with_fees, sat(100));
}
