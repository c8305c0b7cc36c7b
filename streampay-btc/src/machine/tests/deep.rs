//! How deep is deep enough, and what becomes of what was not.

use super::*;

/// A funding of more waits longer, by either side's own view.
#[test]
fn confirmations_are_asked_for_by_value() {
    for (most, value_max, depth) in [
        (100_000, 100_000, 1),
        (200_000, 1_000_000, 3),
        (9_000_000, 10_000_000, 6),
    ] {
        let planned = || {
            let mut rig = Rig::new();
            let open = Request::Open {
                offer: rig.offer(),
                capacity: sat(most),
                budget: sat(most),
            };
            rig.payer.request(rig.purse, open.clone());
            assert!(rig.value() <= value_max && rig.value() + 15_000 > most);
            (rig, open)
        };
        let (mut rig, open) = planned();
        for confirmations in 1..depth {
            rig.chain.mine(1);
            let early = rig.payer.request(rig.purse, open.clone());
            assert_eq!(early, LATER, "{most}: {confirmations} of {depth}");
        }
        rig.chain.mine(1);
        let Some(Outcome::Opened(opened)) = rig.payer.request(rig.purse, open) else {
            panic!("{most}: not open at {depth}");
        };
        // The same again, the payee shown it too early: the funding is the same transaction.
        let (mut rig, _) = planned();
        for confirmations in 0..depth {
            let early = rig.accept(&opened);
            assert_eq!(early, LATER, "{most}: {confirmations} of {depth}");
            rig.chain.mine(1);
        }
        let accepted = rig.accept(&opened);
        assert!(matches!(accepted, Some(Outcome::Accepted { .. })), "{most}");
    }
}

/// Six blocks are gone, the funding's too, and what closed it with them: it is broadcast again, also by a
/// payee that died meanwhile, until it is buried.
#[test]
fn close_survives_a_reorganisation_of_six_blocks_at_each_depth() {
    for confirmations in 1..=5 {
        for dies in [false, true] {
            let mut rig = Rig::ready();
            rig.tick(1);
            let settle = Request::Settle {
                cumulative: Msat::ZERO,
            };
            rig.payee.request(rig.purse, settle.clone());
            let close = rig.payee.broadcast[0].compute_txid();
            rig.mine(confirmations);
            assert_eq!(rig.payee.request(rig.purse, settle.clone()), LATER);
            rig.chain.reorganise(6, &[close]);
            if dies {
                rig.payee.restart(&[rig.purse]);
            }
            rig.mine(1);
            rig.mine(8);
            let state = |node: &SimNode| node.machine.report()[0].settled.map(Amount::to_sat);
            let (home, payout) = rig.balances();
            assert!(payout > 0, "{confirmations} {dies}");
            assert_eq!(state(&rig.payer), Some(home), "{confirmations} {dies}");
            assert_eq!(state(&rig.payee), Some(payout), "{confirmations} {dies}");
        }
    }
}
