//! What every way to pay in ecash must do, one suite for all three.

use bytes::Bytes;
use streampay_cashu::{AcceptedMint, LockedParams};
use streampay_core::backend::{BackendError, Consumed, Outcome, RefusalCode, Request};
use streampay_core::units::{Msat, Seq};

use crate::mint::Fault;
use crate::node::{Crash, Mode, Node, Pair, purse, receiver, sat};

const FUNDS: u64 = 500;
const TICK: u64 = 3;
const TICKS: u64 = 10;

impl Pair {
    async fn of(mode: Mode) -> Self {
        Self::opened(mode, 0, FUNDS, TICK, TICKS).await
    }

    async fn received(&mut self, seq: u64, payload: Bytes) -> Option<Outcome> {
        let request = self.receive_request(seq, seq, payload);
        self.payee.ask(purse(0), request).await
    }

    /// Both sides end, and every satoshi is with the one it belongs to.
    async fn ends_after(&mut self, ticks: u64) {
        let case = self.mode;
        assert_eq!(self.settle().await, ticks * TICK, "{case:?}");
        self.show_note().await;
        let back = (TICKS - ticks) * TICK;
        assert_eq!(self.release().await, back, "{case:?}");
        let spent = ticks * TICK;
        assert_eq!(self.payer.spendable().await, FUNDS - spent, "{case:?}");
        assert_eq!(self.payee.spendable().await, spent, "{case:?}");
        // Asked again, the same is said and nothing moves.
        assert_eq!(self.settle().await, spent, "{case:?}");
        assert_eq!(self.release().await, back, "{case:?}");
        assert_eq!(self.payer.spendable().await, FUNDS - spent, "{case:?}");
    }
}

fn is_refused(outcome: &Option<Outcome>) -> bool {
    let no = Consumed::No;
    matches!(outcome, Some(Outcome::Failed(BackendError::Rejected(_, consumed))) if *consumed == no)
}

#[tokio::test]
async fn ticks_are_credited_and_the_rest_comes_home() {
    for mode in Mode::ALL {
        for ticks in [0, 1, 6, TICKS] {
            let mut pair = Pair::of(mode).await;
            pair.ticks(1..=ticks).await;
            pair.ends_after(ticks).await;
        }
    }
}

#[tokio::test]
async fn fees_are_all_that_is_missing() {
    for mode in Mode::ALL {
        let mut pair = Pair::opened(mode, 100, FUNDS, TICK, TICKS).await;
        pair.ticks(1..=4).await;
        let settled = pair.settle().await;
        assert!((4 * TICK - 1..=4 * TICK).contains(&settled), "{mode:?}");
        pair.show_note().await;
        pair.release().await;
        let (left, earned) = (pair.payer.spendable().await, pair.payee.spendable().await);
        assert_eq!(earned, settled, "{mode:?}");
        let fees = FUNDS - left - earned;
        assert!(fees <= 10, "{mode:?}: {fees}");
    }
}

#[tokio::test]
async fn same_tick_is_the_same_bytes_and_credited_once() {
    for mode in Mode::ALL {
        let mut pair = Pair::of(mode).await;
        let first = pair.paid(1, 1).await;
        assert_eq!(pair.paid(1, 1).await, first, "{mode:?}");
        pair.payer.restart(&[purse(0)]).await;
        assert_eq!(pair.paid(1, 1).await, first, "{mode:?}");
        for _ in 0..3 {
            let got = pair.received(1, first.clone()).await;
            assert_eq!(got, Some(Outcome::Credited), "{mode:?}");
        }
        pair.payee.restart(&[purse(0)]).await;
        let got = pair.received(1, first.clone()).await;
        assert_eq!(got, Some(Outcome::Credited), "{mode:?}");
        // Other bytes under its number, and its bytes under another.
        let other = pair.paid(2, 2).await;
        let out_of_order = BackendError::Rejected(RefusalCode::OutOfOrder, Consumed::No);
        let got = pair.received(1, other).await;
        assert_eq!(got, Some(Outcome::Failed(out_of_order)), "{mode:?}");
        let got = pair.received(2, first).await;
        assert!(is_refused(&got), "{mode:?}: {got:?}");
    }
}

#[tokio::test]
async fn forged_tick_is_refused_and_the_true_one_is_credited() {
    for mode in Mode::ALL {
        let mut pair = Pair::of(mode).await;
        let good = pair.paid(1, 1).await;
        let mut forged = good.to_vec();
        *forged.last_mut().unwrap() ^= 1;
        let short = good.slice(1..);
        for bad in [forged.into(), short, Bytes::new()] {
            let got = pair.received(1, bad).await;
            assert!(is_refused(&got), "{mode:?}: {got:?}");
        }
        pair.tick(1).await;
        pair.ends_after(1).await;
    }
}

#[tokio::test]
async fn amounts_that_are_no_whole_ticks_are_refused() {
    for mode in Mode::ALL {
        let mut pair = Pair::of(mode).await;
        let payload = pair.paid(1, 1).await;
        for (amount, cumulative) in [(TICK, TICK + 1), (TICK + 1, TICK + 1), (0, TICK)] {
            let request = Request::Receive {
                seq: Seq(1),
                amount: sat(amount),
                cumulative: sat(cumulative),
                payload: payload.clone(),
            };
            let got = pair.payee.ask(purse(0), request).await;
            let wrong = BackendError::Rejected(RefusalCode::WrongAmount, Consumed::No);
            assert_eq!(got, Some(Outcome::Failed(wrong)), "{mode:?} {amount}");
        }
        assert_eq!(
            pair.received(1, payload).await,
            Some(Outcome::Credited),
            "{mode:?}"
        );
        let acked = Request::Acked {
            seq: Seq(1),
            cumulative: sat(TICK),
        };
        pair.payer.ask(purse(0), acked).await;
        pair.ends_after(1).await;
    }
}

#[tokio::test]
async fn more_than_the_purse_holds_is_not_paid() {
    for mode in Mode::ALL {
        let mut pair = Pair::of(mode).await;
        pair.ticks(1..=TICKS).await;
        let request = pair.pay_request(TICKS + 1, TICKS + 1);
        let got = pair.payer.ask(purse(0), request).await;
        let empty = BackendError::Fatal(RefusalCode::PurseEmpty);
        assert_eq!(got, Some(Outcome::Failed(empty)), "{mode:?}");
        pair.ends_after(TICKS).await;
    }
}

#[tokio::test]
async fn refused_tick_is_reclaimed_and_paid_again() {
    for mode in Mode::ALL {
        let mut pair = Pair::of(mode).await;
        pair.tick(1).await;
        pair.paid(2, 2).await;
        let reclaim = Request::Reclaim { seq: Seq(2) };
        let got = pair.payer.ask(purse(0), reclaim).await;
        let wanted = match mode {
            Mode::Swap => Outcome::Reclaimed,
            // What was shown is out.
            _ => Outcome::Outstanding,
        };
        assert_eq!(got, Some(wanted), "{mode:?}");
        let payload = pair.paid(3, 2).await;
        let request = Request::Receive {
            seq: Seq(3),
            amount: sat(TICK),
            cumulative: sat(2 * TICK),
            payload,
        };
        let got = pair.payee.ask(purse(0), request).await;
        assert_eq!(got, Some(Outcome::Credited), "{mode:?}");
        let acked = Request::Acked {
            seq: Seq(3),
            cumulative: sat(2 * TICK),
        };
        pair.payer.ask(purse(0), acked).await;
        assert_eq!(pair.settle().await, 2 * TICK, "{mode:?}");
        pair.show_note().await;
        pair.release().await;
        let left = pair.payer.spendable().await;
        assert_eq!(left, FUNDS - 2 * TICK, "{mode:?}");
    }
}

#[tokio::test]
async fn tick_that_the_payee_has_is_not_taken_back() {
    for mode in Mode::ALL {
        let mut pair = Pair::of(mode).await;
        let payload = pair.paid(1, 1).await;
        let got = pair.received(1, payload).await;
        assert_eq!(got, Some(Outcome::Credited));
        assert_eq!(pair.settle().await, TICK, "{mode:?}");
        // The ack is lost, and its payer wants it back.
        pair.payer
            .ask(purse(0), Request::Reclaim { seq: Seq(1) })
            .await;
        pair.show_note().await;
        pair.payer.ask(purse(0), Request::Release).await;
        assert_eq!(pair.payee.spendable().await, TICK, "{mode:?}");
        let left = pair.payer.spendable().await;
        assert_eq!(left, FUNDS - TICK, "{mode:?}");
    }
}

#[tokio::test]
async fn refused_opening_gives_nothing_and_takes_nothing() {
    for mode in Mode::ALL {
        let mut pair = Pair::new(mode, 0, FUNDS, TICK).await;
        let opening = pair.offered(0, TICKS).await;
        let mint = AcceptedMint::sat("https://other.example").unwrap();
        let named = pair.params.clone();
        pair.params = LockedParams::new(vec![mint], receiver().public()).unwrap();
        let request = pair.accept_request(opening.clone());
        let got = pair.payee.ask(purse(0), request).await;
        let wrong = BackendError::Rejected(RefusalCode::WrongMint, Consumed::No);
        assert_eq!(got, Some(Outcome::Failed(wrong)), "{mode:?}");
        assert_eq!(pair.settle().await, 0, "{mode:?}");
        // By the right terms it is as good as it was.
        pair.params = named;
        let request = pair.accept_request(opening);
        let got = pair.payee.ask(purse(0), request).await;
        assert!(matches!(got, Some(Outcome::Accepted { .. })), "{mode:?}");
        pair.tick(1).await;
        pair.ends_after(1).await;
    }
}

#[tokio::test]
async fn purse_is_as_large_as_its_budget() {
    for mode in Mode::ALL {
        let mut pair = Pair::new(mode, 0, FUNDS, TICK).await;
        let mut request = pair.open_request(TICKS);
        if let Request::Open { budget, .. } = &mut request {
            *budget = sat(4 * TICK + 1);
        }
        let got = pair.payer.ask(purse(0), request).await;
        let Some(Outcome::Opened(opened)) = got else {
            panic!("{mode:?}: {got:?}");
        };
        assert_eq!(opened.capacity, sat(4 * TICK), "{mode:?}");
        assert!(opened.cost <= sat(4 * TICK + 1), "{mode:?}");
    }
}

#[tokio::test]
async fn empty_wallet_opens_nothing_and_may_try_again() {
    for mode in Mode::ALL {
        let mut pair = Pair::new(mode, 0, 0, TICK).await;
        for _ in 0..2 {
            let request = pair.open_request(TICKS);
            let got = pair.payer.ask(purse(0), request).await;
            let poor = BackendError::Fatal(RefusalCode::InsufficientFunds);
            assert_eq!(got, Some(Outcome::Failed(poor)), "{mode:?}");
        }
        assert_eq!(
            pair.payer.ask(purse(0), Request::Release).await,
            Some(Outcome::Released {
                refunded: Msat::ZERO
            }),
            "{mode:?}"
        );
    }
}

/// The same request until it is answered, where the process dies once on the way, at boundary `at`.
async fn ask(node: &mut Node, at: u64, request: Request) -> Option<Outcome> {
    let mut crash = Crash(Some(at));
    node.ask_crashing(purse(0), request, &mut crash).await
}

#[tokio::test]
async fn nothing_is_lost_wherever_a_process_dies() {
    for mode in Mode::ALL {
        for at in 0..32 {
            let mut pair = Pair::new(mode, 0, FUNDS, TICK).await;
            let request = pair.open_request(TICKS);
            let opened = ask(&mut pair.payer, at, request).await;
            let Some(Outcome::Opened(opened)) = opened else {
                panic!("{mode:?}: not opened at {at}: {opened:?}");
            };
            let request = pair.accept_request(opened.opening);
            let accepted = ask(&mut pair.payee, at, request).await;
            assert!(
                matches!(accepted, Some(Outcome::Accepted { .. })),
                "{mode:?} {at}: {accepted:?}"
            );
            for seq in 1..=3 {
                let request = pair.pay_request(seq, seq);
                let paid = ask(&mut pair.payer, at, request).await;
                let Some(Outcome::Paid { payload }) = paid else {
                    panic!("{mode:?}: not paid at {at}: {paid:?}");
                };
                let request = pair.receive_request(seq, seq, payload);
                let credited = ask(&mut pair.payee, at, request).await;
                assert_eq!(credited, Some(Outcome::Credited), "{mode:?} {at}");
                let acked = Request::Acked {
                    seq: Seq(seq),
                    cumulative: sat(seq * TICK),
                };
                assert_eq!(ask(&mut pair.payer, at, acked).await, None);
            }
            let request = pair.settle_request(3);
            let settled = ask(&mut pair.payee, at, request).await;
            let expect = Outcome::Settled {
                settled: sat(3 * TICK),
            };
            assert_eq!(settled, Some(expect), "{mode:?} {at}");
            pair.show_note().await;
            let released = ask(&mut pair.payer, at, Request::Release).await;
            let refunded = sat((TICKS - 3) * TICK);
            let expect = Outcome::Released { refunded };
            assert_eq!(released, Some(expect), "{mode:?} {at}");
            pair.ends_after(3).await;
        }
    }
}

#[tokio::test]
async fn answers_lost_after_the_mint_acted_lose_nothing() {
    for mode in Mode::ALL {
        let mut pair = Pair::new(mode, 0, FUNDS, TICK).await;
        pair.mint.fail("swap", Fault::LoseAnswer);
        pair.open(0, TICKS).await;
        pair.mint.fail("swap", Fault::LoseAnswer);
        pair.ticks(1..=6).await;
        if mode != Mode::Swap {
            pair.mint.fail("swap", Fault::LoseAnswer);
        }
        assert_eq!(pair.settle().await, 6 * TICK, "{mode:?}");
        pair.mint.heal();
        pair.show_note().await;
        if mode != Mode::Swap {
            pair.mint.fail("swap", Fault::LoseAnswer);
        }
        pair.ends_after(6).await;
    }
}

#[tokio::test]
async fn keys_that_the_mint_changes_stop_no_purse() {
    for mode in Mode::ALL {
        let mut pair = Pair::of(mode).await;
        pair.ticks(1..=2).await;
        let amounts = (0..20).map(|bit| 1 << bit).collect();
        let unit = cdk::nuts::CurrencyUnit::Sat;
        let rotated = pair.mint.mint.rotate_keyset(unit, amounts, 0, true, None);
        rotated.await.unwrap();
        pair.ticks(3..=5).await;
        pair.ends_after(5).await;
    }
}
