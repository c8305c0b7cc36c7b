//! Closing together, and every way in which it does not come to that.

use bitcoin::Transaction;
use streampay_core::backend::{BackendError, Outcome, Request};
use streampay_core::units::Mono;

use super::{PAYEE, PAYER, Rig, STEP, key};
use crate::machine::ChannelState;
use crate::sim::{Payment, SimNode, sim_config};

const TICKS: u64 = 10;
/// How long a payer may take.
const WINDOW_MS: u64 = 10_000;

/// A channel with some ticks, its payee asked to settle: it waits for the payer.
fn settling() -> Rig {
    settling_after(Payment::Prompt)
}

fn settling_after(payment: Payment) -> Rig {
    let mut rig = Rig::new();
    rig.payer.payment = payment;
    let mut config = sim_config(PAYEE);
    config.payee.mutual_ms = WINDOW_MS;
    rig.payee = SimNode::new(&rig.chain, config, PAYEE);
    let opened = rig.opened();
    let accepted = rig.accept(&opened);
    assert!(matches!(accepted, Some(Outcome::Accepted { .. })));
    (1..=TICKS).for_each(|seq| rig.tick(seq));
    let transient = Some(Outcome::Failed(BackendError::Transient));
    assert_eq!(
        rig.payee.request(
            rig.purse,
            Request::Settle {
                cumulative: streampay_core::units::Msat::ZERO
            }
        ),
        transient
    );
    assert_eq!(rig.payer.request(rig.purse, Request::Release), transient);
    assert_eq!(rig.payee.notes.len(), 1);
    assert!(rig.chain.waiting().is_empty(), "it waits for the payer");
    rig
}

impl Rig {
    /// The payee's proposal reaches the payer.
    fn propose(&mut self) {
        let bytes = self.payee.notes[0].1.clone();
        assert_eq!(
            self.payer.request(self.purse, Request::Note { bytes }),
            None
        );
    }

    /// The payer's part reaches the payee.
    fn cosign(&mut self) {
        let bytes = self.payer.notes[0].1.clone();
        assert_eq!(
            self.payee.request(self.purse, Request::Note { bytes }),
            None
        );
    }

    fn waits(&mut self, ms: u64) {
        for node in [&mut self.payer, &mut self.payee] {
            node.now.mono = Mono(node.now.mono.0 + ms);
            node.look();
        }
    }

    /// The one close, in a block and buried; and what each side says of it.
    fn buried(&mut self) -> (Transaction, u64, u64) {
        let outpoint = self.payee.machine.report()[0].outpoint.unwrap();
        for _ in 0..7 {
            self.chain.mine(1);
            self.payee.look();
            self.payer.look();
        }
        let (tx, height) = self.chain.spender(outpoint).unwrap();
        assert!(height.is_some());
        let settled = |node: &SimNode| {
            let report = node.machine.report().remove(0);
            assert_eq!(report.state, ChannelState::Settled);
            report.settled.unwrap().to_sat()
        };
        let (back, earned) = (settled(&self.payer), settled(&self.payee));
        assert_eq!(self.balances(), (back, earned), "each says what it has");
        for node in [&self.payer, &self.payee] {
            assert!(node.refused.is_empty(), "{:?}", node.refused);
        }
        (tx, back, earned)
    }

    fn unilateral(&mut self) {
        let (tx, back, _) = self.buried();
        assert_eq!(
            tx.input[0].witness.len(),
            4,
            "both signatures, leaf, control block"
        );
        let report = self.payer.machine.report().remove(0);
        assert_eq!(back, (report.value - report.paid).to_sat());
    }
}

#[test]
fn both_sign_and_the_unused_reserve_comes_back() {
    let mut rig = settling();
    rig.propose();
    rig.cosign();
    assert_eq!(rig.chain.waiting().len(), 1, "at once");
    let (tx, back, earned) = rig.buried();
    assert_eq!(tx.input[0].witness.len(), 1, "one signature");
    assert!(tx.vsize() <= 154, "{}", tx.vsize());
    let report = rig.payer.machine.report().remove(0);
    let fee = report.value.to_sat() - back - earned;
    assert_eq!(earned, TICKS * STEP, "all that was paid");
    assert!(back > (report.value - report.paid).to_sat());
    assert!((200..=308).contains(&fee), "{fee}");
}

#[test]
fn an_attempt_that_ends_at_any_message_leaves_the_other_close() {
    // The proposal is lost; the part is lost.
    for lost in 0..2 {
        let mut rig = settling();
        if lost == 1 {
            rig.propose();
        }
        rig.waits(WINDOW_MS - 1);
        assert!(rig.chain.waiting().is_empty());
        rig.waits(1);
        assert_eq!(rig.chain.waiting().len(), 1, "{lost}");
        rig.unilateral();
    }
    // The part is not one, or that of another attempt.
    for at in [0, 20, 100] {
        let mut rig = settling();
        rig.propose();
        let mut bad = rig.payer.notes[0].1.to_vec();
        bad[at] ^= 1;
        let bytes = bad.into();
        rig.payee.request(rig.purse, Request::Note { bytes });
        rig.payee.look();
        rig.unilateral();
    }
}

#[test]
fn a_restart_of_either_side_at_any_message_leaves_the_other_close() {
    for (side, after) in [(PAYEE, 0), (PAYEE, 1), (PAYER, 0), (PAYER, 1)] {
        let mut rig = settling();
        if after == 1 {
            rig.propose();
        }
        let purses = [rig.purse];
        if side == PAYEE {
            rig.payee.restart(&purses);
            // An old part finds nobody who waits for it.
            if after == 1 {
                rig.cosign();
            }
        } else {
            rig.payer.restart(&purses);
            assert!(
                matches!(rig.pay(TICKS + 1), Some(Outcome::Failed(_))),
                "no tick any more"
            );
        }
        rig.waits(WINDOW_MS);
        rig.unilateral();
    }
}

#[test]
fn a_complete_close_that_no_block_takes_is_replaced_by_the_other() {
    let mut rig = settling();
    rig.propose();
    rig.cosign();
    assert_eq!(rig.chain.waiting().len(), 1);
    rig.chain.set_rate(bitcoin::FeeRate::from_sat_per_vb_u32(5));
    rig.payee.look();
    rig.unilateral();
}

#[test]
fn a_payer_signs_nothing_that_pays_it_less_than_its_updates() {
    let mut rig = settling();
    let good = crate::wire::Proposal::decode(&rig.payee.notes[0].1).unwrap();
    let mut more = good.clone();
    more.paid += 1;
    let mut all = good.clone();
    all.fee = all.paid + 1;
    let mut nowhere = good.clone();
    nowhere.payout = vec![0x51].into();
    for bad in [more, all, nowhere] {
        let bytes = bad.encode();
        rig.payer.request(rig.purse, Request::Note { bytes });
        assert!(rig.payer.notes.is_empty(), "{bad:?}");
    }
    let bytes = vec![0; 300].into();
    rig.payer.request(rig.purse, Request::Note { bytes });
    let bytes = good.encode();
    rig.payer.request(key(9), Request::Note { bytes });
    assert!(rig.payer.notes.is_empty());
}

#[test]
fn each_attempt_has_its_own_nonces() {
    let mut rig = settling();
    rig.propose();
    rig.propose();
    assert_ne!(rig.payer.notes[0], rig.payer.notes[1]);
}

/// A reorganisation at that moment: nothing can follow a funding that waits for what waits itself.
#[test]
fn complete_close_is_kept_until_it_can_be_broadcast() {
    let mut rig = settling_after(Payment::After);
    rig.propose();
    rig.chain.reorganise(1, &[]);
    rig.cosign();
    assert!(rig.payee.broadcast.is_empty());
    let (tx, ..) = rig.buried();
    assert_eq!(tx.input[0].witness.len(), 1, "one signature");
}

/// The chain was away from the moment it was whole until the margin: its fee is of another day.
#[test]
fn complete_close_that_was_kept_into_the_margin_gives_way_to_one_at_the_fees_of_the_day() {
    let mut rig = settling();
    rig.propose();
    rig.chain.set_away(true);
    let bytes = rig.payer.notes[0].1.clone();
    rig.payee.request(rig.purse, Request::Note { bytes });
    assert!(rig.payee.broadcast.is_empty());
    rig.chain.mine(rig.expiry() - 30 - rig.chain.tip());
    rig.chain.set_rate(bitcoin::FeeRate::from_sat_per_vb_u32(5));
    rig.chain.set_away(false);
    rig.payee.look();
    assert_eq!(rig.payee.broadcast.len(), 1);
    rig.unilateral();
    assert_eq!(rig.payee.broadcast.len(), 1, "the first was in a block");
}
