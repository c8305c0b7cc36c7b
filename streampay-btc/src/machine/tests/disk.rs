//! A disk that fails for good while there is money on the chain.

use std::sync::Arc;

use streampay_core::driver::{Clock, StoreWriter};
use streampay_core::store::StoreError;

use super::*;
use crate::runner::{Funded, FundingOrder, FundingWallet, Runner, SyncError};

/// A payee with some ticks whose next write fails, so many blocks before its channel's expiry.
fn failing(left: u32) -> Rig {
    let mut rig = Rig::ready();
    (1..=20).for_each(|seq| rig.tick(seq));
    rig.chain.mine(rig.expiry() - left - rig.chain.tip());
    rig.payee.store.fail_from_now_on();
    rig
}

#[test]
fn close_in_the_margin_is_broadcast_and_bumped_though_the_disk_fails() {
    let mut rig = failing(36);
    assert!(rig.payee.look().is_none(), "the disk failed");
    assert_eq!(rig.payee.broadcast.len(), 1);
    for sat_vb in [5, 10] {
        rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(sat_vb));
        rig.chain.mine(1);
        rig.payee.look();
        assert_eq!(rig.balances().1, 0);
    }
    rig.chain.mine(1);
    assert!(rig.balances().1 > 0, "{:?}", rig.payee.refused);
    assert!(rig.payee.refused.is_empty(), "{:?}", rig.payee.refused);
}

#[test]
fn refund_is_broadcast_though_the_disk_fails() {
    let mut rig = Rig::ready();
    rig.chain.mine(rig.expiry() - rig.chain.tip());
    rig.payer.store.fail_from_now_on();
    assert!(rig.payer.look().is_none(), "the disk failed");
    rig.chain.mine(1);
    assert!(rig.balances().0 > 0);
}

/// It could be spent from again, after a restart that knows nothing of the close.
#[test]
fn nothing_is_closed_before_the_margin_where_that_cannot_be_made_durable() {
    let mut rig = failing(100);
    // Fees rise to what the channel is worth.
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(18));
    assert!(rig.payee.look().is_none(), "the disk failed");
    assert!(rig.payee.broadcast.is_empty());
    let late = rig.payload(21);
    assert_ne!(rig.receive(21, late), Some(Outcome::Credited));
}

struct Nobody;

#[async_trait::async_trait]
impl FundingWallet for Nobody {
    async fn fund(&self, _: &FundingOrder) -> Funded {
        Funded::Declined
    }
}

/// The runner does as the node above does, and looks on: a close is bumped until it is in a block.
#[tokio::test]
async fn runner_closes_in_the_margin_though_its_store_fails() {
    let rig = failing(36);
    let store = StoreWriter::start(Box::new(rig.payee.store.clone())).unwrap();
    let (machine, chain) = (rig.payee.machine.clone(), Arc::new(rig.chain.clone()));
    let runner = Runner::new(machine, chain, Nobody, store, Clock::start());
    let failed = |done| matches!(done, Err(SyncError::Store(StoreError::Failed)));
    assert!(failed(runner.sync().await));
    let first = rig.chain.waiting();
    assert_eq!(first.len(), 1);
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(10));
    rig.chain.mine(1);
    let poisoned = |done| matches!(done, Err(SyncError::Store(StoreError::Poisoned)));
    assert!(poisoned(runner.sync().await));
    assert_ne!(rig.chain.waiting(), first);
    rig.chain.mine(1);
    assert!(rig.balances().1 > 0);
}
