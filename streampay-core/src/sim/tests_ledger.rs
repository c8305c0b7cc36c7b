//! What the records say of a session's money, after crashes too.

use alloc::vec::Vec;

use super::*;
use crate::session::{CloseCode, Role, SessionLedger};
use crate::store::{Store as _, session_prefix};
use crate::units::Msat;

/// What both sides' disks say.
fn ledgers(pair: &Pair) -> (SessionLedger, SessionLedger) {
    let read = |side: &side::Side| {
        let id = side.id.unwrap();
        let records = side.store.scan(&session_prefix(id)).unwrap();
        SessionLedger::read(id, &records).unwrap()
    };
    (read(&pair.payer), read(&pair.payee))
}

#[test]
fn ledger_is_whole_after_every_crash_on_either_side() {
    let crashes = [5, 11, 23, 40, 41, 42, 43, 44].into_iter();
    let crashes = crashes.flat_map(|outputs| {
        let away_ms = 500;
        [
            Fault::CrashPayer { outputs, away_ms },
            Fault::CrashPayee { outputs, away_ms },
        ]
    });
    for fault in core::iter::once(None).chain(crashes.map(Some)) {
        let faults: Vec<_> = fault.iter().map(|fault| (3_000, *fault)).collect();
        let mut pair = Pair::new(PairConfig::default());
        pair.run(20_000, &faults).unwrap();
        pair.settle().unwrap();
        let (payer, payee) = ledgers(&pair);
        assert_eq!((payer.role, payee.role), (Role::Payer, Role::Payee));
        assert_eq!(payer.session, payee.session);
        assert_eq!(payer.terms.payee, payer.peer);
        for side in [&payer, &payee] {
            assert_eq!(side.acknowledged(), pair.credited(), "{fault:?}");
            let receipt = side.receipt.unwrap().receipt;
            assert_eq!(receipt.total, pair.credited(), "{fault:?}");
            assert!(
                side.settled && side.code == Some(CloseCode::Done),
                "{fault:?}"
            );
            assert!(side.began.unwrap() <= side.ended.unwrap());
            assert!(side.purses.iter().all(|purse| purse.home), "{fault:?}");
        }
        let proof = payer.proof.unwrap();
        assert_eq!(proof.verify(), Ok(()), "{fault:?}");
        assert_eq!(proof.evidence().receipt, payee.receipt.unwrap().receipt);
        assert!(payee.proof.is_none(), "the payee need not convince itself");
        // The payer's and the payee's sums of one purse fit each other.
        for (row, theirs) in payer.purses.iter().zip(&payee.purses) {
            assert_eq!(row.acknowledged, theirs.acknowledged, "{fault:?}");
            assert!(row.acknowledged <= row.made && row.made <= row.capacity);
            let given = row.cost.minus(row.returned).unwrap();
            assert!(given >= row.acknowledged && theirs.returned <= given);
        }
    }
}

#[test]
fn open_session_shows_what_is_out_and_that_nothing_has_come_home() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(10_000, &[]).unwrap();
    let (payer, payee) = ledgers(&pair);
    for side in [&payer, &payee] {
        assert_eq!((side.ended, side.code, side.settled), (None, None, false));
        assert!(side.acknowledged() > Msat::ZERO);
        let home = |purse: &crate::session::PurseLedger| purse.home || !purse.returned.is_zero();
        assert!(!side.purses.iter().any(home));
    }
    let open = &payer.purses[0];
    assert!(open.opened && open.cost >= open.capacity);
}
