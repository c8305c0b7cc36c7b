//! What a payer's backend is told of what was acknowledged: a write of its own, after the session's.

use alloc::vec::Vec;

use super::fake::FakeBackend;
use super::*;
use crate::units::{PurseId, PurseKey, Seq};

/// What both methods' machines of the payer's process were told since it began.
fn told(pair: &Pair) -> Vec<(PurseKey, Seq)> {
    let told = |machine: &FakeBackend| machine.told.clone();
    pair.payer.machines.iter().flat_map(told).collect()
}

/// Dies so many outputs after `ms`, and is stopped as soon as it is back: true where it died within
/// three seconds.
fn died_and_back(pair: &mut Pair, ms: u64, outputs: u16) -> bool {
    let fault = Fault::CrashPayer {
        outputs,
        away_ms: 300,
    };
    pair.run(ms, &[]).unwrap();
    let lives = pair.payer.lives;
    pair.run(0, &[(0, fault)]).unwrap();
    for _ in 0..300 {
        if pair.payer.lives > lives && pair.payer.session.is_some() {
            return true;
        }
        pair.run(10, &[]).unwrap();
    }
    false
}

#[test]
fn payer_that_comes_back_tells_its_backend_once_what_was_acknowledged_last() {
    let (mut purses, mut deaths) = ([false; 3], 0);
    // In the first purse, around the change to the second, and in the third.
    for ms in [3_500, 7_300, 8_300, 17_500] {
        for outputs in 0..24 {
            let mut pair = Pair::new(PairConfig::default());
            if !died_and_back(&mut pair, ms, outputs) {
                continue;
            }
            deaths += 1;
            let payer = pair.payer().unwrap();
            let receipt = payer.receipt().unwrap().receipt;
            let (session, purse) = (payer.session(), receipt.purse);
            let out = payer.purses_out();
            let wanted: Vec<_> = (out.iter().filter(|(id, _)| *id == purse))
                .map(|_| (PurseKey { session, purse }, receipt.seq))
                .collect();
            assert_eq!(told(&pair), wanted, "{outputs} outputs after {ms} ms");
            for (id, _) in out.iter().filter(|(id, _)| *id == purse) {
                let PurseId(id) = *id;
                purses[usize::try_from(id).unwrap().min(2)] = true;
            }
            let (acked, credited) = (payer.acknowledged(), pair.credited());
            pair.run(2_000, &[]).unwrap();
            assert!(pair.payer().unwrap().acknowledged() >= acked);
            assert!(pair.credited() >= credited);
            pair.settle().unwrap();
        }
    }
    assert!(deaths > 60, "{deaths}");
    assert_eq!(purses, [true; 3]);
}

#[test]
fn payer_that_paid_nothing_tells_its_backend_nothing() {
    let mut pair = Pair::new(PairConfig::default());
    assert!(died_and_back(&mut pair, 0, 8));
    assert!(pair.payer().unwrap().receipt().is_none());
    assert_eq!(told(&pair), []);
    pair.settle().unwrap();
}
