//! Spends that the chain source shows and nobody made.

use super::*;
use crate::chain::{ChainView, OutputState, Seen, Spend};

/// The payer is shown its channel spent by this, six blocks deep.
fn show(rig: &mut Rig, tx: Transaction) {
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
                    height: Some(real.tip - 5),
                }),
                ..state
            }),
        }],
    };
    for action in rig.payer.machine.chain(rig.payer.now, &view) {
        rig.payer.act(action);
    }
}

#[test]
fn spend_that_the_payer_never_signed_does_not_end_its_channel() {
    let mut rig = Rig::ready();
    (1..=5).for_each(|seq| rig.tick(seq));
    rig.mine(10);
    let mut other = Rig::ready();
    (1..=5).for_each(|seq| other.tick(seq));
    // A close of some other channel, for this one.
    let settle = Request::Settle {
        cumulative: Msat::ZERO,
    };
    other.payee.request(other.purse, settle);
    let mut tx = other.payee.broadcast[0].clone();
    tx.input[0].previous_output = rig.payer.machine.report()[0].outpoint.unwrap();
    tx.output[0].value = Amount::from_sat(tx.output[0].value.to_sat() - 1_000);
    show(&mut rig, tx);
    assert_eq!(rig.payer.machine.report()[0].settled, None);
    // The source is honest again: the payee never closes, and all of it comes back.
    rig.chain.mine(rig.expiry() - rig.chain.tip());
    rig.payer.look();
    rig.payer.mine_and_look(7);
    let settled = rig.payer.machine.report()[0].settled.unwrap();
    assert_eq!(settled.to_sat(), rig.balances().0);
    assert!(settled.to_sat() + 1_000 > rig.value());
}
