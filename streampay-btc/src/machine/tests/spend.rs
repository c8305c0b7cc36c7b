//! Spends that the chain source shows and nobody made.

use super::*;
use crate::chain::{ChainView, OutputState, Seen, Spend};

/// The payer is shown its channel spent by this, six blocks deep or waiting for a block. What it
/// broadcasts then.
fn show(rig: &mut Rig, tx: Transaction, deep: bool) -> Vec<Transaction> {
    let watch = rig.payer.machine.watched().remove(0);
    let real = rig.chain.look(core::slice::from_ref(&watch)).unwrap();
    let state = real.outputs[0].seen.clone().unwrap();
    let view = ChainView {
        tip: real.tip,
        fees: real.fees,
        outputs: vec![OutputState {
            outpoint: watch.outpoint,
            seen: Some(Seen {
                spend: Some(Spend {
                    tx,
                    height: deep.then(|| real.tip - 5),
                }),
                ..state
            }),
        }],
    };
    let mut broadcast = Vec::new();
    for action in rig.payer.machine.chain(rig.payer.now, &view) {
        match action {
            Action::Broadcast(tx) => broadcast.push(tx),
            action => rig.payer.act(action),
        }
    }
    broadcast
}

/// A close of some other channel, for this one.
fn made_up(rig: &Rig) -> Transaction {
    let mut other = Rig::ready();
    (1..=5).for_each(|seq| other.tick(seq));
    let settle = Request::Settle {
        cumulative: Msat::ZERO,
    };
    other.payee.request(other.purse, settle);
    let mut tx = other.payee.broadcast[0].clone();
    tx.input[0].previous_output = rig.payer.machine.report()[0].outpoint.unwrap();
    tx.output[0].value = Amount::from_sat(tx.output[0].value.to_sat() - 1_000);
    tx
}

#[test]
fn spend_that_the_payer_never_signed_does_not_end_its_channel() {
    let mut rig = Rig::ready();
    (1..=5).for_each(|seq| rig.tick(seq));
    rig.mine(10);
    let tx = made_up(&rig);
    assert!(show(&mut rig, tx, true).is_empty());
    assert_eq!(rig.payer.machine.report()[0].settled, None);
    // The source is honest again: the payee never closes, and all of it comes back.
    rig.chain.mine(rig.expiry() - rig.chain.tip());
    rig.payer.look();
    rig.payer.mine_and_look(7);
    let settled = rig.payer.machine.report()[0].settled.unwrap();
    assert_eq!(settled.to_sat(), rig.balances().0);
    assert!(settled.to_sat() + 1_000 > rig.value());
}

/// Nodes refuse a refund of what is spent: trying costs nothing.
#[test]
fn spend_that_the_payer_never_signed_keeps_no_refund_back() {
    for deep in [false, true] {
        for height in [0, 1] {
            let mut rig = Rig::ready();
            (1..=5).for_each(|seq| rig.tick(seq));
            let mut tx = made_up(&rig);
            // With a height in it, as a refund has.
            tx.lock_time = bitcoin::absolute::LockTime::from_height(height).unwrap();
            tx.output.truncate(1);
            rig.chain.mine(rig.expiry() - 1 - rig.chain.tip());
            assert!(show(&mut rig, tx.clone(), deep).is_empty(), "not yet");
            rig.chain.mine(1);
            let refund = show(&mut rig, tx.clone(), deep);
            assert_eq!(refund.len(), 1, "deep: {deep}, {height}");
            assert!(show(&mut rig, tx.clone(), deep).is_empty(), "once a block");
            rig.chain.mine(1);
            assert_eq!(show(&mut rig, tx, deep).len(), 1);
            rig.chain.submit(refund[0].clone()).unwrap();
            rig.payer.mine_and_look(7);
            let settled = rig.payer.machine.report()[0].settled.unwrap();
            assert_eq!(settled.to_sat(), rig.balances().0);
        }
    }
}
